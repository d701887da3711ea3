"""Heads in files: what was saved comes back bit for bit, and nothing else is taken for it."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

import nctransfer as nct
from made_heads import made_head, some_key
from messages import missing, raises
from nctransfer.errors import HeadError
from nctransfer.heads import head_content, head_files
from nctransfer.heads.head import Head
from nctransfer.heads.head_content import METADATA, from_bytes, to_bytes

TRICKS = ("../../etc/passwd", "[red]x[/red]", "a/b\\c", "<b>&amp;</b>", "=1+1", "%s{0}", "猫 🐈‍⬛", " ", "")


def tensors_of(head: Head) -> dict[str, torch.Tensor]:
    return head_content._tensors(head)


def plain(head: Head) -> dict[str, Any]:
    """Everything of a head that is not a tensor, as JSON has it."""
    values: dict[str, Any] = json.loads(json.dumps(head_content._record(head)))
    return values


def same(one: Head, other: Head) -> bool:
    first, second = tensors_of(one), tensors_of(other)
    return (
        plain(one) == plain(other)
        and first.keys() == second.keys()
        and all(tensor.dtype == second[name].dtype and tensor.equal(second[name]) for name, tensor in first.items())
    )


def forged(head: Head, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], object]) -> bytes:
    """A head that somebody wrote by hand, with a digest that is right."""
    content = to_bytes(head)
    size = int.from_bytes(content[:8], "little")
    record = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][METADATA])
    tensors = load(content)
    del record["sha256"]
    change(record, tensors)
    record.setdefault("sha256", head_content._digest(record, tensors))
    made: bytes = save(tensors, {METADATA: json.dumps(record)})
    return made


# What comes back


@pytest.mark.parametrize("key", [None, some_key(), some_key(plugin="ab" * 16, pool="avg", dtype="bfloat16", format=3)])
@pytest.mark.parametrize("with_images", [True, False])
def test_what_was_saved_comes_back(key: Any, with_images: bool, tmp_path: Path) -> None:
    head = replace(made_head(key=key), max_error=0.02)
    head = head if with_images else replace(head, images=None, penalty=None, max_error=None)
    head.save(tmp_path / "pets.head")
    found = nct.load_head(tmp_path / "pets.head")
    assert same(found, head)
    assert (found.images is None) != with_images
    assert found.origin.key is None or found.origin.key.digest == key.digest
    assert type(found.promise.interval) is type(found.counts) is type(found.classes) is tuple
    features = torch.randn(5, 8)
    assert found.linear.probabilities(features).equal(head.linear.probabilities(features))
    assert found.unlikeness.of(features).equal(head.unlikeness.of(features))


def several_rows(head: Head, *counts: int) -> Head:
    """A head whose classes have several rows each."""
    drawn = torch.Generator().manual_seed(1)
    linear = replace(
        head.linear,
        weight=torch.randn(sum(counts), head.linear.dim, generator=drawn),
        intercept=torch.randn(sum(counts), generator=drawn),
        owners=torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)),
    )
    return replace(head, linear=linear, classifier="proxies", penalty=None)


def test_several_rows_per_class_come_back(tmp_path: Path) -> None:
    head = several_rows(made_head(key=some_key()), 3, 1, 2)
    head.save(tmp_path / "pets.head")
    found = nct.load_head(tmp_path / "pets.head")
    assert same(found, head)
    features = torch.randn(5, 8)
    assert found.linear.probabilities(features).equal(head.linear.probabilities(features))
    assert plain(found)["format"] == head_content.FORMAT
    assert plain(made_head())["format"] == 1  # older versions read a head with one row per class


@pytest.mark.parametrize(
    ("owners", "named"),
    [
        (None, "weight"),
        (torch.tensor([0, 0, 0, 1, 2, 3]), "owners"),
        (torch.tensor([-1, 0, 0, 1, 2, 2]), "owners"),
        (torch.tensor([0, 0, 0, 2, 2, 2]), "owners"),
        (torch.tensor([0, 0, 0, 1, 1, 1]), "owners"),
        (torch.tensor([0, 1, 0, 1, 2, 2]), "owners"),
        (torch.tensor([0, 0, 1, 1, 2]), "weight"),
        (torch.tensor([0.0, 0, 0, 1, 2, 2]), "owners"),
        (torch.tensor([[0, 0, 0], [1, 2, 2]]), "owners"),
        (torch.zeros(0, dtype=torch.int64), "owners"),
        (torch.tensor([0] * 40 + [1, 2]), "more than 32 rows"),
    ],
)
def test_forged_owners_are_refused(owners: torch.Tensor | None, named: str, tmp_path: Path) -> None:
    def change(_: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        del tensors["owners"]
        if owners is not None:
            tensors["owners"] = owners

    path = tmp_path / "evil.head"
    path.write_bytes(forged(several_rows(made_head(key=some_key()), 3, 1, 2), change))
    with raises(HeadError, path, named, hint="nctransfer fit"):
        nct.load_head(path)


def test_the_same_head_gives_the_same_bytes() -> None:
    assert len({to_bytes(made_head(key=some_key())) for _ in range(5)}) == 1


def test_headers_of_every_length_are_read() -> None:
    heads = [made_head(("cat", "d" * length)) for length in range(1, 400, 8)]
    starts = {to_bytes(head)[0] for head in heads}
    assert 0x80 in starts  # pickles begin with this byte
    assert all(same(from_bytes(to_bytes(head)), head) for head in heads)


def test_a_head_needs_little_more_than_its_numbers(tmp_path: Path) -> None:
    head = made_head([f"class {number}" for number in range(20)], 1280, 30)
    head.save(tmp_path / "pets.head")
    numbers = 4 * (20 * 1280 + 1280 + 20) + 600 * (4 + 1 + 4 + 8)
    numbers += sum(tensor.numel() * tensor.element_size() for tensor in head.unlikeness.tensors().values())
    assert numbers < (tmp_path / "pets.head").stat().st_size < numbers + 4096


def test_a_name_is_only_a_name(tmp_path: Path) -> None:
    made_head(TRICKS).save(tmp_path / "pets.head")
    assert nct.load_head(tmp_path / "pets.head").classes == TRICKS
    assert list(tmp_path.rglob("*")) == [tmp_path / "pets.head"]


def test_safetensors_can_read_the_tensors(tmp_path: Path) -> None:
    head = made_head()
    head.save(tmp_path / "pets.head")
    assert load((tmp_path / "pets.head").read_bytes())["weight"].equal(head.linear.weight)


# Damage


def test_every_truncation_is_noticed() -> None:
    content = to_bytes(made_head())
    for length in range(0, len(content), 7):
        with pytest.raises(ValueError, match=r"."):
            from_bytes(content[:length])
    with pytest.raises(ValueError, match="end of the file"):
        from_bytes(content + b"\0")


CONTENT = b""


def _content() -> bytes:
    global CONTENT
    CONTENT = CONTENT or to_bytes(made_head(key=some_key()))
    return CONTENT


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_altered_bytes_give_an_error_or_the_same_head(data: st.DataObject) -> None:
    content = bytearray(_content())
    header = int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.one_of(st.integers(0, len(content) - 1), st.integers(0, header + 7)))
        content[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    try:
        found = from_bytes(bytes(content[:end]))
    except ValueError:
        return
    assert same(found, made_head(key=some_key()))


@settings(max_examples=60, deadline=None, database=None)
@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_give_an_error(content: bytes, has_length: bool) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_bytes((len(content).to_bytes(8, "little") if has_length else b"") + content)


def test_an_altered_number_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "pets.head"
    made_head().save(path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1  # somewhere in the tensors
    path.write_bytes(content)
    with raises(HeadError, path, "altered", hint="nctransfer fit"):
        nct.load_head(path)


# Hostile files with a digest that is right


def _set(*names: str, to: Any) -> Callable[[dict[str, Any], dict[str, torch.Tensor]], object]:
    """A change of one value in the JSON."""

    def change(record: dict[str, Any], _: object) -> None:
        for name in names[:-1]:
            record = record[name]
        record[names[-1]] = to

    return change


def _tensor(name: str, value: torch.Tensor | None) -> Callable[[dict[str, Any], dict[str, torch.Tensor]], object]:
    """A change of one tensor."""
    return lambda _, tensors: tensors.pop(name, None) if value is None else tensors.update({name: value})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_set("classes", to=["cat", "cat", "owl"]), "same name"),
        (_set("classes", to=["cat", "d\x1b[31mog", "owl"]), "d\\x1b[31mog"),
        (_set("classes", to=["cat", "two\nlines", "owl"]), "two\\nlines"),
        (_set("classes", to=["cat", "\ud800", "owl"]), "\\ud800"),
        (_set("classes", to=["cat", "dog"]), 2),
        (_set("classes", to=["cat", "dog", 3]), "class name"),
        (_set("classes", to="cat"), "classes"),
        (_set("counts", to=[4, 4, 0]), "counts"),
        (_set("counts", to=[4, 4, True]), "counts"),
        (_set("counts", to=[4, 4, 5]), 13),
        (_set("counts", to=[4, 4, 2**62]), "held_out.probability"),
        (_set("temperature", to=0), "temperature"),
        (_set("temperature", to=-1.0), "temperature"),
        (_set("temperature", to=float("nan")), "NaN"),
        (_set("temperature", to=10**400), "temperature"),
        (_set("temperature", to="1"), "temperature"),
        (_set("penalty", to=-1), "penalty"),
        (_set("unit_length", to=1), "unit_length"),
        (_set("classifier", to="../forest"), "../forest"),
        (_set("promise", "accuracy", to=1.5), "accuracy"),
        (_set("promise", "interval", to=[0.9, 0.8]), "interval"),
        (_set("promise", to=[]), "promise"),
        (_set("origin", "licence", to=None), "licence"),
        (_set("origin", "versions", to={"torch": 2}), "versions"),
        (_set("origin", "key", "model", to="test_vit\n"), "model"),
        (_set("origin", "key", "model_kwargs", to={"checkpoint_path": "/etc/passwd"}), "checkpoint_path"),
        (_set("origin", "key", "model_kwargs", to={"pretrained_cfg_overlay": {"file": "x"}}), "pretrained_cfg_overlay"),
        (_set("origin", "key", "transform", to={"input_size": [3, 10**6, 10**6]}), "size"),
        (_set("origin", "key", "transform", to={"mean": "x"}), "mean"),
        (_set("origin", "key", "transform", to={"crop_pct": 10**400}), "crop"),
        (_set("origin", "key", "model_kwargs", to={"depth": float("nan")}), "JSON"),
        (_set("origin", "key", "more", to=1), "more"),
        (_set("max_lost", to=1), "max_lost"),
        (_set("max_error", to=0), "max_error"),
        (_set("script", to="import os"), "script"),
        (lambda record, _: record.pop("promise"), "promise"),
        (_tensor("weight", None), "weight"),
        (_tensor("weight", torch.zeros(3, 9)), "centre"),
        (_tensor("weight", torch.zeros(3, 8, dtype=torch.float64)), "torch.float64"),
        (_tensor("weight", torch.tensor(1.0)), "weight"),
        (_tensor("weight", torch.full((3, 8), torch.inf)), "weight"),
        (_tensor("intercept", torch.tensor([1, torch.nan, 1])), "intercept"),
        (_tensor("held_out.probability", torch.full((12,), 1.5)), "held_out.probability"),
        (_tensor("held_out.right", torch.ones(12)), "held_out.right"),
        (_tensor("images", torch.zeros(11, dtype=torch.int64)), "images"),
        (_tensor("evil", torch.zeros(1)), "evil"),
        (_tensor("unlikeness.weight", None), "unlikeness"),
        (_tensor("unlikeness.weight", torch.zeros(3, 9)), "weight"),
        (_tensor("unlikeness.offset", torch.full((3,), torch.nan)), "offset"),
        (_tensor("unlikeness.evil", torch.zeros(1)), "evil"),
        (_tensor("intercept", torch.tensor([3e38, -3e38, 0])), "finite"),
        (_set("format", to="1"), "format"),
        (_set("sha256", to="0" * 64), "altered"),
        (_set("sha256", to=None), "digest"),
    ],
)
def test_a_forged_head_is_refused(change: Any, named: Any, tmp_path: Path) -> None:
    path = tmp_path / "evil.head"
    path.write_bytes(forged(made_head(key=some_key()), change))
    with raises(HeadError, path, named, hint="nctransfer fit"):
        nct.load_head(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a JSON value holds others, at any depth."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for name, one in inner for place in [(*path, name), *_places(one, (*path, name))]]


PLACES = _places(plain(made_head(key=some_key())))


@settings(max_examples=100, deadline=None, database=None)
@given(place=st.sampled_from(PLACES), value=JSON)
def test_any_value_in_any_place_is_refused_or_read(place: tuple[Any, ...], value: Any) -> None:
    try:
        found = from_bytes(forged(made_head(key=some_key()), _set(*place, to=value)))
    except ValueError:
        return
    assert same(from_bytes(to_bytes(found)), found)  # what is read can be saved again


def test_a_forged_head_that_is_sound_is_read() -> None:  # else the test before could not fail
    head = made_head(key=some_key())
    assert same(from_bytes(forged(head, lambda *_: None)), head)


def test_deep_json_is_refused(tmp_path: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    path = tmp_path / "evil.head"
    path.write_bytes(save({"weight": torch.zeros(1)}, {METADATA: deep}))
    with raises(HeadError, path):
        nct.load_head(path)
    path.write_bytes(forged(made_head(), _set("origin", "key", to=json.loads("[" * 300 + "]" * 300))))
    with raises(HeadError, path):
        nct.load_head(path)


def test_a_newer_format_names_its_version(tmp_path: Path) -> None:
    path = tmp_path / "new.head"

    def newer(record: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        record |= {"format": head_content.FORMAT + 1, "nctransfer": "7.5.0", "something": "new"}
        tensors["something.new"] = torch.zeros(1)

    path.write_bytes(forged(made_head(), newer))
    with raises(HeadError, path, "7.5.0", nct.__version__, hint="pip install --upgrade nctransfer"):
        nct.load_head(path)


# Other files


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    made = tmp_path / "made"

    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(made),)

    (tmp_path / "a.head").write_bytes(pickle.dumps(Bomb()))
    torch.save({"weight": Bomb()}, tmp_path / "b.head")
    for path in (tmp_path / "a.head", tmp_path / "b.head"):
        with raises(HeadError, path, "pickle"):
            nct.load_head(path)
    assert not made.exists()


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 7, b"\0" * 100, b"\xff" * 100, b"PAR1", b'{"a": 1}', b"\x02" + b"\0" * 7 + b"[]"]
)
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.head"
    path.write_bytes(content)
    with raises(HeadError, path):
        nct.load_head(path)


def test_other_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    for metadata in (None, {"format": "pt"}, {METADATA: "{}", "format": "pt"}, {METADATA: "x"}, {METADATA: "[]"}):
        path.write_bytes(save({"weight": torch.zeros(1)}, metadata))
        with raises(HeadError, path):
            nct.load_head(path)


def test_a_missing_head_a_folder_and_a_pipe(tmp_path: Path) -> None:
    with raises(HeadError, tmp_path / "no.head", hint=("nctransfer fit", "no.head")):
        nct.load_head(tmp_path / "no.head")
    with raises(HeadError, tmp_path, "folder", hint="first"):
        nct.load_head(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with raises(HeadError, tmp_path / "pipe", "not a file"):
            nct.load_head(tmp_path / "pipe")


def test_a_huge_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "huge.head"
    path.write_bytes((1000).to_bytes(8, "little") + b"{}")
    os.truncate(path, head_files.MOST_BYTES + 1)  # a sparse file, which takes no space
    with raises(HeadError, path, head_files.MOST_BYTES):
        nct.load_head(path)


# Writing


def test_a_file_is_replaced_only_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "pets.head"
    path.write_text("precious")
    with raises(HeadError, path, hint=("--overwrite", "overwrite=True")):
        made_head().save(path)
    assert path.read_text() == "precious"
    made_head().save(path, overwrite=True)
    assert same(nct.load_head(path), made_head())


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with raises(HeadError, tmp_path, "folder"):
        made_head().save(tmp_path, overwrite=True)
    with raises(HeadError, tmp_path / "no" / "pets.head"):
        made_head().save(tmp_path / "no" / "pets.head")
    assert list(tmp_path.iterdir()) == []
    if Path("/dev/full").exists():
        with raises(HeadError, "/dev/full"):
            made_head().save("/dev/full", overwrite=True)


def test_a_folder_without_the_right_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(head_files, "replace_file", refuse)  # root may write everywhere
    with raises(HeadError, tmp_path / "pets.head", "Permission denied"):
        made_head().save(tmp_path / "pets.head")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pets.head"
    made_head().save(path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with raises(HeadError, path, "No space left on device"):
        made_head(("a", "b")).save(path, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31m", "\udc80", "dog"])
def test_a_head_that_could_not_be_read_again_is_not_saved(name: str, tmp_path: Path) -> None:
    with pytest.raises(HeadError) as caught:
        made_head(("cat", "dog", name)).save(tmp_path / "pets.head")
    assert name == "dog" or missing(caught.value.message, [repr(name)[1:-1]]) == []
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    head = made_head()
    head.linear.weight[0, 0] = torch.nan
    with raises(HeadError, "weight"):
        head.save(tmp_path / "pets.head")


def test_every_field_of_a_head_is_saved() -> None:
    """Whoever adds a field to a head must add it to the file."""
    names = set(asdict(made_head().promise)) | set(asdict(made_head().origin))
    record = plain(made_head(key=some_key()))
    assert names == set(record["promise"]) | set(record["origin"])
    kept = {*record, "linear", "held_out", "unlikeness", "images"}
    assert set(Head.__dataclass_fields__) <= kept


def test_heads_of_tiny_features_are_saved(tmp_path: Path) -> None:
    head = made_head()
    tiny = replace(head, linear=replace(head.linear, temperature=1e-12))  # ncc on features of the size 1e-6
    tiny.save(tmp_path / "tiny.head")
    assert nct.load_head(tmp_path / "tiny.head").linear.temperature == 1e-12

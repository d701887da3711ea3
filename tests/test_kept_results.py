"""Results that are kept beside stored features: the same to the last bit, never stale, whole or not there."""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import logging
import math
import os
import shutil
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nctransfer as nct
import tiny
from conftest import write_digits
from messages import logged
from nctransfer.backbones.feature_key import json_digest
from nctransfer.checkpoints import kept_measurements
from nctransfer.checkpoints.kept_measurements import KeptMeasurements
from nctransfer.checkpoints.plain_values import LARGEST, from_plain, to_plain
from nctransfer.checkpoints.trajectory_result import Trajectory
from nctransfer.evaluation.fewshot_task import FewShotTask
from nctransfer.evaluation.leaks import Leaks
from nctransfer.features.sample_content import Duplicates
from nctransfer.neural_collapse.registry import MEASURES
from nctransfer.sources.selection import Selection
from nctransfer.store import kept_results
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.kept_results import KeptResults, code
from nctransfer.store.stored_set import StoredSet
from terminal import data_of, done

MODEL, CLASSES = "test_resnet", {"zero": 0, "one": 1, "two": 2, "three": 3}
TASK = {"ways": 2, "shots": (1, 2), "queries": 3, "episodes": 30}
QUESTION, ANSWER = {"which": ["rows", 1]}, {"value": [0.1, None, "text"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, two checkpoints, and a cache that holds their features and no results."""
    from safetensors.torch import save_file

    root = tmp_path_factory.mktemp("made")
    write_digits(root / "data", CLASSES, 6)
    shutil.copy(root / "data" / "one" / "0.png", root / "data" / "one" / "copy.png")
    (root / "run").mkdir()
    for number in (1, 2):
        path = root / "run" / f"epoch-{number}.safetensors"
        save_file(tiny.state_of(MODEL, number), path)
        nct.extract(MODEL, root / "data", checkpoint=path, img_size=32, cache_dir=root / "cache")
    return root


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """The same for one test."""
    for folder in ("data", "run"):
        (tmp_path / folder).symlink_to(made / folder)
    shutil.copytree(made / "cache", tmp_path / "cache")
    return tmp_path


def follow(home: Path, **settings: Any) -> Trajectory:
    options = {"img_size": 32, "cache_dir": home / "cache", **TASK, **settings}
    return nct.trajectory(MODEL, home / "run", home.joinpath("data").resolve(), **options)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What was computed since it was last asked."""
    calls: list[str] = []
    for name in ("collapse_of_samples", "run_fewshot"):
        function = getattr(kept_measurements, name)

        def call(*arguments: Any, function: Any = function, name: str = name, **named: Any) -> Any:
            calls.append(name)
            return function(*arguments, **named)

        monkeypatch.setattr(kept_measurements, name, call)

    def since() -> list[str]:
        found, calls[:] = sorted(calls), []
        return found

    return since


ALL = ["collapse_of_samples"] * 2 + ["run_fewshot"] * 2


def untimed(value: Any) -> Any:
    """A result without the times in it."""
    if isinstance(value, dict):
        return {name: untimed(one) for name, one in value.items() if name != "seconds"}
    return [untimed(one) for one in value] if isinstance(value, list | tuple) else value


# A trajectory


def test_the_second_run_computes_nothing_and_gives_the_same(
    home: Path, computed: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "nctransfer")
    first = follow(home)
    said, words = logged(caplog), [record.getMessage() for record in caplog.records]
    assert computed() == ALL
    caplog.clear()
    second = follow(home)
    assert computed() == []
    assert json.dumps(second.to_dict()) == json.dumps(first.to_dict())
    assert second.points == first.points
    assert second.best() == first.best()
    assert second.to_frame().equals(first.to_frame())
    assert set(logged(caplog)) == set(said) != set()  # one image is there twice
    assert {record.getMessage() for record in caplog.records} == set(words)
    for one, other in zip(first.points, second.points, strict=True):
        assert json.dumps(one.fewshot.to_dict(None)) == json.dumps(other.fewshot.to_dict(None))
        assert one.fewshot.episodes_table() == other.fewshot.episodes_table()


def test_samples_of_the_source_are_kept_too(home: Path, computed: Callable[[], list[str]]) -> None:
    settings = {"classes": ["zero", "one"], "source": home / "data", "source_classes": ["two", "three"]}
    shutil.copytree(home / "data", home / "splits" / "train")
    shutil.copytree(home / "data", home / "splits" / "test")
    (home / "splits" / "test" / "two" / "0.png").unlink()
    settings |= {"source": home / "splits", "theory": False}
    first = follow(home, **settings)
    assert computed() == ALL
    second = follow(home, **settings)
    assert computed() == []
    assert json.dumps(second.to_dict()) == json.dumps(first.to_dict())
    assert list(second.points[0].reports) == list(first.points[0].reports)
    assert len(second.warnings) == 1


def test_a_new_checkpoint_alone_is_measured(home: Path, computed: Callable[[], list[str]]) -> None:
    first = follow(home, theory=False)
    computed()
    run = home / "more"
    shutil.copytree(home / "run", run)
    from safetensors.torch import save_file

    save_file(tiny.state_of(MODEL, 3), run / "epoch-3.safetensors")
    options = {"img_size": 32, "cache_dir": home / "cache", "theory": False, **TASK}
    found = nct.trajectory(MODEL, run, home.joinpath("data").resolve(), **options)
    assert computed() == ["collapse_of_samples", "run_fewshot"]
    assert untimed([one.fewshot.to_dict() for one in found.points[:2]]) == untimed(
        [one.fewshot.to_dict() for one in first.points]
    )


OTHERS: dict[str, Any] = {
    "ways": 3,
    "shots": 1,
    "queries": 2,
    "query_prior": "dirichlet:2",
    "episodes": 31,
    "precision": 0.5,
    "classifiers": "ncc",
    "seed": 1,
    "ridge_lambda": 0.5,
    "l2_normalise": True,
    "interval": "samples",
    "drop_small": True,
    "theory": False,
}


def test_every_field_of_a_task_is_part_of_the_question(made: Path, tmp_path: Path) -> None:
    """A field that is added to the task and not to this table fails here."""
    assert OTHERS.keys() == {field.name for field in dataclasses.fields(FewShotTask)}
    shutil.copytree(made / "cache", tmp_path / "cache")
    stored = FeatureStore(tmp_path / "cache").sets()[0]
    results = KeptResults(stored)
    for number, name in enumerate(["", *OTHERS], 1):
        task = FewShotTask(**(TASK | {"theory": True, "classifiers": "ridge"} | ({name: OTHERS[name]} if name else {})))
        KeptMeasurements(samples={"target": (stored, Selection())}, task=task, device="cpu").fewshot({})
        assert results.size().number == number, name


@pytest.mark.parametrize(
    "selection",
    [{"classes": ["zero", "one", "two"]}, {"exclude_classes": ["two"]}, {"max_per_class": 5}, {"classes": [*CLASSES]}],
    ids=str,
)
def test_the_rows_are_part_of_the_question(
    home: Path, computed: Callable[[], list[str]], selection: dict[str, Any]
) -> None:
    follow(home, theory=False)
    computed()
    found = follow(home, theory=False, **selection)
    assert computed() == ([] if selection == {"classes": [*CLASSES]} else ALL)
    for path in (home / "cache").glob("features/*/*/results/*"):
        path.unlink()
    assert untimed(follow(home, theory=False, **selection).to_dict()) == untimed(found.to_dict())


def test_what_becomes_of_the_images_is_part_of_the_question(home: Path, computed: Callable[[], list[str]]) -> None:
    shutil.copytree(home.joinpath("data").resolve(), home / "own")
    settings = {"img_size": 32, "cache_dir": home / "cache", "theory": False, **TASK}
    run = functools.partial(nct.trajectory, MODEL, home / "run", home / "own", **settings)
    run()
    assert computed() == ALL
    os.utime(home / "own" / "two" / "1.png", ns=(10**18, 10**18))
    run()
    assert computed() == []
    (home / "own" / "two").rename(home / "own" / "deux")
    assert "deux" in run().points[0].fewshot.classes
    assert computed() == ALL
    shutil.copy(home / "own" / "one" / "3.png", home / "own" / "deux" / "1.png")
    run()
    assert computed() == ALL
    (home / "own" / "one" / "copy.png").unlink()
    assert run().points[0].fewshot.warnings != ()
    assert computed() == ALL


def test_other_code_computes_again(
    home: Path, computed: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    follow(home, theory=False)
    computed()
    monkeypatch.setattr(kept_measurements, "code", lambda: [*code()[:-1], "numpy 99"])
    follow(home, theory=False)
    assert computed() == ALL


def test_the_code_is_every_file_of_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = shutil.copytree(Path(nct.__file__).parent, tmp_path / "nctransfer")
    monkeypatch.setattr(nct, "__file__", str(package / "__init__.py"))
    same = code.__wrapped__()
    assert same == code()
    for path in (package / "intervals.py", package / "episodes" / "new.py"):
        with path.open("a") as file:
            file.write("#")
        changed = code.__wrapped__()
        assert changed != same
        same = changed


class Foreign(dict[str, Any]):
    """A registry in which every entry belongs to another package."""

    own: ClassVar[dict[str, Any]] = {}


@pytest.mark.parametrize("name", ["MEASURES", "CLASSIFIERS"])
def test_nothing_is_kept_where_another_package_takes_part(
    home: Path, computed: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(kept_measurements, name, Foreign(getattr(kept_measurements, name)))
    for _ in range(2):
        follow(home, theory=False)
    again = computed()
    assert again.count("run_fewshot") == 4
    assert again.count("collapse_of_samples") == (4 if name == "MEASURES" else 2)


def test_images_that_are_left_out_are_said_each_time(home: Path, computed: Callable[[], list[str]]) -> None:
    shutil.copytree(home.joinpath("data").resolve(), home / "own")
    (home / "own" / "two" / "5.png").write_bytes(b"no image")
    settings = {"img_size": 32, "cache_dir": home / "cache", "theory": False, **TASK}
    for _ in range(2):
        nct.trajectory(MODEL, home / "run", home / "own", skip_broken=True, **settings)
        assert computed() == ALL


# Files that are not as they were written


def forged(content: dict[str, Any]) -> bytes:
    """A file that its digest takes for whole."""
    digest = json_digest([content["question"], content["answer"]], 32)
    return json.dumps({**content, "digest": digest}).encode()


def spoil_values(answer: Any) -> None:
    """Make a few-shot result that does not fit together, and a report without its measures."""
    if "rows" in answer:
        answer["drawn"]["map"] = [[2, to_plain(torch.full((30, 2), 99))]]
    else:
        answer["reports"]["target"]["metrics"] = {"map": [["cdnv", "text"]]}


def test_damaged_and_forged_files_are_computed_again(home: Path, computed: Callable[[], list[str]]) -> None:
    run = functools.partial(follow, home, theory=False)
    expected = untimed(run().to_dict())
    computed()
    files = sorted((home / "cache").glob("features/*/*/results/*.json"))
    assert len(files) == 4
    whole = {path: path.read_bytes() for path in files}

    def with_answer(change: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
        def forge(text: bytes) -> bytes:
            content = json.loads(text)
            content["answer"] = change(content["answer"]) or content["answer"]
            return forged(content)

        return forge

    spoilt: list[Callable[[bytes], bytes]] = [
        lambda text: text[: len(text) // 2],
        lambda text: b"",
        lambda text: text.replace(b"0.", b"1.", 1),
        with_answer(lambda answer: ["a list"]),
        with_answer(lambda answer: {"a": "b"}),
        with_answer(lambda answer: dict.fromkeys(answer, 5)),
        with_answer(spoil_values),
    ]
    for spoil in spoilt:
        for path in files:
            path.write_bytes(spoil(whole[path]))
        assert untimed(run().to_dict()) == expected
        assert computed() == ALL
    assert untimed(run().to_dict()) == expected
    assert computed() == []


@pytest.fixture
def stored(home: Path) -> StoredSet:
    return FeatureStore(home / "cache").sets()[0]


def the_file(stored: StoredSet) -> Path:
    (path,) = (stored.path / "results").glob("*.json")
    return path


def test_an_answer_is_found_as_it_was_kept(stored: StoredSet) -> None:
    kept = KeptResults(stored)
    assert kept.find(QUESTION) is None
    kept.keep(QUESTION, ANSWER)
    assert kept.find(QUESTION) == ANSWER
    assert kept.find({"which": ["rows", 2]}) is None
    kept.keep(QUESTION, {"other": 1})
    assert kept.find(QUESTION) == {"other": 1}
    assert kept.size() == (1, the_file(stored).stat().st_size)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps({"question": QUESTION, "answer": ANSWER, "digest": "0" * 32}).encode(),
        json.dumps({"question": QUESTION, "answer": ANSWER}).encode(),
        forged({"question": {"which": 2}, "answer": ANSWER}),
        forged({"question": QUESTION, "answer": 1}).replace(b'"answer": 1', b'"answer": NaN'),
    ],
)
def test_a_file_that_is_not_whole_is_no_answer(stored: StoredSet, content: bytes) -> None:
    kept = KeptResults(stored)
    kept.keep(QUESTION, ANSWER)
    the_file(stored).write_bytes(content)
    assert kept.find(QUESTION) is None
    kept.keep(QUESTION, ANSWER)
    assert kept.find(QUESTION) == ANSWER


def test_a_file_that_is_too_large_is_not_read(stored: StoredSet, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptResults(stored)
    kept.keep(QUESTION, ANSWER)
    size = the_file(stored).stat().st_size
    monkeypatch.setattr(kept_results, "LARGEST", size - 1)
    assert kept.find(QUESTION) is None
    kept.keep({"which": 2}, ANSWER | {"more": "x" * size})
    assert kept.size().number == 1


def test_the_oldest_results_make_room(stored: StoredSet, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptResults(stored)
    kept.keep({"which": 0}, ANSWER)
    monkeypatch.setattr(kept_results, "MOST", 3 * the_file(stored).stat().st_size + 2)
    left = stored.path / "results" / "killed.json.1.tmp"
    left.write_bytes(b"x")
    for number, path in enumerate([left, the_file(stored)]):
        os.utime(path, ns=(number, number))
    for number in range(1, 6):
        kept.keep({"which": number}, ANSWER)
        newest = stored.path / "results" / f"{json_digest({'which': number}, 32)}.json"
        os.utime(newest, ns=(number + 10, number + 10))
    assert [number for number in range(6) if kept.find({"which": number})] == [3, 4, 5]
    assert not left.exists()


@pytest.mark.parametrize("place", ["os.fsync", "pathlib.Path.replace"])
def test_a_process_may_be_killed_while_it_writes(
    stored: StoredSet, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    kept = KeptResults(stored)
    kept.keep(QUESTION, ANSWER)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(place, killed)
        with pytest.raises(KeyboardInterrupt):
            kept.keep(QUESTION, {"other": 1})
    assert kept.find(QUESTION) == ANSWER


def test_many_may_write_and_read_at_once(stored: StoredSet) -> None:
    found: list[Any] = []

    def work(number: int) -> None:
        kept = KeptResults(stored)
        for _ in range(10):
            kept.keep(QUESTION, ANSWER)
            found.append(kept.find(QUESTION))
            kept.keep({"which": number}, ANSWER)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 40
    assert all(one in (None, ANSWER) for one in found)
    KeptResults(stored).keep(QUESTION, ANSWER)
    assert KeptResults(stored).find(QUESTION) == ANSWER


def test_a_cache_that_cannot_be_written_keeps_nothing(stored: StoredSet) -> None:
    (stored.path / "results").write_bytes(b"a file in the place of the folder")
    kept = KeptResults(stored)
    kept.keep(QUESTION, ANSWER)
    assert kept.find(QUESTION) is None
    assert kept.size() == (0, 0)


def test_results_go_with_their_set(home: Path) -> None:
    follow(home, theory=False)
    first, second = FeatureStore(home / "cache").sets()
    shown = data_of("cache", "show", first.id, "--cache-dir", home / "cache")
    assert shown["results"] == KeptResults(first).size().number == 2
    assert shown["result_bytes"] == sum(path.stat().st_size for path in (first.path / "results").iterdir())
    assert "2 kept" in done("cache", "show", first.id, "--cache-dir", home / "cache").stdout
    done("cache", "remove", first.id, "--yes", "--cache-dir", home / "cache")
    assert not first.path.exists()
    assert KeptResults(second).size().number == 2
    KeptResults(first).keep(QUESTION, ANSWER)  # by a process that still runs
    assert not first.path.exists()


# Values


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers(), st.text()), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=40)
@given(values)
def test_values_come_back_as_they_were(value: Any) -> None:
    found = from_plain(json.loads(json.dumps(to_plain(value), allow_nan=False)))
    assert found == value
    assert repr(found) == repr(value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_tensors_come_back_to_the_last_bit(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((0,), (), (3, 4, 5), (1000,)):
        tensor = (torch.randn(shape, generator=generator, dtype=torch.float64) * 1e3).to(dtype)
        found = from_plain(json.loads(json.dumps(to_plain(tensor.T if tensor.dim() == 2 else tensor))))
        assert found.dtype == dtype
        assert found.shape == tensor.shape
        assert found.numpy().tobytes() == tensor.numpy().tobytes()


def test_classes_that_are_listed_come_back() -> None:
    leaks = Leaks(duplicates=Duplicates(samples=3, across_classes=1), queries_in_support=None)
    assert from_plain(to_plain({"leaks": leaks})) == {"leaks": leaks}
    assert math.isnan(from_plain(to_plain(math.nan)))


@pytest.mark.parametrize(
    "value",
    [object(), np.int64(1), {1}, Path(), torch.zeros(2), torch.tensor([math.nan]).double(), MEASURES["cdnv"]],
)
def test_nothing_else_is_kept(value: Any) -> None:
    with pytest.raises(TypeError):
        to_plain(value)


def packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"tuple": [1], "float": "inf"},
        {"float": "1e999"},
        {"tuple": 5},
        {"map": [[1, 2, 3]]},
        {"map": [[[1], 2]]},
        {"map": [[{"map": []}, 2]]},
        {"Path": ["/"]},
        {"FeatureStore": ["/"]},
        {"Leaks": [None]},
        {"Leaks": [None, None, None]},
        {"tensor": ["float64", [2], packed(bytes(8))]},
        {"tensor": ["float64", [2], packed(bytes(24))]},
        {"tensor": ["float64", [1], packed(bytes(8))[:-4]]},
        {"tensor": ["float64", [1], "?"]},
        {"tensor": ["float64", [1], 5]},
        {"tensor": ["object", [1], packed(bytes(8))]},
        {"tensor": ["float64", [-1, -1], packed(bytes(8))]},
        {"tensor": ["float64", [True], packed(bytes(8))]},
        {"tensor": ["float64", [LARGEST, LARGEST], packed(bytes(8))]},
        {"tensor": ["float64", [1], packed(b"\xff" * 8)]},
        {"tensor": ["float64", [1], packed(bytes(10**6))]},
    ],
    ids=range(22),
)
def test_what_was_not_kept_is_not_built(value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_plain(value)


@pytest.mark.parametrize("names", [[["x"]], [1], [None]])
def test_what_is_kept_as_a_name_must_be_one(names: list[Any]) -> None:
    with pytest.raises(ValueError, match="is no text"):
        kept_measurements._check_names(names)

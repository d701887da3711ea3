"""Several workers pass over shares of a set: what they leave adds up to the report of one pass, or is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.datasets import load_digits

import nctransfer as nct
from clusters import normal_classes, set_of
from messages import logged, says, those
from nctransfer.errors import FeaturesError
from nctransfer.features.feature_set import FeatureSet
from nctransfer.features.feature_stream import Features, FeatureStream
from nctransfer.neural_collapse.collapse_in_shards import ShardProgress, collapse_shard, merge_collapse
from nctransfer.neural_collapse.collapse_report import collapse
from nctransfer.neural_collapse.linear_head import LinearHead
from nctransfer.sources.sharding import Shard


def a_set(counts: Sequence[int] = (4, 9, 12, 20), d: int = 6, seed: int = 0) -> FeatureSet:
    return set_of(normal_classes(counts, d, seed=seed, offset=10))


def streamed(features: FeatureSet, seed: int, rows: int = 7) -> FeatureStream:
    """The rows of a set in any order, so many at a time."""
    order = np.random.default_rng(seed).permutation(len(features))
    matrix = features.features.numpy()[order]

    def read(start: int = 0, stop: int = len(matrix)) -> Any:
        return (matrix[first : min(first + rows, stop)] for first in range(start, stop, rows))

    return FeatureStream(
        labels=features.labels[torch.from_numpy(order)],
        classes=features.classes,
        dim=features.dim,
        info=features.info,
        read=read,
        places=torch.from_numpy(order),
    )


def in_shards(features: Features, of: int, folder: Path, seed: int = 0, **options: Any) -> list[ShardProgress]:
    """Every worker does every pass, in any order; returns what the workers said."""
    rng, said = np.random.default_rng(seed), []
    for _ in range(3 if options.get("head") is not None else 2):
        said += [collapse_shard(features, Shard(int(k) + 1, of), folder, **options) for k in rng.permutation(of)]
    return said


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested dictionaries and lists by the path of each value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else None
    if items is None:
        return {name: value}
    return {path: one for key, inner in items for path, one in flat(inner, f"{name}/{key}").items()}


def same_report(found: nct.CollapseReport, expected: nct.CollapseReport, rel: float = 1e-9) -> None:
    one, other = (flat(json.loads(json.dumps(report.to_dict()))) for report in (found, expected))
    assert one.keys() == other.keys()
    for name, value in other.items():
        close = pytest.approx(value, rel=rel, abs=1e-13) if isinstance(value, float) else value
        assert one[name] == close, name


def a_head(features: Features, seed: int = 0) -> LinearHead:
    rng = np.random.default_rng(seed)
    weight = torch.from_numpy(rng.normal(size=(len(features.classes), features.dim)).astype(np.float32))
    return LinearHead(weight, torch.zeros(len(weight)), "a classifier of this test")


# The same numbers


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    counts=st.lists(st.integers(1, 12), min_size=3, max_size=6).filter(lambda them: sum(n > 1 for n in them) > 1),
    of=st.integers(1, 5),
    head=st.sampled_from([None, "ridge", "given"]),
    rows=st.sampled_from([1, 7, 1000]),
)
def test_any_shares_in_any_order(seed: int, counts: list[int], of: int, head: Any, rows: int):
    whole = a_set(counts, d=4, seed=seed)
    twice = whole.features.clone()
    twice[:: len(whole) // 2] = twice[0]  # two or three rows are equal, as a rule of different classes
    features = streamed(dataclasses.replace(whole, features=twice), seed, rows)
    usable = [name for name, n in zip(whole.classes, counts, strict=True) if n > 1]
    if head == "given":
        head = dataclasses.replace(
            a_head(features, seed), weight=a_head(features, seed).weight[: len(usable)], bias=torch.zeros(len(usable))
        )
    options = {"head": head, "head_names": usable if isinstance(head, LinearHead) else None}
    with TemporaryDirectory() as folder:
        said = in_shards(features, of, Path(folder), seed, **options)
        same_report(merge_collapse(folder, pairs=None), collapse(features, pairs=None, device="cpu", **options))
    assert said[-1].is_done
    assert not said[-1].missing
    assert [len(one.missing) for one in said] == [*range(of - 1, -1, -1)] * said[-1].passes


def test_more_shards_than_rows(tmp_path: Path):
    features = a_set((2, 3))
    said = in_shards(features, 12, tmp_path)
    assert sorted(one.rows for one in said) == [0] * 14 + [1] * 10
    same_report(merge_collapse(tmp_path), collapse(features))


def test_shares_of_one_class_each_and_of_a_class_in_one_share(tmp_path: Path):
    features = a_set((10, 10, 10))  # the rows are sorted by class
    in_shards(features, 3, tmp_path / "one each")
    in_shards(a_set((3, 17)), 2, tmp_path / "one of them")
    same_report(merge_collapse(tmp_path / "one each"), collapse(features))
    same_report(merge_collapse(tmp_path / "one of them"), collapse(a_set((3, 17))))


@pytest.fixture(scope="module")
def digits() -> FeatureSet:
    """Images of digits as their pixels: some pixels are always black, and no class is normal."""
    bunch = load_digits()
    return FeatureSet.from_arrays(np.repeat(bunch.data, 2, axis=0)[:3000:2], np.repeat(bunch.target, 2)[:3000:2])


@pytest.mark.parametrize(("of", "head"), [(1, None), (4, "ridge"), (7, "given")])
def test_real_images(tmp_path: Path, digits: FeatureSet, of: int, head: Any):
    chosen = a_head(digits) if head == "given" else head
    in_shards(digits, of, tmp_path, head=chosen)
    found = merge_collapse(tmp_path, pairs=None, pair_matrix=True)
    expected = collapse(digits, head=chosen, pairs=None, pair_matrix=True, device="cpu")
    same_report(found, expected)
    assert found.pair_matrix is not None
    assert expected.pair_matrix is not None
    np.testing.assert_allclose(found.pair_matrix.cdnv, expected.pair_matrix.cdnv, rtol=1e-6)


def test_notes_and_classes_of_one_sample(tmp_path: Path):
    features = a_set((1, 5, 1, 8, 3))
    in_shards(features, 3, tmp_path)
    report = merge_collapse(tmp_path)
    assert those(report.notes, 2, "'0000'", "'0002'")
    assert report.features == collapse(features).features


def test_a_pass_that_is_there_is_not_repeated(tmp_path: Path):
    features = a_set()
    in_shards(features, 2, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    progress = collapse_shard(features, "1/2", tmp_path)
    assert (progress.number, progress.is_done, progress.missing) == (2, True, ())
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_folders_of_several_machines_are_copied_together(tmp_path: Path):
    features = a_set()
    for _ in range(2):
        for shard in ("1/3", "2/3", "3/3"):
            collapse_shard(features, shard, tmp_path / shard[0])
        for one, other in itertools.permutations("123", 2):
            shutil.copytree(tmp_path / one, tmp_path / other, dirs_exist_ok=True)
    same_report(merge_collapse(tmp_path / "2"), collapse(features))


def test_the_sums_of_the_whole_set_may_be_missing(tmp_path: Path):
    features = a_set()
    in_shards(features, 2, tmp_path, head="ridge")
    (tmp_path / "means.safetensors").unlink()
    (tmp_path / "moments.safetensors").unlink()
    same_report(merge_collapse(tmp_path), collapse(features, head="ridge"))


def test_any_reader_of_safetensors_opens_the_sums(tmp_path: Path):
    features = a_set()
    collapse_shard(features, "2/2", tmp_path)
    with safe_open(tmp_path / "means-2-of-2.safetensors", framework="np") as file:
        assert file.get_tensor("counts").sum() == 23
        about = json.loads(file.metadata()["nctransfer.sums"])
    assert (about["classes"], about["shard"]) == (list(features.classes), {"index": 2, "of": 2})


# Shares that are sets of their own


def own_sets(whole: FeatureSet, share_of: np.ndarray, number: int) -> list[FeatureSet]:
    """The samples of each share, of classes that are in it."""
    found = []
    for k in range(number):
        own = whole.only_rows(torch.from_numpy(np.flatnonzero(share_of == k)))
        found.append(own.only_classes(own.counts.nonzero()[:, 0]))
    return found


def separately(sets: Sequence[FeatureSet], folder: Path, **options: Any) -> list[ShardProgress]:
    """Every worker does every pass over its own set; returns what the workers said last."""
    for _ in range(4 if options.get("head") is not None else 3):
        said = [
            collapse_shard(one, Shard(k + 1, len(sets)), folder, is_separate=True, **options)
            for k, one in enumerate(sets)
        ]
    return said


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    counts=st.lists(st.integers(1, 12), min_size=3, max_size=6).filter(lambda them: sum(n > 1 for n in them) > 1),
    number=st.integers(1, 4),
    head=st.sampled_from([None, "ridge"]),
)
def test_any_division_into_sets(seed: int, counts: list[int], number: int, head: Any):
    rng = np.random.default_rng(seed)
    plain = a_set(counts, d=4, seed=seed)
    names = [f"{name}.jpg" for name in rng.permutation(len(plain))]  # no order of rows is that of ids
    labels = [plain.classes[code] for code in plain.labels.tolist()]
    whole = FeatureSet.from_arrays(plain.features, labels, names)
    share_of = rng.integers(number, size=len(whole))
    share_of[:number] = range(number)[: len(whole)]
    with TemporaryDirectory() as folder:
        said = separately(own_sets(whole, share_of, number), Path(folder), head=head)
        found, expected = merge_collapse(folder, pairs=None), collapse(whole, pairs=None, head=head, device="cpu")
        same_report(dataclasses.replace(found, features=expected.features), expected)
    assert (found.features.samples, found.features.classes) == (expected.features.samples, expected.features.classes)
    assert said[-1].is_done
    assert not said[-1].missing


def test_rows_without_names_follow_one_another(tmp_path: Path):
    whole = a_set((6, 8))
    sets = [FeatureSet.from_arrays(whole.features[rows], whole.labels[rows]) for rows in (slice(4), slice(4, None))]
    separately(sets, tmp_path)
    found, expected = merge_collapse(tmp_path), collapse(whole)
    assert found.directional_cdnv_debiased == pytest.approx(expected.directional_cdnv_debiased, rel=1e-9)
    assert found.features.id == "arrays"


def test_a_sample_in_two_sets(tmp_path: Path):
    sets = [FeatureSet.from_arrays(np.eye(4), "aabb", ids) for ids in ("pqrs", "tuvs")]
    for k, one in enumerate(sets):
        collapse_shard(one, Shard(k + 1, 2), tmp_path, is_separate=True)
    refused(lambda: collapse_shard(sets[0], "1/2", tmp_path, is_separate=True), "'s'")


def test_sets_that_are_no_shares_of_one(tmp_path: Path):
    one, other = a_set(), a_set(d=5)
    collapse_shard(one, "1/2", tmp_path, is_separate=True)
    refused(lambda: collapse_shard(other, "2/2", tmp_path, is_separate=True), "names-1-of-2.safetensors")
    refused(lambda: collapse_shard(one, "2/2", tmp_path), "names-1-of-2.safetensors")
    refused(lambda: collapse_shard(streamed(one, 0), "2/2", tmp_path, is_separate=True), "memory")
    refused(lambda: merge_collapse(tmp_path), "names", "2/2")


def test_a_separate_set_that_changes_between_the_passes(tmp_path: Path):
    first, second = own_sets(a_set((6, 8)), np.arange(14) % 2, 2)
    for k, one in enumerate((first, second)):
        collapse_shard(one, Shard(k + 1, 2), tmp_path, is_separate=True)
    fewer = second.only_rows(torch.arange(1, 7))
    refused(lambda: collapse_shard(fewer, "2/2", tmp_path, is_separate=True), "2/2", "names-2-of-2.safetensors")


# What is refused


def refused(work: Callable[[], object], *words: object) -> None:
    with pytest.raises(FeaturesError) as error:
        work()
    says(error, *words)
    assert error.value.hint


def test_a_missing_share_is_named(tmp_path: Path):
    features = a_set()
    refused(lambda: merge_collapse(tmp_path / "nothing"), "nothing")
    for shard in ("1/4", "4/4"):
        collapse_shard(features, shard, tmp_path)
    for work in (lambda: collapse_shard(features, "4/4", tmp_path), lambda: merge_collapse(tmp_path)):
        refused(work, "means", "2/4", "3/4")
    for shard in ("2/4", "3/4", "1/4", "2/4", "3/4"):
        collapse_shard(features, shard, tmp_path)
    refused(lambda: merge_collapse(tmp_path), "moments", "4/4")


def test_a_missing_share_of_a_classifier_is_named(tmp_path: Path):
    features = a_set()
    in_shards(features, 2, tmp_path, head="ridge")
    (tmp_path / "answers-2-of-2.safetensors").unlink()
    refused(lambda: merge_collapse(tmp_path), "answers", "2/2")


def test_a_repeated_share_is_named(tmp_path: Path):
    in_shards(a_set(), 2, tmp_path)
    shutil.copy(tmp_path / "moments-2-of-2.safetensors", tmp_path / "a copy.safetensors")
    refused(lambda: merge_collapse(tmp_path), "twice", "a copy.safetensors", "moments-2-of-2.safetensors")


OTHERS: dict[str, Callable[[Path], object]] = {
    "other samples": lambda folder: collapse_shard(a_set((4, 9, 12, 21)), "2/2", folder),
    "other features": lambda folder: collapse_shard(a_set(seed=1), "2/2", folder),
    "other classes": lambda folder: collapse_shard(
        dataclasses.replace(a_set(), classes=("a", "b", "c", "d")), "2/2", folder
    ),
    "another order": lambda folder: collapse_shard(streamed(a_set(), 3), "2/2", folder),
    "other shards": lambda folder: collapse_shard(a_set(), "2/3", folder),
    "a classifier": lambda folder: collapse_shard(a_set(), "2/2", folder, head="ridge"),
    "another classifier": lambda folder: collapse_shard(a_set(), "2/2", folder, head=a_head(a_set())),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_foreign_share_is_named(tmp_path: Path, other: str):
    collapse_shard(a_set(), "1/2", tmp_path)
    refused(lambda: OTHERS[other](tmp_path), "means-1-of-2.safetensors", "this run")
    OTHERS[other](tmp_path / "other")
    (foreign,) = (tmp_path / "other").iterdir()
    shutil.copy(foreign, tmp_path / "foreign.safetensors")
    refused(lambda: merge_collapse(tmp_path), "means-1-of-2.safetensors", "foreign.safetensors")


def test_a_stale_share_is_named(tmp_path: Path):
    features = a_set()
    in_shards(features, 2, tmp_path, head="ridge")
    changed = features.features.clone()
    changed[-1] += 1  # of the second share; the first row, which all shares know, stays
    new = dataclasses.replace(features, features=changed)
    (tmp_path / "means-2-of-2.safetensors").unlink()
    collapse_shard(new, "2/2", tmp_path, head="ridge")
    refused(lambda: merge_collapse(tmp_path), "moments-1-of-2.safetensors", "stale")
    # each worker sees that its own sums are stale, and does that pass again
    in_shards(new, 2, tmp_path, head="ridge")
    same_report(merge_collapse(tmp_path), collapse(new, head="ridge"))


def test_rows_that_change_between_the_passes(tmp_path: Path):
    features = a_set()
    for shard in ("1/2", "2/2"):
        collapse_shard(features, shard, tmp_path)
    changed = features.features.clone()
    changed[-1, 0] += 1e-5
    new = dataclasses.replace(features, features=changed)
    collapse_shard(new, "1/2", tmp_path)  # nothing has changed in this share
    refused(lambda: collapse_shard(new, "2/2", tmp_path), "2/2", "first pass")


@pytest.mark.parametrize("kind", ["means-1-of-2", "means", "moments-2-of-2"])
def test_any_damage_is_found(tmp_path: Path, kind: str):
    in_shards(a_set((4, 5)), 2, tmp_path)
    expected = merge_collapse(tmp_path)
    path = tmp_path / f"{kind}.safetensors"
    content, rng = path.read_bytes(), np.random.default_rng(0)
    places = [*rng.integers(len(content), size=40).tolist(), 0, 8, 9, len(content) - 1]
    for place in places:
        for damaged in (
            content[:place],
            content[:place] + bytes([content[place] ^ (1 << int(rng.integers(8)))]) + content[place + 1 :],
        ):
            path.write_bytes(damaged)
            try:
                found = merge_collapse(tmp_path)
            except FeaturesError as error:
                assert path.name in str(error), place  # noqa: PT017 - some bits are padding
            else:
                same_report(found, expected, rel=0)
    path.write_bytes(content)
    same_report(merge_collapse(tmp_path), expected)


def broken(path: Path, where: int) -> bytes:
    """Flip a bit of a file; returns what was in it."""
    content = path.read_bytes()
    path.write_bytes(content[:where] + bytes([content[where] ^ 4]) + content[where:][1:])
    return content


@pytest.mark.parametrize("kind", ["means", "moments", "answers"])
@pytest.mark.parametrize("where", [3, 40, -3], ids=["length", "description", "tensors"])
def test_a_worker_does_a_damaged_pass_again(
    tmp_path: Path, kind: str, where: int, caplog: pytest.LogCaptureFixture
) -> None:
    features = a_set()
    in_shards(features, 3, tmp_path, head="ridge")
    path = tmp_path / f"{kind}-2-of-3.safetensors"
    content = broken(path, where % path.stat().st_size)
    caplog.clear()
    progress = collapse_shard(features, "2/3", tmp_path, head="ridge")
    assert (progress.path, progress.missing) == (path, ())
    assert len(logged(caplog, path.name, "damaged", "2/3")) == 1
    assert path.read_bytes() == content
    same_report(merge_collapse(tmp_path), collapse(features, head="ridge"))


@pytest.mark.parametrize("where", [3, 40, -3], ids=["length", "description", "tensors"])
def test_damaged_sums_of_the_whole_set_are_added_up_again(
    tmp_path: Path, where: int, caplog: pytest.LogCaptureFixture
) -> None:
    features = a_set()
    in_shards(features, 2, tmp_path, head="ridge")
    expected = merge_collapse(tmp_path)
    for kind in ("means", "moments"):
        broken(tmp_path / f"{kind}.safetensors", where)
    caplog.clear()
    same_report(merge_collapse(tmp_path), expected, rel=0)
    for kind in ("means", "moments"):
        assert logged(caplog, f"{kind}.safetensors", "added up again")


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no classes": lambda about: about.pop("classes"),
    "classes that are numbers": lambda about: about.update(classes=[1, 2, 3, 4]),
    "fewer classes": lambda about: about.update(classes=about["classes"][:-1]),
    "a shard that is none": lambda about: about.update(shard={"index": 3, "of": 2}),
    "a shard of text": lambda about: about.update(shard="1/2"),
    "another width": lambda about: about["features"].update(dim=7),
    "no features": lambda about: about.update(features=None),
    "a list of facts": lambda about: about.update(facts=[]),
    "another kind": lambda about: about.update(kind="more"),
    "more samples": lambda about: about.update(rows=9_999_999),
    "what nobody writes": lambda about: about.update(more=1),
    "a later format": lambda about: about.update(format=2),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_description_that_nobody_wrote(tmp_path: Path, lie: str):
    """Its digest is right, so the values themselves have to be looked at."""
    for shard in ("1/2", "2/2"):
        collapse_shard(a_set(), shard, tmp_path)
    (tmp_path / "means.safetensors").unlink()
    path = tmp_path / "means-2-of-2.safetensors"
    with safe_open(path, framework="pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    about = json.loads(metadata["nctransfer.sums"])
    LIES[lie](about)
    text = json.dumps(about)
    save_file(tensors, path, {"nctransfer.sums": text, "nctransfer.digest": hashlib.sha256(text.encode()).hexdigest()})
    refused(lambda: collapse_shard(a_set(), "1/2", tmp_path), path.name)


def test_what_is_no_share(tmp_path: Path):
    in_shards(a_set(), 2, tmp_path)
    save_file({"feature": torch.ones(2, 3)}, tmp_path / "features.safetensors")
    refused(lambda: merge_collapse(tmp_path), "features.safetensors")


def test_a_set_that_has_no_collapse_is_refused_before_a_pass(tmp_path: Path):
    refused(lambda: collapse_shard(a_set((5,)), "1/2", tmp_path), "class")
    head = LinearHead(torch.ones(3, 6), torch.zeros(3), "another")
    refused(lambda: collapse_shard(a_set(), "1/2", tmp_path, head=head), "head")
    assert not list(tmp_path.iterdir())

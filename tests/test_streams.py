"""Features in passes: streams give what sets give, parts what the whole gives, and nothing is kept."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from clusters import normal_classes, set_of
from messages import says, those
from nctransfer.backbones.feature_key import FeatureKey
from nctransfer.errors import FeaturesError, StoreError
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.features.feature_set import FeatureSet
from nctransfer.features.feature_stream import Features, FeatureStream
from nctransfer.features.files import read_features, stream_features
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.neural_collapse.collapse_report import collapse
from nctransfer.neural_collapse.halves import first_halves
from nctransfer.neural_collapse.moments import Means, Moments
from nctransfer.sources.selection import Selection
from nctransfer.sources.source import content_digest
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.listings import Listed
from nctransfer.store.manifest import Manifest
from nctransfer.store.part_files import read_batches
from nctransfer.store.stored_set import StoredSet

COUNTS = (4, 9, 12, 20)
CPU = torch.device("cpu")


def a_set(counts: Sequence[int] = COUNTS, d: int = 6, seed: int = 0, offset: float = 10) -> FeatureSet:
    return set_of(normal_classes(counts, d, seed=seed, offset=offset))


def streamed(features: FeatureSet, order: np.ndarray | None = None, rows: int = 7) -> FeatureStream:
    """The rows of a set in any order, so many at a time."""
    order = np.arange(len(features)) if order is None else order
    matrix = features.features.numpy()[order]
    return FeatureStream(
        labels=features.labels[torch.from_numpy(order)],
        classes=features.classes,
        dim=features.dim,
        info=features.info,
        read=lambda: (matrix[start : start + rows] for start in range(0, len(matrix), rows)),
        places=torch.from_numpy(order),
    )


def agree(one: Features, other: Features, rel: float = 1e-10) -> None:
    """All that is reported is the same but for rounding."""
    assert (one.classes, one.dim, len(one), one.counts.tolist()) == (
        other.classes,
        other.dim,
        len(other),
        other.counts.tolist(),
    )
    first, second = (flat(collapse(features, head="ridge", pairs=None).to_dict()) for features in (one, other))
    assert second.keys() == first.keys()
    for name, value in first.items():
        expected = pytest.approx(value, rel=rel, abs=1e-12) if isinstance(value, float) else value
        if not name.endswith("/missing"):  # which only a stored set knows
            assert second[name] == expected, name


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested dictionaries and lists by the path of each value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return {name: value}
    return {path: one for key, inner in items for path, one in flat(inner, f"{name}/{key}").items()}


def same_statistics(one: ClassStatistics, other: ClassStatistics, rel: float = 1e-12) -> None:
    for field in dataclasses.fields(ClassStatistics):
        found, expected = getattr(one, field.name), getattr(other, field.name)
        if isinstance(expected, torch.Tensor):
            scale = float(expected.abs().max())
            torch.testing.assert_close(found, expected, rtol=rel, atol=rel * scale, msg=field.name)
        else:
            assert found == expected, field.name


# Parts


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.integers(2, 3), st.booleans())
def test_parts_of_a_set_add_up_to_it(seed: int, number: int, is_balanced: bool):
    rng = np.random.default_rng(seed)
    whole = a_set((6,) * 4 if is_balanced else rng.integers(2, 12, size=4), seed=seed)
    part_of = torch.from_numpy(rng.integers(number, size=len(whole)))
    part_of[whole.labels == 0] = 0  # the other parts have no row of that class
    parts = [
        dataclasses.replace(whole, features=whole.features[part_of == k], labels=whole.labels[part_of == k])
        for k in range(number)
    ]
    sides = first_halves(whole)
    means = [Means.of(part, CPU, sides[part_of == k]) for k, part in enumerate(parts)]
    total = means[0] + means[1] if number == 2 else means[0] + (means[1] + means[2])
    moments = [Moments.of(part, total, sides[part_of == k]) for k, part in enumerate(parts)]
    both = moments[0] + moments[1] if number == 2 else (moments[2] + moments[0]) + moments[1]
    same_statistics(ClassStatistics.from_passes(total, both), ClassStatistics.of(whole, "cpu"))
    assert (both.pooled is None) == (len(set(whole.counts.tolist())) == 1)


def test_a_part_without_a_row():
    whole = a_set()
    nothing = dataclasses.replace(whole, features=whole.features[:0], labels=whole.labels[:0])
    means = Means.of(nothing, CPU) + Means.of(whole, CPU)
    moments = Moments.of(whole, means) + Moments.of(nothing, means)
    same_statistics(ClassStatistics.from_passes(means, moments), ClassStatistics.of(whole, "cpu"))


def test_equal_rows_in_two_parts_are_counted():
    whole = a_set((6, 6))
    means = Means.of(whole, CPU)
    found = [one.duplicates.samples for one in (means, means + means, means + means + means)]
    assert found == [0, 12, 24]


def test_a_first_part_without_a_row_costs_no_digits():
    whole = a_set(offset=1e7)
    nothing = dataclasses.replace(whole, features=whole.features[:0], labels=whole.labels[:0])
    found, expected = Means.of(nothing, CPU) + Means.of(whole, CPU), Means.of(whole, CPU)
    assert torch.equal(found.shift, expected.shift)
    assert torch.equal(found.sums, expected.sums)


def test_parts_are_added_in_place():
    whole = a_set((4, 9, 5))
    means = Means.of(whole, CPU)
    moments, total = Moments.of(whole, means), Moments.of(whole, means)
    total += moments
    for field in dataclasses.fields(Moments):
        torch.testing.assert_close(getattr(total, field.name), 2 * getattr(moments, field.name))


def test_adding_changes_neither_part():
    whole = a_set()
    means = Means.of(whole, CPU)
    moments = Moments.of(whole, means)
    before = [means.counts.clone(), means.sums.clone(), moments.within.clone(), moments.squares.clone()]
    _ = means + means, moments + moments
    assert torch.cat(means.prints, dim=1).shape == (2, len(whole))
    for old, new in zip(before, [means.counts, means.sums, moments.within, moments.squares], strict=True):
        assert torch.equal(old, new)


# Streams


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.sampled_from([1, 7, 44, 45, 46, 1024]))
def test_any_order_and_any_batches(seed: int, rows: int):
    features = a_set(seed=seed)
    order = np.random.default_rng(seed).permutation(len(features))
    agree(features, streamed(features, order, rows))


def test_batches_are_no_larger_than_asked_for():
    features = a_set()
    for rows in (1, 7, 1024):
        found = list(streamed(features, rows=1000).batches(rows))
        assert [len(matrix) for matrix, _ in found] == [rows] * (45 // rows) + [45 % rows] * (45 % rows > 0)
        torch.testing.assert_close(torch.cat([matrix for matrix, _ in found]), features.features)
        assert torch.equal(torch.cat([labels for _, labels in found]), features.labels)


def test_some_classes_of_a_stream():
    features, order = a_set(), np.random.default_rng(0).permutation(45)
    codes = torch.tensor([0, 2, 3])
    stream = streamed(features, order).only_classes(codes)
    agree(features.only_classes(codes), stream)
    assert len(stream) == 36
    assert stream.classes == ("0000", "0002", "0003")
    # once more: what was passed over already stays so
    agree(features.only_classes(torch.tensor([2, 3])), stream.only_classes(torch.tensor([1, 2])))


def test_classes_of_one_sample_are_left_out_of_a_stream_too():
    features = a_set((1, 5, 1, 8, 3))
    stream = streamed(features, np.random.default_rng(0).permutation(18))
    agree(features, stream)
    assert those(collapse(stream).notes, 2, "'0000'", "'0002'")


def test_a_class_none_of_whose_rows_is_read_is_left_out():
    features = a_set((5, 6, 4))
    stream = streamed(features)
    labels = torch.where(stream.labels == 1, -1, stream.labels)
    without = dataclasses.replace(stream, labels=labels)
    assert without.counts.tolist() == [5, 0, 4]
    found, expected = collapse(without), collapse(features.only_classes(torch.tensor([0, 2])))
    assert [found.cdnv, found.nc1] == pytest.approx([expected.cdnv, expected.nc1], rel=1e-12)
    assert (found.features.samples, found.features.classes) == (9, 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_in_a_stream_is_named(bad: float):
    features = a_set()
    features.features[30, 2] = bad
    with pytest.raises(FeaturesError) as error:
        collapse(streamed(features))
    says(error, "arrays", "NaN", 30)
    assert error.value.hint


def test_what_is_not_finite_may_be_passed_over():
    features = a_set()
    features.features[30, 2] = np.nan  # of the last class
    stream = streamed(features).only_classes(torch.tensor([0, 1, 2]))
    agree(features.only_classes(torch.tensor([0, 1, 2])), stream)


def test_the_row_that_is_named_counts_those_passed_over():
    features = a_set()
    features.features[30, 2] = np.nan
    with pytest.raises(FeaturesError) as error:
        collapse(streamed(features).only_classes(torch.tensor([1, 3])))
    says(error, 30)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "fewer rows": lambda x: x[:-1],
    "no row": lambda x: x[:0],
    "more rows": lambda x: np.concatenate([x, x[:1]]),
    "twice the rows": lambda x: np.concatenate([x, x]),
    "another width": lambda x: x[:, :-1],
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("calm", [0, 1])
def test_rows_that_change_before_or_between_the_passes(change: str, calm: int):
    stream, x, passes = streamed(a_set()), a_set().features.numpy(), []

    def read() -> Iterator[np.ndarray]:
        passes.append(1)
        yield x if len(passes) <= calm else CHANGES[change](x)

    with pytest.raises(FeaturesError) as error:
        collapse(dataclasses.replace(stream, read=read))
    says(error, "arrays")
    assert len(passes) == calm + 1


# Parquet files


def table(features: FeatureSet, kind: pa.DataType, extra: dict[str, Any] | None = None) -> pa.Table:
    rows = [row.tolist() for row in features.features.numpy().astype(np.float64)]
    names = [features.classes[label] for label in features.labels.tolist()]
    return pa.table({"feature": pa.array(rows, kind), "label": names, "id": list(features.ids), **(extra or {})})


KINDS = {
    "float32": pa.list_(pa.float32()),
    "float64": pa.list_(pa.float64()),
    "fixed": pa.list_(pa.float32(), 6),
    "float16": pa.list_(pa.float32(), 6),
    "large": pa.large_list(pa.float64()),
}


@pytest.fixture
def mixed() -> pa.Table:
    """Rows in no order, of two splits."""
    features = a_set((9, 12, 2, 20, 7))
    order = np.random.default_rng(0).permutation(len(features))
    return table(features, KINDS["float64"], {"split": ["train", "test"] * 25}).take(order)


@pytest.mark.parametrize("kind", KINDS)
def test_a_parquet_file(tmp_path: Path, kind: str):
    features = a_set((9, 12, 1, 20))
    order = np.random.default_rng(0).permutation(len(features))
    parquet.write_table(table(features, KINDS[kind]).take(order), tmp_path / "f.parquet", row_group_size=10)
    found = stream_features(tmp_path / "f.parquet")
    assert isinstance(found, FeatureStream)
    agree(read_features(tmp_path / "f.parquet"), found)


@pytest.mark.parametrize(
    "selection",
    [
        Selection(split="train"),
        Selection(classes=("0001", "0003")),
        Selection(exclude_classes=("0001",)),
        Selection(max_per_class=3),
        Selection(split="test", max_per_class=2, seed=5, exclude_classes=("0002",)),
    ],
)
def test_a_selection_of_a_folder_of_parquet_files(tmp_path: Path, mixed: pa.Table, selection: Selection):
    for number in range(3):
        parquet.write_table(mixed.slice(17 * number, 17), tmp_path / f"{number}.parquet")
    found = stream_features(tmp_path, selection=selection)
    assert isinstance(found, FeatureStream)
    assert len(found) < 50
    agree(read_features(tmp_path, selection=selection), found)


def test_codes_with_names(tmp_path: Path):
    x = np.random.default_rng(0).normal(size=(12, 3))
    parquet.write_table(pa.table({"vec": x.tolist(), "y": [1, 0] * 6}), tmp_path / "f.parquet")
    options = {"label_column": "y", "feature_column": "vec", "class_names": ["zebra", "ant"]}
    found = stream_features(tmp_path / "f.parquet", **options)
    assert (found.classes, found.info.layer) == (("ant", "zebra"), "vec")
    agree(read_features(tmp_path / "f.parquet", **options), found)


def test_other_files_are_read_whole(tmp_path: Path):
    features = a_set()
    labels = [features.classes[label] for label in features.labels.tolist()]
    np.savez(tmp_path / "f.npz", features=features.features.numpy(), labels=labels)
    found = stream_features(tmp_path / "f.npz", selection=Selection(classes=("0001", "0002")))
    assert isinstance(found, FeatureSet)
    agree(read_features(tmp_path / "f.npz", selection=Selection(classes=("0001", "0002"))), found)


def test_a_file_without_rows(tmp_path: Path):
    parquet.write_table(table(a_set(), KINDS["fixed"]).slice(0, 0), tmp_path / "f.parquet")
    with pytest.raises(FeaturesError) as error:
        stream_features(tmp_path / "f.parquet")
    says(error, "f.parquet", "rows")


def test_not_finite_in_a_file(tmp_path: Path, mixed: pa.Table):
    rows = mixed["feature"].to_pylist()
    rows[33][0] = float("nan")
    path = tmp_path / "f.parquet"
    parquet.write_table(mixed.set_column(0, "feature", pa.array(rows, KINDS["float64"])), path)
    with pytest.raises(FeaturesError) as error:
        collapse(stream_features(path))
    says(error, "f.parquet", "NaN", 33)


def test_nulls_in_a_file(tmp_path: Path, mixed: pa.Table):
    rows = mixed["feature"].to_pylist()
    rows[33] = None
    path = tmp_path / "f.parquet"
    parquet.write_table(mixed.set_column(0, "feature", pa.array(rows, KINDS["float64"])), path)
    with pytest.raises(FeaturesError) as error:
        collapse(stream_features(path))
    says(error, "'feature'", "nulls")


def test_a_file_that_is_not_the_same_any_more(tmp_path: Path, mixed: pa.Table):
    path = tmp_path / "f.parquet"
    parquet.write_table(mixed, path)
    stream = stream_features(path)
    turned = mixed.take(list(reversed(range(len(mixed)))))  # as many rows, of other labels
    for other in (turned, mixed.slice(1), pa.concat_tables([mixed, mixed])):
        parquet.write_table(other, path)
        with pytest.raises(FeaturesError) as error:
            collapse(stream)
        says(error, "f.parquet")
    parquet.write_table(mixed.drop_columns("feature"), path)
    with pytest.raises(FeaturesError) as error:
        collapse(stream)
    says(error, "f.parquet")
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(FeaturesError) as error:
        collapse(stream)
    says(error, "f.parquet")
    path.unlink()
    with pytest.raises(FeaturesError) as error:
        collapse(stream)
    says(error, "f.parquet")


# Stored sets


def listed(label: str, number: int, content: str, split: str = "") -> Listed:
    return Listed(f"{label}/{number:02d}.png", label, split, 10, number, content_digest(content.encode()))


def a_stored_set(
    parts: int = 3, layers: Sequence[str] = ("feature",), before: Sequence[Listed] = ()
) -> tuple[StoredSet, list[Listed]]:
    """Three classes of nine; three contents are listed under two names, one of them in another class.

    The rows ``before`` are the first that are stored, and have no layers.
    """
    rng = np.random.default_rng(0)
    rows = [
        listed(label, number, f"{label} {number}", ("train", "test")[number % 3 == 0])
        for label in ("cat", "ant", "bee")
        for number in range(9)
    ]
    again = [listed("cat", 10, "cat 3"), listed("ant", 10, "bee 4"), listed("bee", 11, "bee 5")]
    store = FeatureStore()
    store.save_listing("pets-1", [*again[:2], *rows, *again[2:]])
    stored = store.open(
        FeatureKey(model="vit.tag", weights="w" * 32, transform={}), "pets-1", {"weights": "of nobody", "data": "pets"}
    )
    order = rng.permutation(len(rows))
    with stored.writer() as writer:
        if before:
            writer.append(before, {"feature": rng.normal(size=(len(before), 5)).astype(np.float32)})
        for part in np.array_split(order, parts):
            chosen = [rows[i] for i in part]
            vectors = {
                name: (rng.normal(size=(len(chosen), 5 + place)) + 3).astype(np.float32)
                for place, name in enumerate(layers)
            }
            writer.append(chosen, vectors)
    return stored, rows


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize(
    "selection",
    [None, Selection(split="train"), Selection(exclude_classes=("bee",)), Selection(max_per_class=4, seed=3)],
)
def test_a_stored_set(parts: int, selection: Selection | None):
    stored, _ = a_stored_set(parts)
    found = stored.stream(selection)
    agree(stored.read(selection), found)
    if selection is None:
        assert found.counts.tolist() == [10, 10, 10]
        assert those(collapse(found).notes, 3)


def test_a_layer_of_a_stored_set():
    dogs = [listed("dog", number, f"dog {number}") for number in range(5)]
    stored, rows = a_stored_set(layers=("feature", "layer_0"), before=dogs)
    stored.store.save_listing("pets-1", [*rows, *dogs])
    agree(stored.read(column="layer_0", partial=True), stored.stream(column="layer_0", partial=True))
    agree(stored.read(), stored.stream())
    assert stored.stream().classes == ("ant", "bee", "cat", "dog")
    # beside a layer, only rows that have it
    beside = stored.stream(beside=["layer_0"], partial=True)
    assert beside.classes == ("ant", "bee", "cat")
    agree(stored.read(Selection(exclude_classes=("dog",))), beside)


def test_a_stored_set_that_changes_between_the_passes():
    stored, _ = a_stored_set()
    stream = stored.stream()
    for path in sorted(stored.rows_path.iterdir())[:1]:
        path.unlink()
    with pytest.raises(StoreError) as error:
        collapse(stream)
    says(error, "vit.tag")


# Some of the rows


def same_rows(stream: FeatureStream, cuts: Sequence[int]) -> None:
    """Consecutive shares have together the rows of the whole, in its order."""
    rows, labels = map(torch.cat, zip(*stream.batches(), strict=True))
    ends = [0, *sorted(cuts), len(stream.labels)]
    shares = [stream.between(first, last) for first, last in itertools.pairwise(ends)]
    found = [pair for share in shares for pair in share.batches(5)]
    assert torch.equal(torch.cat([one for one, _ in found]), rows)
    assert torch.equal(torch.cat([one for _, one in found]), labels)
    assert {share.classes for share in shares} == {stream.classes}
    assert sum(share.counts for share in shares).tolist() == stream.counts.tolist()


@pytest.mark.parametrize("cuts", [(), (0, 45), (1, 20, 20, 44), (13,)])
def test_shares_of_rows_in_memory(cuts: Sequence[int]):
    same_rows(FeatureStream.of(a_set()), cuts)


@pytest.mark.parametrize("cuts", [(0,), (7, 8, 30), (10, 20, 34, 40), (50,)])
def test_shares_of_parquet_files(tmp_path: Path, mixed: pa.Table, cuts: Sequence[int]):
    for number, groups in enumerate((4, 10, 17)):
        parquet.write_table(mixed.slice(17 * number, 17), tmp_path / f"{number}.parquet", row_group_size=groups)
    stream = stream_features(tmp_path, selection=Selection(split="train"))  # every other row is passed over
    assert isinstance(stream, FeatureStream)
    same_rows(stream, cuts)


@pytest.mark.parametrize("cuts", [(), (1, 9, 10, 29), (15,)])
@pytest.mark.parametrize("selection", [None, Selection(split="test")])
def test_shares_of_a_stored_set(cuts: Sequence[int], selection: Selection | None):
    stored, _ = a_stored_set(4)
    same_rows(stored.stream(selection), [cut for cut in cuts if cut <= len(stored.stream(selection))])


def test_a_share_of_a_stored_set_reads_no_other_part(monkeypatch: pytest.MonkeyPatch):
    stored, _ = a_stored_set(3)  # nine rows each, and the first two have two rows of the listing each, or the last one
    stream, opened = stored.stream(), []

    def noted(manifest: Manifest, name: str, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        opened.append(name)
        return read_batches(manifest, name, columns)

    monkeypatch.setattr("nctransfer.store.reading.read_batches", noted)
    for share in (stream.between(0, 5), stream.between(25, 30)):
        list(share.batches())
    assert len(opened) == 2
    assert len(set(opened)) == 2


def test_a_share_of_a_parquet_file_reads_no_other_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "f.parquet"
    parquet.write_table(table(a_set(), KINDS["fixed"]), path, row_group_size=10)
    stream, groups = stream_features(path), []
    assert isinstance(stream, FeatureStream)
    whole = parquet.ParquetFile.iter_batches

    def noted(self: parquet.ParquetFile, *args: Any, row_groups: list[int], **named: Any) -> Any:
        groups.extend(row_groups)
        return whole(self, *args, row_groups=row_groups, **named)

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", noted)
    list(stream.between(20, 31).batches())
    assert groups == [2, 3]


def test_the_row_that_is_named_is_that_of_the_whole():
    features = a_set()
    features.features[30, 2] = np.nan
    with pytest.raises(FeaturesError) as error:
        list(FeatureStream.of(features).between(10, 45).between(15, 35).batches())
    says(error, "NaN", 30)


# Memory


def resident() -> int:
    """MiB of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_nothing_of_a_stream_is_kept():
    block = np.random.default_rng(0).normal(size=(2048, 256))
    labels, times, sizes = torch.arange(2048) % 4, 2**27 // block.nbytes, []  # 128 MiB, if they were kept

    def read(number: int) -> Iterator[np.ndarray]:
        for _ in range(number):
            sizes.append(resident())
            yield block.copy()

    def stream(number: int) -> FeatureStream:
        return FeatureStream(
            labels=labels.repeat(number),
            classes=tuple("abcd"),
            dim=256,
            info=FeatureInfo("s"),
            read=lambda: read(number),
        )

    once = ClassStatistics.of(stream(1), "cpu")
    sizes.clear()
    found = ClassStatistics.of(stream(times), "cpu")
    assert len(sizes) == 2 * times
    assert max(sizes) - sizes[0] < 48
    # the same rows so many times over
    assert (found.duplicates.samples, found.duplicates.across_classes) == (2048 * (times - 1), 0)
    torch.testing.assert_close(found.within, once.within)
    torch.testing.assert_close(found.directional, once.directional)
    torch.testing.assert_close(found.fourths, once.fourths)

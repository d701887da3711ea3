"""Parquet files of images: which column is what, names of codes, splits, and reading a little at a time."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from messages import missing, only, says
from nctransfer.errors import DataError
from nctransfer.sources import row_groups
from nctransfer.sources.arrow_columns import Columns, LabelColumn
from nctransfer.sources.opening import open_source
from nctransfer.sources.parquet import ParquetFiles
from nctransfer.sources.source_kind import ReadingOptions
from pictures import contents, labelled, notes, png

IMAGES = [png(number, 0, 0) for number in range(6)]
CAT_DOG = {"label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}


def write(path: Path, columns: dict[str, Any], features: object = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if features is not None:
        described = features if isinstance(features, bytes) else json.dumps({"info": {"features": features}}).encode()
        table = table.replace_schema_metadata({b"huggingface": described})
    parquet.write_table(table, path, **options)
    return path


def structs(images: list[bytes] = IMAGES) -> list[dict[str, object]]:
    return [{"bytes": image, "path": f"{number}.png"} for number, image in enumerate(images)]


def hub(path: Path, labels: tuple[int | None, ...] = (0, 1, 0, 1, 0, 1), **options: Any) -> Path:
    """A file as the Hugging Face hub has them."""
    return write(path, {"image": structs(), "label": pa.array(labels, pa.int64())}, CAT_DOG, **options)


def test_a_file_of_the_hub(tmp_path: Path) -> None:
    source = open_source(hub(tmp_path / "train-00000-of-00001.parquet"))
    assert isinstance(source, ParquetFiles)
    names = [f"train-00000-of-00001/{row:07d}" for row in range(6)]
    assert labelled(source) == [(name, label, "train") for name, label in zip(names, ["cat", "dog"] * 3, strict=True)]
    assert contents(source) == IMAGES
    assert source.notes == ()


def test_content_says_that_a_file_is_parquet(tmp_path: Path) -> None:
    assert contents(open_source(hub(tmp_path / "data"))) == IMAGES


def test_folders_and_patterns(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for name in ("data/test.parquet", "data/train-1.parquet", "data/train-0.parquet"):
        hub(root / name)
    (root / "splits").mkdir()
    (root / "splits" / "a.txt").write_text("x")
    (root / "logo.png").write_bytes(png())
    (root / ".cache").mkdir()
    hub(root / ".cache" / "x.parquet")
    stems = [id_.rpartition("/")[0] for id_, _, _ in labelled(open_source(root))]
    assert stems == [name for name in ("data/test", "data/train-0", "data/train-1") for _ in range(6)]
    found = labelled(open_source(f"{root}/data/train-*.parquet"))
    assert [id_ for id_, _, _ in found[::6]] == ["train-0/0000000", "train-1/0000000"]
    assert len(labelled(open_source(f"{root}/**/*.parquet"))) == 18
    assert contents(open_source(root)) == IMAGES * 3


def test_a_folder_with_images_in_class_folders_is_none_of_parquet(tmp_path: Path) -> None:
    hub(tmp_path / "a.parquet")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(png())
    assert open_source(tmp_path).kind == "folder of class folders"


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00002", "train"),
        ("test", "test"),
        ("Validation", "Validation"),
        ("x-val", "val"),
        ("train/0000", "train"),
        ("test/train-0", "train"),
        ("trains", ""),
        ("0000", ""),
        ("train_test", ""),
    ],
)
def test_splits_by_name(tmp_path: Path, name: str, split: str) -> None:
    hub(tmp_path / f"{name}.parquet")
    assert {entry.split for entry in open_source(tmp_path).list()} == {split}


def test_a_split_column_counts_more_than_the_name(tmp_path: Path) -> None:
    path = write(tmp_path / "train.parquet", {"image": IMAGES[:2], "label": ["a", "b"], "split": ["test", None]})
    assert [split for _, _, split in labelled(open_source(path))] == ["test", ""]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (pa.array([1, 0]), ["1", "0"]),
        (pa.array([1, 0], pa.uint8()), ["1", "0"]),
        (pa.array(["001", "NA"]), ["001", "NA"]),
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
    ],
)
def test_labels_without_metadata(tmp_path: Path, labels: pa.Array, expected: list[str]) -> None:
    path = write(tmp_path / "x.parquet", {"image": IMAGES[:2], "label": labels})
    assert [label for _, label, _ in labelled(open_source(path))] == expected


@pytest.mark.parametrize("features", [b"no json", b"[]", b'{"info": 1}', b"[" * 9999, {"label": 1}, [], {"label": {}}])
def test_odd_metadata_are_passed_over(tmp_path: Path, features: object) -> None:
    path = write(tmp_path / "x.parquet", {"image": structs()[:1], "label": [7]}, features)
    assert [label for _, label, _ in labelled(open_source(path))] == ["7"]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_columns_of_bytes(tmp_path: Path, kind: pa.DataType) -> None:
    path = write(tmp_path / "x.parquet", {"label": ["a"] * 6, "picture": pa.array(IMAGES, kind)})
    assert contents(open_source(path)) == IMAGES


def test_the_column_that_the_metadata_call_an_image(tmp_path: Path) -> None:
    features = {"y": {"_type": "Image"}, "coarse": {"_type": "ClassLabel", "names": ["a"]}}
    path = write(tmp_path / "x.parquet", {"x": structs(), "y": structs(IMAGES[::-1]), "coarse": [0] * 6}, features)
    source = open_source(path)
    assert contents(source) == IMAGES[::-1]
    assert {label for _, label, _ in labelled(source)} == {"a"}
    other = open_source(path, ReadingOptions(image_column="x"))
    assert contents(other) == IMAGES
    assert other.id != source.id


@pytest.mark.parametrize(
    ("columns", "facts", "option"),
    [
        ({"a": IMAGES, "b": IMAGES, "label": [0] * 6}, ["images", "a", "b"], "--image-column"),
        ({"a": [1.0], "label": [0]}, ["images"], "--image-column"),
        ({"image": [b"x"], "kind": ["a"]}, ["labels"], "--label-column"),
        ({"image": [b"x"], "label": [0.5]}, ["'label'", "double"], "--label-column"),
        ({"image": [b"x"], "label": [True]}, ["'label'", "bool"], "--label-column"),
        ({"image": [b"x"], "label": [[1]]}, ["'label'"], "--label-column"),
    ],
)
def test_columns_that_cannot_be_told(tmp_path: Path, columns: dict[str, Any], facts: list[object], option: str) -> None:
    with pytest.raises(DataError) as error:
        open_source(write(tmp_path / "x.parquet", columns)).list()
    says(error, *facts, hint=[option, *columns])


def test_a_column_named_image_goes_before_others_of_images(tmp_path: Path) -> None:
    columns = {"image": IMAGES, "mask": IMAGES[::-1], "label": [0] * 6}
    assert contents(open_source(write(tmp_path / "x.parquet", columns))) == IMAGES


def test_columns_that_were_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"a": IMAGES, "b": IMAGES[::-1], "c": ["x"] * 6, "label": [0] * 6})
    source = open_source(path, ReadingOptions(image_column="b", label_column="c"))
    assert contents(source) == IMAGES[::-1]
    assert {label for _, label, _ in labelled(source)} == {"x"}
    for options in ({"image_column": "no"}, {"label_column": "no", "image_column": "a"}):
        with pytest.raises(DataError) as error:
            open_source(path, ReadingOptions(**options)).list()
        says(error, "'no'")
    with pytest.raises(DataError) as error:
        open_source(path, ReadingOptions(image_column="c")).list()
    says(error, "images", "'c'", "string")


def test_what_has_no_label_is_left_out_and_said(tmp_path: Path) -> None:
    source = open_source(hub(tmp_path / "x.parquet", (0, None, -1, 1, -1, 0)))
    only(notes(source), 3)
    assert [id_ for id_, _, _ in labelled(source)] == [f"x/{row:07d}" for row in (0, 3, 5)]
    assert contents(source) == [IMAGES[row] for row in (0, 3, 5)]
    empty = write(tmp_path / "y.parquet", {"image": IMAGES[:2], "label": ["", "cat"]})
    assert labelled(open_source(empty)) == [("y/0000001", "cat", "")]
    with pytest.raises(DataError) as error:
        open_source(hub(tmp_path / "x.parquet", (-1,) * 6)).list()
    says(error, 6)


def test_names_that_were_given_count_more(tmp_path: Path) -> None:
    path = hub(tmp_path / "x.parquet")
    assert [label for _, label, _ in labelled(open_source(path, ReadingOptions(class_names=("A", "B"))))] == list(
        "AB"
    ) * 3
    with pytest.raises(DataError) as error:
        open_source(path, ReadingOptions(class_names=("A",))).list()
    says(error, "row 1", "x.parquet", 1)


def test_names_of_names_are_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"image": IMAGES[:1], "label": ["cat"]})
    with pytest.raises(DataError) as error:
        open_source(path, ReadingOptions(class_names=("a",))).list()
    says(error, "x.parquet", hint="--class-names")


def test_equal_class_names_are_told_apart(tmp_path: Path) -> None:
    features = {"label": {"_type": "ClassLabel", "names": ["crane", "dog", "crane"]}}
    path = write(tmp_path / "x.parquet", {"image": IMAGES[:3], "label": [0, 1, 2]}, features)
    assert [label for _, label, _ in labelled(open_source(path))] == ["crane (0)", "dog", "crane (2)"]


def test_files_that_name_their_classes_and_files_that_do_not(tmp_path: Path) -> None:
    hub(tmp_path / "a.parquet")
    write(tmp_path / "b.parquet", {"image": structs(), "label": [0] * 6})
    with pytest.raises(DataError) as error:
        open_source(tmp_path).list()
    says(error, tmp_path)


@pytest.mark.parametrize("rows", [1, 2, 6])
@pytest.mark.parametrize("batch", [1, 2**23])
def test_any_entries_in_any_order(tmp_path: Path, rows: int, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_groups, "BATCH_BYTES", batch)
    for name in ("a", "b"):
        hub(tmp_path / f"{name}.parquet", row_group_size=rows)
    source = open_source(tmp_path)
    entries = source.list()
    for chosen in (range(12), [0, 5, 11], [11, 0, 5, 5, 4], [7]):
        assert contents(source, [entries[i] for i in chosen]) == [IMAGES[i % 6] for i in chosen]
    assert open_source(tmp_path).read(entries[8]) == IMAGES[2]


def test_only_row_groups_that_are_wanted_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(hub(tmp_path / "x.parquet", row_group_size=2))
    entries = source.list()
    read: list[list[int]] = []
    before = parquet.ParquetFile.iter_batches

    def spy(self: parquet.ParquetFile, *arguments: Any, **options: Any) -> Any:
        read.append(options["row_groups"])
        return before(self, *arguments, **options)

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", spy)
    assert contents(source, [entries[0], entries[5]]) == [IMAGES[0], IMAGES[5]]
    assert read == [[0], [2]]


def test_a_listing_reads_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(hub(tmp_path / "x.parquet"))
    before = parquet.ParquetFile.iter_batches

    def spy(self: parquet.ParquetFile, *arguments: Any, **options: Any) -> Any:
        assert options["columns"] == ["label"]
        return before(self, *arguments, **options)

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", spy)
    assert len(source.list()) == 6


def test_few_images_are_in_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [os.urandom(10_000) for _ in range(100)]
    path = write(tmp_path / "x.parquet", {"image": structs(images), "label": ["a"] * 100})
    monkeypatch.setattr(row_groups, "BATCH_BYTES", 50_000)
    with parquet.ParquetFile(path) as file:
        columns = Columns(image="image", is_struct=True, labels=(LabelColumn("label", None),), split=None)
        assert max(map(len, row_groups.image_batches(file, columns, 0))) <= 5


def test_images_outside_the_file_fail_when_read(tmp_path: Path) -> None:
    values = [{"bytes": None, "path": "1.png"}, None, {"bytes": IMAGES[0], "path": None}]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    source = open_source(write(tmp_path / "x.parquet", {"image": pa.array(values, kind), "label": ["a"] * 3}))
    first, second, third = contents(source)
    assert third == IMAGES[0]
    assert missing(str(first), ["Parquet"]) == missing(str(second), ["Parquet"]) == []


def test_size_and_time_are_those_of_the_file(tmp_path: Path) -> None:
    path = hub(tmp_path / "x.parquet")
    os.utime(path, ns=(1, 987_654_321))
    assert {(entry.size, entry.mtime_ns) for entry in open_source(path).list()} == {(path.stat().st_size, 987_654_321)}


@pytest.mark.parametrize("damage", [lambda whole: whole[:-100], lambda whole: b"", lambda whole: b"PAR1" + whole[:40]])
def test_damaged_files_are_errors(tmp_path: Path, damage: Any) -> None:
    path = hub(tmp_path / "x.parquet")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError) as error:
        open_source(path).list()
    says(error, "x.parquet", "Parquet")


def test_a_damaged_row_group_fails_alone(tmp_path: Path) -> None:
    images = [os.urandom(3000) for _ in range(6)]
    columns = {"image": structs(images), "label": ["a"] * 6}
    path = write(tmp_path / "x.parquet", columns, row_group_size=2, use_dictionary=False)
    with parquet.ParquetFile(path) as file:
        offset = file.metadata.row_group(1).column(0).data_page_offset
    source = open_source(path)
    entries = source.list()
    whole = bytearray(path.read_bytes())
    whole[offset : offset + 60] = b"\xff" * 60
    path.write_bytes(whole)
    found = contents(source, entries)
    assert [found[i] for i in (0, 1, 4, 5)] == [images[i] for i in (0, 1, 4, 5)]
    assert [missing(str(found[i]), ["row group", 1]) for i in (2, 3)] == [[], []]


def test_a_file_that_is_gone_when_read(tmp_path: Path) -> None:
    source = open_source(hub(tmp_path / "x.parquet"))
    entries = source.list()
    (tmp_path / "x.parquet").unlink()
    assert [missing(str(reason), ["Parquet"]) for reason in contents(source, entries)] == [[]] * 6


def test_no_file_fits_the_pattern(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        open_source(f"{tmp_path}/*.parquet").list()
    says(error, f"{tmp_path}/*.parquet")


def test_cifar(shared: Path) -> None:
    source = open_source(shared / "data" / "cifar100")
    entries = source.list()
    assert (len(entries), len({entry.label for entry in entries})) == (60_000, 100)
    assert [sum(entry.split == split for entry in entries) for split in ("train", "test")] == [50_000, 10_000]
    chosen = entries[::7000]
    assert all(str(content[:4]) == str(b"\x89PNG") for content in contents(source, chosen))

"""Where labels are optional, every source also opens images that have none: flat folders, lists, single images."""

from __future__ import annotations

import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from messages import says
from nctransfer.errors import DataError
from nctransfer.sources.decoding import decode
from nctransfer.sources.given_images import CHUNK, GivenImages, paths_in
from nctransfer.sources.opening import open_source
from nctransfer.sources.registry import OWN, UNLABELLED, describe_sources, sources_table
from nctransfer.sources.source import ImageSource
from nctransfer.sources.source_kind import ReadingOptions
from pictures import contents, labelled, notes, png

OPTIONAL = ReadingOptions(labels_optional=True)


def files(root: Path, *names: str, content: bytes = b"x") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def packed(root: Path, archive: Path) -> Path:
    """An archive of everything below a folder."""
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as new:
            for name in names:
                new.write(root / name, name)
    else:
        with tarfile.open(archive, "w") as new:
            for name in names:
                new.add(root / name, name, recursive=False)
    return archive


# Folders and archives

LAYOUTS = {
    "flat": (("2.png", "", ""), ("notes.txt", None, None), ("1.jpg", "", "")),
    "deep": (("2024/06/1.jpg", "2024", ""), ("2025/07/a/2.jpg", "2025", "")),
    "mixed": (("1.jpg", "", ""), ("cat/2.jpg", "cat", ""), ("dog/a/3.jpg", "dog", "")),
    "splits": (("train/cat/1.jpg", "cat", "train"), ("test/2.jpg", "", "test"), ("3.jpg", "", "")),
    "split": (("test/1.jpg", "", "test"), ("test/2.jpg", "", "test")),
}


@pytest.mark.parametrize("kind", ["folder", "x.tar", "x.zip"])
@pytest.mark.parametrize("rows", LAYOUTS.values(), ids=LAYOUTS)
def test_images_at_any_depth(tmp_path: Path, kind: str, rows: tuple[tuple[str, str | None, str | None], ...]) -> None:
    root = files(tmp_path / "folder", *(name for name, _, _ in rows), content=png())
    path = root if kind == "folder" else packed(root, tmp_path / kind)
    source = open_source(path, OPTIONAL)
    expected = sorted(row for row in rows if row[1] is not None)
    assert sorted(labelled(source)) == expected
    assert contents(source) == [png()] * len(expected)
    assert len(source.notes) == len(rows) - len(expected)


def test_images_outside_the_only_folder_of_an_archive(tmp_path: Path) -> None:
    root = files(tmp_path / "folder", "1.jpg", "pets/2.jpg", "pets/cat/3.jpg", content=png())
    source = open_source(packed(root, tmp_path / "x.zip"), OPTIONAL)
    assert sorted(labelled(source)) == [("1.jpg", "", ""), ("pets/2.jpg", "", ""), ("pets/cat/3.jpg", "cat", "")]


@pytest.mark.parametrize("kind", ["folder", "x.tar", "x.zip"])
def test_without_images_there_is_an_error(tmp_path: Path, kind: str) -> None:
    root = files(tmp_path / "folder", "a.txt", "b/c.txt")
    path = root if kind == "folder" else packed(root, tmp_path / kind)
    with pytest.raises(DataError) as error:
        open_source(path, OPTIONAL).list()
    says(error, path, 2, hint=[".jpg"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as error:
        open_source(tmp_path / "empty", OPTIONAL).list()
    says(error, tmp_path / "empty", "empty")


def test_labels_are_needed_unless_they_are_optional(tmp_path: Path) -> None:
    root = files(tmp_path, "1.jpg", "2.jpg")
    with pytest.raises(DataError) as error:
        open_source(root).list()
    says(error, root, 2, hint="pets/cat/1.jpg")
    for name in ("-", root / "1.jpg"):
        with pytest.raises(DataError) as error:
            open_source(name)
        says(error, repr(str(name)))


def test_a_table_beside_the_images_of_a_flat_folder_changes_nothing(tmp_path: Path) -> None:
    files(tmp_path, "1.jpg")
    parquet.write_table(pa.table({"id": ["1.jpg"], "class": ["cat"]}), tmp_path / "labels.parquet")
    assert labelled(open_source(tmp_path, OPTIONAL)) == [("1.jpg", "", "")]
    assert open_source(tmp_path).kind == "Parquet files"


# Tables


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("x.csv", "path\na.png\nb.png\n", ["", ""]),
        ("x.csv", "path,label\na.png,cat\nb.png,\n", ["cat", ""]),
        ("x.tsv", "split\tpath\tclass\ntest\ta.png\t \ntest\tb.png\tdog\n", ["", "dog"]),
        ("x.jsonl", '{"path": "a.png"}\n{"path": "b.png", "label": "dog"}\n', ["", "dog"]),
        ("x.jsonl", '{"path": "a.png", "label": null}\n{"path": "b.png", "label": 0}\n', ["", "0"]),
    ],
)
def test_a_manifest_may_lack_labels(tmp_path: Path, name: str, text: str, expected: list[str]) -> None:
    files(tmp_path, "a.png", "b.png", content=png())
    (tmp_path / name).write_text(text)
    assert [entry.label for entry in open_source(tmp_path / name, OPTIONAL).list()] == expected
    with pytest.raises(DataError):
        open_source(tmp_path / name).list()


def test_a_column_of_labels_that_is_named_must_be_there(tmp_path: Path) -> None:
    files(tmp_path, "a.png")
    (tmp_path / "x.csv").write_text("path\na.png\n")
    parquet.write_table(pa.table({"image": [png()]}), tmp_path / "x.parquet")
    for name in ("x.csv", "x.parquet"):
        with pytest.raises(DataError) as error:
            open_source(tmp_path / name, ReadingOptions(labels_optional=True, label_column="kind")).list()
        says(error, "'kind'", hint="--label-column")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"image": [png(), png(4)]}, [("", ""), ("", "")]),
        ({"image": [png(), png(4)], "label": ["cat", None]}, [("cat", ""), ("", "")]),
        ({"image": [png(), png(4)], "label": [-1, 3]}, [("", ""), ("3", "")]),
        ({"image": [png(), png(4)], "label": [0.5, 0.7]}, [("", ""), ("", "")]),
        ({"image": [png(), png(4)], "split": ["a", "b"]}, [("", "a"), ("", "b")]),
    ],
)
def test_parquet_may_lack_labels(
    tmp_path: Path, columns: dict[str, list[object]], expected: list[tuple[str, str]]
) -> None:
    parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
    source = open_source(tmp_path / "x.parquet", OPTIONAL)
    assert [row[1:] for row in labelled(source)] == expected
    assert contents(source) == [png(), png(4)]
    assert notes(source) == ()


def test_parquet_without_rows_is_an_error(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"image": pa.array([], pa.binary())}), tmp_path / "x.parquet")
    with pytest.raises(DataError) as error:
        open_source(tmp_path / "x.parquet", OPTIONAL).list()
    says(error, tmp_path / "x.parquet")


# Lists and single images


def test_a_single_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files(tmp_path, "cat/1.PNG", content=png())
    monkeypatch.chdir(tmp_path)
    source = open_source("cat/1.PNG", OPTIONAL)
    assert labelled(source) == [("cat/1.PNG", "", "")]
    assert contents(source) == [png()]


def from_stdin(content: bytes, monkeypatch: pytest.MonkeyPatch) -> ImageSource:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    return open_source("-", OPTIONAL)


@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"\0"])
def test_a_list_on_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separator: bytes) -> None:
    files(tmp_path, "b c.png", "a.png", content=png())
    monkeypatch.chdir(tmp_path)
    outside = os.fsencode(tmp_path / "absent.png")
    source = from_stdin(separator.join([b"b c.png", outside, b"", b"./a.png", b"b c.png"]), monkeypatch)
    entries = source.list()
    assert [entry.id for entry in entries] == ["b c.png", str(tmp_path / "absent.png"), "./a.png", "b c.png"]
    found = contents(source, entries)
    assert [found[0], found[2], found[3]] == [png()] * 3
    assert isinstance(found[1], str)
    assert source.list() == entries  # although stdin can be read only once


def test_paths_that_are_not_utf_8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = b"caf\xe9.png"
    (tmp_path / os.fsdecode(name)).write_bytes(png())
    monkeypatch.chdir(tmp_path)
    source = from_stdin(name + b"\n", monkeypatch)
    assert labelled(source) == [("caf\\xe9.png", "", "")]
    assert contents(source) == [png()]


def test_an_empty_list_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for content in (b"", b"\n\n"):
        with pytest.raises(DataError) as error:
            from_stdin(content, monkeypatch).list()
        says(error, "'-'")


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
def test_long_lists_are_read_in_parts(separator: bytes) -> None:
    names = [f"{number:040d}.jpg" for number in range(CHUNK // 20)]
    assert list(paths_in(io.BytesIO(separator.join(map(str.encode, names))))) == names


def test_pictures_in_memory_are_what_their_files_are(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "1.png")
    with Image.open(tmp_path / "1.png") as image:
        source = GivenImages([pixels, image, tmp_path / "1.png", pixels[..., 0], pixels[:, ::-1]])
        entries = source.list()
        assert [entry.id for entry in entries] == ["image 0", "image 1", str(tmp_path / "1.png"), "image 3", "image 4"]
        found = [np.asarray(decode(content)) for content in contents(source, entries)]
    assert all((one == pixels).all() for one in found[:3])
    assert (found[3] == pixels[..., :1]).all()
    assert (found[4] == pixels[:, ::-1]).all()


def test_a_picture_of_floats_has_no_bytes() -> None:
    source = GivenImages([Image.new("F", (2, 2))])
    assert isinstance(contents(source)[0], str)


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        (np.zeros((2, 2, 3), np.float32), "float32"),
        (np.zeros((3, 2, 2), np.uint8), "(3, 2, 2)"),
        (np.zeros((0, 2, 3), np.uint8), "(0, 2, 3)"),
        (7, "int"),
    ],
)
def test_what_is_no_picture_is_an_error(image: object, shown: str) -> None:
    with pytest.raises(DataError) as error:
        GivenImages([np.zeros((2, 2, 3), np.uint8), image]).list()
    says(error, 1, shown, hint="uint8")


# What help texts say


def test_kinds_without_labels_are_named_only_where_labels_are_optional() -> None:
    own = {kind.examples[0] for kind in OWN}
    assert {kind.name for kind in UNLABELLED}.isdisjoint(kind.name for kind in OWN)
    for kind in UNLABELLED:
        assert kind.examples[0] not in own
        assert kind.summary in describe_sources(labels_optional=True)
        assert kind.summary not in describe_sources() + sources_table()

"""Manifests without a line of column names, and columns by their numbers."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

import nctransfer as nct
from conftest import write_digits
from messages import raises
from nctransfer.errors import DataError
from nctransfer.sources.attribute_columns import texts_of
from nctransfer.sources.manifest import Manifest
from nctransfer.sources.manifest_rows import manifest_rows
from nctransfer.sources.opening import open_source
from nctransfer.sources.source_kind import ReadingOptions
from pictures import labelled, png
from terminal import data_of, done, refusal, warned


def write(path: Path, *lines: str) -> Path:
    """A list, and the images that it may name."""
    for name in ("a.png", "b c.png", "d/e.png"):
        (path.parent / name).parent.mkdir(exist_ok=True)
        (path.parent / name).write_bytes(png(len(name)))
    path.write_text("\n".join(lines), "utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("x.csv", ("d/e.png,dog", "a.png,cat")),
        ("x.tsv", ("d/e.png\tdog", "a.png\tcat", "")),
        ("x.txt", ("d/e.png dog", "", "  a.png    cat  ")),
        ("x.txt", ("d/e.png\tdog", "a.png\tcat")),
        ("x.TXT", ("\ufeffd/e.png dog", "a.png cat")),
    ],
)
def test_path_and_class(tmp_path: Path, name: str, lines: tuple[str, ...]):
    source = open_source(write(tmp_path / name, *lines), ReadingOptions(no_header=True))
    assert labelled(source) == [("a.png", "cat", ""), ("d/e.png", "dog", "")]


def test_columns_by_number(tmp_path: Path):
    path = write(tmp_path / "x.csv", "7,test,cat,a.png,Kent", "8,train,dog,b c.png,Oslo")
    columns = {"image_column": "4", "label_column": "3", "split_column": "2"}
    source = open_source(path, ReadingOptions(no_header=True, **columns))
    assert labelled(source) == [("a.png", "cat", "test"), ("b c.png", "dog", "train")]
    assert {
        name: texts_of(column) for name, column in Manifest(path, no_header=True, **columns).list().attributes.items()
    } == {
        "1": ("7", "8"),
        "3": ("cat", "dog"),
        "5": ("Kent", "Oslo"),
    }
    several = Manifest(path, no_header=True, image_column="4", label_column="3,5")
    assert [entry.label for entry in several.list()] == ["cat/Kent", "dog/Oslo"]


def test_numbers_stand_for_columns_with_names_too(tmp_path: Path):
    path = write(tmp_path / "x.csv", "species,file,2", "cat,a.png,x")
    assert labelled(Manifest(path, label_column="1")) == [("a.png", "cat", "")]
    assert labelled(Manifest(path, label_column="2")) == [("a.png", "x", "")]  # a column of this name comes first
    with raises(DataError, "'4'", hint=["species", "--label-column"]):
        Manifest(path, label_column="4").list()
    with raises(DataError, "'0'"):
        Manifest(path, label_column="0").list()


@pytest.mark.parametrize("line", ["a.png,cat", "cat,d/e.png", "b c.png,b c.png"])
def test_a_first_line_that_is_an_image_is_told(tmp_path: Path, line: str):
    with raises(DataError, hint="--no-header"):
        Manifest(write(tmp_path / "x.csv", line, "d/e.png,dog")).list()
    refusal("data", tmp_path / "x.csv").expect("DataError", hint="--no-header")


def test_a_header_that_is_read_as_an_image_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = write(tmp_path / "x.csv", "path,species", "a.png,cat", "d/e.png,dog")
    assert len(Manifest(path, no_header=True).list()) == 3
    assert [("--no-header" in text, "'path'" in text) for text in caplog.messages] == [(True, True)]
    assert warned(done("data", path, "--no-header"), "path", "--no-header")


@pytest.mark.parametrize("lines", [("a.png,cat", "gone.png,dog"), ("gone.png,cat", "a.png,dog"), ("a.png,1", "gone,2")])
def test_images_that_are_gone_are_no_header(tmp_path: Path, lines: list[str], caplog: pytest.LogCaptureFixture):
    Manifest(write(tmp_path / "x.csv", *lines), no_header=True).list()
    assert caplog.messages == []


def test_a_list_whose_suffix_is_txt_needs_the_option(tmp_path: Path):
    path = write(tmp_path / "x.txt", "a.png cat")
    with raises(DataError, repr(str(path)), hint=["--no-header", "pets.zip"]):
        open_source(path)


@pytest.mark.parametrize(
    ("name", "lines", "facts"),
    [
        ("x.txt", ("a.png cat", "b c.png dog"), ["line 2", 2, 3]),
        ("x.csv", ("a.png", "d/e.png"), ["2"]),
        ("x.csv", ("../a.png,cat",), ["line 1", "../a.png"]),
        ("x.csv", ("/etc/passwd,cat",), ["line 1", "/etc/passwd"]),
        ("x.csv", (), ["x.csv"]),
        ("x.jsonl", ('{"path": "a.png", "label": "cat"}',), ["JSON"]),
    ],
)
def test_lists_that_cannot_be_read(tmp_path: Path, name: str, lines: tuple[str, ...], facts: list[object]):
    with raises(DataError, *facts):
        open_source(write(tmp_path / name, *lines), ReadingOptions(no_header=True)).list()


def test_a_path_with_spaces_can_be_quoted(tmp_path: Path):
    path = write(tmp_path / "x.txt", '"b c.png" dog', "a.png cat")
    assert labelled(Manifest(path, no_header=True)) == [("a.png", "cat", ""), ("b c.png", "dog", "")]


def test_a_list_of_paths_alone_has_no_labels(tmp_path: Path):
    path = write(tmp_path / "x.txt", "a.png", "d/e.png")
    source = open_source(path, ReadingOptions(no_header=True, labels_optional=True))
    assert labelled(source) == [("a.png", "", ""), ("d/e.png", "", "")]


letters = st.characters(codec="ascii", categories=("L", "N"))
cells = st.lists(st.text(letters, min_size=1), min_size=2, max_size=2)


@given(st.lists(cells, min_size=1, max_size=5))
def test_rows_are_those_that_were_written(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]):
    folder = tmp_path_factory.getbasetemp()
    for name, separator in (("r.csv", ","), ("r.tsv", "\t"), ("r.txt", "  "), ("r.txt", "\t")):
        (folder / name).write_text("\n".join(map(separator.join, rows)), "utf-8")
        found = manifest_rows(folder / name, no_header=True)
        assert [list(row.values()) for _, row in found] == rows


def test_the_split_of_parquet_files_can_be_another_column(tmp_path: Path):
    images = [{"bytes": png(number), "path": None} for number in range(2)]
    parquet.write_table(pa.table({"image": images, "label": ["a", "b"], "fold": ["1", "2"]}), tmp_path / "x.parquet")
    source = open_source(tmp_path / "x.parquet", ReadingOptions(split_column="fold"))
    assert [split for _, _, split in labelled(source)] == ["1", "2"]
    with raises(DataError, "'wing'", hint="--split-column"):
        open_source(tmp_path / "x.parquet", ReadingOptions(split_column="wing")).list()


def test_the_command_line(tmp_path: Path):
    folder = write_digits(tmp_path / "digits", {"zero": 0, "one": 1}, 4)
    lines = [f"{path.relative_to(folder).as_posix()} {path.parent.name}" for path in sorted(folder.rglob("*.png"))]
    (folder / "train.txt").write_text("\n".join(lines))
    common = ("--model", "test_resnet", "--random-init", "--data", folder / "train.txt", "--no-header")
    stored = data_of("extract", *common)["id"]
    assert nct.load_features(stored).classes == ("one", "zero")
    refusal("collapse", stored, "--no-header").expect("FeaturesError", "--no-header", hint="--no-header")
    refusal("data", folder, "--no-header").expect("DataError", "--no-header", hint="--no-header")

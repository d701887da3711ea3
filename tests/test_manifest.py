"""A manifest names files and classes, as they are written, and every error says which line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from messages import only, says
from nctransfer.errors import DataError
from nctransfer.sources.manifest import Manifest
from nctransfer.sources.opening import open_source
from nctransfer.sources.source_kind import ReadingOptions
from pictures import contents, labelled, notes, png


def manifest(tmp_path: Path, text: str, name: str = "list.csv", encoding: str = "utf-8") -> Path:
    (tmp_path / "img").mkdir(exist_ok=True)
    for number in range(3):
        (tmp_path / "img" / f"{number}.png").write_bytes(png(number, 0, 0))
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


TWO = [("img/0.png", "cat", ""), ("img/1.png", "dog", "")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "path,label\nimg/0.png,cat\nimg/1.png,dog\n"),
        ("a.csv", "label,extra,filename\r\ncat,1,img/0.png\r\n\r\ndog,2,img/1.png\r\n"),
        ("a.CSV", 'image, class\n"img/0.png", cat\nimg/1.png, dog'),
        ("a.tsv", "file\tlabel\nimg/0.png\tcat\nimg/1.png\tdog\n"),
        ("a.csv", "File_Name,Label\nimg/1.png,dog\n./img/../img/0.png,cat\n"),
        ("a.jsonl", '{"path": "img/0.png", "label": "cat"}\n\n{"label": "dog", "path": "img/1.png", "x": [1]}\n'),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_every_form(tmp_path: Path, name: str, text: str, encoding: str) -> None:
    source = open_source(manifest(tmp_path, text, name, encoding))
    assert isinstance(source, Manifest)
    assert labelled(source) == TWO
    assert contents(source) == [png(0, 0, 0), png(1, 0, 0)]
    assert source.notes == ()


@pytest.mark.parametrize("label", ["001", "NA", "null", "1e3", "nan", "é", "a b", "True", "-1"])
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_names_stay_as_they_are(tmp_path: Path, label: str, form: str) -> None:
    row = json.dumps({"path": "img/0.png", "label": label})
    text = row if form == "jsonl" else f"path,label\nimg/0.png,{label}\n"
    assert labelled(open_source(manifest(tmp_path, text, f"a.{form}"))) == [("img/0.png", label, "")]


def test_a_number_in_json_is_a_name(tmp_path: Path) -> None:
    path = manifest(tmp_path, '{"path": "img/0.png", "label": 7}\n', "a.jsonl")
    assert labelled(open_source(path)) == [("img/0.png", "7", "")]


def test_splits_and_columns_of_other_names(tmp_path: Path) -> None:
    path = manifest(tmp_path, "where,path,what,label,split\nimg/0.png,x,cat,y,train\nimg/1.png,x,dog,y,\n")
    source = open_source(path, ReadingOptions(label_column="what", image_column="where"))
    assert labelled(source) == [("img/0.png", "cat", "train"), ("img/1.png", "dog", "")]
    assert source.id != open_source(path).id


def test_codes_become_names(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,label\nimg/0.png,1\nimg/1.png,0\n")
    source = open_source(path, ReadingOptions(class_names=("cat", "dog")))
    assert [label for _, label, _ in labelled(source)] == ["dog", "cat"]
    assert source.id == open_source(path).id


@pytest.mark.parametrize("label", ["2", "-1", "x"])
def test_what_is_no_code(tmp_path: Path, label: str) -> None:
    path = manifest(tmp_path, f"path,label\nimg/0.png,{label}\n")
    with pytest.raises(DataError) as error:
        open_source(path, ReadingOptions(class_names=("cat", "dog"))).list()
    says(error, path.name, "line 2", label)


def test_paths_may_be_relative_to_another_folder(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,label\n0.png,cat\n1.png,dog\n")
    source = open_source(path, ReadingOptions(image_root=tmp_path / "img"))
    assert labelled(source) == [("0.png", "cat", ""), ("1.png", "dog", "")]
    assert contents(source) == [png(0, 0, 0), png(1, 0, 0)]
    assert source.id != open_source(path).id


def test_files_from_before_all_time_exist(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,label\nimg/0.png,cat\nimg/1.png,dog\n")
    for name in ("0.png", "1.png"):  # reproducible archives have such times
        os.utime(tmp_path / "img" / name, (0, 0))
    assert labelled(open_source(path)) == TWO


def test_an_absolute_path_inside_is_the_same_image(tmp_path: Path) -> None:
    path = manifest(tmp_path, f"path,label\n{tmp_path}/img/0.png,cat\nimg/0.png,cat\nimg/1.png,dog\n")
    source = open_source(path)
    assert labelled(source) == TWO
    only(notes(source), 1)


@pytest.mark.parametrize("given", ["../x.png", "/etc/passwd", "img/../../x.png", "..", "a/../../../etc/passwd"])
def test_a_path_that_leaves_the_folder_is_an_error(tmp_path: Path, given: str) -> None:
    with pytest.raises(DataError) as error:
        open_source(manifest(tmp_path, f"path,label\nimg/0.png,cat\n{given},dog\n")).list()
    says(error, "line 3", f"'{given}'", hint="--image-root")


def test_a_name_that_begins_with_dots_is_inside(tmp_path: Path) -> None:
    (tmp_path / "..x.png").write_bytes(png(0, 0, 0))
    assert labelled(open_source(manifest(tmp_path, "path,label\n..x.png,cat\n")))[0][0] == "..x.png"


def test_a_missing_file_fails_when_it_is_read(tmp_path: Path) -> None:
    source = open_source(manifest(tmp_path, "path,label\nimg/0.png,cat\nimg/9.png,dog\n"))
    entries = source.list()
    assert (entries[1].size, entries[1].mtime_ns) == (0, 0)
    assert contents(source) == [png(0, 0, 0), os.strerror(2)]


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,label\nimg/pipe.png,cat\n")
    os.mkfifo(tmp_path / "img" / "pipe.png")
    (reason,) = contents(open_source(path))
    assert isinstance(reason, str)


def test_size_and_time_are_listed(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,label\nimg/0.png,cat\n")
    os.utime(tmp_path / "img" / "0.png", ns=(1, 987_654_321))
    (entry,) = open_source(path).list()
    assert (entry.size, entry.mtime_ns) == (len(png(0, 0, 0)), 987_654_321)


@pytest.mark.parametrize(
    ("name", "text", "facts", "hint"),
    [
        ("a.csv", "", [], "line"),
        ("a.csv", "path,label\n", [], "line"),
        ("a.csv", "path,name\na,b\n", ["label"], ["path", "name"]),
        ("a.csv", "img,label\na,b\n", ["image"], ["img", "label"]),
        ("a.csv", "path,path,label\na,b,c\n", [], ""),
        ("a.csv", "path,label\nimg/0.png,cat\nimg/1.png,\n", ["line 3", "label"], ""),
        ("a.csv", "path,label\n ,cat\n", ["line 2", "path"], ""),
        ("a.csv", "path,label\nimg/0.png,cat,1\n", ["line 2", 3, "2"], "quotes"),
        ("a.csv", "path,label\nimg/0.png\n", ["line 2", 1, "2"], "quotes"),
        ("a.csv", 'path,label\n"img/0.png,cat\n', ["line"], ""),
        ("a.csv", "path,label\nx\0y,cat\n", ["line 2"], ""),
        ("a.csv", "path,label\na.png,cat\na.png,dog\n", ["line 3", "'a.png'", "'cat'", "'dog'"], ""),
        ("a.csv", "path,label,split\na,c,train\n./a,c,test\n", ["line 3", "'train'", "'test'"], ""),
        ("a.csv", "path,label\n" + "x" * 200_000 + ",cat\n", ["line 2"], ""),
        ("a.jsonl", '{"path": "a", "label": "b"}\n{"path"', ["line 2", "JSON"], ""),
        ("a.jsonl", "[1, 2]\n", ["line 1", "JSON"], '"label"'),
        ("a.jsonl", "[" * 100_000, ["line 1", "JSON"], ""),
        ("a.jsonl", '{"path": "a", "label": ["b"]}\n', ["line 1", "label", "['b']"], ""),
        ("a.jsonl", '{"path": "a", "label": true}\n', ["line 1", "label", "True"], ""),
        ("a.jsonl", '{"path": "a", "label": null}\n', ["line 1", "label"], ""),
        ("a.jsonl", '{"path": "a", "label": "b"}\n{"path": "c"}\n', ["line 2", "label"], ""),
        ("a.jsonl", '{"path": "\\ud800", "label": "b"}\n', ["line 1", "path"], ""),
    ],
)
def test_errors_say_where(tmp_path: Path, name: str, text: str, facts: list[object], hint: str | list[str]) -> None:
    with pytest.raises(DataError) as error:
        open_source(manifest(tmp_path, text, name)).list()
    says(error, name, *facts, hint=hint)


def test_a_column_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,label\nimg/0.png,cat\n")
    with pytest.raises(DataError) as error:
        open_source(path, ReadingOptions(label_column="Label")).list()
    says(error, "'Label'")


def test_other_encodings_are_an_error(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,label\nimg/0.png,café\n", encoding="latin-1")
    with pytest.raises(DataError) as error:
        open_source(path).list()
    says(error, path.name, "UTF-8")

"""The findings that were ticked in a report become labels: what they change, and which files are refused."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nctransfer as nct
from clusters import normal_classes
from messages import raises
from nctransfer.errors import DataError, NCTransferError, SettingError
from nctransfer.features.feature_set import FeatureSet
from nctransfer.label_audit.corrections import write_corrections
from nctransfer.label_audit.ticked_findings import decide, read_ticked
from terminal import done, noted, refusal, shows, warnings_of

HEADER = "path,label,kind,suggested,like,expected_precision"
# the bytes that Chromium saves when these findings are ticked: a byte order mark, CRLF, guarded formulas
EXPORTED = (
    "\ufeff"
    + "\r\n".join(
        [
            HEADER,
            "b/3.png,b,label,a,,0.97",
            "'=x/1.png,a,duplicate,b,b/1.png,0.5",
            'c/5.png,c,label,"a new, class",,0.8',
            "a/2.png,a,duplicate,,a/1.png,",
            "c/9.png,c,outlier,,,",
        ]
    )
    + "\r\n"
).encode()
GIVEN = {
    "b/3.png": "b",
    "=x/1.png": "a",
    "c/5.png": "c",
    "a/2.png": "a",
    "c/9.png": "c",
    "a/1.png": "a",
    "b/1.png": "b",
}


def saved(tmp_path: Path, *lines: str, header: str = "path,kind,suggested") -> Path:
    path = tmp_path / "ticked.csv"
    path.write_bytes("\r\n".join([header, *lines, ""]).encode())
    return path


def changes(path: Path, labels: Mapping[str, str] = GIVEN) -> tuple[dict[str, str], set[str]]:
    decided = decide(read_ticked(path), labels)
    return dict(decided.labels), set(decided.left_out)


def test_what_a_page_exports_is_read(tmp_path: Path) -> None:
    (tmp_path / "suspects.csv").write_bytes(EXPORTED)
    decided = decide(read_ticked(tmp_path / "suspects.csv"), GIVEN)
    assert decided.labels == {"b/3.png": "a", "=x/1.png": "b", "c/5.png": "a new, class"}
    assert decided.left_out == {"a/2.png", "c/9.png"}
    assert decided.new_classes == ("a new, class",)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_spreadsheet_may_save_it_with_another_separator(separator: str, tmp_path: Path) -> None:
    path = saved(
        tmp_path, separator.join(["a", "b/3.png", "label"]), header=separator.join(["suggested", "path", "kind"])
    )
    assert changes(path) == ({"b/3.png": "a"}, set())


@pytest.mark.parametrize("name", ["=1", "+1", "-1", "@x", "\tx", "'=1", "'quoted'", "'", "ü", 'say "yes"', " spaces "])
def test_any_name_is_found_again(name: str, tmp_path: Path) -> None:
    guarded = f"'{name}" if name[0] in "=+-@\t" else name
    quoted = '"' + guarded.replace('"', '""') + '"'
    path = saved(tmp_path, f"{quoted},label,other", f"x.png,label,{quoted}")
    assert changes(path, {name: name, "x.png": "other"}) == ({name: "other", "x.png": name}, set())


def test_a_class_may_be_written_into_the_row_of_any_finding(tmp_path: Path) -> None:
    path = saved(tmp_path, "a/2.png,duplicate,b", "c/9.png,outlier,a")
    assert changes(path) == ({"a/2.png": "b", "c/9.png": "a"}, set())


def test_an_image_that_is_left_out_needs_no_label(tmp_path: Path) -> None:
    assert changes(saved(tmp_path, "b/3.png,label,a", "b/3.png,outlier,")) == ({}, {"b/3.png"})


def test_a_label_that_stays_is_no_change(tmp_path: Path) -> None:
    assert changes(saved(tmp_path, "b/3.png,label,b", "a/1.png,label,b", "a/1.png,duplicate,b")) == (
        {"a/1.png": "b"},
        set(),
    )


@pytest.mark.parametrize(
    ("content", "facts", "hint"),
    [
        (b"", ["path", "suggested", "kind"], "report"),
        (b"path,kind\r\na/1.png,label\r\n", ["suggested", "path, kind"], "report"),
        (b"path,kind,suggested\r\na/1.png,label\r\n", [2, 3], "quotes"),
        (b"path,kind,suggested\r\na/1.png,label,\r\n", [2, "a/1.png"], "suggested"),
        (b"path,kind,suggested\r\na/1.png,,\r\n", [2, "a/1.png"], "suggested"),
        (b"path,kind,suggested\r\na/1.png,wrong,b\r\n", [2, "wrong", "label", "duplicate", "outlier"], "report"),
        ("path,kind,suggested\r\nä,label,b\r\n".encode("latin-1"), ["UTF-8"], "UTF-8"),
        (b"path,kind,suggested\r\n\x00" + b"x" * 200_000, [2], "report"),
    ],
)
def test_other_files_are_refused(content: bytes, facts: list[object], hint: str, tmp_path: Path) -> None:
    path = tmp_path / "ticked.csv"
    path.write_bytes(content)
    with raises(DataError, "ticked.csv", *facts, hint=hint):
        read_ticked(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with raises(DataError, "none.csv", hint="--ticked"):
        read_ticked(tmp_path / "none.csv")


def test_unknown_images_are_named(tmp_path: Path) -> None:
    rows = [f"{number}.png,label,a" for number in range(5)]
    with raises(SettingError, 5, 7, "0.png", "2.png", hint="report"):
        changes(saved(tmp_path, "a/1.png,label,b", *rows))


def test_two_classes_for_one_image_are_refused(tmp_path: Path) -> None:
    with raises(SettingError, "a/1.png", "b", "c", 3, hint="lines"):
        changes(saved(tmp_path, "a/1.png,label,b", "a/1.png,duplicate,c"))


# The table and the command


def planted() -> FeatureSet:
    rows = np.concatenate(normal_classes([20, 20], 10, within=0.3))
    return FeatureSet.from_arrays(rows, ["b", *"a" * 19, *"b" * 20], [f"{number}.png" for number in range(40)])


def labels_in(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["path"]: row["label"] for row in csv.DictReader(file)}


def expected(features: FeatureSet) -> dict[str, str]:
    names = [features.classes[code] for code in features.labels.tolist()]
    return dict(zip(features.ids, names, strict=True)) | {"0.png": "a", "7.png": "new"}


def test_only_the_ticked_rows_of_the_table_change(tmp_path: Path) -> None:
    features = planted()
    ticked = read_ticked(saved(tmp_path, "0.png,label,a", "7.png,label,new", "9.png,outlier,", "30.png,duplicate,"))
    decided = write_corrections(nct.audit(features, device="cpu"), tmp_path / "labels.csv", ticked=ticked)
    assert (len(decided.labels), len(decided.left_out)) == (2, 2)
    kept = expected(features)
    del kept["9.png"], kept["30.png"]
    assert labels_in(tmp_path / "labels.csv") == kept


def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    features = planted()
    file, table = tmp_path / "set.npz", tmp_path / "labels.csv"
    names = [features.classes[code] for code in features.labels.tolist()]
    np.savez(file, features=features.features.numpy(), labels=names, ids=features.ids)
    ticked = saved(tmp_path, "0.png,label,a", "7.png,label,new", "9.png,outlier,")
    result = done("audit", file, "--corrections", table, "--ticked", ticked)
    assert noted(result, table, 2, 1)
    assert any(shows(warning, "new") for warning in warnings_of(result))
    kept = expected(features)
    del kept["9.png"]
    assert labels_in(table) == kept
    before = table.read_bytes()
    error = refusal("audit", file, "--corrections", table, "--ticked", table, "--overwrite")
    assert shows(error.hint, "--corrections")
    assert table.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "kind", "facts"),
    [
        (["--ticked", "ticked.csv"], "SettingError", ["--ticked"]),
        (["--ticked", "none.csv", "--corrections", "new.csv"], "DataError", ["none.csv"]),
        (["--ticked", "bad.csv", "--corrections", "new.csv"], "DataError", ["bad.csv"]),
    ],
)
def test_the_command_refuses_before_anything_is_read(
    options: list[str], kind: str, facts: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.csv").write_text("image,class\n")
    error = refusal("audit", "no such set", *options)
    assert (error.type, shows(error.message, *facts)) == (kind, True)
    assert not (tmp_path / "new.csv").exists()


def test_nothing_is_written_for_unknown_images(tmp_path: Path) -> None:
    ticked = read_ticked(saved(tmp_path, "none.png,label,a"))
    with pytest.raises(NCTransferError):
        write_corrections(nct.audit(planted(), device="cpu"), tmp_path / "labels.csv", ticked=ticked)
    assert not (tmp_path / "labels.csv").exists()

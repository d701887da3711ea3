"""Names of files and classes that a spreadsheet or a terminal would take for commands."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import write_digits
from nctransfer.escaping import escaped_json, guarded, unguarded
from nctransfer.sources.opening import open_source
from nctransfer.sources.source_kind import ReadingOptions
from terminal import VIT, done

DANGEROUS = ("=", "+", "-", "@", "\t", "\r")


@given(st.text(alphabet="'=+-@\ta1.% ", max_size=6))
def test_guarded_text_comes_back_and_is_no_formula(text: str) -> None:
    cell = guarded(text)
    assert unguarded(cell) == text or text == cell
    if cell.startswith(DANGEROUS):
        float(cell.removesuffix("%"))  # a number is harmless
    assert (unguarded(cell) == text) or not text.startswith("'")


@given(st.text())
def test_json_says_the_same_and_hides_nothing(text: str) -> None:
    made = escaped_json(json.dumps({"name": text}, ensure_ascii=False))
    assert json.loads(made) == {"name": text}
    made.encode()  # halves of characters are escapes
    assert not set(made) & set("\x1b\x7f\x9b\u200e\u200f\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069\u2028")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_classes_that_are_formulas_go_through_tables_unchanged(suffix: str, tmp_path: Path) -> None:
    names = {"=cmd()": 0, "@one": 1, "'=two": 2, "-1": 3}
    data = write_digits(tmp_path / "data", names, 4)
    done("extract", *VIT, "--data", data)
    table = tmp_path / f"labels{suffix}"
    done("audit", "--corrections", table)
    if suffix == ".csv":
        cells = [cell for row in csv.reader(io.StringIO(table.read_text())) for cell in row]
        assert not [cell for cell in cells if cell.startswith(DANGEROUS) and cell != "-1"]
    source = open_source(table, ReadingOptions(image_root=data))
    assert {(entry.id.split("/")[0], entry.label) for entry in source.list()} == {(name, name) for name in names}


def test_csv_of_results_holds_no_formulas(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", {"=cmd()": 0, "@one": 1}, 4)
    text = done("audit", *VIT, "--data", data, "--format", "csv", "--level", "1%").stdout
    cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "@"))]

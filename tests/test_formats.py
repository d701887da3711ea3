"""Output formats: one registry that help, choices and file suffixes come from, and that other packages add to."""

from __future__ import annotations

import html.parser
import json
import sys
from pathlib import Path, PurePath
from typing import Any

import pandas as pd
import pytest

from nctransfer.cli.output_options import OutputOptions
from nctransfer.registry import Registry
from nctransfer.report import registry as formats
from nctransfer.report.format import Format, Page, Presentation
from nctransfer.report.html_tables import HTML, to_html
from nctransfer.report.registry import FORMATS, format_of_file
from nctransfer.report.sheet import Bar, Sheet
from other_package import install
from terminal import cli, done, misused, shows

NASTY = "<script>alert(1)</script> & \"quoted\" 'too' \x1b[31m"
SHEET = Sheet("A title", ["name", ">n"], [["x", "1.5 ± 0.1"], ["y", "∞"]], {"data": "pets"}, "How to read it.")
RESULT = Presentation(sheets=[SHEET, SHEET], data={"a": {"b": 0.1}, "name": "größe"}, rows=[{"a": 1, "b": [1, 2]}])


# The registry


@pytest.mark.parametrize("form", FORMATS.values(), ids=list(FORMATS))
def test_a_format_renders_lines_of_text(form: Format) -> None:
    text = form.render(RESULT, Page())
    assert text.endswith("\n")
    assert form.meaning
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in form.suffixes)


@pytest.mark.parametrize("form", FORMATS.values(), ids=list(FORMATS))
def test_rows_are_made_only_for_a_format_that_prints_them(form: Format) -> None:
    made = []

    def rows() -> pd.DataFrame:
        made.append(1)
        return pd.DataFrame([{"a": 1}])

    form.render(Presentation(sheets=[SHEET], data={}, rows=rows), Page())
    assert bool(made) == (form.name in ("csv", "jsonl"))


def test_json_lines_are_the_rows() -> None:
    rows = [{"a": 1, "b": {"c": float("inf")}, "d": None}, {"a": 2, "name": "größe"}]
    text = FORMATS["jsonl"].render(Presentation(sheets=[], data={}, rows=rows), Page())
    assert [json.loads(line) for line in text.splitlines()] == [
        {"a": 1, "b.c": "inf", "d": None, "name": None},
        {"a": 2, "b.c": None, "d": None, "name": "größe"},
    ]
    FORMATS["jsonl"].render(Presentation(sheets=[], data={}, rows=rows), Page(encoding="ascii")).encode("ascii")


def test_no_two_formats_have_the_same_suffix() -> None:
    suffixes = [suffix for form in FORMATS.values() for suffix in form.suffixes]
    assert len(suffixes) == len(set(suffixes))


@pytest.mark.parametrize("form", FORMATS.values(), ids=list(FORMATS))
def test_a_suffix_names_its_format(form: Format) -> None:
    for suffix in form.suffixes:
        for name in (f"a{suffix}", f"b.c/a.d{suffix.upper()}"):
            assert format_of_file(PurePath(name)) is form


@pytest.mark.parametrize("name", ["a", "a.xyz", ".json", "json", "a.json.gz"])
def test_another_suffix_names_none(name: str) -> None:
    assert format_of_file(PurePath(name)) is None


@pytest.mark.parametrize(
    ("given", "file", "chosen"),
    [
        (None, None, "table"),
        (None, "a.json", "json"),
        (None, "a.tex", "latex"),
        (None, "a.xyz", "table"),
        ("csv", None, "csv"),
        ("csv", "a.json", "csv"),
        ("table", "a.json", "table"),
    ],
)
def test_the_option_beats_the_suffix(given: str | None, file: str | None, chosen: str) -> None:
    options = OutputOptions(format=given, output=Path(file) if file else None)
    assert options.chosen_format is FORMATS[chosen]


def test_the_suffix_of_a_file_chooses_the_format(tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    assert done("models", "resnet18", "--output", file).stdout == ""
    assert json.loads(file.read_text("utf-8"))["models"]


# Choices and help


def test_help_lists_every_format_with_its_meaning() -> None:
    shown = " ".join(done("models", "--help", COLUMNS="400").stdout.split())
    for form in FORMATS.values():
        assert f"{form.name} ({form.meaning})" in shown


def test_a_wrong_format_is_told_the_right_ones() -> None:
    said = misused("models", "--format", "markdwn")
    assert shows(said, "markdwn", *FORMATS)
    assert "did you mean 'markdown'?" in said


# Another package's format

PACKAGE = """
from nctransfer.report.format import Format

def render(result, page):
    return "".join(f"* {sheet.title}\\n" for sheet in result.sheets)

ORG = Format(name="org", meaning="for Emacs", suffixes=(".org",), render=render)
"""


@pytest.fixture
def other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that adds a format."""
    site = install(tmp_path / "site", "their_formats", PACKAGE, formats="org=ORG")
    monkeypatch.syspath_prepend(site)
    with_it = Registry("nctransfer.formats", Format, list(FORMATS.own.values()))
    for module in (formats, sys.modules[OutputOptions.__module__]):
        monkeypatch.setattr(module, "FORMATS", with_it)


@pytest.mark.usefixtures("other_package")
def test_another_package_adds_a_format(tmp_path: Path) -> None:
    assert list(formats.FORMATS) == [*FORMATS, "org"]
    assert OutputOptions(format="org").chosen_format.render(RESULT, Page()) == "* A title\n* A title\n"
    assert OutputOptions(output=tmp_path / "a.org").chosen_format.name == "org"


@pytest.mark.slow  # test_extending.py runs the same as one package
def test_another_package_s_format_is_in_the_help_and_works(
    other_package: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import subprocess

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]))

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "nctransfer", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout

    assert shows(run("models", "--help"), "org")
    assert run("models", "resnet18", "--format", "org").startswith("* ")


# Characters


@pytest.mark.parametrize("name", ["table", "json", "html"])
def test_ascii_is_enough_for_some_formats(name: str) -> None:
    FORMATS[name].render(RESULT, Page(encoding="ascii")).encode("ascii")


# HTML


class Reader(html.parser.HTMLParser):
    """The tags of a page, its rows of cells, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "meta":
            return
        self.tags.add(tag)
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_html_has_the_title_the_facts_the_table_and_how_to_read_it() -> None:
    found = Reader(to_html(SHEET))
    assert found.rows == [["data", "pets"], ["name", "n"], ["x", "1.5 ± 0.1"], ["y", "∞"]]
    assert "A title" in found.text
    assert "How to read it." in found.text


@pytest.mark.parametrize(
    "sheet",
    [
        Sheet(NASTY, [NASTY, f">{NASTY}"], [[NASTY, NASTY]], {NASTY: NASTY}, NASTY, [Bar(NASTY, NASTY, 0.5)]),
        Sheet(NASTY, [], [], {}),
    ],
)
def test_nothing_in_html_is_run(sheet: Sheet) -> None:
    text = HTML.render(Presentation(sheets=[sheet], data={}, rows=[]), Page())
    found = Reader(text)
    assert "script" not in found.tags
    assert "\x1b" not in text
    assert r"\x1b[31m" in found.text
    assert "<script>alert(1)</script> & \"quoted\" 'too'" in found.text


def test_bars_in_html_are_as_long_as_their_shares() -> None:
    import re

    sheet = Sheet("t", [], [], {}, bars=[Bar("2-way", "1 shot", 0.25), Bar("2-way", "5 shots", 1.0)])
    text = to_html(sheet)
    assert [row[:2] for row in Reader(text).rows] == [["2-way", "1 shot"], ["", "5 shots"]]
    short, long = (float(width) for width in re.findall(r"width: ([\d.]+)em", text))
    assert long == 4 * short > 0


def test_a_page_of_html_names_its_character_set() -> None:
    text = cli("models", "resnet18", "--format", "html").stdout
    assert text.startswith("<!doctype html>")
    assert '<meta charset="utf-8">' in text
    assert "resnet18" in Reader(text).text

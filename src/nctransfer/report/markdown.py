"""Sheets as Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nctransfer.report.format import Format, Page, Presentation
from nctransfer.report.sheet import plain

if TYPE_CHECKING:
    from nctransfer.report.sheet import Sheet

__all__ = ["MARKDOWN", "to_markdown"]


def to_markdown(sheet: Sheet) -> str:
    """The sheet in GitHub's Markdown."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(_in_markdown(cell) for cell in cells) + " |"

    marks = ["---:" if column.startswith(">") else "---" for column in sheet.columns]
    facts = [f"- {name}: {_in_markdown(value)}" for name, value in sheet.facts.items()]
    parts = [f"### {_in_markdown(sheet.title)}", "\n".join(facts)]
    if sheet.rows:
        parts.append("\n".join([line(sheet.heads), "| " + " | ".join(marks) + " |", *map(line, sheet.rows)]))
    return "\n\n".join([*filter(None, parts), *([_in_markdown(sheet.reading)] if sheet.reading else [])]) + "\n"


def _in_markdown(text: str) -> str:
    return "".join("\\" + c if c in "\\`*_[]<>|#" else c for c in plain(text))


def _render(result: Presentation, _page: Page) -> str:
    return "\n".join(map(to_markdown, result.sheets))


MARKDOWN = Format(name="markdown", meaning="tables for GitHub and notes", suffixes=(".md", ".markdown"), render=_render)

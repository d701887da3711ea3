"""Sheets as HTML: a page of their own, or a part of a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from nctransfer.report.format import Format, Page, Presentation
from nctransfer.report.sheet import plain

if TYPE_CHECKING:
    from nctransfer.report.sheet import Bar, Sheet

__all__ = ["HTML", "to_html", "warning_to_html"]

# set on each element, since a notebook removes style sheets, and colours are those of the notebook's theme
_NUMBER, _WORDS = "text-align: right; font-variant-numeric: tabular-nums", "text-align: left"
_CELL = "padding: 0.1em 0.8em"
_BAR = "display: inline-block; height: 0.8em; background: currentColor; opacity: 0.6"
BAR_WIDTH = 20.0  # em, of a bar of 100 %


def to_html(sheet: Sheet) -> str:
    """The sheet as HTML, in which all of its text is escaped."""
    parts = [f"<h4>{_text(sheet.title)}</h4>"]
    if sheet.facts:
        rows = [_row("td", [(name, _WORDS), (value, _WORDS)]) for name, value in sheet.facts.items()]
        parts.append(_table(rows))
    if sheet.rows:
        styles = [_NUMBER if column.startswith(">") else _WORDS for column in sheet.columns]
        head = _row("th", list(zip(sheet.heads, styles, strict=True)))
        rows = [_row("td", list(zip(cells, styles, strict=True))) for cells in sheet.rows]
        parts.append(_table(rows, head))
    if sheet.bars:
        parts.append(_table(_bars(sheet.bars)))
    if sheet.reading:
        parts.append(f"<p><em>{_text(sheet.reading)}</em></p>")
    return "\n".join(parts) + "\n"


def warning_to_html(warning: str) -> str:
    """A warning as HTML."""
    return f"<p><strong>Warning:</strong> {_text(warning)}</p>\n"


def _text(text: object) -> str:
    return escape(plain(text))


def _row(tag: str, cells: Sequence[tuple[str, str]]) -> str:
    return "<tr>" + "".join(f'<{tag} style="{_CELL}; {style}">{_text(text)}</{tag}>' for text, style in cells) + "</tr>"


def _table(rows: Sequence[str], head: str = "") -> str:
    begin = [f"<thead>{head}</thead>"] if head else []
    return "\n".join(["<table>", *begin, "<tbody>", *rows, "</tbody>", "</table>"])


def _bars(bars: Sequence[Bar]) -> list[str]:
    """One row per bar, the name of a group in its first row."""
    rows, last = [], None
    for group, label, share in bars:
        drawn = f'<td style="{_CELL}"><span style="{_BAR}; width: {share * BAR_WIDTH:.2f}em"></span></td>'
        words = _row("td", [(group if group != last else "", _WORDS), (label, _NUMBER)])
        rows.append(words.removesuffix("</tr>") + drawn + "</tr>")
        last = group
    return rows


def _render(result: Presentation, page: Page) -> str:
    """A whole page; it names its character set, and holds nothing that a browser would fetch or run."""
    title = _text(result.sheets[0].title) if result.sheets else "nctransfer"
    text = "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            f'<head><meta charset="utf-8"><title>{title}</title></head>',
            '<body style="font-family: sans-serif">',
            *map(to_html, result.sheets),
            "</body>",
            "</html>",
            "",
        ]
    )
    return text.encode("ascii", "xmlcharrefreplace").decode() if page.is_ascii else text


HTML = Format(name="html", meaning="a page for the browser", suffixes=(".html", ".htm"), render=_render)

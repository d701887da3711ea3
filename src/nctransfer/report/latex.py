"""Sheets as LaTeX."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nctransfer.report.format import Format, Page, Presentation
from nctransfer.report.sheet import plain

if TYPE_CHECKING:
    from nctransfer.report.sheet import Sheet

__all__ = ["LATEX", "to_latex"]


def to_latex(sheet: Sheet) -> str:
    r"""The sheet as a LaTeX table (``\usepackage{booktabs}``); its facts become comments."""
    marks = "".join("r" if column.startswith(">") else "l" for column in sheet.columns)
    facts = [f"% {plain(name)}: {plain(value)}" for name, value in sheet.facts.items()]
    if not sheet.rows:
        return "\n".join([f"% {plain(sheet.title)}", *facts]) + "\n"

    def line(cells: Iterable[str]) -> str:
        return " & ".join(map(_in_latex, cells)) + r" \\"

    return "\n".join(
        [
            *facts,
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_in_latex(sheet.title)}. {_in_latex(sheet.reading)}}}",
            rf"\begin{{tabular}}{{{marks}}}",
            r"\toprule",
            line(sheet.heads),
            r"\midrule",
            *map(line, sheet.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


_ESCAPES = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
    "∞": r"$\infty$",
    "−": "$-$",
}


def _in_latex(text: str) -> str:
    return "".join(_ESCAPES.get(c, c) for c in plain(text))


def _render(result: Presentation, _page: Page) -> str:
    return "\n".join(map(to_latex, result.sheets))


LATEX = Format(name="latex", meaning="tables for a paper", suffixes=(".tex",), render=_render)

"""Sheets as tables on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from nctransfer.report.sheet import plain

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from nctransfer.report.sheet import Bar, Sheet

__all__ = ["to_rich"]


def to_rich(sheet: Sheet) -> list[RenderableType]:
    """What Rich prints for a sheet. No cell is read as markup."""
    parts: list[RenderableType] = [Text(plain(sheet.title), style="bold")]
    if sheet.facts:
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="dim", no_wrap=True)
        facts.add_column(overflow="fold")
        for name, value in sheet.facts.items():
            facts.add_row(Text(name), Text(plain(value)))
        parts.append(facts)
    if sheet.rows:
        parts += [Text(), _Fitting(sheet)]
    if sheet.bars:
        parts.append(_Bars(sheet.bars))
    if sheet.reading:
        parts += [Text(), Text(plain(sheet.reading), style="italic")]
    return parts


class _Bars:
    """Bars from 0 to 100 %, on a terminal that can show them."""

    def __init__(self, bars: Sequence[Bar]) -> None:
        self._bars = bars

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.bar import Bar as Drawn

        if not options.is_terminal or options.ascii_only:
            return
        grid = Table.grid(padding=(0, 1))
        grid.add_column(no_wrap=True)
        grid.add_column(justify="right", style="dim", no_wrap=True)
        grid.add_column()
        last = None
        for group, label, share in self._bars:
            grid.add_row(Text(plain(group) if group != last else ""), Text(label), Drawn(1, 0, share, width=40))
            last = group
        yield Text()
        yield grid


class _Fitting:
    """The rows of a sheet as a table; where that would cut a number, one below the other."""

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet
        self._columns = list(zip(sheet.columns, sheet.heads, strict=True))
        self._cells = [[Text(plain(cell)) for cell in row] for row in sheet.rows]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = [
            max(map(len, (head, *cells))) if number == 0 or head != column else min(8, max(map(len, cells)))
            for number, ((column, head), *cells) in enumerate(zip(self._columns, *self._cells, strict=True))
        ]
        fits = sum(widths) + 3 * len(widths) <= options.max_width
        yield self._table() if fits else self._list()

    def _table(self) -> Table:
        from rich.box import SIMPLE_HEAD

        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for number, (column, head) in enumerate(self._columns):
            is_number = column != head  # never broken, nor is the name of a row
            table.add_column(
                Text(plain(head)),
                justify="right" if is_number else "left",
                no_wrap=is_number or number == 0,
                overflow="fold",
            )
        for row in self._cells:
            table.add_row(*row)
        return table

    def _list(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        grid.add_column(style="dim")
        grid.add_column(overflow="fold")
        for row in self._cells:
            for (_, head), cell in zip(self._columns, row, strict=True):
                grid.add_row(Text(plain(head)), cell)
            grid.add_row()
        return grid

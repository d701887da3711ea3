"""Sheets as tables on a terminal, or as text without colours in a file or a pipe.

Rich draws them. It is imported only when something is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nctransfer.report.format import Format, Page, Presentation
from nctransfer.report.sheet import plain

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table

    from nctransfer.report.sheet import Bar, Sheet

__all__ = ["TABLE", "page_of_stdout"]

UNFOLDED = 100_000  # a file or a pipe has no width, so a table need not be folded there
BAR_WIDTH = 40


def _render(result: Presentation, page: Page) -> str:
    """The sheets, one below the other, with styles if a terminal shows them."""
    from io import BytesIO, TextIOWrapper

    from rich.console import Console
    from rich.text import Text

    buffer = BytesIO()
    file = TextIOWrapper(buffer, page.encoding, errors="backslashreplace", newline="")

    def console(width: int) -> Console:
        return Console(file=file, width=width, force_terminal=page.is_terminal, highlight=False)

    for_words = console(page.width)
    for_tables = for_words if page.is_terminal else console(UNFOLDED)
    for number, sheet in enumerate(result.sheets):
        if number:
            for_words.print()
        for part in _parts(sheet):
            (for_words if isinstance(part, Text) else for_tables).print(part)
    file.flush()
    return buffer.getvalue().decode(page.encoding)


def page_of_stdout() -> Page:
    """What stdout can show: the width of the terminal, or that of ``$COLUMNS`` or 80 characters if it is none."""
    from rich.console import Console

    console = Console()
    return Page(width=console.width, encoding=console.encoding, is_terminal=console.is_terminal)


TABLE = Format(name="table", meaning="for reading", suffixes=(".txt",), render=_render)


def _parts(sheet: Sheet) -> list[RenderableType]:
    """What Rich prints for a sheet. No cell is read as markup."""
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = [Text(plain(sheet.title), style="bold")]
    if sheet.facts:
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="dim", no_wrap=True)
        facts.add_column(overflow="fold")
        for name, value in sheet.facts.items():
            facts.add_row(Text(name), Text(plain(value)))
        parts.append(facts)
    if sheet.rows:
        parts += [Text(), _Rows(sheet)]
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
        from rich.table import Table
        from rich.text import Text

        if not options.is_terminal or options.ascii_only:
            return
        grid = Table.grid(padding=(0, 1))
        grid.add_column(no_wrap=True)
        grid.add_column(justify="right", style="dim", no_wrap=True)
        grid.add_column()
        last = None
        for group, label, share in self._bars:
            drawn = Drawn(1, 0, share, width=BAR_WIDTH)
            grid.add_row(Text(plain(group) if group != last else ""), Text(label), drawn)
            last = group
        yield Text()
        yield grid


class _Rows:
    """The rows of a sheet as a table, or as a list of their cells if the table is too wide for the terminal."""

    def __init__(self, sheet: Sheet) -> None:
        from rich.text import Text

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
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for number, (column, head) in enumerate(self._columns):
            is_number = column != head  # a number is never broken over lines, nor is the name of a row
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
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 1))
        grid.add_column(style="dim")
        grid.add_column(overflow="fold")
        for row in self._cells:
            for (_, head), cell in zip(self._columns, row, strict=True):
                grid.add_row(Text(plain(head)), cell)
            grid.add_row()
        return grid

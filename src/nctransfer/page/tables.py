"""Sheets as tables of a page."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nctransfer.page.blocks import Table
from nctransfer.page.sentences import without_options

if TYPE_CHECKING:
    from nctransfer.report.sheet import Sheet

__all__ = ["first_rows", "table_of"]

NOTHING = ("", "–")  # cells that name no class


def table_of(sheet: Sheet, classes: Collection[str] = (), caption: str | None = None) -> Table:
    """The table of a sheet. Its columns of class names are found by their cells.

    Args:
        sheet: The sheet.
        classes: The names of the classes.
        caption: What stands below; by default how to read the sheet, without sentences on options.
    """
    names = frozenset(classes)
    return Table(
        columns=tuple(sheet.columns),
        rows=tuple(tuple(row) for row in sheet.rows),
        caption=without_options(sheet.reading) if caption is None else caption,
        class_columns=tuple(
            number
            for number, head in enumerate(sheet.columns)
            if not head.startswith(">") and _are_classes([row[number] for row in sheet.rows], names)
        ),
    )


def _are_classes(cells: Sequence[str], names: frozenset[str]) -> bool:
    """Whether all cells with a name, of which there is one at least, name classes."""
    named = [cell for cell in cells if cell not in NOTHING]
    return bool(named) and names.issuperset(named)


def first_rows(table: Table, most: int) -> Table:
    """The first rows of a table; its caption says how many there are more."""
    if len(table.rows) <= most:
        return table
    more = f"… and {len(table.rows) - most:,} more."
    return replace(table, rows=table.rows[:most], caption=f"{table.caption} {more}".strip())

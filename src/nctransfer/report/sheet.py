"""A sheet: what a reader sees of a result, in words and rounded numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Bar", "Sheet", "plain"]


class Bar(NamedTuple):
    """A share from 0 to 1 to be drawn."""

    group: str
    label: str
    share: float


@dataclass(frozen=True)
class Sheet:
    """A table to read.

    Attributes:
        title: What it shows.
        facts: Lines below the title: name and value.
        columns: Heads; one that begins with ``>`` is of numbers, aligned right and never cut.
        rows: Cells.
        reading: How to read it, in plain words.
        bars: What a terminal draws below.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    facts: Mapping[str, str]
    reading: str = ""
    bars: Sequence[Bar] = ()

    @property
    def heads(self) -> list[str]:
        """The columns without the mark for numbers."""
        return [column.removeprefix(">") for column in self.columns]


def plain(text: object) -> str:
    """Text that a terminal shows as it is: control characters, newlines too, become escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text))

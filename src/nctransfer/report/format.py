"""An output format: a name, file suffixes, and a function that turns a result into text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from nctransfer.report.sheet import Sheet

__all__ = ["Format", "Page", "Presentation"]


@dataclass(frozen=True, kw_only=True)
class Presentation:
    """A result in the three forms that formats draw on.

    Attributes:
        sheets: What a reader sees: tables in words and rounded numbers.
        data: Everything in full precision, nested as in JSON.
        rows: Flat rows, or a function that makes a table of them. Only formats that print rows call it.
    """

    sheets: Sequence[Sheet]
    data: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]] | Callable[[], pd.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Page:
    """Where the text will be shown.

    Attributes:
        width: Characters per line.
        encoding: The character set. A format that can do without other characters than ASCII does so if need be.
        is_terminal: Whether a terminal shows the text, which can display colours and has no lines beyond its width.
    """

    width: int = 80
    encoding: str = "utf-8"
    is_terminal: bool = False

    @property
    def is_ascii(self) -> bool:
        """Whether the character set lacks most of Unicode."""
        return "utf" not in self.encoding.lower()


@dataclass(frozen=True, kw_only=True)
class Format:
    r"""A way to print results.

    Attributes:
        name: The value of ``--format``.
        meaning: What it is for, in a few words, for ``--help``.
        suffixes: File suffixes that choose this format, in lower case with the dot.
        render: The function that turns a result into text, which ends with a newline.

    >>> def facts(result: Presentation, page: Page) -> str:
    ...     return "".join(f"{name}: {value}\n" for sheet in result.sheets for name, value in sheet.facts.items())
    >>> Format(name="facts", meaning="facts alone", suffixes=(".facts",), render=facts).name
    'facts'
    """

    name: str
    meaning: str
    suffixes: tuple[str, ...]
    render: Callable[[Presentation, Page], str]

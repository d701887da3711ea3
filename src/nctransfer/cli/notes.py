"""What the library logs, as notes on stderr."""

from __future__ import annotations

import logging
from collections.abc import Collection
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nctransfer.cli.terminal import Terminal

__all__ = ["Notes"]


class Notes(logging.Handler):
    """Prints what the library logs as notes; the same text is printed once.

    Args:
        terminal: Where notes are printed.
        hushed: Packages of the library whose notes are not printed; their warnings are.
    """

    def __init__(self, terminal: Terminal, hushed: Collection[ModuleType]) -> None:
        super().__init__()
        self._terminal = terminal
        self._hushed = tuple(f"{package.__name__}." for package in hushed)
        self._printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record, unless the same text was printed before."""
        is_warning = record.levelno >= logging.WARNING
        text = f"warning: {record.getMessage()}" if is_warning else record.getMessage()
        if text in self._printed or (not is_warning and record.name.startswith(self._hushed)):
            return
        self._printed.add(text)
        self._terminal.note(text, "yellow" if is_warning else "dim")

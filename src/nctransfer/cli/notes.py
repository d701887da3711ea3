"""What the library logs, as notes on stderr."""

from __future__ import annotations

import logging
from collections.abc import Collection

from nctransfer.cli.terminal import Terminal

__all__ = ["Notes"]


class Notes(logging.Handler):
    """What the library logs, as notes; the same warning once."""

    def __init__(self, terminal: Terminal, hushed: Collection[str]) -> None:
        super().__init__()
        self._terminal = terminal
        self._hushed = {f"nctransfer.{name}" for name in hushed}
        self._warned: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        is_warning = record.levelno >= logging.WARNING
        text = f"warning: {record.getMessage()}" if is_warning else record.getMessage()
        if text in self._warned or (record.name in self._hushed and not is_warning):
            return
        if is_warning:
            self._warned.add(text)
        self._terminal.note(text, "yellow" if is_warning else "dim")

"""What the library says, in whatever words: the facts of errors, of logged warnings and of sheets."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

from nctransfer.errors import NCTransferError
from terminal import missing, shows


@contextmanager
def raises(kind: type[NCTransferError], *values: object, hint: Sequence[object] = ()) -> Iterator[None]:
    """An error of this very kind, whose message shows the values, and whose hint the options."""
    with pytest.raises(kind) as caught:
        yield
    assert type(caught.value) is kind
    assert missing(caught.value.message, *values) == [], caught.value.message
    assert missing(caught.value.hint, *hint) == [], caught.value.hint


def logged(log: pytest.LogCaptureFixture, *values: object) -> logging.LogRecord:
    """The one warning in the log that shows the values."""
    warnings = [record for record in log.records if record.levelno == logging.WARNING]
    [found] = [record for record in warnings if shows(record.getMessage(), *values)]
    return found


def fact(facts: Mapping[str, str], *values: object) -> str:
    """The one fact of a sheet that shows all of the values, under whatever name."""
    [found] = [value for value in facts.values() if shows(value, *values)]
    return found

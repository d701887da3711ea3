"""What messages say, whatever their wording: the values that they name. Sentences stand in test_wording.py alone."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

from nctransfer.errors import NCTransferError


def names(text: str, fact: object) -> bool:
    """Whether a text names a value as a whole: 6 is not found in 16, nor ``--data`` in ``--data-dir``."""
    if isinstance(fact, int):
        return any(names(text, form) for form in {f"{fact:,}", str(fact)})
    word = str(fact)
    before = r"(?<![\w.])(?<!\d,)" if word[:1].isalnum() else ""
    after = r"(?!\w)(?!,\d\d\d)" if word[-1:].isalnum() else ""
    after += "(?!-)" if word.startswith("--") else ""
    return re.search(before + re.escape(word) + after, text) is not None


def missing(text: str, facts: Iterable[object]) -> list[object]:
    """The facts that a text does not name."""
    return [fact for fact in facts if not names(text, fact)]


def says(
    error: pytest.ExceptionInfo[NCTransferError] | NCTransferError, *facts: object, hint: str | Iterable[object] = ()
) -> None:
    """An error names these facts, and its hint these: mostly the option that helps."""
    found = error.value if isinstance(error, pytest.ExceptionInfo) else error
    assert missing(found.message, facts) == [], found.message
    assert missing(found.hint, [hint] if isinstance(hint, str) else hint) == [], found.hint


@contextmanager
def raises(kind: type[NCTransferError], *facts: object, hint: str | Iterable[object] = ()) -> Iterator[None]:
    """An error of this very kind, that names these facts; and its hint these."""
    with pytest.raises(kind) as caught:
        yield
    assert caught.type is kind
    says(caught, *facts, hint=hint)


def those(notes: Iterable[str], *facts: object) -> list[str]:
    """The notes that name all of these facts."""
    return [note for note in notes if not missing(note, facts)]


def only(notes: Iterable[str], *facts: object) -> None:
    """There is one note, and it names all of these facts."""
    assert [missing(note, facts) for note in notes] == [[]]


def logged(caplog: pytest.LogCaptureFixture, *facts: object, level: int = logging.WARNING) -> list[str]:
    """The messages of one level that name all of these facts."""
    return those((record.getMessage() for record in caplog.records if record.levelno == level), *facts)

"""Files of class names: plain text with one name per line."""

from __future__ import annotations

from pathlib import Path

from nctransfer.errors import DataError
from nctransfer.paths import expanded, read_list

__all__ = ["read_class_names", "read_names_of_codes"]


def read_class_names(path: Path) -> tuple[str, ...]:
    """The names in a file of one class name per line. Empty lines are skipped.

    Raises:
        DataError: The file cannot be read, or is not UTF-8 text.
    """
    return tuple(line for line in _lines(path) if line)


def read_names_of_codes(path: Path) -> tuple[str, ...]:
    """The names of the labels 0, 1, 2, … in a file: line by line, in this order.

    Raises:
        DataError: The file cannot be read, or has a name twice, or an empty line between names.
    """
    lines = _lines(path)
    while lines and not lines[-1]:
        lines.pop()
    while lines and not lines[0]:
        lines.pop(0)
    if len({*lines} - {""}) < len(lines):
        twice = next((name for name in lines if name and lines.count(name) > 1), None)
        wrong = f"the name {twice!r} twice" if twice else "an empty line between names"
        raise DataError(
            f"{str(path)!r} holds {wrong}", "give one line per label 0, 1, 2, …, each with a different class name"
        )
    return tuple(lines)


def _lines(path: Path) -> list[str]:
    try:
        text = read_list(expanded(path))
    except (OSError, ValueError) as error:  # a null character is a ValueError
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DataError(
            f"the class names in {str(path)!r} cannot be read: {reason}",
            "give a text file with one class name per line",
        ) from error
    return [line.strip() for line in text.splitlines()]

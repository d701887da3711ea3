"""Paths as users give them, which may be no paths at all: too long, of an unknown user, with a null character."""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = ["expanded", "is_file", "is_folder", "is_something_else", "read_list"]

LARGEST_LIST = 64 * 2**20  # bytes


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with ``~`` replaced by the home folder; as it is given if there is no such user.

    >>> expanded("~nobody-of-this-name/pets").as_posix()
    '~nobody-of-this-name/pets'
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises a RuntimeError for an unknown user


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file; false for whatever cannot be a path.

    >>> is_file("a" * 400), is_file("a" + chr(0))
    (False, False)
    """
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises an OSError for a name that is too long


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether there is a folder; false for whatever cannot be a path."""
    return os.path.isdir(path)  # noqa: PTH112 - as above


def read_list(path: str | os.PathLike[str]) -> str:
    """The text of a small file, in UTF-8. It may be a pipe, but not one that nobody writes to.

    Raises:
        OSError: It cannot be read, or is larger than 64 MiB, as a device without end is.
        UnicodeDecodeError: It is not UTF-8.
    """
    with open(path, "rb", opener=_at_once) as file:
        content = bytearray()
        while block := file.read(2**16):
            content += block
            if len(content) > LARGEST_LIST:
                raise OSError(errno.EFBIG, f"it is larger than {LARGEST_LIST:,} bytes")
    return content.decode("utf-8-sig")


def _at_once(path: str, flags: int) -> int:
    """Open a file; a pipe too, which nobody may ever write to."""
    if not hasattr(os, "O_NONBLOCK"):
        return os.open(path, flags)
    number = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(number, True)
    return number


def is_something_else(path: str | os.PathLike[str]) -> bool:
    """Whether there is a device, a pipe or a socket: reading it may never end, and replacing it would lose it."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)  # noqa: PTH110, PTH112, PTH113

"""The bytes of one image, read when they are needed; a limit of size protects the memory."""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Callable

__all__ = ["MAX_BYTES", "check_size", "raising", "read_file", "returning"]

MAX_BYTES = 512 * 2**20
"""A file larger than this is not an image, but a mistake or an attack on the memory."""


def returning(content: bytes) -> Callable[[], bytes]:
    """A function that returns these bytes."""
    return functools.partial(bytes, content)  # bytes() of bytes makes no copy


def raising(reason: str) -> Callable[[], bytes]:
    """A function that raises an OSError with this reason."""
    return functools.partial(_fail, reason)


def _fail(reason: str) -> bytes:
    raise OSError(errno.EIO, reason)


def read_file(path: str) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: The file does not exist, cannot be read, is not a regular file, or is too large.
    """
    found = os.stat(path)  # noqa: PTH116 - pathlib would take as long as reading a small file
    if not stat.S_ISREG(found.st_mode):  # reading a pipe would never end
        raise OSError(errno.EINVAL, "not a regular file")
    check_size(found.st_size)
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        return file.read()


def check_size(size: int) -> None:
    """Check the size of an image before it is read.

    Raises:
        OSError: It is larger than :data:`MAX_BYTES`.
    """
    if size > MAX_BYTES:
        raise OSError(errno.EFBIG, f"the image has {size:,} bytes, more than the limit of {MAX_BYTES:,}")

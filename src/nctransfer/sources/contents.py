"""The bytes of one image: read now or later, none larger than an image may be."""

from __future__ import annotations

import errno
import functools
import stat
from collections.abc import Callable
from pathlib import Path

__all__ = ["MAX_BYTES", "check_size", "failing", "given", "read_file"]

MAX_BYTES = 512 * 2**20  # an image that is larger is a mistake, or an attack on the memory


def given(content: bytes) -> Callable[[], bytes]:
    """A function that gives bytes that are there already."""
    return functools.partial(bytes, content)  # of bytes it makes no copy


def failing(reason: str) -> Callable[[], bytes]:
    """A function that raises OSError for ``reason``."""
    return functools.partial(_fail, reason)


def _fail(reason: str) -> bytes:
    raise OSError(errno.EIO, reason)


def read_file(path: str) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: It is not there, not readable, no regular file, or too large.
    """
    file = Path(path)
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):  # reading a pipe would never end
        raise OSError(errno.EINVAL, "no regular file")
    check_size(found.st_size)
    return file.read_bytes()


def check_size(size: int) -> None:
    """Refuse an image before it is read.

    Raises:
        OSError: It is larger than :data:`MAX_BYTES`.
    """
    if size > MAX_BYTES:
        raise OSError(errno.EFBIG, f"{size:,} bytes are too many for an image (at most {MAX_BYTES:,})")

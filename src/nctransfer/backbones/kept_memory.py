"""Keep freed memory for the next layer, instead of returning it to the system and having it cleared again.

A model on the CPU allocates an output for every layer, and frees it a layer later. The allocator of glibc returns large
blocks to the system at once, and the system clears every page before it hands it out again. For convolutional networks,
that takes as long as the convolutions.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterator

__all__ = ["kept_memory"]

# The parameters of mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
KEEPING = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1}
"""No block is mapped on its own, and free memory is never returned."""
AFTERWARDS = {M_MMAP_MAX: 65536, M_MMAP_THRESHOLD: 32 * 2**20, M_TRIM_THRESHOLD: 64 * 2**20}
"""The largest thresholds that glibc sets by itself, and the number of mapped blocks that it allows."""
USERS_OWN = ("mmap_max", "mmap_threshold", "trim_threshold", "top_pad")
"""Settings of the allocator that a user may have made, and that are left as they are."""

_lock = threading.Lock()
_inside = 0  # how many contexts are open, in all threads


@contextlib.contextmanager
def kept_memory() -> Iterator[bool]:
    """A context in which memory that is freed stays with the process.

    The settings of an allocator belong to the whole process, and a library is a guest in it. So they hold only while
    images run, for a command as for a library. At the end, free memory is returned to the system, and the thresholds
    are set to the largest values that glibc reaches by itself when large blocks are freed: blocks of 32 MiB or more
    are mapped on their own, and up to 64 MiB stay free. This is where a process that has run a model usually is anyway.
    What remains of the context is that glibc no longer adapts the two.

    The numbers that a model gives are the same bit for bit. The process keeps at most as much as it has needed at once,
    plus what lies between blocks in use. Threads other than the main one keep blocks of up to 64 MiB.

    Nothing is changed on other systems and C libraries (macOS, Windows, musl), if another allocator such as jemalloc
    replaces that of glibc, or if the user has set one of these thresholds, with ``GLIBC_TUNABLES`` or a variable such
    as ``MALLOC_TRIM_THRESHOLD_``. Contexts may be nested, and may be open in several threads; the last one to end
    restores the settings.

    Returns:
        A context manager, whose value says whether memory is kept.

    Example:
        >>> with kept_memory() as kept:
        ...     isinstance(kept, bool)
        True
    """
    global _inside
    libc = _glibc()
    if libc is None:
        yield False
        return
    with _lock:
        _inside += 1
        if _inside == 1:
            _set(libc, KEEPING)
    try:
        yield True
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _set(libc, AFTERWARDS)
                libc.malloc_trim(0)


def _set(libc: ctypes.CDLL, settings: dict[int, int]) -> None:
    for parameter, value in settings.items():
        libc.mallopt(parameter, value)


def _glibc() -> ctypes.CDLL | None:
    """The C library, if its allocator is in use and nobody has set it; ``None`` otherwise."""
    if sys.platform != "linux" or sys.maxsize < 2**32 or _set_by_user():
        return None
    try:
        os.confstr("CS_GNU_LIBC_VERSION")  # a ValueError with other C libraries
        libc, process = ctypes.CDLL("libc.so.6"), ctypes.CDLL(None)
        here, there = (ctypes.cast(each.malloc, ctypes.c_void_p).value for each in (libc, process))
        return libc if here == there and libc.mallopt and libc.malloc_trim else None
    except (ValueError, OSError, AttributeError):
        return None


def _set_by_user() -> bool:
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return any(f"MALLOC_{name.upper()}_" in os.environ or f"glibc.malloc.{name}" in tunables for name in USERS_OWN)

"""Files that are written whole or not at all, and locks."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from nctransfer.errors import StoreError, reason_of

__all__ = ["as_json", "file_lock", "file_sha256", "read_json", "replace_file", "write_json", "writing_errors"]


def file_sha256(path: Path) -> str:
    """The SHA-256 digest of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_json(value: Any) -> Any:
    """The value as it comes back from JSON: tuples become lists.

    >>> as_json({"size": (3, 8)})
    {'size': [3, 8]}
    """
    return json.loads(json.dumps(value))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if the file is absent, damaged, or holds no object."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    text = json.dumps(value, indent=1).encode()
    with writing_errors(path):
        replace_file(path, lambda file: file.write(text))


def replace_file(path: Path, write: Callable[[IO[bytes]], object], temporary_in: Path | None = None) -> None:
    """Write a file whole or not at all, whenever the process or the machine stops.

    Args:
        path: The file. If it is a symbolic link, the file that it leads to is written, and the link stays.
        write: Writes the content to an open file.
        temporary_in: The folder of the temporary file, on the same file system; by default that of ``path``.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = (temporary_in or path.parent) / f"{path.name}.{os.getpid()}.tmp"
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # the rename itself has to reach the disk
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def file_lock(path: Path, on_wait: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold a lock on a file, which one process at a time can.

    Args:
        path: The file.
        on_wait: Called before waiting for another process.

    Raises:
        StoreError: The file cannot be written.
    """
    from filelock import FileLock, Timeout

    with writing_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if on_wait:
                on_wait()
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def writing_errors(path: Path) -> Iterator[None]:
    """Turn errors of the file system into errors of the store, with a hint."""
    try:
        yield
    except OSError as error:
        hint = "point --cache-dir or NCTRANSFER_CACHE at a folder that can be written"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            hint = "make room and run again: what was stored before is whole, and is not run again"
        raise StoreError(f"the cache cannot be written: {reason_of(error)}: {str(path)!r}", hint) from error

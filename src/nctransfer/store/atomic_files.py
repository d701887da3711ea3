"""Files that are there whole or not at all, and locks."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from nctransfer.errors import StoreError

__all__ = ["as_json", "file_lock", "file_sha256", "read_json", "replace_file", "write_json", "writing_errors"]


def file_sha256(path: Path) -> str:
    """The SHA-256 digest of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_json(value: Any) -> Any:
    """As it comes back from JSON: tuples are lists."""
    """As it comes back from JSON: tuples are lists."""
    return json.loads(json.dumps(value))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is none, or it is damaged."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file so that it is there whole or not at all."""
    text = json.dumps(value, indent=1).encode()
    with writing_errors(path):
        replace_file(path, lambda file: file.write(text))


def replace_file(path: Path, write: Callable[[IO[bytes]], object], temporary_in: Path | None = None) -> None:
    """Write a file so that it is there whole or not at all, whenever the process or the machine stops."""
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
    if os.name == "posix":  # the rename itself must reach the disk
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def file_lock(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock of a file; ``on_wait`` is called before waiting for another process."""
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
    """Errors of the file system as errors of the store."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        hint = "point --cache-dir or NCTRANSFER_CACHE at a folder that can be written"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            hint = "make room and run again: what was stored before is whole, and is not run again"
        raise StoreError(f"the cache cannot be written: {why}: {str(path)!r}", hint) from error

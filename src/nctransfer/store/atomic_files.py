"""Files that are written whole or not at all, and locks."""

from __future__ import annotations

import errno
import functools
import hashlib
import itertools
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from nctransfer.errors import StoreError, reason_of
from nctransfer.strict_json import parse_json

__all__ = [
    "add_file",
    "as_json",
    "check_content_is_to_blame",
    "clear_stale_files",
    "file_lock",
    "file_sha256",
    "read_json",
    "replace_file",
    "sync_folder",
    "temporary_file",
    "write_json",
    "writing_errors",
]

DAY = 24 * 60 * 60
WAIT = 5.0  # seconds for which a lock is awaited without a word

LARGEST_JSON = 64 * 2**20  # bytes

OF_THE_FILE = (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL)  # pyarrow gives no number


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
    """The object in a JSON file; empty if the file is absent, damaged, larger than 64 MiB, or holds no object."""
    try:
        if path.stat().st_size > LARGEST_JSON or not path.is_file():  # reading a pipe would never end
            return {}
        value = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    text = json.dumps(value, indent=1).encode()
    with writing_errors(path):
        replace_file(path, lambda file: file.write(text))


def replace_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file whole or not at all, whenever the process or the machine stops.

    Args:
        path: The file. If it is a symbolic link, the file that it leads to is written, and the link stays.
        write: Writes the content to an open file.
    """
    path = Path(os.path.realpath(path))
    _make_folder(path.parent)
    with temporary_file(path.parent, path.name, write) as temporary:
        temporary.replace(path)
    sync_folder(path.parent)


def add_file(folder: Path, name: Callable[[str], str], write: Callable[[IO[bytes]], object]) -> tuple[Path, str]:
    """Write a file that is named by its content, whole or not at all; its temporary file lies beside ``folder``.

    A file that is there already keeps its time, by which it is known to be the same.

    Args:
        folder: The folder of the file.
        name: Gives the name of the file for the SHA-256 digest of its content.
        write: Writes the content to an open file.

    Returns:
        The file, and the digest.
    """
    _make_folder(folder)
    with temporary_file(folder.parent, folder.name, write) as temporary:
        digest = file_sha256(temporary)
        path = folder / name(digest)
        with suppress(OSError):
            stat = path.stat()
            os.utime(temporary, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        temporary.replace(path)
    sync_folder(folder)
    return path, digest


@contextmanager
def temporary_file(folder: Path, name: str, write: Callable[[IO[bytes]], object]) -> Iterator[Path]:
    """A file that is on the disk with all its content; it is deleted at the end unless it has been renamed."""
    path = folder / f"{name[:40]}.{secrets.token_hex(4)}.{_host()}.{os.getpid()}.tmp"
    try:
        with path.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        yield path
    finally:
        path.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, and wait until their names are on the disk."""
    missing = list(itertools.takewhile(lambda above: not above.exists(), (folder, *folder.parents)))
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_folder(made.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk: the creation or renaming of a file has to reach it too."""
    if os.name == "posix":
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def clear_stale_files(folder: Path) -> None:
    """Delete the temporary files in a folder whose processes are gone. What cannot be deleted stays."""
    for path in folder.glob("*.tmp"):
        with suppress(OSError):
            if _is_stale(path):
                path.unlink()


def check_content_is_to_blame(path: Path, error: Exception) -> None:
    """Refuse to call a file damaged that could only not be read, so that nobody deletes it.

    Args:
        path: The file.
        error: What came of reading it.

    Raises:
        StoreError: The error says nothing about the content: no memory, no permission, too many open files, or a server
            of files that does not answer.
    """
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno not in OF_THE_FILE):
        raise StoreError(
            f"{str(path)!r} cannot be read: {reason_of(error)}",
            "it may be whole, so it is kept: run again when it can be read; if it never can, delete this file and run "
            "nctransfer cache repair",
        ) from error


def _is_stale(path: Path) -> bool:
    """Whether no process writes a temporary file any more: it ended, or on another machine the file is a day old."""
    *_, host, number, _ = path.name.rsplit(".", 3) if path.name.count(".") >= 3 else ("", "", "", "")
    if host != _host() or not number.isdecimal() or os.name != "posix":
        return time.time() - path.stat().st_mtime > DAY
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


@functools.cache
def _host() -> str:
    """A name, as a part of file names, for those processes among which a number stands for one process.

    Containers number their processes anew, and may have the name of their machine; copies of a machine share its name.
    """
    names = [socket.gethostname()]
    with suppress(OSError):  # other systems than Linux
        names += [Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path("/proc/self/ns/pid").readlink())]
    return hashlib.blake2b("\0".join(names).encode(), digest_size=4).hexdigest()


@contextmanager
def file_lock(path: Path, on_wait: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold a lock on a file, which one process at a time can.

    Args:
        path: The file.
        on_wait: Called once if another process holds the lock for several seconds.

    Raises:
        StoreError: The file cannot be written.
    """
    from filelock import FileLock, Timeout

    with writing_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=WAIT)
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

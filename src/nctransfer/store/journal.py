"""A journal: a file of records, one JSON object a line, to which lines are only ever added.

Every line begins with a checksum of the rest, so that a changed bit is noticed. A line that has no end is one that
another process is writing, or that a killed process left: readers leave it out, and the next writer overwrites it.
Adding a record costs the same however many there are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nctransfer.store.atomic_files import sync_folder, writing_errors
from nctransfer.strict_json import parse_json

__all__ = ["DamagedJournalError", "append_records", "as_lines", "first_record", "read_records"]

CHECKSUM = 16  # hexadecimal digits


class DamagedJournalError(Exception):
    """A line of a journal is not as it was written; the text says which."""


def as_lines(records: Iterable[Mapping[str, Any]]) -> bytes:
    """Records as lines of a journal."""
    texts = (json.dumps(record, separators=(",", ":")).encode() for record in records)
    return b"".join(b"%s %s\n" % (_checksum(text), text) for text in texts)


def read_records(path: Path, start: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The records from the byte ``start`` on, and the byte at which the last of them ends.

    Raises:
        OSError: There is no such file.
        DamagedJournalError: A line is damaged.
    """
    with path.open("rb") as file:
        file.seek(start)
        content = file.read()
    end = content.rfind(b"\n") + 1
    records = [_record(line, number) for number, line in enumerate(content[:end].split(b"\n")[:-1], 1)]
    return records, start + end


def first_record(path: Path) -> dict[str, Any]:
    """The first record; see :func:`read_records`."""
    with path.open("rb") as file:
        return _record(file.readline().removesuffix(b"\n"), 1)


def append_records(path: Path, records: Iterable[Mapping[str, Any]], end: int) -> int:
    """Add records; returns the byte at which the last of them ends. Only one process at a time may do this.

    Args:
        path: The journal; it need not exist.
        records: The records.
        end: Where the last whole line ends, as :func:`read_records` says. What follows is overwritten.

    Raises:
        StoreError: They cannot be written.
    """
    lines = as_lines(records)
    is_new = not path.exists()
    with writing_errors(path), path.open("ab" if is_new else "r+b") as file:
        file.truncate(end)
        file.seek(end)
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync_folder(path.parent)
    return end + len(lines)


def _record(line: bytes, number: int) -> dict[str, Any]:
    text = line[CHECKSUM + 1 :]
    try:
        record = parse_json(text) if line[: CHECKSUM + 1] == _checksum(text) + b" " else None
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise DamagedJournalError(f"line {number} is not as it was written")
    return record


def _checksum(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=CHECKSUM // 2).hexdigest().encode()

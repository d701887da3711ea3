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

__all__ = ["DamagedJournalError", "OvertakenError", "append_records", "as_lines", "first_record", "read_records"]

CHECKSUM = 16  # hexadecimal digits
LARGEST = 2**30  # bytes of a journal; 50,000 parts take 15 MB
LONGEST = 2**24  # bytes of its first line


class DamagedJournalError(Exception):
    """A line of a journal is not as it was written; the text says which."""


class OvertakenError(Exception):
    """Somebody else has added records, although only one process at a time may."""


def as_lines(records: Iterable[Mapping[str, Any]]) -> bytes:
    """Records as lines of a journal."""
    texts = (json.dumps(record, separators=(",", ":")).encode() for record in records)
    return b"".join(b"%s %s\n" % (_checksum(text), text) for text in texts)


def read_records(path: Path, start: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The records from the byte ``start`` on, and the byte at which the last of them ends.

    While a line that was left without an end is overwritten, a reader may see the beginning of the old one before the
    end of the new one. So what makes no sense is read again.

    Raises:
        OSError: There is no such file.
        DamagedJournalError: A line is damaged.
    """
    before = None
    while True:
        content = _lines(path, start)
        try:
            records = [_record(line, number) for number, line in enumerate(content.split(b"\n")[:-1], 1)]
        except DamagedJournalError:
            if content == before:
                raise
            before = content
        else:
            return records, start + len(content)


def first_record(path: Path) -> dict[str, Any]:
    """The first record; see :func:`read_records`."""
    with path.open("rb") as file:
        return _record(file.readline(LONGEST).removesuffix(b"\n"), 1)


def append_records(path: Path, records: Iterable[Mapping[str, Any]], end: int) -> int:
    """Add records; returns the byte at which the last of them ends. Only one process at a time may do this.

    Args:
        path: The journal; it need not exist.
        records: The records.
        end: Where the last whole line ends, as :func:`read_records` says. A line without an end is overwritten.

    Raises:
        OvertakenError: There are whole lines after ``end``; they stay as they are.
        StoreError: They cannot be written.
    """
    lines = as_lines(records)
    is_new = not path.exists()
    with writing_errors(path), path.open("a+b") as file:  # what is written comes after what is there
        file.seek(end)
        if b"\n" in file.read():
            raise OvertakenError
        file.truncate(end)
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync_folder(path.parent)
    return end + len(lines)


def _lines(path: Path, start: int) -> bytes:
    """The whole lines from the byte ``start`` on."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size > LARGEST:
            raise DamagedJournalError(f"it is larger than {LARGEST:,} bytes")
        file.seek(start)
        content = file.read()
    return content[: content.rfind(b"\n") + 1]


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

"""The manifest of a stored set: which parts are whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nctransfer.store.atomic_files import file_sha256

__all__ = ["is_part", "part_damage", "part_record"]

PART_FIELDS = {"rows", "columns", "bytes", "mtime_ns", "sha256"}


def is_part(record: Any) -> bool:
    """Whether it is what :func:`_part_record` gives."""
    if not (isinstance(record, dict) and PART_FIELDS.issubset(record) and isinstance(record["columns"], dict)):
        return False
    numbers = (record["rows"], record["bytes"], record["mtime_ns"], *record["columns"].values())
    return all(isinstance(number, int) for number in numbers)


def part_record(path: Path, rows: int, columns: Mapping[str, int]) -> dict[str, Any]:
    """What the manifest says of a part: rows, columns, size, time, digest."""
    stat = path.stat()
    return {
        "rows": rows,
        "columns": dict(columns),
        "bytes": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "sha256": file_sha256(path),
    }


def part_damage(path: Path, part: Mapping[str, Any], thorough: bool) -> str:
    """What is wrong with a part; empty if nothing is."""
    try:
        stat = path.stat()
        if stat.st_size != part["bytes"]:
            return f"{stat.st_size:,} bytes instead of {part['bytes']:,}"
        if (thorough or stat.st_mtime_ns != part["mtime_ns"]) and file_sha256(path) != part["sha256"]:
            return "its content was altered"
    except OSError as error:
        return error.strerror or str(error)
    return ""

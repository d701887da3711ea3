"""The rows of a manifest: a table with or without a line of column names, or lines of JSON."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from nctransfer.errors import DataError, counted, reason_of
from nctransfer.escaping import unguarded
from nctransfer.strict_json import parse_json

__all__ = ["PLAIN", "Row", "line_error", "manifest_rows"]

PLAIN = ".txt"  # a list without column names, whose columns spaces or tabs separate

Row = tuple[int, Mapping[str, Any]]  # the number of the line, and its value in each column


def manifest_rows(path: Path, *, no_header: bool = False) -> Iterator[Row]:
    """The rows of a manifest, one after the other.

    Args:
        path: The file.
        no_header: Whether the first line is a row. The columns of a table are then named ``1``, ``2``, …

    Raises:
        DataError: It cannot be read, or a line is not one of a table or of JSON.
    """
    suffix = path.suffix.lower()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if suffix == ".jsonl":
                yield from _json(path, file)
            elif suffix == PLAIN:
                lines = (line.strip() + "\n" for line in file)
                first = next(lines, "")
                yield from _table(path, itertools.chain([first], lines), "\t" if "\t" in first else " ", no_header)
            else:
                yield from _table(path, file, "\t" if suffix == ".tsv" else ",", no_header)
    except OSError as error:
        raise DataError(f"the manifest {str(path)!r} cannot be read: {reason_of(error)}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"the manifest {str(path)!r} is not UTF-8", "save it as UTF-8") from error


def line_error(path: Path, line: int, message: str, hint: str = "") -> DataError:
    """The error about one line of a manifest."""
    return DataError(f"line {line} of {str(path)!r}: {message}", hint)


def _table(path: Path, lines: Iterable[str], delimiter: str, no_header: bool) -> Iterator[Row]:
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    header: list[str] | None = None
    try:
        for values in reader:
            if header is None and values:
                header = [str(number) for number in range(1, len(values) + 1)] if no_header else _names(path, values)
                if not no_header:
                    continue
            if values and header:
                if len(values) != len(header):
                    raise line_error(
                        path,
                        reader.line_num,
                        f"expected {counted(len(header), 'value')}, one per column, got {len(values)}",
                        'put a value that contains the separator in quotes: "a, b"',
                    )
                yield reader.line_num, dict(zip(header, map(unguarded, values), strict=True))
    except csv.Error as error:
        raise line_error(path, reader.line_num, str(error)) from error


def _names(path: Path, values: Sequence[str]) -> list[str]:
    """The names of the columns in the first line."""
    header = [value.strip() for value in values]
    if len(set(header)) < len(header):
        raise line_error(
            path,
            1,
            f"two columns have the same name: {', '.join(header)}",
            "if this line is an image and no line of column names, give --no-header",
        )
    return header


def _json(path: Path, file: TextIO) -> Iterator[Row]:
    for line, content in enumerate(file, 1):
        if not content.strip():
            continue
        try:
            row = parse_json(content)
        except ValueError as error:
            raise line_error(path, line, f"this is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise line_error(path, line, "this is not a JSON object", 'expected {"path": …, "label": …}')
        yield line, row

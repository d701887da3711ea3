"""Files of predictions: CSV, JSON lines and Parquet, written row by row, in memory that does not grow with them."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from nctransfer.errors import SettingError
from nctransfer.escaping import escaped_json, guarded
from nctransfer.heads.prediction import COLUMNS, Prediction

__all__ = ["WRITERS", "csv_lines", "json_line", "json_lines", "writer_for"]

Write = Callable[[Iterable[Prediction], IO[bytes]], None]
GROUP_ROWS = 16384  # of one row group of a Parquet file


def csv_lines(rows: Iterable[Prediction]) -> Iterator[str]:
    r"""The lines of a CSV file, with a head. What a broken image has no value for is empty.

    An apostrophe stands before text that a spreadsheet would take for a formula.

    >>> from nctransfer.heads.prediction import Prediction
    >>> print("".join(csv_lines([Prediction('a "b".jpg', "cat", 0.9, "dog", 0.06, False, "")])))
    id,class,probability,second,second_probability,abstained,reason
    "a ""b"".jpg",cat,0.9,dog,0.06,False,
    <BLANKLINE>
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in itertools.chain([COLUMNS], rows):
        writer.writerow(map(guarded, row))
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def json_line(prediction: Prediction) -> str:
    """A prediction as one line of JSON, without the end of the line."""
    return escaped_json(json.dumps(prediction.to_dict(), ensure_ascii=False))


def json_lines(rows: Iterable[Prediction]) -> Iterator[str]:
    """The lines of a JSON lines file."""
    for row in rows:
        yield json_line(row) + "\n"


def _text(lines: Callable[[Iterable[Prediction]], Iterator[str]]) -> Write:
    def write(rows: Iterable[Prediction], file: IO[bytes]) -> None:
        for line in lines(rows):
            file.write(line.encode())

    return write


def _parquet(rows: Iterable[Prediction], file: IO[bytes]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    text, number = pa.string(), pa.float32()
    kinds = (text, text, number, text, number, pa.bool_(), text)
    schema = pa.schema(list(zip(COLUMNS, kinds, strict=True)))
    rows = iter(rows)
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(itertools.islice(rows, GROUP_ROWS)):
            columns = zip(*group, strict=True)
            writer.write_table(
                pa.table([pa.array(one, kind) for one, kind in zip(columns, kinds, strict=True)], schema=schema)
            )


WRITERS: Mapping[str, Write] = {".csv": _text(csv_lines), ".jsonl": _text(json_lines), ".parquet": _parquet}
"""What writes predictions into a file, by its suffix."""


def writer_for(path: Path) -> Write:
    """What writes predictions into a file with this name.

    Raises:
        SettingError: Its suffix names no format.
    """
    if (found := WRITERS.get(path.suffix.lower())) is None:
        raise SettingError(
            f"{str(path)!r} does not end in {', '.join(WRITERS)}",
            "give --output a file name with one of these suffixes",
        )
    return found

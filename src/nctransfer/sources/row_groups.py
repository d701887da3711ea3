"""Read images from a Parquet file, row group by row group, with only a few of them in memory."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.errors import DataError, reason_of
from nctransfer.sources.contents import raising, returning

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

    from nctransfer.sources.arrow_columns import Columns

__all__ = ["image_batches", "open_parquet", "read_rows", "unreadable"]

BATCH_BYTES = 8 * 2**20  # size of the images in memory at once
OUTSIDE = "the Parquet file holds only the path of the image, not the image"


def open_parquet(path: Path, coded: Sequence[str] = ()) -> parquet.ParquetFile:
    """Open a Parquet file.

    Args:
        path: The file.
        coded: Columns of text in which equal values are read once.

    Raises:
        DataError: It cannot be read, or is not a Parquet file.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        # With a buffer, and without reading ahead, the file is not held in memory as a whole.
        return parquet.ParquetFile(path, buffer_size=2**20, pre_buffer=False, read_dictionary=list(coded))
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> DataError:
    """The error for a Parquet file that cannot be read."""
    return DataError(
        f"{str(path)!r} cannot be read as Parquet: {reason_of(error)}",
        "it may be truncated: download or copy it again",
    )


def read_rows(path: Path, columns: Columns, rows: Sequence[int]) -> Iterator[Callable[[], bytes]]:
    """For each of some rows, a function that returns the bytes of the image or raises an OSError.

    Args:
        path: The Parquet file.
        columns: Its columns.
        rows: The rows, fastest in ascending order.
    """
    try:
        file = open_parquet(path)
    except DataError as error:
        yield from itertools.repeat(raising(error.message), len(rows))
        return
    with file:
        groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
        starts = list(itertools.accumulate((group.num_rows for group in groups), initial=0))
        for index, run in _runs(rows, starts):
            yield from _group_contents(file, columns, index, [row - starts[index] for row in run])


def _runs(rows: Iterable[int], starts: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Each row group with the rows to read from it. Rows that do not ascend start a new run."""
    group, run = 0, list[int]()
    for row in rows:
        here = bisect.bisect_right(starts, row) - 1
        if run and (here != group or row <= run[-1]):
            yield group, run
            run = []
        group = here
        run.append(row)
    if run:
        yield group, run


def _group_contents(
    file: parquet.ParquetFile, columns: Columns, group: int, rows: Sequence[int]
) -> Iterator[Callable[[], bytes]]:
    """The images in some rows of one row group. The rows ascend, so that a few images are in memory at a time."""
    import pyarrow as pa

    done, start = 0, 0
    try:
        for batch in image_batches(file, columns, group):
            while done < len(rows) and rows[done] < start + len(batch):
                content = batch[rows[done] - start].as_py()
                done += 1
                yield raising(OUTSIDE) if content is None else returning(content)
            start += len(batch)
            if done == len(rows):
                return
        reason = "the file has fewer rows than when it was listed"
    except (pa.ArrowException, OSError, IndexError) as error:
        reason = f"row group {group} cannot be read: {error}"
    yield from itertools.repeat(raising(reason), len(rows) - done)


def image_batches(file: parquet.ParquetFile, columns: Columns, group: int) -> Iterator[pa.Array]:
    """The encoded images of one row group, in batches of at most about ``BATCH_BYTES``."""
    about = file.metadata.row_group(group)
    parts = (about.column(index) for index in range(about.num_columns))
    size = sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] == columns.image)
    rows = max(1, min(1024, BATCH_BYTES * about.num_rows // max(1, size)))
    leaf = f"{columns.image}.bytes" if columns.is_struct else columns.image
    for batch in file.iter_batches(batch_size=rows, row_groups=[group], columns=[leaf]):
        column = batch.column(0)
        yield column.flatten()[0] if columns.is_struct else column  # flatten() makes the bytes null where the struct is

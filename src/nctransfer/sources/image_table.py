"""The images that a source lists, in columns: a million of them take about 100 MB."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from nctransfer.sources.source import ImageEntry

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["ImageTable"]

CHUNK = 16_384  # rows that are Python objects at once


@dataclass(frozen=True, eq=False)
class ImageTable(Sequence[ImageEntry]):
    """Labelled images in columns, whose items are :class:`~nctransfer.sources.source.ImageEntry`.

    Attributes:
        columns: An Arrow table with the columns ``id`` (large_string), ``label`` and ``split`` (dictionaries of
            strings), ``size`` and ``mtime_ns`` (int64), none of them null.
    """

    columns: pa.Table

    @classmethod
    def of(cls, entries: Iterable[ImageEntry]) -> ImageTable:
        """The table of some images; they may come one by one, so that they are never in memory all at once."""
        import pyarrow as pa

        if isinstance(entries, ImageTable):
            return entries
        rest = iter(entries)
        schema = pa.schema(
            [
                pa.field("id", pa.large_string(), False),
                pa.field("label", pa.dictionary(pa.int32(), pa.string()), False),
                pa.field("split", pa.dictionary(pa.int32(), pa.string()), False),
                pa.field("size", pa.int64(), False),
                pa.field("mtime_ns", pa.int64(), False),
            ]
        )
        batches = []
        while chunk := list(itertools.islice(rest, CHUNK)):
            columns = [
                pa.array(column, field.type) for column, field in zip(zip(*chunk, strict=True), schema, strict=True)
            ]
            batches.append(pa.record_batch(columns, schema))
        return cls(pa.Table.from_batches(batches, schema).unify_dictionaries().combine_chunks())

    def __len__(self) -> int:
        return len(self.columns)

    def __iter__(self) -> Iterator[ImageEntry]:
        for batch in self.columns.to_batches(CHUNK):
            yield from itertools.starmap(ImageEntry, zip(*(column.to_pylist() for column in batch), strict=True))

    @overload
    def __getitem__(self, index: int) -> ImageEntry: ...
    @overload
    def __getitem__(self, index: slice) -> ImageTable: ...
    def __getitem__(self, index: int | slice) -> ImageEntry | ImageTable:
        if isinstance(index, int):
            return ImageEntry(*(column[index].as_py() for column in self.columns))
        return ImageTable(self.columns[index.start or 0 : index.stop])

    def take(self, rows: NDArray[np.intp]) -> ImageTable:
        """The images at some positions."""
        import pyarrow as pa

        return ImageTable(self.columns.take(pa.array(rows)))

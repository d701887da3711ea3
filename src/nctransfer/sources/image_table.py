"""The images that a source lists, in columns: a million of them take about 60 MB."""

from __future__ import annotations

import collections
import functools
import itertools
import operator
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from nctransfer.sources.arrow_arrays import coded, encoded, flat, integers, strings_of, values_of
from nctransfer.sources.source import ImageEntry

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["ATTRIBUTE", "CHUNK", "ImageTable", "TableBuilder"]

CHUNK = 2**14  # images that are Python objects at once
ATTRIBUTE = "attribute:"  # before the name of an attribute in the name of its column


@dataclass(frozen=True, eq=False)
class ImageTable(Sequence[ImageEntry]):
    """Labelled images in columns, whose items are :class:`~nctransfer.sources.source.ImageEntry`.

    Going through it makes the entries a few thousand at a time. It is equal to another table, a list or a tuple with
    the same entries; tables that are equal have the same attributes too.

    Attributes:
        columns: An Arrow table with the columns ``id`` (large_string), ``label`` and ``split`` (dictionaries of
            strings with int32 codes), ``size`` and ``mtime_ns`` (int64), none of them null. Behind these come the
            attributes of the images, such as ``attribute:site`` (dictionaries like those of classes).
    """

    columns: pa.Table

    @classmethod
    def of(cls, entries: Iterable[ImageEntry]) -> ImageTable:
        """The table of some images; they may come one by one, so that they are never in memory all at once."""
        if isinstance(entries, ImageTable):
            return entries
        builder = TableBuilder()
        rest = iter(entries)
        while chunk := list(itertools.islice(rest, CHUNK)):
            builder.add(*zip(*chunk, strict=True))
        return builder.table()

    @classmethod
    def from_columns(
        cls,
        ids: pa.Array,
        labels: pa.DictionaryArray,
        splits: pa.DictionaryArray,
        sizes: NDArray[np.int64],
        times: NDArray[np.int64],
    ) -> ImageTable:
        """The table of images whose columns are known; the types are those of :attr:`columns`."""
        import pyarrow as pa

        arrays = [ids, labels, splits, integers(sizes), integers(times)]
        return cls(pa.Table.from_arrays(arrays, names=list(ImageEntry._fields)))

    @property
    def ids(self) -> pa.LargeStringArray:
        """The id of each image."""
        return flat(self.columns["id"])

    @property
    def labels(self) -> pa.DictionaryArray:
        """The class of each image. The dictionary may hold further names."""
        return flat(self.columns["label"])

    @property
    def splits(self) -> pa.DictionaryArray:
        """The split of each image, or "". The dictionary may hold further names."""
        return flat(self.columns["split"])

    @property
    def attributes(self) -> dict[str, pa.DictionaryArray]:
        """What else is known of each image, by name: "" where nothing is; the dictionaries may hold further texts."""
        names = self.columns.column_names[len(ImageEntry._fields) :]
        return {name.removeprefix(ATTRIBUTE): flat(self.columns[name]) for name in names}

    def with_attributes(self, attributes: Mapping[str, pa.DictionaryArray]) -> ImageTable:
        """The same images with these attributes in place of those that they have."""
        columns = self.columns.select(ImageEntry._fields)
        for name, texts in sorted(attributes.items()):
            columns = columns.append_column(ATTRIBUTE + name, texts)
        return ImageTable(columns)

    def with_labels(self, labels: pa.DictionaryArray) -> ImageTable:
        """The same images in other classes."""
        return ImageTable(self.columns.set_column(self.columns.column_names.index("label"), "label", labels))

    @property
    def label_codes(self) -> NDArray[np.int32]:
        """The number of each image's class in the dictionary of :attr:`labels`, ``(n,)``."""
        return values_of(self.labels.indices)

    @property
    def split_codes(self) -> NDArray[np.int32]:
        """The number of each image's split in the dictionary of :attr:`splits`, ``(n,)``."""
        return values_of(self.splits.indices)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The size of each image in bytes, ``(n,)``."""
        return values_of(self.columns["size"])

    @property
    def times(self) -> NDArray[np.int64]:
        """When each image was last changed, in nanoseconds, ``(n,)``."""
        return values_of(self.columns["mtime_ns"])

    def __len__(self) -> int:
        return len(self.columns)

    def __iter__(self) -> Iterator[ImageEntry]:
        new = functools.partial(tuple.__new__, ImageEntry)  # four times as fast as ImageEntry(…)
        ids, labels, splits = self.ids, self.labels, self.splits
        names, parts = labels.dictionary.to_pylist(), splits.dictionary.to_pylist()  # to_pylist of a row is slow
        numbers = self.label_codes, self.split_codes, self.sizes, self.times
        for start in range(0, len(self), CHUNK):
            codes, split_codes, sizes, times = (column[start : start + CHUNK].tolist() for column in numbers)
            named = map(names.__getitem__, codes), map(parts.__getitem__, split_codes)
            yield from map(new, zip(ids.slice(start, CHUNK).to_pylist(), *named, sizes, times, strict=True))

    @overload
    def __getitem__(self, index: int) -> ImageEntry: ...
    @overload
    def __getitem__(self, index: slice) -> ImageTable: ...
    def __getitem__(self, index: int | slice) -> ImageEntry | ImageTable:
        if not isinstance(index, slice):
            row = range(len(self))[operator.index(index)]
            return ImageEntry(*(self.columns[name][row].as_py() for name in ImageEntry._fields))
        start, stop, step = index.indices(len(self))
        if step == 1:
            return ImageTable(self.columns.slice(start, max(0, stop - start)))
        import numpy as np

        return self.take(np.arange(start, stop, step))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ImageTable | list | tuple):
            return NotImplemented
        if len(self) != len(other):
            return False
        if not isinstance(other, ImageTable):
            return all(map(operator.eq, self, other))
        import numpy as np

        numbers = ((self.sizes, other.sizes), (self.times, other.times))
        mine, theirs = self.attributes, other.attributes
        if mine.keys() != theirs.keys():
            return False
        named = (
            (self.labels, other.labels),
            (self.splits, other.splits),
            *((mine[name], theirs[name]) for name in mine),
        )
        return (
            all(np.array_equal(*pair) for pair in numbers)
            and self.ids.equals(other.ids)
            and all(one.equals(two) or _spelled(one).equals(_spelled(two)) for one, two in named)
        )

    __hash__ = None  # type: ignore[assignment]

    def take(self, rows: NDArray[np.intp]) -> ImageTable:
        """The images at some positions."""
        return ImageTable(self.columns.take(integers(rows)))

    def sorted(self) -> ImageTable:
        """The images in the order of their ids."""
        from pyarrow import compute

        ids = self.ids
        if len(ids) < 2 or compute.all(compute.less_equal(ids[:-1], ids[1:])).as_py():
            return self
        return ImageTable(self.columns.take(compute.sort_indices(ids)))

    def repeated_id(self) -> str | None:
        """The first id of a sorted table that occurs more than once; ``None`` if all are different."""
        from pyarrow import compute

        ids = self.ids
        places = compute.indices_nonzero(compute.equal(ids[:-1], ids[1:])) if len(ids) else ()
        return self[values_of(places)[0]].id if len(places) else None


class TableBuilder:
    """Images on their way into a table. They are kept as bytes and numbers, and not as objects of Python."""

    def __init__(self) -> None:
        self._ids = bytearray()
        self._lengths, self._sizes, self._times = array("q"), array("q"), array("q")
        self._labels, self._splits = array("i"), array("i")
        self._names: dict[str, int] = _codes()
        self._parts: dict[str, int] = _codes()

    def __len__(self) -> int:
        return len(self._lengths)

    def add(
        self,
        ids: Sequence[str],
        labels: Sequence[str],
        splits: Sequence[str],
        sizes: Sequence[int],
        times: Sequence[int],
    ) -> None:
        """Add some images, one column after the other; a few thousand at a time are fast and take little memory."""
        self._labels.extend(map(self._names.__getitem__, labels))
        self._splits.extend(map(self._parts.__getitem__, splits))
        self._add(ids, sizes, times)

    def add_equal(self, ids: Sequence[str], label: str, split: str, sizes: Sequence[int], times: Sequence[int]) -> None:
        """Add some images of one class and split."""
        self._labels.extend(array("i", [self._names[label]]) * len(ids))
        self._splits.extend(array("i", [self._parts[split]]) * len(ids))
        self._add(ids, sizes, times)

    def _add(self, ids: Sequence[str], sizes: Sequence[int], times: Sequence[int]) -> None:
        data, lengths = encoded(ids)
        self._ids += data
        self._lengths.extend(lengths)
        for column, values in ((self._sizes, sizes), (self._times, times)):
            try:
                column.extend(array("q", values))
            except OverflowError:  # a file of the year 2300
                column.extend(map(_wrapped, values))

    def table(self) -> ImageTable:
        """The images that have been added. Nothing may be added afterwards, because the memory is shared."""
        import numpy as np

        sizes, times = (np.frombuffer(column, np.int64) for column in (self._sizes, self._times))
        codes = [np.frombuffer(column, np.int32) for column in (self._labels, self._splits)]
        ids = strings_of(self._ids, np.frombuffer(self._lengths, np.int64))
        labels, splits = (coded(*pair) for pair in zip(codes, map(list, (self._names, self._parts)), strict=True))
        return ImageTable.from_columns(ids, labels, splits, sizes, times)


def _spelled(column: pa.DictionaryArray) -> pa.Array:
    """The texts of a dictionary, row by row."""
    return column.dictionary.take(column.indices)


def _codes() -> dict[str, int]:
    """A dictionary that gives each new text the next number."""
    codes: collections.defaultdict[str, int] = collections.defaultdict()
    codes.default_factory = codes.__len__
    return codes


def _wrapped(number: int) -> int:
    """A number in 64 bits. It stays different from most others, which is all that sizes and times are for."""
    return (number + 2**63) % 2**64 - 2**63

"""The listing of a source: its images, their names, and the digest of each."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, overload

from nctransfer.sources.arrow_arrays import (
    codes_and_names,
    flat,
    integers,
    places_in,
    same_text,
    strings,
    text_bytes,
    values_of,
)
from nctransfer.sources.attribute_columns import texts_at
from nctransfer.sources.attributes import MOST_ATTRIBUTES
from nctransfer.sources.image_table import ATTRIBUTE, CHUNK, ImageTable, TableBuilder

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from nctransfer.sources.selection import Selection

__all__ = [
    "Listed",
    "Listing",
    "changed_classes",
    "chosen_rows",
    "table_digest",
]

DIGESTED = 2**16  # rows at once


class Listed(NamedTuple):
    """An image in the listing of a source; ``digest`` is "" while it is not known."""

    id: str
    label: str
    split: str
    size: int
    mtime_ns: int
    digest: str


@dataclass(frozen=True, eq=False)
class Listing(Sequence[Listed]):
    """The images of a source and their digests, in columns, whose items are :class:`Listed`.

    Attributes:
        images: The n images.
        digests: The digest of each, n texts, "" while it is not known.
    """

    images: ImageTable
    digests: pa.StringArray

    @classmethod
    def of(cls, rows: Iterable[Listed]) -> Listing:
        """The listing of some images; they may come one by one, so that they are never in memory all at once."""
        import pyarrow as pa

        if isinstance(rows, Listing):
            return rows
        digests = [strings(()).cast(pa.string())]
        builder, rest = TableBuilder(), iter(rows)
        while chunk := list(itertools.islice(rest, CHUNK)):
            *columns, found = zip(*chunk, strict=True)
            builder.add(*columns)
            digests.append(strings(found).cast(pa.string()))
        return cls(builder.table(), pa.concat_arrays(digests))

    @classmethod
    def unread(cls, images: ImageTable) -> Listing:
        """Images whose digests are not known."""
        import pyarrow as pa

        return cls(images, same_text("", len(images)).cast(pa.string()))

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Listed]:
        for start in range(0, len(self), CHUNK):
            digests = self.digests[start : start + CHUNK].to_pylist()
            for entry, digest in zip(self.images[start : start + CHUNK], digests, strict=True):
                yield Listed(*entry, digest)

    @overload
    def __getitem__(self, index: int) -> Listed: ...
    @overload
    def __getitem__(self, index: slice) -> Listing: ...
    def __getitem__(self, index: int | slice) -> Listed | Listing:
        if isinstance(index, int):
            return Listed(*self.images[index], self.digests[index].as_py())
        return Listing(self.images[index], self.digests[index])

    @property
    def ids(self) -> pa.LargeStringArray:
        """The names of the images."""
        return self.images.ids

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """Whether the digest of each image is known, ``(n,)``."""
        from pyarrow import compute

        return values_of(compute.binary_length(self.digests)) > 0

    @property
    def is_plain(self) -> bool:
        """Whether the columns are those of a listing, which somebody else may have written."""
        import pyarrow as pa

        texts = pa.dictionary(pa.int32(), pa.string())
        usual, found = list(Listing.of(()).images.columns.schema), self.images.columns
        fields = list(found.schema)
        return (
            fields[: len(usual)] == usual
            and len({field.name for field in fields}) == len(fields) <= len(usual) + 2 * MOST_ATTRIBUTES
            and all(field.name.startswith(ATTRIBUTE) and field.type == texts for field in fields[len(usual) :])
            and not any(column.null_count for column in found.columns)
        )

    def take(self, rows: NDArray[np.intp]) -> Listing:
        """The images at some positions."""
        if len(rows) == len(self) and bool((rows[1:] > rows[:-1]).all()):
            return self
        return Listing(self.images.take(rows), self.digests.take(integers(rows)))

    @property
    def table(self) -> pa.Table:
        """The columns of the images, and that of the digests."""
        import pyarrow as pa

        return self.images.columns.append_column(pa.field("digest", pa.string(), False), self.digests)

    def content(self) -> str:
        """A digest of the names, classes, splits and digests of all images, in their order."""
        return table_digest(self.table.select(["id", "label", "split", "digest"]))

    def equals(self, other: Listing) -> bool:
        """Whether the other listing holds the same images in the same order, and the same digests."""
        return self.images == other.images and bool(self.digests.equals(other.digests))

    def with_digests(self, rows: NDArray[np.intp], digests: pa.Array) -> Listing:
        """The same images, some of them with other digests.

        Args:
            rows: The positions of m images, each at most once.
            digests: Their digests.
        """
        import numpy as np
        import pyarrow as pa

        source = np.arange(len(self))
        source[rows] = len(self) + np.arange(len(rows))
        every = pa.concat_arrays([self.digests, flat(digests).cast(self.digests.type)])
        return replace(self, digests=every.take(integers(source)))

    def with_known_digests(self, known: Listing) -> Listing:
        """The same images, with the digests that another listing knows, if sizes and times have not changed since."""
        import numpy as np

        unknown = np.flatnonzero(~self.is_known)
        if not len(unknown) or not len(known):
            return self
        if len(self) == len(known) and self.ids.equals(known.ids):
            places = unknown
            times = np.array_equal(self.images.times, known.images.times)
            if len(unknown) == len(self) and times and np.array_equal(self.images.sizes, known.images.sizes):
                return replace(self, digests=known.digests)
        else:
            places = places_in(self.take(unknown).ids, known.ids)
            unknown, places = unknown[places >= 0], places[places >= 0]
        for mine, other in ((self.images.sizes, known.images.sizes), (self.images.times, known.images.times)):
            is_same = mine[unknown] == other[places]
            unknown, places = unknown[is_same], places[is_same]
        return self.with_digests(unknown, known.digests.take(integers(places)))

    def in_classes_of(self, other: Listing) -> Listing:
        """The same images as another listing describes them, if it has these and no others, but in other classes."""
        if len(self) != len(other) or changed_classes(other.images, self.images) is None:
            return self
        there = other.images
        if not self.ids.equals(there.ids):
            places = places_in(self.ids, there.ids)
            if (places < 0).any():
                return self
            there = there.take(places)
        attributes = there.attributes or self.images.attributes  # --class-names changes an attribute too
        return replace(self, images=self.images.with_labels(there.labels).with_attributes(attributes))

    def joined_with(self, other: Listing) -> Listing:
        """This listing, with the images that only the other lists, and what only the other knows of the same images."""
        import numpy as np
        import pyarrow as pa

        if not len(self):
            return other
        known, more = self.with_known_digests(other), other.take(np.flatnonzero(places_in(other.ids, self.ids) < 0))
        mine, theirs = known.images.attributes, other.images.attributes
        if new := theirs.keys() - mine.keys():
            places = places_in(self.ids, other.ids)
            mine |= {name: texts_at(theirs[name], places) for name in new}
            known = replace(known, images=known.images.with_attributes(mine))
        if not len(more):
            return known
        nothing = np.full(len(more), -1)
        theirs = more.images.attributes
        theirs |= {name: texts_at(column, nothing) for name, column in mine.items() if name not in theirs}
        tables = [known.images.columns, more.images.with_attributes(theirs).columns]
        images = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
        return Listing(ImageTable(images), pa.concat_arrays([known.digests, more.digests]))


def changed_classes(before: ImageTable, now: ImageTable) -> tuple[int, int] | None:
    """How many classes the images of both tables are of in each; ``None`` if all are of the same class in both."""
    import numpy as np

    labels = before.labels, now.labels
    if not before.ids.equals(now.ids):
        places = places_in(now.ids, before.ids)
        is_known = places >= 0
        labels = before.labels.take(integers(places[is_known])), now.labels.take(integers(np.flatnonzero(is_known)))
    (old, known), (new, found) = map(codes_and_names, labels)
    return None if known == found and np.array_equal(old, new) else (len(known), len(found))


def chosen_rows(images: ImageTable, selection: Selection) -> NDArray[np.intp]:
    """The positions of the images that a selection takes; see :meth:`Selection.apply`."""
    return selection.apply(images.ids, images.labels, images.splits)


def table_digest(table: pa.Table) -> str:
    """A digest of the names, types and values of all columns, however they are divided and encoded."""
    import pyarrow as pa

    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr([(column.name, str(column.type)) for column in table.schema]).encode())
    for start in range(0, len(table), DIGESTED):
        for column in table.slice(start, DIGESTED).columns:
            if pa.types.is_int64(column.type):
                digest.update(values_of(column).data)
            else:
                lengths, content = text_bytes(flat(column.cast(pa.large_string())))
                digest.update(lengths.data)
                digest.update(content.data)
    return digest.hexdigest()

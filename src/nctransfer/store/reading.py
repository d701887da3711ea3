"""Reading a stored set: where the rows of the wanted images are, and passes over them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.feature_key import FEATURE, json_digest
from nctransfer.errors import FeaturesError, counted
from nctransfer.features.feature_set import FeatureSet, id_ranks
from nctransfer.features.feature_stream import FeatureStream
from nctransfer.features.parquet_files import vectors
from nctransfer.sources.arrow_arrays import codes_and_names, flat, integers, places_in
from nctransfer.sources.attribute_columns import (
    attributes_of,
    column_names,
    has_text,
    relabelled,
    texts_of,
    unknown_attribute,
)
from nctransfer.sources.image_table import ImageTable
from nctransfer.sources.selection import Selection
from nctransfer.sources.source import digest_numbers
from nctransfer.store.listings import Listing, chosen_rows
from nctransfer.store.missing_images import count_missing, no_column, nothing_wanted
from nctransfer.store.part_files import read_batches, read_part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nctransfer.features.feature_info import FeatureInfo
    from nctransfer.store.manifest import Manifest

__all__ = ["Passes", "Snapshot", "listed_by_parts"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Located:
    """Where the rows of some images are.

    Attributes:
        manifest: The manifest whose parts the positions refer to.
        parts: The names of the parts that have the wanted columns, in the order in which positions count their rows.
        images: The n images.
        positions: ``(n,)`` int64, the position of each image's row among all rows of these parts.
        missing: How many more images are wanted and could be stored, but are not.
    """

    manifest: Manifest
    parts: Sequence[str]
    images: Listing
    positions: NDArray[np.int64]
    missing: int

    def info(self, selection: Selection, column: str) -> FeatureInfo:
        """The description of the features."""
        return self.manifest.info(selection, column, self.missing)

    def matrix(self, column: str) -> NDArray[np.float32]:
        """The features of a column, ``(n, d)``."""
        import numpy as np

        matrix = np.empty((len(self.images), self.manifest.columns[column]), np.float32)
        order = np.argsort(self.positions, kind="stable")
        start = 0
        for rows in _rows_at(self.manifest, self.parts, self.positions[order], column):
            matrix[order[start : start + len(rows)]] = rows
            start += len(rows)
        return matrix

    @property
    def image_digests(self) -> NDArray[np.int64]:
        """The digest of each image, in 64 bits, ``(n,)`` int64."""
        return digest_numbers(self.images.digests)


@dataclass(frozen=True, kw_only=True)
class Passes:
    """Passes over some rows of a stored set.

    It needs neither the listing nor torch, so that a caller can forget the one before the other is loaded: each takes
    several hundred MB for a million images.

    Attributes:
        manifest: The manifest whose parts the positions refer to.
        parts: The names of the parts that have the wanted columns.
        positions: ``(n,)`` int64, the positions of the rows among all rows of these parts, in ascending order.
        column: The column that is read.
        labels: The code of the class of each row, ``(n,)`` int64.
        classes: The names that the codes stand for.
        info: Where the features came from.
        images: The digest of each image in 64 bits, ``(n,)`` int64.
        places: The place of each row in the order of ids, ``(n,)``.
    """

    manifest: Manifest
    parts: Sequence[str]
    positions: NDArray[np.int64]
    column: str
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    info: FeatureInfo
    images: NDArray[np.int64]
    places: NDArray[np.intp]

    def stream(self) -> FeatureStream:
        """The features."""
        import pyarrow as pa

        for pool in (pa.default_memory_pool(), pa.system_memory_pool()):
            pool.release_unused()  # the memory of the listing goes back to the system
        import torch

        labels, images, places = map(torch.from_numpy, (self.labels, self.images, self.places))
        return FeatureStream(
            labels=labels,
            classes=self.classes,
            dim=self.manifest.columns[self.column],
            info=self.info,
            read=functools.partial(_rows_at, self.manifest, self.parts, self.positions, self.column),
            images=images,
            places=places,
        )


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A stored set at one moment: what is read from one snapshot belongs together.

    Another process may extract into the set meanwhile. What is read is then either what the snapshot lists, or a
    :class:`~nctransfer.errors.SetChangedError`.

    Attributes:
        manifest: The parts of the set.
        listing: The images of its source.
    """

    manifest: Manifest
    listing: Listing

    def read(
        self,
        selection: Selection | None = None,
        column: str = FEATURE,
        *,
        partial: bool = False,
        attributes: Iterable[str] = (),
        label_column: str | None = None,
    ) -> FeatureSet:
        """The features of the wanted images, in memory; see :meth:`StoredSet.read`."""
        settings: dict[str, Any] = {"partial": partial, "attributes": attributes, "label_column": label_column}
        return self.read_columns(selection, (column,), **settings)[column]

    def read_columns(
        self,
        selection: Selection | None,
        columns: Sequence[str],
        *,
        partial: bool = False,
        attributes: Iterable[str] = (),
        label_column: str | None = None,
    ) -> dict[str, FeatureSet]:
        """The features of several columns, of the wanted images that have all of them; see :meth:`StoredSet.read`."""
        import torch

        selection, names = selection or Selection(), tuple(attributes)
        every = attributes_of(self.listing.images) if names else {}
        names = tuple(dict.fromkeys(part for name in names for part in column_names(name, every)))
        found = self._labelled(label_column, names)._locate(selection, set(columns), partial)
        labels, ids = found.images.images.labels.to_pylist(), found.images.ids.to_pylist()
        digests = torch.from_numpy(found.image_digests)
        there = attributes_of(found.images.images) if names else {}
        further = {name: texts_of(there[name]) for name in names}
        return {
            column: FeatureSet.from_arrays(
                found.matrix(column),
                labels,
                ids,
                replace(found.info(selection, column), label_column=label_column),
                images=digests,
                attributes=further,
                copy=False,
            )
            for column in columns
        }

    def stream(
        self,
        selection: Selection | None = None,
        column: str = FEATURE,
        beside: Iterable[str] = (),
        *,
        partial: bool = False,
        label_column: str | None = None,
    ) -> FeatureStream:
        """The features of the wanted images, read in passes; see :meth:`StoredSet.stream`."""
        return self.passes(selection, column, beside, partial=partial, label_column=label_column).stream()

    def passes(
        self,
        selection: Selection | None = None,
        column: str = FEATURE,
        beside: Iterable[str] = (),
        *,
        partial: bool = False,
        label_column: str | None = None,
    ) -> Passes:
        """What :meth:`stream` needs of the snapshot, which may then be forgotten."""
        import numpy as np

        selection = selection or Selection()
        found = self._labelled(label_column)._locate(selection, {column, *beside}, partial)
        codes, classes = codes_and_names(found.images.images.labels)
        order = np.argsort(found.positions, kind="stable")
        return Passes(
            manifest=found.manifest,
            parts=found.parts,
            positions=found.positions[order],
            column=column,
            labels=codes[order],
            classes=classes,
            info=replace(found.info(selection, column), label_column=label_column),
            images=found.image_digests[order],
            places=id_ranks(found.images.ids)[order],
        )

    def digest(self, selection: Selection | None = None) -> str:
        """A digest of what :meth:`read` depends on: the key, the wanted images, and the parts as the manifest has them.

        A part that was damaged since then is noticed by :meth:`read`, not here.
        """
        chosen = self.listing.take(chosen_rows(self.listing.images, selection or Selection()))
        parts = [(name, part.sha256) for name, part in self.manifest.parts.items()]
        return json_digest([asdict(self.manifest.key), parts, chosen.content()], 32)

    def _labelled(self, label_column: str | None, attributes: Iterable[str] = ()) -> Snapshot:
        """The same images in the classes that an attribute says, without those that have none in it.

        Raises:
            FeaturesError: The images have no such attribute.
        """
        import numpy as np

        images, of = self.listing.images, self.manifest.id
        there = attributes_of(images)
        for name in attributes:
            if name not in there:
                raise unknown_attribute(name, there, of)
        if label_column is None:
            return self
        is_labelled = has_text((images := relabelled(images, label_column, of)).labels)
        if left_out := int((~is_labelled).sum()):
            log.info("%s of %s left out, because %s is empty for them", counted(left_out, "image"), of, label_column)
        if not is_labelled.any():
            raise FeaturesError(f"no image of {of} has a class in {label_column!r}", "name another --label-column")
        return replace(self, listing=replace(self.listing, images=images).take(np.flatnonzero(is_labelled)))

    def _locate(self, selection: Selection, columns: set[str], partial: bool) -> _Located:
        """The wanted images that are stored with these columns, and where the row of each is."""
        import numpy as np

        chosen = self.listing.take(chosen_rows(self.listing.images, selection))
        manifest = self.manifest
        parts = manifest.parts_with(columns)
        if manifest.parts and not parts:
            raise no_column(manifest, columns)
        if not parts:
            raise nothing_wanted(manifest)
        positions = places_in(chosen.digests, manifest.digests(parts))
        rows = np.flatnonzero(positions >= 0)
        if not len(rows):
            raise nothing_wanted(manifest)
        missing = 0
        if len(rows) < len(chosen):
            missing = count_missing(manifest, columns, chosen, positions, partial)
        return _Located(
            manifest=manifest, parts=parts, images=chosen.take(rows), positions=positions[rows], missing=missing
        )


def listed_by_parts(manifest: Manifest) -> Listing:
    """The images as they were called when they were extracted, for a set whose listing has been lost.

    If an image has several rows, because its file has changed, the last one counts.
    """
    import numpy as np
    import pyarrow as pa

    tables = [read_part(manifest, name, ["id", "class", "split", "digest"]) for name in manifest.parts]
    if not tables:
        return Listing.of(())
    table = pa.concat_tables(tables)
    backwards = table.take(integers(np.arange(len(table))[::-1].copy()))
    ids = flat(backwards["id"]).cast(pa.large_string())
    table = table.take(integers(np.sort(len(table) - 1 - np.unique(places_in(ids, ids)))))
    unknown = np.zeros(len(table), np.int64)
    labels, splits = (flat(table[name]).cast(pa.string()).dictionary_encode() for name in ("class", "split"))
    images = ImageTable.from_columns(flat(table["id"]).cast(pa.large_string()), labels, splits, unknown, unknown)
    return Listing(images, flat(table["digest"]).cast(pa.string()))


def _rows_at(
    manifest: Manifest,
    parts: Sequence[str],
    ascending: NDArray[np.int64],
    column: str,
    first: int = 0,
    last: int | None = None,
) -> Iterator[NDArray[Any]]:
    """One pass: one column of the rows at ``ascending`` positions, a batch at a time.

    Only the positions from number ``first`` up to number ``last`` are read, and only the parts that hold some of them.
    The positions count the rows of exactly these parts. The manifest on disk may list others by now, and is not read.

    Raises:
        StoreError: A part is damaged, or has been replaced since the manifest was read.
    """
    import numpy as np
    import pyarrow as pa

    wanted = ascending[first:last]
    starts = np.cumsum([0, *(manifest.parts[name].rows for name in parts)])
    for name, start, end in zip(parts, starts.tolist(), starts[1:].tolist(), strict=False):
        chosen = wanted[slice(*np.searchsorted(wanted, (start, end)))]
        if not len(chosen):
            continue
        for batch in read_batches(manifest, name, [column]):
            one, other = np.searchsorted(chosen, (start, start + len(batch)))
            if one < other:
                yield vectors(pa.chunked_array([batch[column]]), column)[chosen[one:other] - start]
            start += len(batch)
            if start > chosen[-1]:
                break

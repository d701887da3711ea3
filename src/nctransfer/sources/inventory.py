"""Inspect a data source before anything runs: classes, sizes, broken images and duplicates."""

from __future__ import annotations

import collections
import functools
import warnings
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.errors import BrokenImage, DataError, reason_of
from nctransfer.sources.attribute_counts import count_attributes, count_levels
from nctransfer.sources.data_report import ClassCount, DataReport, Sizes, find_duplicates
from nctransfer.sources.decoding import decode, header
from nctransfer.sources.fingerprints import Fingerprint, fingerprint
from nctransfer.sources.identical_images import NONE, Digests
from nctransfer.sources.image_table import ImageTable
from nctransfer.sources.loading import map_ahead, threads
from nctransfer.sources.selection import Selection
from nctransfer.sources.source import content_digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nctransfer.sources.source import ImageSource

__all__ = ["inspect"]

AHEAD = 64  # how many images may be in memory at once


def inspect(
    source: ImageSource,
    *,
    selection: Selection | None = None,
    headers_only: bool = False,
    fingerprints: bool = False,
    workers: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> DataReport:
    """Read every image of a source, and report what the source holds.

    Args:
        source: The source.
        selection: Which of its images to read. Default: all.
        headers_only: Whether to read only the headers of images. That is faster, but does not find truncated images.
        fingerprints: Whether to keep a fingerprint of each image, to find images that look alike. It needs the
            pixels, so it cannot be combined with ``headers_only``.
        workers: Number of threads that read and decode; see :func:`nctransfer.sources.loading.threads`.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        DataError: The source cannot be listed, or fingerprints are wanted of headers only.
        FeaturesError: The source has no such split or class.
        DeviceError: ``workers`` is less than 1.
    """
    if headers_only and fingerprints:
        raise DataError(
            "headers alone have no pixels, so images that look alike cannot be found",
            "read whole images (no --fast), or do not look for look-alikes (--no-look-alikes)",
        )
    selection = selection or Selection()
    images = selection.choose(ImageTable.of(source.list()))
    tally, workers = _Tally(images, fingerprints), threads(workers)
    look = functools.partial(_look, headers_only=headers_only, fingerprints=fingerprints)
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.filterwarnings("ignore", module="PIL")  # about odd metadata; broken images raise errors
        looked = map_ahead(pool, look, source.contents(images), AHEAD, at_once=max(1, AHEAD // (2 * workers)))
        for row, image in zip(range(len(images)), looked, strict=True):
            tally.add(row, image)
            if progress and (row % AHEAD == AHEAD - 1 or row == len(images) - 1):
                progress("reading images", row + 1, len(images))
    digests, counts = Digests(tally.digests), tally.counts()
    groups = digests.groups()
    labels, splits = groups.differ(images.label_codes), groups.differ(images.split_codes)
    dimensions = tally.dimensions()
    return DataReport(
        kind=source.kind,
        name=source.name,
        id=source.id,
        selection=str(selection),
        headers_only=headers_only,
        notes=source.notes,
        images=len(images),
        file_bytes=sum(count.bytes for count in counts),
        counts=counts,
        sizes=_sizes(dimensions),
        modes=dict(tally.modes.most_common()),
        formats=dict(tally.formats.most_common()),
        broken=tuple(tally.broken),
        within_class=find_duplicates(groups, ~labels & ~splits, images),
        across_classes=find_duplicates(groups, labels, images),
        across_splits=find_duplicates(groups, splits, images),
        entries=images,
        digests=digests,
        dimensions=dimensions,
        fingerprints=tuple(tally.fingerprints),
        levels=count_levels(images),
        attributes=count_attributes(images),
    )


class _Image(NamedTuple):
    """What was found out about one image; ``broken`` is the reason if it cannot be read."""

    length: int
    digest: bytes = b""
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    format: str = ""
    broken: str = ""
    fingerprint: Fingerprint | None = None


def _look(read: Callable[[], bytes], headers_only: bool, fingerprints: bool) -> _Image:
    try:
        content = read()
    except OSError as error:
        return _Image(0, broken=reason_of(error))
    try:
        pixels = None if headers_only else decode(content)
        kept = fingerprint(pixels) if pixels and fingerprints else None
        return _Image(len(content), bytes.fromhex(content_digest(content)), *header(content), fingerprint=kept)
    except ValueError as error:
        return _Image(len(content), broken=str(error))


class _Tally:
    """What is kept about the images, one after the other: numbers and bytes, and no objects of Python.

    Args:
        images: The images.
        fingerprints: Whether to keep their fingerprints.
    """

    def __init__(self, images: ImageTable, fingerprints: bool) -> None:
        self._images, self._keeps_fingerprints = images, fingerprints
        self._lengths = array("q")
        self._dimensions = array("i")
        self._broken = array("q")  # rows
        self.digests = bytearray()
        self.fingerprints: list[Fingerprint | None] = []
        self.broken: list[BrokenImage] = []
        self.modes: collections.Counter[str] = collections.Counter()
        self.formats: collections.Counter[str] = collections.Counter()

    def add(self, row: int, image: _Image) -> None:
        self.digests += image.digest or NONE
        self._dimensions.extend(image.size)
        self._lengths.append(image.length)
        if self._keeps_fingerprints:
            self.fingerprints.append(image.fingerprint)
        if image.broken:
            self._broken.append(row)
            self.broken.append(BrokenImage(self._images[row].id, image.broken))
            return
        self.modes[image.mode] += 1
        self.formats[image.format] += 1

    def dimensions(self) -> NDArray[np.int32]:
        """The width and height of each image, ``(n, 2)``; zeros for a broken one."""
        import numpy as np

        return np.frombuffer(self._dimensions, np.int32).reshape(-1, 2)

    def counts(self) -> tuple[ClassCount, ...]:
        """The images of each class and split."""
        import numpy as np

        labels, splits = (column.dictionary.to_pylist() for column in (self._images.labels, self._images.splits))
        groups = self._images.label_codes.astype(np.int64) * len(splits) + self._images.split_codes
        there, groups = np.unique(groups, return_inverse=True)
        broken = np.bincount(groups[np.frombuffer(self._broken, np.int64)], minlength=len(there))
        sizes = np.zeros(len(there), np.int64)
        np.add.at(sizes, groups, np.frombuffer(self._lengths, np.int64))
        numbers = zip(there.tolist(), np.bincount(groups).tolist(), broken.tolist(), sizes.tolist(), strict=True)
        return tuple(
            sorted(
                ClassCount(labels[group // len(splits)], splits[group % len(splits)], *rest) for group, *rest in numbers
            )
        )


def _sizes(dimensions: NDArray[np.int32]) -> Sizes | None:
    import numpy as np

    wide = dimensions.astype(np.int64)
    wide = wide[wide.any(axis=1)]
    if not len(wide):
        return None
    areas, pairs = wide.prod(axis=1), wide[:, 0] << 32 | wide[:, 1]
    order = np.lexsort((pairs, areas))
    places = (0, (len(wide) - 1) // 2, -1)
    smallest, median, largest = ((int(wide[order[place], 0]), int(wide[order[place], 1])) for place in places)
    return Sizes(smallest=smallest, median=median, largest=largest, different=len(np.unique(pairs)))

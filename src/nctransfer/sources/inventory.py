"""Inspect a data source before anything runs: classes, sizes, broken images and duplicates."""

from __future__ import annotations

import bisect
import collections
import functools
import itertools
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.errors import BrokenImage, DataError, reason_of
from nctransfer.sources.data_report import ClassCount, DataReport, Sizes, duplicate_groups, find_duplicates
from nctransfer.sources.decoding import decode, header
from nctransfer.sources.fingerprints import Fingerprint, fingerprint
from nctransfer.sources.loading import map_ahead, threads
from nctransfer.sources.selection import Selection
from nctransfer.sources.source import content_digest

if TYPE_CHECKING:
    from nctransfer.sources.source import ImageEntry, ImageSource

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
    entries = source.list()
    columns = zip(*((entry.id, entry.label, entry.split) for entry in entries), strict=True)
    chosen = [entries[i] for i in selection.apply(*map(list, columns)).tolist()]
    tally = _Tally()
    look = functools.partial(_look, headers_only=headers_only, fingerprints=fingerprints)
    with warnings.catch_warnings(), ThreadPoolExecutor(threads(workers)) as pool:
        warnings.filterwarnings("ignore", module="PIL")  # about odd metadata; broken images raise errors
        for done, (entry, image) in enumerate(
            zip(chosen, map_ahead(pool, look, source.contents(chosen), AHEAD), strict=True), 1
        ):
            tally.add(entry, image)
            if progress and (done % AHEAD == 0 or done == len(chosen)):
                progress("reading images", done, len(chosen))
    groups = [[chosen[i] for i in group] for group in duplicate_groups(tally.digests)]
    counts = tally.counts()
    return DataReport(
        kind=source.kind,
        name=source.name,
        id=source.id,
        selection=str(selection),
        headers_only=headers_only,
        notes=source.notes,
        images=len(chosen),
        file_bytes=sum(count.bytes for count in counts),
        counts=counts,
        sizes=_sizes(tally.sizes),
        modes=dict(tally.modes.most_common()),
        formats=dict(tally.formats.most_common()),
        broken=tuple(tally.broken),
        within_class=find_duplicates(groups, lambda labels, splits: labels == splits == 1),
        across_classes=find_duplicates(groups, lambda labels, _: labels > 1),
        across_splits=find_duplicates(groups, lambda _, splits: splits > 1),
        entries=tuple(chosen),
        digests=tuple(tally.digests),
        dimensions=tuple(tally.dimensions),
        fingerprints=tuple(tally.fingerprints) if fingerprints else (),
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
    """What is kept about the images, one after the other."""

    def __init__(self) -> None:
        self.digests: list[bytes] = []
        self.dimensions: list[tuple[int, int]] = []
        self.fingerprints: list[Fingerprint | None] = []
        self.broken: list[BrokenImage] = []
        self.sizes: collections.Counter[tuple[int, int]] = collections.Counter()
        self.modes: collections.Counter[str] = collections.Counter()
        self.formats: collections.Counter[str] = collections.Counter()
        self._counts: dict[tuple[str, str], list[int]] = {}

    def add(self, entry: ImageEntry, image: _Image) -> None:
        self.digests.append(image.digest)
        self.dimensions.append(image.size)
        self.fingerprints.append(image.fingerprint)
        count = self._counts.setdefault((entry.label, entry.split), [0, 0, 0])
        count[0] += 1
        count[1] += bool(image.broken)
        count[2] += image.length
        if image.broken:
            self.broken.append(BrokenImage(entry.id, image.broken))
            return
        self.sizes[image.size] += 1
        self.modes[image.mode] += 1
        self.formats[image.format] += 1

    def counts(self) -> tuple[ClassCount, ...]:
        return tuple(ClassCount(*key, *self._counts[key]) for key in sorted(self._counts))


def _sizes(counts: Mapping[tuple[int, int], int]) -> Sizes | None:
    ordered = sorted(counts, key=lambda size: (size[0] * size[1], size))
    if not ordered:
        return None
    upto = list(itertools.accumulate(counts[size] for size in ordered))
    middle = ordered[bisect.bisect_left(upto, upto[-1] / 2)]
    return Sizes(smallest=ordered[0], median=middle, largest=ordered[-1], different=len(ordered))

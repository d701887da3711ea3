"""What a data source holds, before anything runs: classes, sizes, broken images, images that occur twice."""

from __future__ import annotations

import bisect
import collections
import functools
import itertools
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from nctransfer import images
from nctransfer.errors import BrokenImage
from nctransfer.features import Selection
from nctransfer.loader import ahead, threads

if TYPE_CHECKING:
    import pandas as pd

    from nctransfer.images import ImageEntry, ImageSource

__all__ = ["ClassCount", "Copy", "DataReport", "Duplicates", "Overlap", "Sizes", "compare", "inspect"]

AHEAD = 64  # images in memory at once
NAMED = 20  # groups of duplicates, and of their images, that a report names


class ClassCount(NamedTuple):
    """One class in one split."""

    label: str
    split: str
    images: int
    broken: int
    bytes: int


class Copy(NamedTuple):
    """One of several images with the same content."""

    id: str
    label: str
    split: str

    def to_dict(self) -> dict[str, str]:
        """The fields, as JSON has them."""
        return {"id": self.id, "class": self.label, "split": self.split}


@dataclass(frozen=True)
class Duplicates:
    """Images whose files hold the same bytes.

    Attributes:
        contents: How many contents occur more than once.
        images: How many images have one of these contents.
        first: The first of these contents: the images that have it, the first of them.
    """

    contents: int
    images: int
    first: tuple[tuple[Copy, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields, as JSON has them."""
        first = [[copy.to_dict() for copy in copies] for copies in self.first]
        return {"contents": self.contents, "images": self.images, "first": first}


@dataclass(frozen=True)
class Sizes:
    """Width and height of images, as stored; ordered by their product.

    Attributes:
        different: How many there are.
    """

    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]
    different: int


@dataclass(frozen=True, eq=False)
class DataReport:
    """What a data source holds.

    Attributes:
        kind: What the source is, in words.
        name: What the user called it.
        id: See :class:`~nctransfer.images.ImageSource`.
        selection: What was looked at, in words; empty if it was everything.
        headers_only: Whether images were not decoded, so that truncated ones are not found.
        notes: What the source left out.
        images: How many were looked at, the broken ones too.
        file_bytes: How long all of their files are together.
        counts: Images of each class and split, in order of their names.
        sizes: Of the images that are not broken; ``None`` if all are. So are modes, formats and duplicates.
        modes: How many images there are of each of Pillow's modes: ``RGB``, ``L`` …
        formats: How many there are of each file format.
        broken: Images that cannot be read, and why.
        within_class: Duplicates of one class and split: harmless.
        across_classes: Duplicates with more than one class: at most one of their labels is right.
        across_splits: Duplicates with more than one split: what is tested on was trained on.
        entries: The images.
        digests: Of the content of each entry; empty for a broken image.
    """

    kind: str
    name: str
    id: str
    selection: str
    headers_only: bool
    notes: tuple[str, ...]
    images: int
    file_bytes: int
    counts: tuple[ClassCount, ...]
    sizes: Sizes | None
    modes: Mapping[str, int]
    formats: Mapping[str, int]
    broken: tuple[BrokenImage, ...]
    within_class: Duplicates
    across_classes: Duplicates
    across_splits: Duplicates
    entries: tuple[ImageEntry, ...] = field(repr=False)
    digests: tuple[bytes, ...] = field(repr=False)

    @property
    def classes(self) -> dict[str, int]:
        """The number of images of each class, over all splits."""
        return _summed((count.label, count.images) for count in self.counts)

    @property
    def usable(self) -> dict[str, int]:
        """As ``classes``, without the broken images."""
        return _summed((count.label, count.images - count.broken) for count in self.counts)

    @property
    def splits(self) -> dict[str, int]:
        """The number of images of each split; empty if there are none."""
        return _summed((count.split, count.images) for count in self.counts if count.split)

    @property
    def smallest_class(self) -> tuple[str, int]:
        """The class with the fewest images, the first by name."""
        return min(self.classes.items(), key=lambda item: item[1])

    @property
    def largest_class(self) -> tuple[str, int]:
        """The class with the most images, the first by name."""
        return max(self.classes.items(), key=lambda item: item[1])

    @property
    def median_class(self) -> float:
        """The median number of images of a class."""
        return median(self.classes.values())

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {
            "kind": self.kind,
            "name": self.name,
            "id": self.id,
            "selection": self.selection or None,
            "headers_only": self.headers_only,
            "notes": list(self.notes),
            "images": self.images,
            "bytes": self.file_bytes,
            "classes": len(self.classes),
            "splits": self.splits,
            "smallest_class": dict(zip(("class", "images"), self.smallest_class, strict=True)),
            "largest_class": dict(zip(("class", "images"), self.largest_class, strict=True)),
            "median_class": self.median_class,
            "sizes": asdict(self.sizes) if self.sizes else None,
            "modes": dict(self.modes),
            "formats": dict(self.formats),
            "broken": [image._asdict() for image in self.broken],
            "duplicates": {
                "within_class": self.within_class.to_dict(),
                "across_classes": self.across_classes.to_dict(),
                "across_splits": self.across_splits.to_dict(),
            },
            "counts": self._rows(),
        }

    def to_frame(self, overlap: Overlap | None = None) -> pd.DataFrame:
        """One row a class and split: class, split, images, broken, bytes; and how many are in the other source."""
        import pandas as pd

        frame = pd.DataFrame(self._rows())
        if overlap is not None:
            frame["in_other"] = [overlap.counts.get((count.label, count.split), 0) for count in self.counts]
        return frame

    def _rows(self) -> list[dict[str, Any]]:
        return [dict(zip(("class", *ClassCount._fields[1:]), count, strict=True)) for count in self.counts]


@dataclass(frozen=True)
class Overlap:
    """What two sources have in common.

    Attributes:
        name: The one.
        other: The other.
        images: Images of the one whose content is in the other.
        of: Images of the one that could be read.
        examples: Each of them, and an image of the other source that it is equal to.
        classes: The class names that both have.
        counts: How many of the images are of each class and split of the one.
        other_images: Images of the other.
        other_broken: Those of them that could not be read.
    """

    name: str
    other: str
    images: int
    of: int
    examples: tuple[tuple[Copy, Copy], ...]
    classes: tuple[str, ...]
    counts: Mapping[tuple[str, str], int]
    other_images: int
    other_broken: int

    @property
    def share(self) -> float | None:
        """The share of the one's images that are in the other; ``None`` if none could be read."""
        return self.images / self.of if self.of else None

    def to_dict(self) -> dict[str, Any]:
        """The overlap as JSON has it."""
        return {
            "name": self.name,
            "other": self.other,
            "images": self.images,
            "of": self.of,
            "share": self.share,
            "examples": [{"image": one.to_dict(), "same_as": other.to_dict()} for one, other in self.examples],
            "classes": list(self.classes),
            "other_images": self.other_images,
            "other_broken": self.other_broken,
        }


def inspect(
    source: ImageSource,
    *,
    selection: Selection | None = None,
    headers_only: bool = False,
    workers: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> DataReport:
    """Read every image of a source, and say what there is.

    Args:
        source: The images.
        selection: Which of them; by default all.
        headers_only: Do not decode: faster, but truncated images are not found.
        workers: Threads that read and decode; see :func:`nctransfer.loader.threads`.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        DataError: The source cannot be listed.
        FeaturesError: There is no such split or class.
        DeviceError: ``workers`` is less than 1.
    """
    selection = selection or Selection()
    entries = source.list()
    columns = zip(*((entry.id, entry.label, entry.split) for entry in entries), strict=True)
    chosen = [entries[i] for i in selection.apply(*map(list, columns)).tolist()]
    tally = _Tally()
    look = functools.partial(_look, headers_only=headers_only)
    with warnings.catch_warnings(), ThreadPoolExecutor(threads(workers)) as pool:
        warnings.filterwarnings("ignore", module="PIL")  # of odd metadata; what is broken raises
        for done, (entry, image) in enumerate(
            zip(chosen, ahead(pool, look, source.contents(chosen), AHEAD), strict=True), 1
        ):
            tally.add(entry, image)
            if progress and (done % AHEAD == 0 or done == len(chosen)):
                progress("reading images", done, len(chosen))
    groups = [[chosen[i] for i in group] for group in _groups(tally.digests)]
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
        within_class=_duplicates(groups, lambda labels, splits: labels == splits == 1),
        across_classes=_duplicates(groups, lambda labels, _: labels > 1),
        across_splits=_duplicates(groups, lambda _, splits: splits > 1),
        entries=tuple(chosen),
        digests=tuple(tally.digests),
    )


def compare(report: DataReport, other: DataReport) -> Overlap:
    """Which images of one source are in another, by their content, and which class names both have."""
    where = {digest: i for i, digest in reversed(list(enumerate(other.digests))) if digest}
    theirs = other.classes
    both = [i for i, digest in enumerate(report.digests) if digest in where]
    return Overlap(
        name=report.name,
        other=other.name,
        images=len(both),
        of=report.images - len(report.broken),
        examples=tuple((_copy(report.entries[i]), _copy(other.entries[where[report.digests[i]]])) for i in both),
        classes=tuple(name for name in report.classes if name in theirs),
        counts=collections.Counter((report.entries[i].label, report.entries[i].split) for i in both),
        other_images=other.images,
        other_broken=len(other.broken),
    )


class _Image(NamedTuple):
    """What is known of an image that has been looked at."""

    length: int
    digest: bytes = b""
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    format: str = ""
    broken: str = ""  # why, if it is


def _look(read: Callable[[], bytes], headers_only: bool) -> _Image:
    try:
        content = read()
    except OSError as error:
        return _Image(0, broken=error.strerror or str(error))
    try:
        if not headers_only:
            images.decode(content)
        return _Image(len(content), bytes.fromhex(images.content_digest(content)), *images.header(content))
    except ValueError as error:
        return _Image(len(content), broken=str(error))


class _Tally:
    """What is kept of the images while they pass by."""

    def __init__(self) -> None:
        self.digests: list[bytes] = []
        self.broken: list[BrokenImage] = []
        self.sizes: collections.Counter[tuple[int, int]] = collections.Counter()
        self.modes: collections.Counter[str] = collections.Counter()
        self.formats: collections.Counter[str] = collections.Counter()
        self._counts: dict[tuple[str, str], list[int]] = {}

    def add(self, entry: ImageEntry, image: _Image) -> None:
        self.digests.append(image.digest)
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
    return Sizes(ordered[0], middle, ordered[-1], len(ordered))


def _groups(digests: Sequence[bytes]) -> list[list[int]]:
    """The positions of each content that occurs more than once, in the order of the first."""
    by_digest = sorted((i for i, digest in enumerate(digests) if digest), key=digests.__getitem__)
    groups = (list(group) for _, group in itertools.groupby(by_digest, key=digests.__getitem__))
    return sorted(group for group in groups if len(group) > 1)


def _duplicates(groups: Sequence[Sequence[ImageEntry]], is_meant: Callable[[int, int], bool]) -> Duplicates:
    """The groups whose numbers of classes and splits are meant."""
    found = [
        group
        for group in groups
        if is_meant(len({entry.label for entry in group}), len({entry.split for entry in group}))
    ]
    first = tuple(tuple(map(_copy, group[:NAMED])) for group in found[:NAMED])
    return Duplicates(len(found), sum(map(len, found)), first)


def _copy(entry: ImageEntry) -> Copy:
    return Copy(entry.id, entry.label, entry.split)


def _summed(items: Iterable[tuple[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for name, number in items:
        sums[name] = sums.get(name, 0) + number
    return sums

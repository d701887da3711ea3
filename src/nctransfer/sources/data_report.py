"""What a data source was found to hold: classes, sizes, broken images, duplicates."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

    from nctransfer.errors import BrokenImage
    from nctransfer.sources.leakage import Overlap
    from nctransfer.sources.source import ImageEntry

__all__ = ["ClassCount", "Copy", "DataReport", "Duplicates", "Sizes", "as_copy", "duplicate_groups", "find_duplicates"]

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
        id: See :class:`~nctransfer.sources.source.ImageSource`.
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


def duplicate_groups(digests: Sequence[bytes]) -> list[list[int]]:
    """The positions of each content that occurs more than once, in the order of the first."""
    by_digest = sorted((i for i, digest in enumerate(digests) if digest), key=digests.__getitem__)
    groups = (list(group) for _, group in itertools.groupby(by_digest, key=digests.__getitem__))
    return sorted(group for group in groups if len(group) > 1)


def find_duplicates(groups: Sequence[Sequence[ImageEntry]], is_meant: Callable[[int, int], bool]) -> Duplicates:
    """The groups whose numbers of classes and splits are meant."""
    found = [
        group
        for group in groups
        if is_meant(len({entry.label for entry in group}), len({entry.split for entry in group}))
    ]
    first = tuple(tuple(map(as_copy, group[:NAMED])) for group in found[:NAMED])
    return Duplicates(len(found), sum(map(len, found)), first)


def as_copy(entry: ImageEntry) -> Copy:
    """What a report names of an image that occurs more than once."""
    return Copy(entry.id, entry.label, entry.split)


def _summed(items: Iterable[tuple[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for name, number in items:
        sums[name] = sums.get(name, 0) + number
    return sums

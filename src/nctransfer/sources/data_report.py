"""What a data source holds: classes, image sizes, broken images and duplicates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from nctransfer.notebook import ShownInNotebooks

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from nctransfer.errors import BrokenImage
    from nctransfer.sources.attribute_counts import AttributeCount, LevelCount
    from nctransfer.sources.fingerprints import Fingerprint
    from nctransfer.sources.identical_images import Digests, Groups
    from nctransfer.sources.image_table import ImageTable
    from nctransfer.sources.leakage import Overlap
    from nctransfer.sources.similar_images import LookAlikes
    from nctransfer.sources.source import ImageEntry

__all__ = ["ClassCount", "Copy", "DataReport", "Duplicates", "Sizes", "as_copy", "find_duplicates"]

NAMED = 20  # how many groups of duplicates a report lists, and how many images of each group


class ClassCount(NamedTuple):
    """The images of one class in one split: how many, how many of them are broken, and their total size."""

    label: str
    split: str
    images: int
    broken: int
    bytes: int


class Copy(NamedTuple):
    """One of several images with identical bytes."""

    id: str
    label: str
    split: str

    def to_dict(self) -> dict[str, str]:
        """The fields as a dictionary for JSON."""
        return {"id": self.id, "class": self.label, "split": self.split}


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Groups of images with identical bytes.

    Attributes:
        contents: The number of groups.
        images: The number of images in all groups.
        first: The first 20 groups, and the first 20 images of each.
    """

    contents: int
    images: int
    first: tuple[tuple[Copy, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary for JSON."""
        first = [[copy.to_dict() for copy in copies] for copies in self.first]
        return {"contents": self.contents, "images": self.images, "first": first}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Widths and heights of images as stored, before any rotation that their metadata ask for.

    Attributes:
        smallest: Width and height with the smallest product.
        median: Width and height of the image in the middle, if all are sorted by this product.
        largest: Width and height with the largest product.
        different: The number of different sizes.
    """

    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]
    different: int


@dataclass(frozen=True, eq=False, kw_only=True)
class DataReport(ShownInNotebooks):
    """What a data source holds.

    Sizes, modes, formats and duplicates are those of the images that are not broken.

    Attributes:
        kind: What the source is, in words.
        name: The name that the user gave.
        id: See :class:`~nctransfer.sources.source.ImageSource`.
        selection: Which images were read, in words; empty if all were.
        headers_only: Whether only the headers of images were read, so that truncated images are not found.
        notes: What the source left out, in sentences.
        images: The number of images that were read, including broken ones.
        file_bytes: The total size of these images in bytes.
        counts: The number of images of each class and split, sorted by their names.
        sizes: The sizes of the images in pixels; ``None`` if all images are broken.
        modes: The number of images in each of Pillow's modes, such as ``RGB`` or ``L``.
        formats: The number of images in each file format.
        broken: The images that cannot be read, and the reasons.
        within_class: Duplicates within one class and split; they are harmless.
        across_classes: Duplicates in more than one class; at most one of their labels is right.
        across_splits: Duplicates in more than one split; a model would be tested on images that it was trained on.
        entries: The images that were read.
        digests: The digest of each image; empty for a broken image.
        levels: The classes that folders make at label depth 1, 2, …; none if there are no finer folders than classes.
        attributes: The attributes of the images, and how many values each has.
        dimensions: The width and height of each image as stored, ``(n, 2)``; zeros for a broken image.
        fingerprints: The fingerprint of each image, ``None`` for a broken image; empty if none were asked for.
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
    entries: ImageTable = field(repr=False)
    digests: Digests = field(repr=False)
    dimensions: NDArray[np.int32] = field(repr=False)
    fingerprints: tuple[Fingerprint | None, ...] = field(default=(), repr=False)
    levels: tuple[LevelCount, ...] = ()
    attributes: tuple[AttributeCount, ...] = ()

    @property
    def classes(self) -> dict[str, int]:
        """The number of images of each class, in all splits together."""
        return _summed((count.label, count.images) for count in self.counts)

    @property
    def usable(self) -> dict[str, int]:
        """The number of images of each class that are not broken, in all splits together."""
        return _summed((count.label, count.images - count.broken) for count in self.counts)

    @property
    def splits(self) -> dict[str, int]:
        """The number of images of each split; empty if the source has no splits."""
        return _summed((count.split, count.images) for count in self.counts if count.split)

    @property
    def smallest_class(self) -> tuple[str, int]:
        """The class with the fewest images, and their number; of equal classes the first by name."""
        return min(self.classes.items(), key=lambda item: item[1])

    @property
    def largest_class(self) -> tuple[str, int]:
        """The class with the most images, and their number; of equal classes the first by name."""
        return max(self.classes.items(), key=lambda item: item[1])

    @property
    def median_class(self) -> float:
        """The median number of images per class."""
        return median(self.classes.values())

    def to_dict(self) -> dict[str, Any]:
        """The report as a dictionary for JSON."""
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
            "levels": [level._asdict() for level in self.levels],
            "attributes": [attribute.to_dict() for attribute in self.attributes],
            "counts": self._rows(),
        }

    def to_frame(self, overlap: Overlap | None = None, look_alikes: LookAlikes | None = None) -> pd.DataFrame:
        """One row per class and split: class, split, images, broken, bytes.

        With an overlap, ``in_other`` is the number of these images that the other source holds too. With look-alikes,
        ``look_alikes`` is the number of these images that look like another one.
        """
        import pandas as pd

        frame = pd.DataFrame(self._rows())
        if overlap is not None:
            frame["in_other"] = [overlap.counts.get((count.label, count.split), 0) for count in self.counts]
        if look_alikes is not None:
            counts = look_alikes.counts
            frame["look_alikes"] = [counts.get((count.label, count.split), 0) for count in self.counts]
        return frame

    def _rows(self) -> list[dict[str, Any]]:
        return [dict(zip(("class", *ClassCount._fields[1:]), count, strict=True)) for count in self.counts]


def find_duplicates(groups: Groups, counts: NDArray[np.bool_], images: ImageTable) -> Duplicates:
    """Those groups of equal images that count.

    Args:
        groups: Images with identical bytes.
        counts: Whether each group counts.
        images: The images.
    """
    import numpy as np

    found = np.flatnonzero(counts)
    first = (groups[group][:NAMED] for group in found[:NAMED].tolist())
    return Duplicates(
        contents=len(found),
        images=int(groups.sizes[found].sum()),
        first=tuple(tuple(map(as_copy, images.take(rows))) for rows in first),
    )


def as_copy(entry: ImageEntry) -> Copy:
    """What a report says about an image that has an identical one elsewhere."""
    return Copy(entry.id, entry.label, entry.split)


def _summed(items: Iterable[tuple[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for name, number in items:
        sums[name] = sums.get(name, 0) + number
    return sums

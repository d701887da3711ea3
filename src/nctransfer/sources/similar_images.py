"""Images that look alike: saved again, resized, mirrored or cropped, within a data source and between two."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from nctransfer.errors import DataError
from nctransfer.notebook import ShownInNotebooks
from nctransfer.sources.fingerprints import SIDE
from nctransfer.sources.inventory import inspect
from nctransfer.sources.likeness import near_pairs

if TYPE_CHECKING:
    import pandas as pd

    from nctransfer.sources.data_report import DataReport
    from nctransfer.sources.fingerprints import Fingerprint
    from nctransfer.sources.selection import Selection
    from nctransfer.sources.source import ImageSource

    Progress = Callable[[str, int, int], None]

__all__ = [
    "LOOKS_ALIKE",
    "MIRROR_IMAGE",
    "SAME_PIXELS",
    "Crossing",
    "ImagePair",
    "LookAlikes",
    "PlacedImage",
    "find_look_alikes",
    "look_alikes",
]

SAME_PIXELS, LOOKS_ALIKE, MIRROR_IMAGE = "same pixels", "looks alike", "mirror image"
KINDS = (SAME_PIXELS, LOOKS_ALIKE, MIRROR_IMAGE)


class PlacedImage(NamedTuple):
    """One of two images that look alike, and the source that holds it.

    Attributes:
        id: What identifies it in its source.
        label: Its class.
        split: Its split, or "".
        source: The name of its source.
        second: Whether that is the second of two sources.
    """

    id: str
    label: str
    split: str
    source: str
    second: bool = False

    def to_dict(self) -> dict[str, str]:
        """What JSON holds of it."""
        return {"id": self.id, "class": self.label, "split": self.split, "source": self.source}


class ImagePair(NamedTuple):
    """Two images that look alike.

    Attributes:
        one: The image; of two sources, that of the first.
        other: The image that it looks like.
        kind: "same pixels", "looks alike" or "mirror image".
        similarity: The correlation of their fine detail once one lies on the other, at most 1. It is 1 for equal
            pixels.
    """

    one: PlacedImage
    other: PlacedImage
    kind: str
    similarity: float

    @property
    def across(self) -> tuple[str, ...]:
        """What differs: "source", "split" or "class". Between two sources, only the source is compared."""
        if self.other.second:
            return ("source",)
        differs = {"split": self.one.split != self.other.split, "class": self.one.label != self.other.label}
        return tuple(name for name, different in differs.items() if different)

    def to_dict(self) -> dict[str, Any]:
        """The pair as a dictionary for JSON."""
        return {
            "image": self.one.to_dict(),
            "looks_like": self.other.to_dict(),
            "kind": self.kind,
            "similarity": round(self.similarity, 4),
            "across": list(self.across),
        }


class Crossing(NamedTuple):
    """How many images of one split look like images of another one.

    Attributes:
        split: The split with fewer images.
        images: How many of its images look like images of the other split.
        of: How many images it has.
        other: The other split.
    """

    split: str
    images: int
    of: int
    other: str


@dataclass(frozen=True, eq=False, kw_only=True)
class LookAlikes(ShownInNotebooks):
    """The images of a data source that look like others of it, or like images of another source.

    Attributes:
        name: The name of the source.
        other: The name of the other source, or ``None``.
        images: How many images of the source were compared.
        other_images: How many images of the other source were compared.
        broken: How many images of both could not be read, and so were not compared.
        plain: How many images of both have so little detail, as blank images have, that only equal pixels count.
        pairs: The pairs, the most serious first: those in different sources, splits or classes. Of several images
            with equal pixels, each is paired with the first one, and with the first one of each other split and
            source and of another class, but not each with each. Of images with more than 20 look-alikes, some pairs
            may be missing, because :func:`~nctransfer.sources.likeness.near_pairs` checks only 20 candidates of each.
        splits: The number of images of each split of the source.
    """

    name: str
    other: str | None
    images: int
    other_images: int
    broken: int
    plain: int
    pairs: tuple[ImagePair, ...]
    splits: Mapping[str, int]

    def count(self, across: str | None) -> int:
        """How many images of the source look like an image of another source, split or class.

        Args:
            across: What differs, "source", "split" or "class"; ``None`` counts those that look like an image of the
                same class and split.
        """
        wanted = [pair for pair in self.pairs if (across in pair.across if across else not pair.across)]
        return len({image.id for pair in wanted for image in pair[:2] if not image.second})

    @property
    def counts(self) -> Mapping[tuple[str, str], int]:
        """The number of images that look like another one, by their class and split in the source."""
        found = {image for pair in self.pairs for image in pair[:2] if not image.second}
        return collections.Counter((image.label, image.split) for image in found)

    @property
    def crossings(self) -> tuple[Crossing, ...]:
        """Each two splits that have images that look alike."""
        found: dict[tuple[str, str], set[str]] = {}
        for pair in self.pairs:
            if "split" in pair.across:
                first, second = sorted(pair[:2], key=lambda image: (self.splits.get(image.split, 0), image.split))
                found.setdefault((first.split, second.split), set()).add(first.id)
        return tuple(
            Crossing(split, len(ids), self.splits.get(split, 0), other) for (split, other), ids in sorted(found.items())
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as a dictionary for JSON, with every pair."""
        return {
            "name": self.name,
            "other": self.other,
            "images": self.images,
            "other_images": self.other_images,
            "broken": self.broken,
            "plain": self.plain,
            "across_sources": self.count("source"),
            "across_splits": self.count("split"),
            "across_classes": self.count("class"),
            "within_class": self.count(None),
            "splits": [crossing._asdict() for crossing in self.crossings],
            "pairs": [pair.to_dict() for pair in self.pairs],
        }

    def to_frame(self) -> pd.DataFrame:
        """One row per pair: id, class, split and source of both images, kind, similarity, and what differs."""
        import pandas as pd

        names = ("id", "class", "split", "source")
        columns = [*names, *(f"other_{name}" for name in names), "kind", "similarity", "across"]
        rows = [
            [*pair.one[:4], *pair.other[:4], pair.kind, pair.similarity, ", ".join(pair.across)] for pair in self.pairs
        ]
        return pd.DataFrame(rows, columns=columns)


def look_alikes(
    source: ImageSource,
    other: ImageSource | None = None,
    *,
    selection: Selection | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> LookAlikes:
    """Find the images of a source that look like others of it, or like images of another source.

    Images that were saved again in any format, resized or mirrored are found, and most of those that were cropped by a
    few percent. All images are decoded.

    Args:
        source: The source.
        other: Another source, to find the images that both have.
        selection: Which images of ``source`` to compare. Default: all. Of ``other``, all are compared.
        workers: Number of threads; see :func:`nctransfer.sources.loading.threads`.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        DataError: A source cannot be listed.
        FeaturesError: The source has no such split or class.
        DeviceError: ``workers`` is less than 1.
    """
    report = inspect(source, selection=selection, fingerprints=True, workers=workers, progress=progress)
    theirs = None
    if other is not None:
        theirs = inspect(other, fingerprints=True, workers=workers, progress=progress)
    return find_look_alikes(report, theirs, workers=workers, progress=progress)


def find_look_alikes(
    report: DataReport,
    other: DataReport | None = None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> LookAlikes:
    """Find the images that look alike in sources that were inspected with ``fingerprints=True``.

    Args:
        report: What is in the source.
        other: What is in the other source.
        workers: Number of threads; see :func:`nctransfer.sources.loading.threads`.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        DataError: A source was inspected without fingerprints.
    """
    images = _Images([report] if other is None else [report, other])
    pairs: dict[tuple[int, int], tuple[str, float]] = {}
    for one, two, kind, similarity in images.pictures(workers, progress):
        for pair in images.expanded(one, two):
            pairs.setdefault(pair, (kind, similarity))
    named = [ImagePair(images.placed[i], images.placed[j], *how) for (i, j), how in pairs.items()]
    read = [not image.second for image in images.placed]
    return LookAlikes(
        name=report.name,
        other=other.name if other else None,
        images=sum(read),
        other_images=len(read) - sum(read),
        broken=len(report.broken) + (len(other.broken) if other else 0),
        plain=images.plain,
        pairs=tuple(sorted(named, key=_severity)),
        splits=report.splits,
    )


def _severity(pair: ImagePair) -> tuple[Any, ...]:
    """Sorts pairs: what differs most first, then the most similar."""
    return (-len(pair.across), pair.across, KINDS.index(pair.kind), -pair.similarity, pair.one, pair.other)


class _Images:
    """The images of one or two sources that could be read, and the pictures that they show.

    Images with equal pixels show the same picture, so a picture is compared once, however often it occurs.
    """

    def __init__(self, reports: Sequence[DataReport]) -> None:
        found: list[tuple[PlacedImage, Fingerprint]] = []
        for second, report in enumerate(reports):
            if len(report.fingerprints) != len(report.entries):
                raise DataError(
                    f"{report.name} was inspected without fingerprints", "call inspect(source, fingerprints=True)"
                )
            for entry, fingerprint in zip(report.entries, report.fingerprints, strict=True):
                if fingerprint:
                    placed = PlacedImage(entry.id, entry.label, entry.split, report.name, bool(second))
                    found.append((placed, fingerprint))
        found.sort(key=lambda image: (image[0].second, image[0][:3]))  # the same result for any order of listing
        self.placed = [placed for placed, _ in found]
        self.plain = 0
        members: dict[bytes, list[int]] = {}
        for i, (_, fingerprint) in enumerate(found):
            members.setdefault(fingerprint.pixels, []).append(i)
        # pictures of the first source come first, each in the order of its digest
        ordered = sorted(members, key=lambda pixels: (self.placed[members[pixels][0]].second, pixels))
        self._members = [members[pixels] for pixels in ordered]
        self._fingerprints = [found[group[0]][1] for group in self._members]

    def pictures(self, workers: int | None, progress: Progress | None) -> Iterator[tuple[int, int, str, float]]:
        """Pairs of pictures, the surest first: their numbers, the kind and the similarity."""
        import numpy as np

        where = {fingerprint.pixels: i for i, fingerprint in enumerate(self._fingerprints)}
        yield from ((i, i, SAME_PIXELS, 1.0) for i in range(len(self._members)))
        for i, fingerprint in enumerate(self._fingerprints):
            if (j := where.get(fingerprint.mirrored, -1)) > i:
                yield i, j, MIRROR_IMAGE, 1.0
        rows = sum(not self.placed[group[0]].second for group in self._members)
        thumbnails = np.zeros((len(self._members), SIDE, SIDE), np.uint8)
        for i, fingerprint in enumerate(self._fingerprints):
            thumbnails[i] = fingerprint.thumbnail
        near = near_pairs(thumbnails, rows=rows, workers=workers, progress=progress)
        self.plain = sum(len(self._members[i]) for i in np.flatnonzero(near.plain))
        for i, j, mirrored, similarity in zip(*(column.tolist() for column in near[:4]), strict=True):
            yield i, j, MIRROR_IMAGE if mirrored else LOOKS_ALIKE, similarity

    def expanded(self, one: int, two: int) -> Iterator[tuple[int, int]]:
        """The pairs of images that a pair of pictures stands for; both may be the same picture."""
        for group, others in dict.fromkeys([(one, two), (two, one)]):
            firsts = self._firsts(self._members[others])
            partners: dict[tuple[bool, str, str], list[int]] = {}
            for i in self._members[group]:
                cell = self._cell(i)
                if cell not in partners:
                    partners[cell] = list(self._partners(cell, firsts))
                for j in partners[cell]:
                    if i != j and not self.placed[min(i, j)].second:
                        yield min(i, j), max(i, j)

    def _cell(self, image: int) -> tuple[bool, str, str]:
        placed = self.placed[image]
        return placed.second, placed.split, placed.label

    def _firsts(self, images: Iterable[int]) -> dict[tuple[bool, str, str], int]:
        """The first image of each source, split and class."""
        firsts: dict[tuple[bool, str, str], int] = {}
        for i in images:
            firsts.setdefault(self._cell(i), i)
        return firsts

    @staticmethod
    def _partners(cell: tuple[bool, str, str], firsts: Mapping[tuple[bool, str, str], int]) -> Iterator[int]:
        """Which images stand for all that look like an image: one per source and split, and one of another class."""
        if cell in firsts:
            yield firsts[cell]
        for _, cells in itertools.groupby(sorted(firsts), key=lambda other: other[:2]):
            yield firsts[next(cells)]
        if elsewhere := [i for other, i in firsts.items() if other[0] == cell[0] and other[2] != cell[2]]:
            yield elsewhere[0]

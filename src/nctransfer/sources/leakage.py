"""Leaks between data sets: images that two data sources have in common."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nctransfer.sources.data_report import as_copy

if TYPE_CHECKING:
    from nctransfer.sources.data_report import Copy, DataReport

__all__ = ["Overlap", "compare"]


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """What a data source has in common with another one.

    Attributes:
        name: The name of the source.
        other: The name of the other source.
        images: How many images of the source are in the other source too, with identical bytes.
        of: How many images of the source could be read.
        examples: Each common image, and the first image of the other source that is identical to it.
        classes: The class names that both sources have.
        counts: The number of common images, by their class and split in the source.
        other_images: How many images the other source has.
        other_broken: How many of those could not be read.
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
        """The share of the source's images that are in the other one too; ``None`` if none could be read."""
        return self.images / self.of if self.of else None

    def to_dict(self) -> dict[str, Any]:
        """The overlap as a dictionary for JSON."""
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


def compare(report: DataReport, other: DataReport) -> Overlap:
    """Find the images of one source whose bytes are in another source too, and the class names that both have."""
    where = {digest: i for i, digest in reversed(list(enumerate(other.digests))) if digest}
    theirs = other.classes
    both = [i for i, digest in enumerate(report.digests) if digest in where]
    return Overlap(
        name=report.name,
        other=other.name,
        images=len(both),
        of=report.images - len(report.broken),
        examples=tuple((as_copy(report.entries[i]), as_copy(other.entries[where[report.digests[i]]])) for i in both),
        classes=tuple(name for name in report.classes if name in theirs),
        counts=collections.Counter((report.entries[i].label, report.entries[i].split) for i in both),
        other_images=other.images,
        other_broken=len(other.broken),
    )

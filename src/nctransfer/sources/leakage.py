"""Images that two data sources have in common."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nctransfer.sources.data_report import as_copy

if TYPE_CHECKING:
    from nctransfer.sources.data_report import Copy, DataReport

__all__ = ["Overlap", "compare"]


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
        examples=tuple((as_copy(report.entries[i]), as_copy(other.entries[where[report.digests[i]]])) for i in both),
        classes=tuple(name for name in report.classes if name in theirs),
        counts=collections.Counter((report.entries[i].label, report.entries[i].split) for i in both),
        other_images=other.images,
        other_broken=len(other.broken),
    )

"""Leaks between data sets: images that two data sources have in common."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nctransfer.sources.arrow_arrays import integers, values_of
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
    import numpy as np
    from pyarrow import compute

    theirs = other.classes
    # of several identical images, index_in finds the first
    where = compute.index_in(report.digests.column(), value_set=other.digests.column())
    is_there = np.zeros(len(report.digests), bool)
    is_there[values_of(compute.indices_nonzero(where.is_valid()))] = True
    both = np.flatnonzero(is_there & report.digests.are_known)
    mine, same = report.entries.take(both), other.entries.take(values_of(where.take(integers(both))))
    return Overlap(
        name=report.name,
        other=other.name,
        images=len(both),
        of=report.images - len(report.broken),
        examples=tuple((as_copy(one), as_copy(another)) for one, another in zip(mine, same, strict=True)),
        classes=tuple(name for name in report.classes if name in theirs),
        counts=collections.Counter((entry.label, entry.split) for entry in mine),
        other_images=other.images,
        other_broken=len(other.broken),
    )

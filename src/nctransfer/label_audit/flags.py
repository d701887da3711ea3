"""What an audit of labels finds: flags, each on one image, and how many of them are expected to be right."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from nctransfer.notebook import ShownInNotebooks

if TYPE_CHECKING:
    import pandas as pd

    from nctransfer.features.feature_info import FeatureInfo

__all__ = ["DUPLICATE", "KINDS", "LABEL", "OUTLIER", "AuditResult", "Flag", "Kind"]

Kind = Literal["label", "duplicate", "outlier"]
LABEL: Kind = "label"
DUPLICATE: Kind = "duplicate"
OUTLIER: Kind = "outlier"
KINDS: tuple[Kind, ...] = (LABEL, DUPLICATE, OUTLIER)


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One image that deserves a look, and why.

    Attributes:
        id: The image.
        given: Its given label.
        kind: ``label``: another class is likelier. ``duplicate``: another image shows the same picture. ``outlier``: it
            is unlike every class.
        suggested: The likelier class, or that of the duplicate if it is another one; otherwise ``None``.
        neighbours: For ``label``: the nearest other image of the given class, and the nearest of the suggested one. For
            ``duplicate``: the image that it duplicates.
        expected_precision: The estimated probability that the given label is wrong; ``None`` if it is not estimated.
        margin: For ``label``: the probability of the suggested class minus that of the given one, −1 to 1.
        closeness: For ``duplicate``: how far apart both images are, in units of the largest distance of
            near-duplicates, 0 to 1. It is 0 for files with the same content.
        unlikeness: For ``outlier``: how unlike every class it is, in robust standard deviations above the median image.
        agreement: How many of the feature sets find this on their own.
    """

    id: str
    given: str
    kind: Kind
    suggested: str | None = None
    neighbours: tuple[str, ...] = ()
    expected_precision: float | None = None
    margin: float | None = None
    closeness: float | None = None
    unlikeness: float | None = None
    agreement: int = 1

    @property
    def contradicts(self) -> bool:
        """Whether a duplicate of it has another label, so that one of the two is wrong."""
        return self.kind == DUPLICATE and self.suggested is not None

    def to_dict(self) -> dict[str, Any]:
        """The flag as a dictionary for JSON."""
        return asdict(self) | {"neighbours": list(self.neighbours)}


@dataclass(frozen=True, kw_only=True, eq=False)
class AuditResult(ShownInNotebooks):
    """The images of a labelled set that deserve a look.

    Attributes:
        features: The description of the first feature set.
        sets: The names of all feature sets.
        kinds: What was looked for.
        level: Labels are flagged from this expected precision.
        flags: The flags, the surest first: duplicates in different classes, labels, duplicates within a class,
            outliers.
        doubtful: Up to five labels that are not flagged although another class is likelier, with the largest margins.
            Too few images or overlapping classes explain them as well as wrong labels.
        noise_rate: The estimated share of wrong labels among all images; ``None`` if labels were not looked at.
        outliers_by_chance: How many images would be as unlike every class as the outliers if unlikeness were normally
            distributed; ``None`` if outliers were not looked for.
        labels: The given label of every image, by its id.
        warnings: What could not be judged.
    """

    features: FeatureInfo
    sets: tuple[str, ...]
    kinds: tuple[Kind, ...]
    level: float
    flags: tuple[Flag, ...]
    doubtful: tuple[Flag, ...]
    noise_rate: float | None
    outliers_by_chance: float | None
    labels: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def of_kind(self, kind: Kind) -> tuple[Flag, ...]:
        """The flags of one kind, the surest first."""
        return tuple(flag for flag in self.flags if flag.kind == kind)

    @property
    def counts(self) -> dict[str, int]:
        """The number of flags of each kind that was looked for."""
        found = collections.Counter(flag.kind for flag in self.flags)
        return {kind: found[kind] for kind in self.kinds}

    @property
    def expected_wrong(self) -> float:
        """How many of the labels flagged as such are expected to be wrong: the sum of their expected precisions."""
        return sum(flag.expected_precision or 0.0 for flag in self.of_kind(LABEL))

    def to_dict(self) -> dict[str, Any]:
        """The result as a dictionary for JSON, with every flag."""
        return {
            "features": self.features.to_dict(),
            "sets": list(self.sets),
            "level": self.level,
            "images": len(self.labels),
            "counts": self.counts,
            "contradictions": sum(flag.contradicts for flag in self.flags),
            "expected_wrong": self.expected_wrong if LABEL in self.kinds else None,
            "noise_rate": self.noise_rate,
            "outliers_by_chance": self.outliers_by_chance,
            "flags": [flag.to_dict() for flag in self.flags],
            "doubtful": [flag.to_dict() for flag in self.doubtful],
            "warnings": list(self.warnings),
        }

    def to_frame(self) -> pd.DataFrame:
        """One row per flag: the fields of :class:`Flag`; the column ``neighbours`` becomes two."""
        import pandas as pd

        rows = []
        for flag in self.flags:
            near = dict(zip(("neighbour", "suggested_neighbour"), flag.neighbours, strict=False))
            rows.append(flag.to_dict() | near)
        columns = [*Flag.__dataclass_fields__, "neighbour", "suggested_neighbour"]
        columns.remove("neighbours")  # they have columns of their own
        numbers = dict.fromkeys(["expected_precision", "margin", "closeness", "unlikeness"], "float64")
        return pd.DataFrame(rows, columns=columns).astype(numbers)

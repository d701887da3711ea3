"""How well scores tell other images from those of the known classes: the result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from nctransfer.errors import counted, join_names
from nctransfer.evaluation.leaks import Leaks
from nctransfer.notebook import ShownInNotebooks
from nctransfer.ood.orthogonality import Nc5

if TYPE_CHECKING:
    import pandas as pd

    from nctransfer.evaluation.multiple_comparisons import Verdict
    from nctransfer.features.feature_info import FeatureInfo

__all__ = ["HELD_OUT", "OodResult", "OodRow", "OtherSet"]

HELD_OUT = "classes held out"
FEW = 30  # other images
CHANCE = 0.5  # the AUROC of a score that knows nothing


@dataclass(frozen=True, kw_only=True)
class OodRow:
    """How well a score tells some other images from the known ones.

    Attributes:
        other: The name of the others.
        score: The name of the score.
        auroc: The probability that another image has a larger score than a known one.
        auroc_interval: Its 95% interval over the population of the result.
        fpr95: The share of the others that are taken for known where 95% of the known ones are.
        fpr95_interval: Its 95% interval.
        is_possible_best: Whether this score may have the highest AUROC of all; the best is among these in at least 95%
            of studies. The highest of all may still be no better than chance, see ``is_above_chance``.
        verdict: ``worse`` than the best if it may not be the best, ``better`` if no other may; ``None`` if it is the
            only score.
        behind: The interval of its AUROC minus the best of the others.
    """

    other: str
    score: str
    auroc: float
    auroc_interval: tuple[float, float]
    fpr95: float
    fpr95_interval: tuple[float, float]
    is_possible_best: bool = True
    verdict: Verdict | None = None
    behind: tuple[float, float] | None = None

    @property
    def is_above_chance(self) -> bool:
        """Whether its whole interval is above 50%, so that it tells other images from known ones at all."""
        return self.auroc_interval[0] > CHANCE

    def to_dict(self) -> dict[str, Any]:
        """The numbers as a dictionary for JSON."""
        return asdict(self) | {"is_above_chance": self.is_above_chance}

    def to_row(self) -> dict[str, Any]:
        """The numbers as a flat row."""
        row = self.to_dict()
        for name in ("auroc_interval", "fpr95_interval", "behind"):
            low, high = row.pop(name) or (None, None)
            row |= {f"{name.removesuffix('_interval')}_low": low, f"{name.removesuffix('_interval')}_high": high}
        return row


@dataclass(frozen=True, kw_only=True)
class OtherSet:
    """Images that are of no known class.

    Attributes:
        name: Its name.
        samples: How many images it has.
        features: Where they came from.
        nc5: How orthogonal their mean is to the class means of the known ones; ``None`` if classes are held out.
        shared_images: How many of them are also among the known ones.
        shared_classes: The names of classes that both have.
    """

    name: str
    samples: int
    features: FeatureInfo
    nc5: Nc5 | None = None
    shared_images: int = 0
    shared_classes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class OodResult(ShownInNotebooks):
    """How well scores tell images of no known class from those of the known ones.

    Attributes:
        features: The known images.
        others: The sets of other images; a single one if classes are held out.
        rows: A row for each other set and score.
        population: What intervals are about: ``samples``, other images of the same kind, or ``classes``, other classes
            of this kind.
        classifier: The classifier of the scores that need one; ``None`` if none does.
        test: The known images that are scored, if they are another set than the reference.
        nc5_by_chance: NC5 of random directions.
        curves: For each other set and score the share of the others that is found, where 0%, 1%, … 100% of the known
            images are lost.
        leaks: The known images that are there more than once, or the tested ones that are also in the reference.
    """

    features: FeatureInfo
    others: tuple[OtherSet, ...]
    rows: tuple[OodRow, ...]
    population: Literal["samples", "classes"]
    classifier: str | None
    nc5_by_chance: float
    test: FeatureInfo | None = None
    curves: Mapping[tuple[str, str], tuple[float, ...]] = field(default_factory=dict)
    leaks: Leaks = field(default_factory=Leaks)

    @property
    def scores(self) -> tuple[str, ...]:
        """The names of the scores."""
        return tuple(dict.fromkeys(row.score for row in self.rows))

    def rows_of(self, other: str) -> tuple[OodRow, ...]:
        """The rows of a set of others."""
        return tuple(row for row in self.rows if row.other == other)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What weakens a conclusion."""
        return tuple(self._warnings())

    def _warnings(self) -> Iterator[str]:
        if self.leaks.queries_in_support:
            yield (
                f"{counted(self.leaks.queries_in_support, 'tested image is', 'tested images are')} also in the "
                "reference: they seem too much like the known classes; --drop-duplicates leaves them out"
            )
        elif self.leaks.queries_in_support is None and self.leaks.duplicates.samples:
            yield (
                f"{self.leaks.duplicates}: when one is scored its copy may be in the reference, so that it seems too "
                "much like the known classes; --drop-duplicates leaves copies out"
            )
        for one in self.others:
            if one.shared_images:
                yield (
                    f"{counted(one.shared_images, 'image')} of {one.name} are also among the known images, which makes "
                    "every score seem worse; --drop-duplicates leaves them out"
                )
            if one.shared_classes:
                yield (
                    f"{one.name} has {counted(len(one.shared_classes), 'class', 'classes')} of the same name as a "
                    f"known one: {join_names([repr(name) for name in one.shared_classes])}; images of a known class "
                    "are not others"
                )
            if one.samples < FEW:
                yield f"{one.name} has only {counted(one.samples, 'image')}: the intervals are rough"

    def to_dict(self) -> dict[str, Any]:
        """The result as a dictionary for JSON."""
        return {
            "features": self.features.to_dict(),
            "test": None if self.test is None else self.test.to_dict(),
            "population": self.population,
            "classifier": self.classifier,
            "others": [
                {
                    **asdict(one),
                    "features": one.features.to_dict(),
                    "nc5": None if one.nc5 is None else {"value": one.nc5.value, "interval": list(one.nc5.interval)},
                }
                for one in self.others
            ],
            "nc5_by_chance": self.nc5_by_chance,
            "rows": [row.to_dict() for row in self.rows],
            "curves": [
                {"other": other, "score": score, "found": list(found)} for (other, score), found in self.curves.items()
            ],
            "leaks": self.leaks.to_dict(),
            "warnings": list(self.warnings),
        }

    def to_frame(self) -> pd.DataFrame:
        """One row for each other set and score."""
        import pandas as pd

        return pd.DataFrame([row.to_row() for row in self.rows])

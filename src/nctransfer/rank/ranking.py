"""A ranking as a result: one row per candidate, best first, and what it says in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from nctransfer.backbones.facts import BackboneFacts
from nctransfer.backbones.layers import is_layer
from nctransfer.notebook import ShownInNotebooks

if TYPE_CHECKING:
    import pandas as pd

    from nctransfer.evaluation.all_ways import AllWaysTask
    from nctransfer.evaluation.labels_needed import LabelsNeeded
    from nctransfer.rank.rank_correlation import RankCorrelation
    from nctransfer.store.measured_speed import Speed

__all__ = ["Placed", "RankedCandidate", "Ranking", "RoundSummary", "Status"]

Status = Literal["possible best", "not best", "failed", "not run", "control"]
Span = tuple[float, float]
WHOLE = ("images_per_class", "draws", "parameters", "width", "img_size")
"""Columns of whole numbers."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Where a candidate stands at one number of shots.

    Attributes:
        accuracy: The accuracy on all classes, from 0 to 1, over the draws that all candidates of its last round share.
        interval: Its 95% interval, over other images of these classes.
        difference: The accuracy minus that of the best of the others on the same images; 0 or more for the best.
            Candidates are compared among themselves, controls with all.
        difference_interval: Its interval, at the level of the race; the upper end is 0 if it is no possible best.
        is_possible_best: Whether it may be the best of the candidates; for a control, of all.
        is_below_control: Whether a control is clearly better.
        images: Images per class, at most, that this is from.
        draws: The random draws that were drawn.
    """

    accuracy: float
    interval: Span
    difference: float | None
    difference_interval: Span | None
    is_possible_best: bool
    is_below_control: bool = False
    images: int
    draws: int


@dataclass(frozen=True, kw_only=True)
class RankedCandidate:
    """One row of a ranking.

    Attributes:
        name: The candidate.
        status: Whether it may be the best, ran at all, or is a control.
        reason: Why it failed or did not run.
        hint: What to do about that.
        places: Where it stands, by shots; empty if it did not run.
        labels_needed: Labelled images per class that each target needs, by target.
        cdnv_debiased: See :func:`~nctransfer.neural_collapse.cdnv.cdnv_debiased`.
        directional_cdnv_debiased: See :func:`~nctransfer.neural_collapse.cdnv.directional_cdnv_debiased`.
        facts: What is known about the backbone.
        speed: How fast it ran.
        pareto: Whether no other candidate is both more accurate and faster.
        scores: ``logme`` and ``h_score``, if they were asked for.
        undefined: Why a number is missing, by name.
        features: The id of its features.
        column: Which output of the backbone they are: ``feature``, ``layer_3``, or what several layers are called that
            are joined; ``None`` if it did not run. Facts and speed are those of the whole backbone.
        why: Why it is among the candidates.
        same_as: Another candidate with exactly the same features.
    """

    name: str
    status: Status
    reason: str | None = None
    hint: str = ""
    places: Mapping[int, Placed] = field(default_factory=dict)
    labels_needed: Mapping[float, LabelsNeeded] = field(default_factory=dict)
    cdnv_debiased: float | None = None
    directional_cdnv_debiased: float | None = None
    facts: BackboneFacts = field(default_factory=BackboneFacts)
    speed: Speed | None = None
    pareto: bool = False
    scores: Mapping[str, float | None] = field(default_factory=dict)
    undefined: Mapping[str, str] = field(default_factory=dict)
    features: str | None = None
    column: str | None = None
    why: str = ""
    same_as: str | None = None

    @property
    def place(self) -> Placed | None:
        """Where it stands at the largest number of shots, by which candidates are ranked."""
        return self.places[max(self.places)] if self.places else None

    @property
    def is_possible_best(self) -> bool:
        """Whether it may be the best at the largest number of shots."""
        return self.place is not None and self.place.is_possible_best

    @property
    def is_inner(self) -> bool:
        """Whether it is a single inner layer, which needs only a part of the backbone."""
        return self.column is not None and is_layer(self.column)

    @property
    def has_run(self) -> bool:
        """Whether there is a result."""
        return bool(self.places)

    def to_dict(self) -> dict[str, Any]:
        """The row as a dictionary for JSON."""
        place, facts = self.place, asdict(self.facts)
        return {
            "name": self.name,
            "status": self.status,
            "reason": self.reason,
            "hint": self.hint,
            "is_possible_best": self.is_possible_best,
            "accuracy": place and place.accuracy,
            "interval": place and list(place.interval),
            "difference": place and place.difference,
            "difference_interval": place and place.difference_interval and list(place.difference_interval),
            "images_per_class": place and place.images,
            "draws": place and place.draws,
            "by_shots": [{"shots": shots, **asdict(one)} for shots, one in self.places.items()],
            "labels_needed": {f"{target:g}": one.to_dict() for target, one in self.labels_needed.items()},
            "cdnv_debiased": self.cdnv_debiased,
            "directional_cdnv_debiased": self.directional_cdnv_debiased,
            **facts,
            "images_per_second": self.speed and self.speed.images_per_second,
            "speed": self.speed and self.speed.to_dict(),
            "pareto": self.pareto,
            "scores": dict(self.scores),
            "undefined": dict(self.undefined),
            "features": self.features,
            "column": self.column,
            "why": self.why,
            "same_as": self.same_as,
        }

    def to_row(self) -> dict[str, Any]:
        """The row of a flat table."""
        row = self.to_dict()
        for name in ("hint", "by_shots", "labels_needed", "scores", "undefined", "speed"):
            del row[name]
        for name in ("interval", "difference_interval"):
            low, high = row.pop(name) or (None, None)
            row |= {f"{name}_low": low, f"{name}_high": high}
        for shots, one in self.places.items():
            row[f"accuracy_{shots}_shots"] = one.accuracy
        for target, needed in self.labels_needed.items():
            low, high = needed.interval
            name = f"labels_for_{target:g}"
            row |= {name: needed.value, f"{name}_low": low, f"{name}_high": high}
        return row | dict(self.scores)


@dataclass(frozen=True, kw_only=True)
class RoundSummary:
    """One round of a race.

    Attributes:
        images_per_class: Images per class, at most.
        candidates: The candidates that ran.
        dropped: Those that dropped out after it.
    """

    images_per_class: int
    candidates: tuple[str, ...]
    dropped: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The round as a dictionary for JSON."""
        return {
            "images_per_class": self.images_per_class,
            "candidates": list(self.candidates),
            "dropped": list(self.dropped),
        }


@dataclass(frozen=True, kw_only=True)
class Ranking(ShownInNotebooks):
    """Backbones ranked by the accuracy that they allow on the user's own classes.

    Attributes:
        task: What was measured. Candidates are ranked by its largest number of shots.
        data: The name of the images.
        classes: The number of classes.
        images: The number of images.
        candidates: One row per candidate, best first; then those that did not run.
        rounds: The rounds of the race; one if there was none.
        recommendation: What to take, in a few sentences.
        images_run: Passes of an image through a backbone that the race needed, with those that were in the cache.
        images_without_racing: Passes that all candidates would have needed.
        is_complete: Whether the possible bests have been through all images.
        correlations: How scores that need no split rank the candidates, if they were asked for.
        warnings: What weakens a conclusion.
    """

    task: AllWaysTask
    data: str
    classes: int
    images: int
    candidates: tuple[RankedCandidate, ...]
    rounds: tuple[RoundSummary, ...]
    recommendation: str
    images_run: int
    images_without_racing: int
    is_complete: bool = True
    correlations: tuple[RankCorrelation, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def shots(self) -> int:
        """The number of shots by which candidates are ranked."""
        return max(self.task.shots)

    @property
    def possible_bests(self) -> tuple[str, ...]:
        """The candidates that may be the best, the most accurate first; controls may be among them."""
        return tuple(one.name for one in self.candidates if one.is_possible_best)

    @property
    def best(self) -> RankedCandidate | None:
        """The most accurate candidate that is not a control; ``None`` if none has run."""
        return next((one for one in self.candidates if one.has_run and one.status != "control"), None)

    def to_dict(self) -> dict[str, Any]:
        """The ranking as a dictionary for JSON."""
        return {
            "task": {
                "ways": self.classes,
                "shots": self.shots,
                "all_shots": list(self.task.shots),
                "classifier": self.task.classifiers[0],
                "population": "samples",
                "seed": self.task.seed,
                "ridge_lambda": self.task.ridge_lambda,
                "l2_normalise": self.task.l2_normalise,
            },
            "data": {"name": self.data, "classes": self.classes, "images": self.images},
            "rounds": [one.to_dict() for one in self.rounds],
            "candidates": [one.to_dict() for one in self.candidates],
            "possible_bests": list(self.possible_bests),
            "recommendation": self.recommendation,
            "images_run": self.images_run,
            "images_without_racing": self.images_without_racing,
            "is_complete": self.is_complete,
            "correlations": [one.to_dict() for one in self.correlations],
            "warnings": list(self.warnings),
        }

    def to_frame(self) -> pd.DataFrame:
        """One row per candidate."""
        import pandas as pd

        frame = pd.DataFrame([one.to_row() for one in self.candidates])
        whole = [name for name in frame if name in WHOLE or str(name).startswith("labels_for_")]
        return frame.astype(dict.fromkeys(whole, "Int64"))  # which can be missing

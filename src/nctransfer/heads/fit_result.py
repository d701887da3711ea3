"""A fitted head, with what was compared and what to expect of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from nctransfer.errors import counted, join_names
from nctransfer.evaluation.leaks import Leaks
from nctransfer.notebook import ShownInNotebooks

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from nctransfer.features.feature_info import FeatureInfo
    from nctransfer.heads.abstention import Thresholds
    from nctransfer.heads.head import Head
    from nctransfer.heads.left_out_scores import LeftOut
    from nctransfer.heads.mistakes import ClassAccuracy, Confusion
    from nctransfer.heads.more_labels import MoreLabels
    from nctransfer.heads.promises import Lead

__all__ = ["Candidate", "FitResult"]

FEW = 5  # images of a class
MUCH = 0.01  # of a correction
MISCALIBRATED = 0.03  # beyond what noise explains


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A classifier that was tried.

    Attributes:
        name: ``ridge``, ``ncc``, ``cosine``, ``logistic`` or ``proxies``.
        accuracy: What to expect of it on other images of the same classes.
        measured: The share of training images that it classifies right, each left out with one of each other class.
            The expected accuracy is that of a classifier that has seen all images.
        penalty: The penalty of ridge or logistic regression; ``None`` for the others.
        is_at_end: Whether that is the smallest or the largest penalty that it could choose.
        lead: By how much the chosen classifier is more accurate than this one; ``None`` for the chosen one. In
            :attr:`FitResult.better`, by how much this one is more accurate than the chosen one.
    """

    name: str
    accuracy: float
    measured: float
    penalty: float | None
    is_at_end: bool
    lead: Lead | None = None

    @classmethod
    def of(cls, one: LeftOut) -> Candidate:
        """Describe a classifier by what it says of images that are left out; the lead is not filled in."""
        return cls(
            name=one.classifier,
            accuracy=min(max(float(one.hits.mean()), 0.0), 1.0),
            measured=float(one.right.mean()),
            penalty=one.penalty,
            is_at_end=one.is_at_end,
        )

    def to_dict(self) -> dict[str, Any]:
        """The numbers as a dictionary for JSON."""
        lead = self.lead
        return {
            "name": self.name,
            "accuracy": self.accuracy,
            "measured": self.measured,
            "penalty": self.penalty,
            "difference": None if lead is None else lead.difference,
            "difference_interval": None if lead is None else list(lead.interval),
            "told_apart": None if lead is None else lead.told_apart,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class FitResult(ShownInNotebooks):
    """A head, and what its training images say of it.

    Attributes:
        head: The head.
        features: What it was fitted to.
        candidates: The classifiers that were tried; the chosen one is the first, then the most accurate.
        untried: Why classifiers were left out of the choice, or not compared with the one that was named, by name.
        thresholds: Which images the head answers, and what that means for its errors.
        calibration_noise: The calibration error that perfectly calibrated probabilities would show on as many images.
        classes: The accuracy of each class, each image left out; the lowest first.
        confusions: The pairs of classes that are confused, those of most images first.
        predicted: The class code that each image is given when it is left out, ``(n,)`` int64.
        dropped: The classes that were left out because they have fewer than two images.
        leaks: The images that are there more than once.
        more_labels: What twice as many images would give; ``None`` if that was not asked for or is not known.
        better: A classifier that is more accurate on the same images than the one that was named, with its lead over
            it; ``None`` if none is known, if it was not asked for, or if ``untried`` says why there is no comparison.
    """

    head: Head
    features: FeatureInfo
    candidates: tuple[Candidate, ...]
    thresholds: Thresholds
    calibration_noise: float
    classes: tuple[ClassAccuracy, ...]
    confusions: tuple[Confusion, ...]
    predicted: torch.Tensor
    untried: dict[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    leaks: Leaks = field(default_factory=Leaks)
    more_labels: MoreLabels | None = None
    better: Candidate | None = None

    @property
    def chosen(self) -> Candidate:
        """The classifier of the head."""
        return self.candidates[0]

    @property
    def choice(self) -> str | None:
        """How the classifier was chosen, in words; ``None`` if it was given.

        A classifier is called more accurate than another only if the interval of their difference leaves out zero.
        """
        if len(self.candidates) < 2:
            return None
        behind = [one for one in self.candidates[1:] if one.lead and one.lead.told_apart]
        equal = [one.name for one in self.candidates[1:] if not (one.lead and one.lead.told_apart)]
        parts = [f"{self.chosen.name} has the highest leave-one-out accuracy of {len(self.candidates)} classifiers"]
        if behind:
            parts.append("it is more accurate than " + _listed([_with_lead(one) for one in behind]))
        if equal:
            parts.append(f"these images do not tell it apart from {_listed(equal)}")
        return "; ".join(parts) + ". The choice was made on the same images, which its interval allows for."

    @property
    def advice(self) -> str | None:
        """Which classifier would be more accurate than the one that was named, in words; ``None`` if none is known."""
        if self.better is None or self.better.lead is None:
            return None
        low, high = (100 * end for end in self.better.lead.interval)
        return (
            f"{self.better.name} would be more accurate: {self.better.accuracy:.1%} on the same images, "
            f"{100 * self.better.lead.difference:.1f} points more than {self.chosen.name} (95% interval {low:.1f} to "
            f"{high:.1f}). Without --classifier, the most accurate one is chosen."
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What weakens a conclusion, or asks for attention."""
        return (*self._on_images(), *self._on_fit())

    def _on_images(self) -> Iterator[str]:
        if self.leaks.duplicates.samples:
            yield (
                f"{self.leaks.duplicates}: when one is left out its copy is still there, so what is expected is too "
                "good; --drop-duplicates leaves copies out"
            )
        if self.dropped:
            names = join_names([repr(name) for name in self.dropped])
            yield f"{counted(len(self.dropped), 'class', 'classes')} of one image left out: {names}"
        if few := sorted(one.name for one in self.classes if one.images < FEW):
            yield (
                f"{counted(len(few), 'class has', 'classes have')} fewer than {FEW} images: "
                f"{join_names([repr(name) for name in few])}; their accuracy is hardly known"
            )
        if len(self.classes) > self.head.linear.dim:
            yield (
                f"there are {len(self.classes):,} classes and only {self.head.linear.dim:,} features: "
                "a linear classifier cannot tell so many classes apart freely"
            )

    def _on_fit(self) -> Iterator[str]:
        if self.chosen.is_at_end:
            yield (
                f"the penalty of {self.chosen.name} is at the end of what was tried, {self.chosen.penalty:.3g}: "
                "another one may be more accurate"
            )
        if max(self.head.counts) == 2:
            yield (
                "every class has 2 images, so that one per class was left when the others were left out: "
                "the head has seen twice as many, and is probably more accurate than expected"
            )
        if self.chosen.accuracy - self.chosen.measured > MUCH:
            yield (
                f"with one image of each class left out the accuracy is {self.chosen.measured:.1%}; the expected "
                f"{self.chosen.accuracy:.1%} is an extrapolation to all images, whose error the interval allows for"
            )
        error, noise = self.head.promise.calibration_error, self.calibration_noise
        if error > noise + MISCALIBRATED:
            yield (
                f"probabilities of {self.chosen.name} are off by {100 * error:.1f} points on average, and by "
                f"{100 * noise:.1f} if they were right: one temperature does not suit both small and large ones"
            )
        for reason in dict.fromkeys(self.untried.values()):
            names = [name for name, why in self.untried.items() if why == reason]
            yield f"{_listed(names)} {'was' if len(names) == 1 else 'were'} not tried: {reason}"

    def to_dict(self) -> dict[str, Any]:
        """The result as a dictionary for JSON."""
        promise = self.head.promise
        return {
            "features": self.features.to_dict(),
            "head": {
                "classifier": self.head.classifier,
                "penalty": self.head.penalty,
                "proxies_per_class": self.head.linear.rows_per_class if self.head.linear.owners is not None else None,
                "temperature": self.head.linear.temperature,
                "classes": len(self.head.classes),
                "dim": self.head.linear.dim,
                "unlikeness": self.head.unlikeness.name,
                "images": promise.images,
                "max_error": self.head.max_error,
                "max_lost": self.head.max_lost,
                "licence": self.head.origin.licence,
            },
            "promise": {**asdict(promise), "interval": list(promise.interval), "population": "samples"},
            "calibration_noise": self.calibration_noise,
            "thresholds": asdict(self.thresholds),
            "candidates": [one.to_dict() for one in self.candidates],
            "choice": self.choice,
            "better": None if self.better is None else self.better.to_dict(),
            "untried": self.untried,
            "classes": [self._class(one) for one in self.classes],
            "confusions": [asdict(one) for one in self.confusions],
            "dropped": list(self.dropped),
            "leaks": self.leaks.to_dict(),
            "more_labels": None if self.more_labels is None else asdict(self.more_labels),
            "warnings": list(self.warnings),
        }

    @staticmethod
    def _class(one: ClassAccuracy) -> dict[str, Any]:
        return {**asdict(one), "accuracy": one.accuracy, "interval": list(one.interval)}

    def to_frame(self) -> pd.DataFrame:
        """One row for each class, the one with the lowest accuracy first."""
        import pandas as pd

        rows = []
        for one in self.classes:
            row = self._class(one)
            row["low"], row["high"] = row.pop("interval")
            rows.append(row)
        return pd.DataFrame(rows)


def _with_lead(one: Candidate) -> str:
    assert one.lead is not None
    low, high = (100 * end for end in one.lead.interval)
    return f"{one.name} by {100 * one.lead.difference:.1f} points (95% interval {low:.1f} to {high:.1f})"


def _listed(names: Sequence[str]) -> str:
    """Names as a sentence lists them.

    >>> _listed(["a"]), _listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last

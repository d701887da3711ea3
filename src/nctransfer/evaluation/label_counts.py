"""The labels that targets need, with the learning curve that shows it, as one result."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nctransfer.episodes.classifier import RIDGE_LAMBDA, RidgePenalty
from nctransfer.errors import SettingError
from nctransfer.evaluation.labels_needed import LabelsNeeded, check_target, labels_needed
from nctransfer.evaluation.learning_curve import learning_curve
from nctransfer.notebook import ShownInNotebooks

if TYPE_CHECKING:
    import pandas as pd

    from nctransfer.evaluation.all_ways import AllWaysResult
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["TARGETS", "LabelCounts", "labels"]

TARGETS = (0.9, 0.95)


@dataclass(frozen=True, kw_only=True)
class LabelCounts(ShownInNotebooks):
    """How many labelled images per class reach each target.

    Attributes:
        curve: The learning curve: accuracies by number of labelled images per class and classifier.
        targets: One entry for each classifier and target.
    """

    curve: AllWaysResult
    targets: tuple[LabelsNeeded, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What weakens a conclusion from the numbers."""
        return self.curve.warnings

    def to_dict(self) -> dict[str, Any]:
        """The result as a dictionary for JSON."""
        task = self.curve.task
        return {
            "features": self.curve.features.to_dict(),
            "settings": {
                "population": "samples",
                "seed": task.seed,
                "ridge_lambda": task.ridge_lambda,
                "l2_normalise": task.l2_normalise,
                "images_per_class": [min(self.curve.images), max(self.curve.images)],
                "dropped": list(self.curve.dropped),
            },
            "targets": [one.to_dict() for one in self.targets],
            "curve": self._points(),
            "warnings": list(self.warnings),
        }

    def to_frame(self) -> pd.DataFrame:
        """One row for each classifier and target."""
        import pandas as pd

        rows = []
        for one in self.targets:
            row = one.to_dict()
            low, high = row.pop("interval")
            rows.append({"classifier": row.pop("classifier"), **row, "low": low, "high": high})
        integers = dict.fromkeys(["value", "low", "high"], "Int64")  # which can be missing
        return pd.DataFrame(rows).astype(integers)

    def curve_frame(self) -> pd.DataFrame:
        """The learning curve: one row for each classifier and number of labelled images per class."""
        import pandas as pd

        rows = self._points()
        for row in rows:
            row["low"], row["high"] = row.pop("interval")
        return pd.DataFrame(rows)

    def _points(self) -> list[dict[str, Any]]:
        """The points of the curve, classifier by classifier."""
        estimates = self.curve.estimates
        return [
            {
                "shots": shots,
                "classifier": name,
                "accuracy": estimates[shots, name].accuracy,
                "interval": list(estimates[shots, name].interval),
                "draws": estimates[shots, name].draws,
                "draw_half_width": estimates[shots, name].draw_half_width,
            }
            for name in self.curve.task.classifiers
            for shots in self.curve.task.shots
        ]


def labels(
    features: FeatureSet,
    targets: float | Iterable[float] = TARGETS,
    *,
    classifiers: str | Iterable[str] = ("ridge",),
    most_shots: int | None = None,
    seed: int = 0,
    ridge_lambda: RidgePenalty = RIDGE_LAMBDA,
    l2_normalise: bool = False,
    drop_small: bool = False,
    device: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> LabelCounts:
    """How many labelled images per class a classifier needs to reach each target accuracy on all classes at once.

    The learning curve is measured on random draws of the images: in each, some images of every class are labelled and
    all others are classified. The number for a target is read off the curve, with its 95% interval over other images of
    these classes. A target beyond the images at hand gets a range by extrapolation, and no number.

    Args:
        features: The feature set. A class needs at least 2 images.
        targets: Accuracies above 0 and at most 1, such as 0.9.
        classifiers: Names of classifiers.
        most_shots: Where the measured curve ends; by default at four fifths of the images of the smallest class.
        seed: The seed of the draws. The same seed draws the same draws for any backbone on the same data.
        ridge_lambda: The penalty of ``ridge``, see :class:`~nctransfer.episodes.classifier.ClassifierSettings`.
        l2_normalise: Scale features to unit length.
        drop_small: Leave out classes with too few images; otherwise they are an error.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        EpisodeError: A class has too few images, or there are fewer than two classes.
        SettingError: A target is no accuracy, or a setting is wrong.
    """
    wanted = tuple(dict.fromkeys([targets] if isinstance(targets, float | int) else targets))
    if not wanted:
        raise SettingError("there is no target", "give an accuracy such as 0.9")
    for target in wanted:
        check_target(target)
    curve = learning_curve(
        features,
        classifiers,
        most_shots=most_shots,
        seed=seed,
        ridge_lambda=ridge_lambda,
        l2_normalise=l2_normalise,
        drop_small=drop_small,
        device=device,
        progress=progress,
    )
    found = tuple(labels_needed(curve, name, target) for name in curve.task.classifiers for target in wanted)
    return LabelCounts(curve=curve, targets=found)

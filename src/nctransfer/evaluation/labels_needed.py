"""How many labelled images per class a classifier needs to reach a target accuracy.

Up to the images at hand the number is read off the measured learning curve, and its 95% interval (over other images of
these classes) follows by inverting the band of the curve: where the upper end of the band reaches the target, fewer
labels may do; where the lower end does, so many are enough. Beyond the images at hand, several families of curves are
fitted to the measured part (:mod:`~nctransfer.evaluation.curve_families`), and the result is a range, never a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nctransfer.errors import SettingError, counted
from nctransfer.evaluation.curve_families import draw_curves
from nctransfer.evaluation.isotonic import first_reaching, isotonic

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from nctransfer.evaluation.all_ways import AllWaysResult
    from nctransfer.evaluation.image_influence import Estimate

__all__ = ["EXTRAPOLATED_LEVEL", "Extrapolation", "LabelsNeeded", "check_target", "extrapolate", "labels_needed"]

HORIZON = 10  # how far curves are extrapolated, in units of the images at hand
LEVEL, EXTRAPOLATED_LEVEL = 0.95, 0.85
FEWEST_POINTS = 4  # of a curve that is extrapolated
POINTS = 100  # of an extrapolated curve


@dataclass(frozen=True, kw_only=True)
class LabelsNeeded:
    """The smallest number of labelled images per class at which the mean accuracy over all classes reaches a target.

    Attributes:
        target: The accuracy, from 0 to 1.
        classifier: The name of the classifier.
        value: The number, read off the measured curve; ``None`` if the curve does not reach the target.
        interval: The number lies between these two, over other images of the same classes: the 95% interval of a number
            that was read off, and otherwise the range that holds 85% of the extrapolated curves. The upper end is
            ``None`` if it is more than ten times the images at hand, or not known.
        extrapolated: Whether the target lies beyond the images at hand, and the interval is extrapolated. A curve of
            fewer than four points, or one that does not rise, is not: then only its lower end is known.
        reason: Why there is no value, and what the best accuracy is.
    """

    target: float
    classifier: str
    value: int | None
    interval: tuple[int, int | None]
    extrapolated: bool
    reason: str | None = None

    @property
    def between(self) -> str:
        """The interval in words. Extrapolated ends are rounded outwards to two digits.

        >>> LabelsNeeded(target=0.9, classifier="ncc", value=5, interval=(4, 1200), extrapolated=False).between
        '4 to 1,200'
        >>> LabelsNeeded(target=0.9, classifier="ncc", value=None, interval=(43, 1234), extrapolated=True).between
        '43 to 1,300'
        """
        low, high = self.interval
        if self.extrapolated:
            low, high = _rounded(low, math.floor), None if high is None else _rounded(high, math.ceil)
        if high is None:
            return f"{low:,} or more"
        return f"{low:,} to {high:,}" if low < high else f"{low:,}"

    def to_dict(self) -> dict[str, Any]:
        """The result as a dictionary for JSON."""
        return {**asdict(self), "interval": list(self.interval)}


def _rounded(number: int, towards: Callable[[float], int]) -> int:
    """A number with two digits, rounded up or down."""
    unit: int = 10 ** max(0, len(str(number)) - 2)
    return towards(number / unit) * unit


@dataclass(frozen=True, kw_only=True, eq=False)
class Extrapolation:
    """Learning curves beyond the images at hand, drawn from several families of curves.

    Attributes:
        shots: F numbers of labelled images per class, from the last measured one up to ten times the images at hand.
        curves: Accuracies, ``(J, F)``; all draws are equally likely.
    """

    shots: tuple[int, ...]
    curves: npt.NDArray[np.float64]

    def band(self, level: float = EXTRAPOLATED_LEVEL) -> tuple[list[float], list[float], list[float]]:
        """The lower end, the median and the upper end of the accuracy at each number of shots."""
        import numpy as np

        low, middle, high = np.quantile(self.curves, [(1 - level) / 2, 0.5, (1 + level) / 2], axis=0).tolist()
        return low, middle, high

    def reaching(self, target: float, share: float) -> int | None:
        """The number of shots with which this share of the curves has reached a target; ``None`` if it never has."""
        reached = (self.curves >= target).mean(axis=0) >= share
        return self.shots[int(reached.argmax())] if reached[-1] else None


def labels_needed(curve: AllWaysResult, classifier: str, target: float) -> LabelsNeeded:
    """The smallest number of labelled images per class that reaches a target, with its interval.

    The measured curve is made non-decreasing by isotonic regression, weighted by the variances, and so is each end of
    its band; between grid points all are lines over the logarithm of shots.

    Args:
        curve: Accuracies over a grid of shots, see :func:`~nctransfer.evaluation.learning_curve.learning_curve`.
        classifier: One of its classifiers.
        target: The accuracy to be reached, above 0 and at most 1.

    Raises:
        SettingError: The target is no accuracy, or the curve has no such classifier.
    """
    check_target(target)
    shots, estimates = _points(curve, classifier)
    weights = [1 / max(one.error**2 + one.error_of_draws**2, 1e-8) for one in estimates]

    def where(values: Sequence[float]) -> int | None:
        return first_reaching(shots, isotonic(values, weights), target)

    value = where([one.accuracy for one in estimates])
    low = where([one.interval[1] for one in estimates])
    high = where([one.interval[0] for one in estimates])
    beyond = extrapolate(curve, classifier) if high is None else None
    if beyond is not None:
        level = LEVEL if value is not None else EXTRAPOLATED_LEVEL
        high = beyond.reaching(target, (1 + level) / 2)
        if value is None and high is not None:
            high = max(high, shots[-1] + 1)  # a family may reach at the last point what the measured curve does not
        low = low or beyond.reaching(target, (1 - level) / 2) or beyond.shots[-1]
    best = isotonic([one.accuracy for one in estimates], weights)[-1]
    return LabelsNeeded(
        target=target,
        classifier=classifier,
        value=value,
        interval=(low or shots[-1] + 1, high),
        extrapolated=value is None and beyond is not None,
        reason=None if value is not None else f"not reached; the best is {best:.1%} with {_with_all(curve, shots[-1])}",
    )


def check_target(target: float) -> None:
    """Refuse a target that is no accuracy.

    Raises:
        SettingError: It is not above 0 and at most 1.
    """
    if not 0 < target <= 1:
        raise SettingError(
            f"the target is {target:g}; expected an accuracy above 0 and at most 1", "give --target 90% or 0.9"
        )


def extrapolate(curve: AllWaysResult, classifier: str) -> Extrapolation | None:
    """The learning curve beyond the images at hand, up to ten times as many.

    Args:
        curve: Accuracies over a grid of shots.
        classifier: One of its classifiers.

    Returns:
        Curves drawn from what all families leave possible; ``None`` if the curve has fewer than four points or does not
        rise.
    """
    import numpy as np

    shots, estimates = _points(curve, classifier)
    if len(shots) < FEWEST_POINTS:
        return None
    horizon = max(HORIZON * min(curve.images), shots[-1] + 1)
    beyond = tuple(dict.fromkeys(np.geomspace(shots[-1], horizon, POINTS).round().astype(int).tolist()))
    accuracies = np.array([one.accuracy for one in estimates])
    curves = draw_curves(shots, accuracies, _covariance(estimates), beyond)
    return None if curves is None else Extrapolation(shots=beyond, curves=curves)


def _points(curve: AllWaysResult, classifier: str) -> tuple[list[int], list[Estimate]]:
    """The measured numbers of shots of a classifier, ascending, and the estimates at them."""
    found = sorted(
        ((shots, one) for (shots, name), one in curve.estimates.items() if name == classifier), key=lambda pair: pair[0]
    )
    if not found:
        raise SettingError(
            f"the learning curve has no classifier {classifier!r}",
            f"choose from {', '.join(curve.task.classifiers)}",
        )
    return [shots for shots, _ in found], [one for _, one in found]


def _covariance(estimates: Sequence[Estimate]) -> npt.NDArray[np.float64]:
    """The covariance of the points of a curve, over other images and over the draw of draws, ``(K, K)``.

    All points share the images, and the first of their draws, so that neighbours move together.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    images = torch.stack([one.of_images for one in estimates])  # (K, n)
    draws = pad_sequence(
        [(one.of_draws - one.of_draws.mean()) / math.sqrt(one.draws * (one.draws - 1)) for one in estimates],
        batch_first=True,
    )
    vectors = torch.cat([images, draws], dim=1).double()
    return (vectors @ vectors.T).numpy()


def _with_all(curve: AllWaysResult, most: int) -> str:
    """The images behind the last point of the curve, in words."""
    if len(set(curve.images)) > 1:
        return f"{counted(most, 'labelled image')} per class"
    return f"{most:,} of all {curve.images[0]:,} images labelled"

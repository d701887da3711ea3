"""How much twice as many labelled images would help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.evaluation.labels_needed import EXTRAPOLATED_LEVEL, extrapolate
from nctransfer.evaluation.learning_curve import learning_curve

if TYPE_CHECKING:
    from nctransfer.evaluation.all_ways import AllWaysResult
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["MoreLabels", "gain_along", "gain_of_more_labels"]

DRAWS = 20
MOST_IMAGES = 20_000
LOGISTIC = "logistic"


@dataclass(frozen=True, kw_only=True)
class MoreLabels:
    """What twice as many labelled images per class would give, by extrapolating the learning curve.

    Attributes:
        images: The number of labelled images per class now, of the smallest class.
        gain: By how much the accuracy would rise, from 0 to 1: the range that holds 85% of the extrapolated curves.
        classifier: The classifier of the learning curve: that of the head, but ``ridge`` in place of ``logistic``.
    """

    images: int
    gain: tuple[float, float]
    classifier: str


def gain_of_more_labels(
    features: FeatureSet,
    classifier: str,
    *,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> MoreLabels | None:
    """What twice as many labelled images per class would give.

    The learning curve is measured up to four fifths of the images of the smallest class, by 20 random draws, and
    extrapolated.

    Args:
        features: The labelled images, at least two per class.
        classifier: The classifier of the head.
        seed: The seed of the draws.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    Returns:
        ``None`` if the curve is too short or too flat to be extrapolated, or if there are more than 20,000 images, of
        which a curve would take long.
    """
    if len(features) > MOST_IMAGES or int(features.counts.min()) < 2:
        return None
    of_curve = "ridge" if classifier == LOGISTIC else classifier
    curve = learning_curve(features, of_curve, seed=seed, draws=DRAWS, device=device, progress=progress)
    return gain_along(curve, of_curve)


def gain_along(curve: AllWaysResult, classifier: str) -> MoreLabels | None:
    """What twice as many labelled images per class would give, from a learning curve that is measured already.

    Args:
        curve: The learning curve.
        classifier: One of its classifiers.

    Returns:
        ``None`` if the curve is too short or too flat to be extrapolated.
    """
    import numpy as np

    beyond = extrapolate(curve, classifier)
    if beyond is None:
        return None
    now = min(curve.images)
    here, there = (int(np.abs(np.array(beyond.shots) - shots).argmin()) for shots in (now, 2 * now))
    gains = beyond.curves[:, there] - beyond.curves[:, here]
    low, high = np.quantile(gains, [(1 - EXTRAPOLATED_LEVEL) / 2, (1 + EXTRAPOLATED_LEVEL) / 2]).tolist()
    return MoreLabels(images=now, gain=(max(0.0, low), max(0.0, high)), classifier=classifier)

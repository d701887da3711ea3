"""What a head will do on other images of the same classes, and how well that is known.

Shapes: n images of C classes, ``n_c`` of class c.

Image i counts ``a_i`` in the accuracy, which is 1 if it is classified right when it is left out and 0 if not, corrected
for what the head has learnt from more images (:attr:`~nctransfer.heads.left_out_scores.LeftOut.hits`). Classes keep
their shares, so that the variance of the mean is that within classes: ``Σ (n_c/n)² s_c²/n_c`` with ``s_c²`` the
variance of ``a_i`` in class c. Two things make the error larger than that, as simulations with known truth show
(docs/simulations.md, "Promises of heads"):

- The answers are not independent: all of them come from nearly the same training images. So the standard error is
  multiplied by 1.15.
- The correction follows a straight line, which the accuracy may not do. Half of it is taken as its standard error.

And accuracies near 0 and 1 have skewed errors, so that two images that are right and two that are wrong are counted
in (Agresti and Coull 1998). So the interval never shrinks to a point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.heads.calibration import expected_calibration_error
from nctransfer.heads.head import Promise
from nctransfer.intervals import Z

if TYPE_CHECKING:
    import torch

    from nctransfer.heads.left_out_scores import LeftOut

__all__ = ["Lead", "lead_over", "promise_of"]

PSEUDO = 2.0  # images that are right, and as many that are wrong
SHARED = 1.15  # what the standard error is multiplied by, as the answers share their training images
OF_CORRECTION = 0.5  # its standard error, as a share of it


def promise_of(left_out: LeftOut, labels: torch.Tensor) -> Promise:
    """What to expect of a head on other images of the same classes, in the same proportions.

    Args:
        left_out: The classifier, with its temperature, and what it says of each training image that is left out.
        labels: The class codes of the training images, ``(n,)``.

    >>> import numpy as np
    >>> from nctransfer.features.feature_set import FeatureSet
    >>> from nctransfer.heads.left_out_scores import left_out_scores
    >>> line = FeatureSet.from_arrays(np.arange(40.0)[:, None], [*"a" * 20, *"b" * 20])
    >>> promise = promise_of(left_out_scores(line, "ncc"), line.labels)
    >>> promise.accuracy, [round(end, 2) for end in promise.interval]
    (1.0, [0.89, 1.0])
    """
    hits = left_out.hits
    accuracy = min(max(float(hits.mean()), 0.0), 1.0)
    correction = float((hits - left_out.right).mean())
    variance = _variance(hits, labels) + (OF_CORRECTION * correction) ** 2
    scores, temperature = left_out.scores.double(), left_out.linear.temperature
    return Promise(
        accuracy=accuracy,
        interval=_interval(accuracy, variance, len(hits)),
        balanced_accuracy=min(max(float(_class_means(hits, labels).mean()), 0.0), 1.0),
        calibration_error=expected_calibration_error((scores / temperature).softmax(dim=1), labels),
        calibration_error_before=expected_calibration_error(scores.softmax(dim=1), labels),
        images=len(hits),
    )


@dataclass(frozen=True, kw_only=True)
class Lead:
    """By how much one classifier is more accurate than another, over other images of the same classes.

    Attributes:
        difference: The difference of their accuracies.
        interval: Its 95% interval.
    """

    difference: float
    interval: tuple[float, float]

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.interval[0] > 0 or self.interval[1] < 0


def lead_over(one: LeftOut, other: LeftOut, labels: torch.Tensor) -> Lead:
    """By how much one classifier is more accurate than another, from the same images.

    As for one accuracy, images are counted in: one of which only the first is right, one of which only the second is.

    Args:
        one: The first classifier.
        other: The second classifier.
        labels: The class codes of the training images, ``(n,)``.

    >>> import numpy as np
    >>> from nctransfer.features.feature_set import FeatureSet
    >>> from nctransfer.heads.left_out_scores import left_out_scores
    >>> line = FeatureSet.from_arrays(np.arange(40.0)[:, None], [*"a" * 20, *"b" * 20])
    >>> lead = lead_over(left_out_scores(line, "ncc"), left_out_scores(line, "ridge"), line.labels)
    >>> lead.difference, lead.told_apart
    (0.0, False)
    """
    difference = one.hits - other.hits
    corrections = [float((some.hits - some.right).mean()) for some in (one, other)]
    variance = _variance(difference, labels) + OF_CORRECTION**2 * sum(value**2 for value in corrections)
    mean = float(difference.mean())
    half = Z * math.sqrt(variance + 2 / len(labels) ** 2)
    return Lead(difference=mean, interval=(max(mean - half, -1.0), min(mean + half, 1.0)))


def _variance(values: torch.Tensor, labels: torch.Tensor) -> float:
    """The variance of the mean of one value per image, ``(n,)``, over other images of the same classes."""
    counts = labels.bincount().double()
    squares = (values - _class_means(values, labels)[labels]).square()
    sums = squares.new_zeros(len(counts)).index_add_(0, labels, squares)  # (n_c − 1) s_c²
    of_mean = sums / (counts - 1).clamp(min=1) / counts.clamp(min=1)  # s_c²/n_c
    return SHARED**2 * float(((counts / len(values)).square() * of_mean).sum())


def _class_means(values: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean of one value per image, ``(n,)``, over the images of each class, ``(C,)``."""
    counts = labels.bincount()
    return values.new_zeros(len(counts)).index_add_(0, labels, values) / counts.clamp(min=1)


def _interval(accuracy: float, variance: float, images: int) -> tuple[float, float]:
    """The 95% interval of an accuracy with this variance."""
    more = images + 2 * PSEUDO
    centre = (images * accuracy + PSEUDO) / more
    half = Z * math.sqrt(images**2 * variance + PSEUDO * ((1 - centre) ** 2 + centre**2)) / more
    return max(0.0, centre - half), min(1.0, centre + half)

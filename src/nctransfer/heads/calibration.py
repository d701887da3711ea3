"""Probabilities that mean something: a temperature for scores, and how far probabilities are from what happens.

Shapes: n images of C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.intervals import wilson

if TYPE_CHECKING:
    import torch

__all__ = [
    "BINS",
    "ReliabilityBin",
    "calibration_noise",
    "expected_calibration_error",
    "fitted_temperature",
    "log_loss",
    "reliability_bins",
]

BINS = 15
WIDEST = 1e4  # the temperature at most, in units of the standard deviation of the scores of an image; 1/WIDEST at least


def fitted_temperature(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """The temperature T at which ``softmax(scores / T)`` is right on average.

    The mean over images of the probability of the predicted class equals the share of images that are classified
    right. That mean falls as T rises, so bisection finds T. One more image is counted, which is wrong: of n images that
    are all right, one in n + 1 is expected to be wrong (Laplace's rule of succession), so that T never becomes 0. If
    the scores are no better than chance, T is large but finite.

    The temperature with the smallest logarithmic loss (Guo et al., ICML 2017) looks after the probabilities of all
    classes, and not only of the predicted one. On real features it leaves a larger calibration error, see
    ``tests/benchmarks/promises.py``.

    Args:
        scores: The scores of each image, which must not come from a classifier that was fitted to it, ``(n, C)``.
        labels: The class codes, ``(n,)``.

    Returns:
        The temperature; 1 if all scores of every image are equal.

    >>> import torch
    >>> scores, labels = torch.tensor([[2.0, 0.0]]).repeat(9, 1), torch.tensor([0] * 8 + [1])
    >>> p = (scores / fitted_temperature(scores, labels)).softmax(dim=1)[0, 0]
    >>> round(float(p), 3)  # 8 of 9 are right, or 8 of 10 with one more that is wrong
    0.8
    """
    wide = scores.double()
    right = int((wide.argmax(dim=1) == labels).sum())
    wide = wide - wide.amax(dim=1, keepdim=True)
    unit = float(wide.std(dim=1, correction=0).square().mean().sqrt())
    if not unit > 0:
        return 1.0
    wide /= unit
    wanted = right / (len(wide) + 1)
    low, high = -math.log(WIDEST), math.log(WIDEST)  # of T
    while high - low > 1e-7:
        middle = (low + high) / 2
        found = float((1 / (wide * math.exp(-middle)).exp().sum(dim=1)).mean())  # as the largest score is 0
        low, high = (middle, high) if found > wanted else (low, middle)
    return unit * math.exp((low + high) / 2)


def log_loss(scores: torch.Tensor, labels: torch.Tensor, temperature: float = 1.0) -> float:
    """The mean over images of ``−log p`` of the right class, with ``p = softmax(scores / temperature)``.

    >>> import torch
    >>> round(log_loss(torch.zeros(3, 2), torch.tensor([0, 1, 1])), 4)  # log 2
    0.6931
    """
    import torch

    return float(torch.nn.functional.cross_entropy(scores.double() / temperature, labels))


def expected_calibration_error(probabilities: torch.Tensor, labels: torch.Tensor) -> float:
    """The expected calibration error of the predicted classes, with 15 bins of equally many images.

    Images are sorted by the probability of their predicted class. In each bin, the mean of these probabilities is
    compared with the share of images that are classified right; the error is the mean of the absolute differences,
    weighted by images. Few images alone make it larger than zero, see :func:`calibration_noise`.

    Args:
        probabilities: ``(n, C)``.
        labels: The class codes, ``(n,)``.

    >>> import torch
    >>> sure = torch.tensor([[0.9, 0.1]]).repeat(150, 1)  # bins of 10, in each of which 8 are right
    >>> round(expected_calibration_error(sure, torch.tensor([0, 0, 0, 0, 1] * 30)), 3)
    0.1
    """
    top, predicted = probabilities.double().max(dim=1)
    gaps = ((predicted == labels).double() - top)[top.argsort(stable=True)]
    return sum(abs(float(part.sum())) for part in _bins(gaps)) / len(gaps)


def calibration_noise(probabilities: torch.Tensor) -> float:
    """The expected calibration error that perfectly calibrated probabilities would show on as many images.

    In a bin whose images are right with probabilities p, the sum of what happens minus what is expected has mean zero
    and variance ``V = Σ p(1 − p)``, and its absolute value is ``√(2V/π)`` on average if it is normal. For few images
    that are nearly certain it is at most ``2 Σ p(1 − p)``.

    Args:
        probabilities: ``(n, C)``.

    >>> import torch
    >>> round(calibration_noise(torch.tensor([[0.9, 0.1]]).repeat(150, 1)), 3)
    0.076
    """
    top = probabilities.double().amax(dim=1).sort().values
    variances = (float(part.sum()) for part in _bins(top * (1 - top)))
    return sum(min(math.sqrt(2 * v / math.pi), 2 * v) for v in variances) / len(top)


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Images whose predicted classes have similar probabilities.

    Attributes:
        probability: The mean probability of the predicted class, from 0 to 1.
        accuracy: The share of the images that are classified right.
        interval: The 95% interval of that share (Wilson's).
        images: The number of images.
    """

    probability: float
    accuracy: float
    interval: tuple[float, float]
    images: int


def reliability_bins(probability: torch.Tensor, right: torch.Tensor) -> tuple[ReliabilityBin, ...]:
    """The bins of :func:`expected_calibration_error`: up to 15 of equally many images, the least probable first.

    Args:
        probability: The probability of the predicted class of each image, ``(n,)``.
        right: Whether the prediction is right, ``(n,)`` bool.

    >>> import torch
    >>> bins = reliability_bins(torch.tensor([0.5, 0.75] * 15), torch.tensor([True, True, False, False, True] * 6))
    >>> len(bins), bins[0].images, bins[0].probability
    (15, 2, 0.5)
    """
    order = probability.argsort(stable=True)
    found = []
    for given, hits in zip(_bins(probability.double()[order]), _bins(right.double()[order]), strict=True):
        low, high = wilson(hits.sum(), hits.new_tensor(len(hits)))
        found.append(
            ReliabilityBin(
                probability=float(given.mean()),
                accuracy=float(hits.mean()),
                interval=(max(0.0, float(low)), min(1.0, float(high))),
                images=len(hits),
            )
        )
    return tuple(found)


def _bins(values: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Sorted values ``(n,)`` in up to 15 bins of equally many."""
    return values.tensor_split(min(BINS, len(values)))

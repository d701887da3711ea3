"""How many labels are wrong, and how probable it is that a given one is: a mixture of right and wrong labels.

The scores of an image that is left out do not depend on its own label. So they give the probability of every label that
it might have got: with probability ``1 − π`` its true class c, which the scores predict with probability ``p_c``, and
with probability π another class, each as likely as any other:

    P(given label y) = (1 − π) p_y + π (1 − p_y)/(C − 1),    p = softmax(β s).

The β and π under which the given labels are most likely are the scale of the scores and the rate of wrong labels. Where
classes overlap, many images have a second class that is nearly as likely as the first; a smaller β explains them. Wrong
labels are those that no such β explains: labels of classes that the scores exclude.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

__all__ = ["LabelNoise", "fitted_noise", "probability_wrong"]

ROWS = 5000  # how many rows β and π are fitted to, at most
SCALES = [step / 2 for step in range(-6, 13)]  # log β: the likelihood may have several maxima
FINEST = 0.03
STEPS = 40
TINY = 1e-300
MOST = 0.45  # a higher rate would take labels that the features do not tell for wrong ones
PRIOR = 1.0  # how many right labels are added to those counted, so that no evidence means no noise


class LabelNoise(NamedTuple):
    """The scale of scores and the rate of wrong labels.

    Attributes:
        scale: β, by which scores are multiplied before the softmax.
        rate: π, the share of labels that are wrong.
        likelihood: The mean logarithm of the probability of a given label.
    """

    scale: float
    rate: float
    likelihood: float


def fitted_noise(scores: torch.Tensor, labels: torch.Tensor) -> LabelNoise:
    """The maximum-likelihood scale of leave-one-out scores together with the rate of wrong labels.

    Args:
        scores: ``(n, C)``, of images that were left out; of more than :data:`ROWS` images, evenly spaced ones are used.
        labels: The given labels, ``(n,)``.

    >>> import torch
    >>> line = torch.linspace(-9, 9, 100, dtype=torch.float64)
    >>> scores, labels = torch.stack([-line, line], dim=1), (line > 0).long()
    >>> labels[[3, -3]] = torch.tensor([1, 0])
    >>> round(fitted_noise(scores, labels).rate, 2)
    0.02
    """
    import torch

    every = -(-len(labels) // ROWS)
    scores, labels = scores[::every].double(), labels[::every]
    wanted = labels[:, None]

    @functools.cache
    def tried(log_scale: float) -> tuple[float, float]:
        own = torch.log_softmax(scores * math.exp(log_scale), dim=1).gather(1, wanted)[:, 0].exp()
        return _rate(own, scores.shape[1])

    centre = max(SCALES, key=lambda log_scale: tried(log_scale)[0])
    step = SCALES[1] - SCALES[0]
    while (step := step / 2) > FINEST:
        centre = max((centre, centre - step, centre + step), key=lambda log_scale: tried(log_scale)[0])
    likelihood, rate = tried(centre)
    return LabelNoise(scale=math.exp(centre), rate=rate, likelihood=likelihood / len(labels))


def probability_wrong(probabilities: torch.Tensor, rate: float, classes: int) -> torch.Tensor:
    """The probability that each given label is wrong: ``π (1 − p)/(C − 1)`` over the probability of the label.

    Args:
        probabilities: The probability p of each given label by the scores, ``(n,)``.
        rate: π, the share of labels that are wrong.
        classes: C, the number of classes.

    >>> import torch
    >>> [round(float(wrong), 3) for wrong in probability_wrong(torch.tensor([0.9, 0.1, 0.001]), rate=0.1, classes=2)]
    [0.012, 0.5, 0.991]
    """
    import torch

    wrong = rate * (1 - probabilities) / (classes - 1)
    right = (1 - rate) * probabilities
    return wrong / (wrong + right).clamp(min=torch.finfo(probabilities.dtype).tiny)


def _rate(own: torch.Tensor, classes: int) -> tuple[float, float]:
    """The log-likelihood of labels at the best rate, and that rate: a concave function of the rate, by Newton's method.

    A step that leaves the interval in which the maximum is known to lie is replaced by its middle.
    """
    other = (1 - own) / (classes - 1)
    slope = other - own
    low, high, rate = 0.0, MOST, 0.05
    for _ in range(STEPS):
        ratios = slope / (own + rate * slope).clamp(min=TINY)
        gradient = float(ratios.sum()) - PRIOR / (1 - rate)
        low, high = (rate, high) if gradient > 0 else (low, rate)
        new = rate + gradient / (float(ratios.square().sum()) + PRIOR / (1 - rate) ** 2)
        new = new if low <= new <= high else (low + high) / 2
        done, rate = abs(new - rate) < 1e-7, new
        if done:
            break
    return float((own + rate * slope).clamp(min=TINY).log().sum()) + PRIOR * math.log1p(-rate), rate

"""Confidence intervals of 95%: what they refer to, of averages over pairs of classes, and of proportions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

__all__ = ["INTERVALS", "Interval", "jackknife", "pair_average", "t_quantile", "wilson", "without_each"]

Z = 1.96  # the 97.5% point of the standard normal distribution


def pair_average(pairs: torch.Tensor) -> float:
    """The mean over ordered pairs i ≠ j of a matrix ``(C, C)``."""
    classes = len(pairs)
    return float((pairs.sum() - pairs.diagonal().sum()) / (classes * (classes - 1)))


def jackknife(pairs: torch.Tensor, is_positive: bool = False) -> tuple[float, float]:
    """The 95% interval of an average over ordered pairs of classes: delete-one-class jackknife, in closed form.

    With S the sum of all entries, the average without class c is ``θ₍₋c₎ = (S − row_c − col_c)/((C−1)(C−2))``, the
    squared standard error is ``se² = (C−1)/C · Σ(θ₍₋c₎ − θ̄)²``, and the interval is ``θ ± t_{C−1} se``. It refers to
    the draw of classes, as in G22.

    The average of positive values is skewed. Its interval is that of its logarithm, whose lower end is above zero.

    Args:
        pairs: ``(C, C)`` with zeros on the diagonal, C ≥ 3. Entries that are NaN are left out of all averages.
        is_positive: Whether the interval is taken on the logarithmic scale, unless an average is zero or negative.

    Returns:
        The lower and the upper end; NaN if all pairs are left out, or all but those of one class.

    >>> import torch
    >>> jackknife(torch.ones(4, 4).fill_diagonal_(0))
    (1.0, 1.0)
    """
    is_left_out = pairs.isnan()
    values, counted = pairs.masked_fill(is_left_out, 0), (~is_left_out).to(pairs.dtype).fill_diagonal_(0)
    without = without_each(values) / without_each(counted)
    average = float(values.sum() / counted.sum())
    if is_positive and average > 0 and bool((without > 0).all()):
        factor = math.exp(_jackknife_half_width(without.log()))
        return average / factor, average * factor
    half = _jackknife_half_width(without)
    return average - half, average + half


def without_each(pairs: torch.Tensor) -> torch.Tensor:
    """The sum of all entries without the row and the column of each class, ``(C,)``; the diagonal must be zero."""
    return pairs.sum() - pairs.sum(dim=0) - pairs.sum(dim=1)


def _jackknife_half_width(without: torch.Tensor) -> float:
    """``t_{C−1} se``, ``se² = (C−1)/C Σ(θ₍₋c₎ − θ̄)²``, from the C estimates ``θ₍₋c₎`` that leave out one class each."""
    classes = len(without)
    error = math.sqrt((classes - 1) / classes * float((without - without.mean()).square().sum()))
    return t_quantile(classes - 1) * error


def t_quantile(degrees: float, probability: float = 0.975) -> float:
    """A quantile of Student's t distribution; of the normal distribution for infinite degrees of freedom.

    >>> round(t_quantile(9), 3), round(t_quantile(math.inf), 3)
    (2.262, 1.96)
    """
    from scipy.special import ndtri, stdtrit

    return float(ndtri(probability) if math.isinf(degrees) else stdtrit(degrees, probability))


Interval = Literal["episodes", "samples", "classes", "disjoint"]
INTERVALS: Mapping[Interval, str] = {
    "episodes": "over the draw of episodes from these images (not over other images or classes)",
    "samples": "over other images of these classes (jackknife that leaves out a tenth of the images at a time)",
    "classes": "over other classes of this kind, each with its images (delete-one-class jackknife)",
    "disjoint": "over episodes that share no image",
}
"""What an interval refers to."""


def wilson(hits: torch.Tensor, trials: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Wilson's 95% interval of a proportion, ``hits / trials``, for tensors of any shape.

    ``(p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n)``, with p the proportion and n the number of trials.

    Args:
        hits: Successes, float64.
        trials: Trials, float64, at least 1.

    Returns:
        The lower and the upper end.

    >>> import torch
    >>> low, high = wilson(torch.tensor(8.0), torch.tensor(10.0))
    >>> round(float(low), 3), round(float(high), 3)
    (0.49, 0.943)
    """
    p, z2 = hits / trials, Z**2
    scale = 1 + z2 / trials
    centre = (p + z2 / (2 * trials)) / scale
    half = (z2 * (p * (1 - p) + z2 / (4 * trials)) / trials).sqrt() / scale
    return centre - half, centre + half

"""Intervals of confidence: jackknife over classes, mean over episodes, Wilson for shares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from nctransfer.errors import EpisodeError

if TYPE_CHECKING:
    import torch

__all__ = ["INTERVALS", "Interval", "half_width", "jackknife", "pair_average", "wilson"]


def pair_average(pairs: torch.Tensor) -> float:
    """The mean over ordered pairs i ≠ j of a matrix ``(C, C)``."""
    classes = len(pairs)
    return float((pairs.sum() - pairs.diagonal().sum()) / (classes * (classes - 1)))


def jackknife(pairs: torch.Tensor) -> tuple[float, float]:
    """95% interval of an average over ordered pairs: delete-one-class jackknife, in closed form.

    ``θ₍₋c₎ = (S − row_c − col_c)/((C−1)(C−2))``, ``se² = (C−1)/C · Σ(θ₍₋c₎ − θ̄)²``, ``θ ± t_{C−1} se``. Classes are
    the random draw, as in G22.

    Args:
        pairs: ``(C, C)`` with zeros on the diagonal, C ≥ 3.

    >>> import torch
    >>> jackknife(torch.ones(4, 4).fill_diagonal_(0))
    (1.0, 1.0)
    """
    from scipy.special import stdtrit

    classes = len(pairs)
    without = (pairs.sum() - pairs.sum(dim=0) - pairs.sum(dim=1)) / ((classes - 1) * (classes - 2))
    error = math.sqrt((classes - 1) / classes * float((without - without.mean()).square().sum()))
    reach = float(stdtrit(classes - 1, 0.975)) * error
    average = pair_average(pairs)
    return average - reach, average + reach


Interval = Literal["episodes", "classes", "disjoint"]
INTERVALS: Mapping[Interval, str] = {
    "episodes": "over the draw of episodes from these samples (not over other samples or classes)",
    "classes": "over the draw of classes (delete-one-class jackknife)",
    "disjoint": "over episodes of which no two share a sample",
}
"""What an interval is of."""


def half_width(values: torch.Tensor, classes: torch.Tensor, count: int, interval: Interval) -> float:
    """Half the width of the 95% interval of a mean over episodes.

    - ``episodes``: ``1.96 s/√E``, as is customary. It shrinks with the number of episodes, whatever the data.
    - ``disjoint``: ``t_{E−1} s/√E`` of episodes that share no sample.
    - ``classes``: ``t_{C−1} se``, ``se² = (C−1)/C Σ(θ₍₋c₎ − θ̄)²``, with ``θ₍₋c₎`` the mean over the episodes without c.

    Args:
        values: Of each episode, ``(E,)``.
        classes: Codes of its classes, ``(E, w)``.
        count: The number of classes, C.
        interval: Which.
    """
    from scipy.special import stdtrit

    if interval == "classes":
        of_class, with_class = values.new_zeros(count), values.new_zeros(count)
        of_class.index_add_(0, classes.flatten(), values.repeat_interleave(classes.shape[1]))
        with_class += classes.flatten().bincount(minlength=count)
        if bool((with_class == len(values)).any()):
            raise EpisodeError(
                f"a class is in all of {len(values):,} episodes: too few for an interval over the draw of classes",
                "give more --episodes, or another --interval",
            )
        without = (values.sum() - of_class) / (len(values) - with_class)
        error = math.sqrt((count - 1) / count * float((without - without.mean()).square().sum()))
        return float(stdtrit(count - 1, 0.975)) * error
    factor = 1.96 if interval == "episodes" else float(stdtrit(len(values) - 1, 0.975))
    return factor * float(values.std()) / math.sqrt(len(values))


def wilson(right: float, asked: float) -> tuple[float, float]:
    """95% interval of a share."""
    rate, z2 = right / asked, 1.96**2
    middle = (rate + z2 / (2 * asked)) / (1 + z2 / asked)
    reach = math.sqrt(z2 * (rate * (1 - rate) + z2 / (4 * asked)) / asked) / (1 + z2 / asked)
    return middle - reach, middle + reach

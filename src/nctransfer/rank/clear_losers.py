"""Which candidates are clearly worse than the best of the others, also where few images tell them apart.

Two candidates often differ on few images: both classify most of them right, or one labelled image that is far from all
others spoils a class. Then their difference is far from normal, and with luck the few images all speak for one of the
two. The comparison with the best takes a standard error as well known as all images together make it. So a candidate is
a clear loser only if a second test agrees: Student's t with as many degrees of freedom as images decide.

With ``u_k`` how much the difference of two candidates depends on image k, ``(Σ u²)² / Σ u⁴`` images decide (Kish's
effective number). A single image that decides gives 1, and n images that matter alike give n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nctransfer.evaluation.image_influence import common_draws
from nctransfer.evaluation.multiple_comparisons import compare_with_best

if TYPE_CHECKING:
    import torch

    from nctransfer.evaluation.image_influence import Estimate
    from nctransfer.evaluation.multiple_comparisons import WithBest
    from nctransfer.evaluation.spread import Spread

__all__ = ["behind_best", "clear_losers", "deciding_images"]


def clear_losers(estimates: Sequence[Estimate], level: float) -> tuple[bool, ...]:
    """Whether each candidate is clearly worse than another one.

    It is if it is no possible best, see :func:`~nctransfer.evaluation.multiple_comparisons.compare_with_best`, and if
    the t test of its difference to another candidate rejects at ``1 − level`` over K − 1 (Bonferroni).

    Args:
        estimates: K estimates on the same images, with one number of shots, and from the same seed.
        level: The probability with which the best is not among the losers, at least.

    >>> import torch
    >>> from nctransfer.evaluation.image_influence import Estimate
    >>> def candidate(number, accuracy, images):
    ...     influence = torch.zeros(40, dtype=torch.float64)
    ...     influence[number * 20 : number * 20 + images] = 0.1 / images**0.5
    ...     draws = torch.full((2,), accuracy, dtype=torch.float64)
    ...     return Estimate(accuracy=accuracy, of_images=influence, of_draws=draws, interval=(0, 1))
    >>> clear_losers([candidate(0, 0.4, 20), candidate(1, 0.8, 20)], 0.95)
    (True, False)
    >>> clear_losers([candidate(0, 0.4, 1), candidate(1, 0.8, 1)], 0.95)  # two images decide
    (False, False)
    """
    if len(estimates) < 2:
        return (False,) * len(estimates)
    values, spread = common_draws(estimates)
    found = compare_with_best(values, spread, level)
    is_worse = _is_worse_than_another(values, spread, len(estimates[0].of_images), level)
    return tuple(not one.is_possible and worse for one, worse in zip(found, is_worse, strict=True))


def deciding_images(influences: torch.Tensor) -> torch.Tensor:
    """How many images decide the difference of each two candidates, ``(K, K)``; infinite if there is no difference.

    Args:
        influences: How much each of K accuracies depends on each of n images, ``(n, K)``.

    >>> import torch
    >>> deciding_images(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, -1.0]]))[0].tolist()
    [inf, 3.0]
    """
    import torch

    rows = []
    for one in influences.T:
        squares = (influences - one[:, None]).square()
        total, fourth = squares.sum(dim=0), squares.square().sum(dim=0)
        rows.append((total.square() / fourth).where(fourth > 0, torch.inf))
    return torch.stack(rows)


def behind_best(estimates: Sequence[Estimate], level: float, kept: Sequence[bool]) -> tuple[WithBest, ...]:
    """How far each candidate is behind the best, by intervals that agree with :func:`clear_losers`.

    Both tests have their say: the larger of their factors counts.

    Args:
        estimates: K ≥ 2 estimates on the same images, with one number of shots, and from the same seed.
        level: The level of the intervals.
        kept: Which candidates may be the best.
    """
    values, spread = common_draws(estimates)
    second = _factors(spread, len(estimates[0].of_images), level)
    return compare_with_best(values, spread, level, second=second, kept=kept)


def _factors(spread: Spread, images: int, level: float) -> torch.Tensor:
    """By how many standard errors each candidate must be behind each other one in the second test, ``(K, K)``."""
    import torch
    from scipy.special import stdtrit

    influences = spread.vectors[:images]
    degrees = (deciding_images(influences) - 1).clamp(min=1, max=spread.degrees)
    return torch.from_numpy(stdtrit(degrees.numpy(), 1 - (1 - level) / (influences.shape[1] - 1)))


def _is_worse_than_another(values: Sequence[float], spread: Spread, images: int, level: float) -> list[bool]:
    import torch

    means = torch.tensor(values, dtype=torch.float64)
    behind = means - means[:, None]  # (K, K): how far i is behind j
    reach = _factors(spread, images, level) * spread.errors_of_differences()
    worse: list[bool] = (behind > reach).any(dim=1).tolist()
    return worse

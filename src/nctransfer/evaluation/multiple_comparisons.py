"""Comparisons of several estimates at once: with the first, and with the best of the others."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from nctransfer.intervals import t_quantile

if TYPE_CHECKING:
    import torch

    from nctransfer.evaluation.spread import Spread

__all__ = ["Difference", "Verdict", "WithBest", "compare_with_best", "compare_with_first"]

DRAWS = 20_000  # of the Monte Carlo quantiles: their level is known to 0.15 points

Verdict = Literal["better", "worse", "not told apart"]


class Difference(NamedTuple):
    """A difference of two estimates, its interval, and what that shows."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        """``better`` or ``worse`` if the interval excludes zero."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "not told apart"


class WithBest(NamedTuple):
    """How an estimate compares with the best of the others.

    Attributes:
        difference: The estimate minus the largest of the others, and its interval. Its verdict is ``worse`` exactly if
            the true value cannot be the largest.
        is_possible: Whether the true value may be the largest of all.
    """

    difference: Difference
    is_possible: bool


def compare_with_first(estimates: Sequence[float], spread: Spread) -> tuple[Difference, ...]:
    """The difference of each further estimate to the first, with simultaneous 95% intervals (Dunnett 1955).

    All intervals hold together in 95% of studies: the chance of any wrong verdict is 5%, however many there are. The
    half-widths are ``q · se``, q the 95% point of the largest ``|T_i|`` of the K − 1 correlated t variables, by Monte
    Carlo with a fixed seed.

    Args:
        estimates: K estimates.
        spread: How they vary together.

    Returns:
        K − 1 differences, in units of the estimates.
    """
    errors = spread.errors_of_differences()[0].tolist()
    factor = t_quantile(spread.degrees) if len(estimates) == 2 else _largest(_t_draws(spread).of(0).abs())
    first = estimates[0]
    return tuple(
        Difference(one - first, one - first - factor * error, one - first + factor * error)
        for one, error in zip(estimates[1:], errors[1:], strict=True)
    )


def compare_with_best(estimates: Sequence[float], spread: Spread) -> tuple[WithBest, ...]:
    """Multiple comparisons with the best (Hsu 1984): which estimates may be of the best, and by how much they miss it.

    Estimate i is a possible best if ``θ̂_i + q_i se_ij ≥ θ̂_j`` for all j, with ``q_i`` the one-sided 95% point of the
    largest of the K − 1 correlated t variables ``T_ij``. The true best is among them in at least 95% of studies,
    however many are equal. The interval of ``θ_i − max θ_j`` goes from ``min(θ̂_i − θ̂_j − q_j se_ij)`` over the other
    possible bests j, at most 0, to ``min(θ̂_i − θ̂_j + q_i se_ij)``, at least 0.

    Args:
        estimates: K estimates, K ≥ 2.
        spread: How they vary together.
    """
    import torch

    values = torch.tensor(estimates, dtype=torch.float64)
    count = len(values)
    if count == 2:
        factors = values.new_full((2,), t_quantile(spread.degrees, 0.95))
    else:
        draws = _t_draws(spread)
        factors = values.new_tensor([_largest(draws.of(number)) for number in range(count)])
    itself = torch.eye(count, dtype=torch.bool)
    gaps = values[:, None] - values  # (K, K): i minus j
    reach = factors[:, None] * spread.errors_of_differences()  # (K, K): q_i se_ij
    upper = (gaps + reach).masked_fill(itself, math.inf).amin(dim=1)
    is_possible = upper >= 0
    lower = (gaps - reach.T).masked_fill(itself | ~is_possible, math.inf).amin(dim=1)
    lower = lower.where(lower.isfinite(), 0).clamp(max=0)  # the only possible best is not below any other
    to_best = gaps.masked_fill(itself, math.inf).amin(dim=1)
    return tuple(
        WithBest(Difference(value, low, max(high, 0.0)), possible)
        for value, low, high, possible in zip(
            to_best.tolist(), lower.tolist(), upper.tolist(), is_possible.tolist(), strict=True
        )
    )


def _largest(draws: torch.Tensor) -> float:
    """The 95% point of the largest of each row; 0 if no row has any."""
    return float(draws.amax(dim=1).quantile(0.95)) if draws.shape[1] else 0.0


class _TDraws(NamedTuple):
    """Draws of K estimates about their truth, as correlated as these are.

    Attributes:
        estimates: Multivariate t, ``(DRAWS, K)``.
        errors: The standard errors of all differences of two, ``(K, K)``.
    """

    estimates: torch.Tensor
    errors: torch.Tensor

    def of(self, number: int) -> torch.Tensor:
        """The t variables of all differences to one estimate, ``(DRAWS, ≤ K − 1)``; without those that do not vary."""
        varies = self.errors[number] > 0
        return (self.estimates[:, varies] - self.estimates[:, number, None]) / self.errors[number, varies]


def _t_draws(spread: Spread) -> _TDraws:
    """Draws of the estimates; their correlations are those of the jackknife, if there is one."""
    import torch

    vectors = spread.jackknife if len(spread.jackknife) else spread.draw
    values, axes = torch.linalg.eigh(vectors.T @ vectors)
    normal, chi = _random(len(values), spread.degrees)
    draws = normal @ (axes * values.clamp(min=0).sqrt()).T / chi[:, None]
    errors = torch.stack([(vectors - column[:, None]).square().sum(dim=0).sqrt() for column in vectors.T])
    return _TDraws(draws, errors)


@functools.lru_cache(maxsize=4)
def _random(count: int, degrees: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Standard normal variables ``(DRAWS, count)``, and the roots of χ²/degrees that divide them, ``(DRAWS,)``."""
    import numpy as np
    import torch

    generator = np.random.default_rng(0)
    chi = np.ones(DRAWS) if math.isinf(degrees) else np.sqrt(generator.chisquare(degrees, DRAWS) / degrees)
    return torch.from_numpy(generator.standard_normal((DRAWS, count))), torch.from_numpy(chi)

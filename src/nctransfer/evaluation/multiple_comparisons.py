"""Comparisons of several estimates at once: with the first, and with the best of the others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from nctransfer.intervals import t_quantile

if TYPE_CHECKING:
    import torch

    from nctransfer.evaluation.spread import Spread

__all__ = ["Difference", "Verdict", "WithBest", "compare_with_best", "compare_with_first"]

DRAWS = 10_000  # of the Monte Carlo quantiles: their level is known to 0.2 points
CHUNK = 2_000_000  # numbers drawn at a time
MOST_DEGREES = 100  # with more, standard errors are as good as known

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
        value: The estimate minus the largest of the others.
        low: The lower end of its interval, at most 0.
        high: The upper end, at least 0.
        is_possible: Whether the true value may be the largest of all.
        verdict: ``worse`` than the best if it may not be the largest; ``better`` if no other may.
    """

    value: float
    low: float
    high: float
    is_possible: bool
    verdict: Verdict


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
    factor = t_quantile(spread.degrees) if len(estimates) == 2 else float(_quantiles(spread, two_sided=True)[0])
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
    factors = _quantiles(spread) if count > 2 else values.new_full((2,), t_quantile(spread.degrees, 0.95))
    itself = torch.eye(count, dtype=torch.bool)
    gaps = values[:, None] - values  # (K, K): i minus j
    reach = factors[:, None] * spread.errors_of_differences()  # (K, K): q_i se_ij
    upper = (gaps + reach).masked_fill(itself, math.inf).amin(dim=1)
    is_possible = upper >= 0
    lower = (gaps - reach.T).masked_fill(itself | ~is_possible, math.inf).amin(dim=1)
    lower = lower.where(lower.isfinite(), 0).clamp(max=0)  # the only possible best is not below any other
    to_best = gaps.masked_fill(itself, math.inf).amin(dim=1)
    is_alone = int(is_possible.sum()) == 1
    return tuple(
        WithBest(value, low, max(high, 0.0), possible, _verdict(possible, is_alone))
        for value, low, high, possible in zip(
            to_best.tolist(), lower.tolist(), upper.tolist(), is_possible.tolist(), strict=True
        )
    )


def _verdict(is_possible: bool, is_alone: bool) -> Verdict:
    if not is_possible:
        return "worse"
    return "better" if is_alone else "not told apart"


def _quantiles(spread: Spread, *, two_sided: bool = False) -> torch.Tensor:
    """For each estimate the 95% point of its largest t variable, ``(K,)``: ``max_j (ε_j − ε_i)/se_ij``.

    By Monte Carlo: errors ε as correlated as the estimates, and standard errors as they come from as many
    replicates, each difference with its own. (One χ² for all, as in the textbook's multivariate t, would be too small:
    the largest of many t variables often is the one with a small standard error.)

    Args:
        spread: How the K estimates vary together.
        two_sided: Whether ``|T|`` counts.
    """
    import torch

    values, axes = torch.linalg.eigh(spread.vectors.T @ spread.vectors)
    root = axes * values.clamp(min=0).sqrt() @ axes.T  # of the covariance, (K, K), the same in any order of estimates
    is_constant = spread.errors_of_differences() <= 1e-9 * spread.errors().max()
    largest = []
    for errors, replicates in _normal(len(root), min(spread.degrees, MOST_DEGREES)):
        changes, replicated = errors @ root, replicates @ root
        products = replicated.mT @ replicated / replicates.shape[1]  # (n, K, K)
        squares = products.diagonal(dim1=1, dim2=2)
        scale = (squares[:, :, None] + squares[:, None] - 2 * products).clamp(min=0).sqrt()
        t = (changes[:, None] - changes[:, :, None]) / scale
        t = (t.abs() if two_sided else t).masked_fill(is_constant, 0)
        largest.append(t.amax(dim=2))
    found: torch.Tensor = torch.cat(largest).quantile(0.95, dim=0)
    return found


def _normal(count: int, degrees: float) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Standard normal variables, always the same: ``(n, count)`` and ``(n, degrees, count)``, up to DRAWS in all."""
    import numpy as np
    import torch

    generator = np.random.default_rng(0)
    rows = int(degrees)
    size = max(1, CHUNK // (count * max(count, rows)))
    for start in range(0, DRAWS, size):
        here = min(size, DRAWS - start)
        errors, replicates = generator.standard_normal((here, count)), generator.standard_normal((here, rows, count))
        yield torch.from_numpy(errors), torch.from_numpy(replicates)

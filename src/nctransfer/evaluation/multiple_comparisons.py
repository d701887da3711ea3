"""Comparisons of several estimates at once: with the first, and with the best of the others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from nctransfer.errors import SettingError
from nctransfer.intervals import t_quantile

if TYPE_CHECKING:
    import torch

    from nctransfer.evaluation.spread import Spread

__all__ = [
    "Difference",
    "Verdict",
    "WithBest",
    "band_factor",
    "compare_with_best",
    "compare_with_first",
    "range_factor",
]

DRAWS = 10_000  # of the Monte Carlo quantiles, at least: the level of 95% is known to 0.2 points
TAIL = 300  # draws above a quantile: how often it is exceeded is known to 6% of itself
MOST_DRAWS = 100_000
CHUNK = 200_000  # differences at a time, few enough for the processor's cache
MOST_DEGREES = 1000  # from here on standard errors are as good as known
EACH = slice(None)
MOST_TOGETHER = 100  # estimates; with more, Bonferroni's inequality gives the factor

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


def compare_with_first(estimates: Sequence[float], spread: Spread, level: float = 0.95) -> tuple[Difference, ...]:
    """The difference of each further estimate to the first, with simultaneous intervals (Dunnett 1955).

    All intervals hold together in 95% of studies: the chance of any wrong verdict is 5%, however many there are. The
    half-widths are ``q · se``, q the 95% point of the largest ``|T_i|`` of the K − 1 correlated t variables, by Monte
    Carlo with a fixed seed.

    Args:
        estimates: K estimates.
        spread: How they vary together.
        level: The share of studies in which all intervals hold, between 0 and 1.

    Returns:
        K − 1 differences, in units of the estimates.

    Raises:
        SettingError: The level is not between 0 and 1.

    >>> import torch
    >>> from nctransfer.evaluation.spread import Spread
    >>> spread = Spread(vectors=0.01 * torch.eye(2, dtype=torch.float64), degrees=20)
    >>> [found] = compare_with_first([0.80, 0.84], spread)
    >>> found.verdict, round(found.low, 3), round(found.high, 3)
    ('better', 0.011, 0.069)
    >>> compare_with_first([0.80, 0.84], spread, level=0.99)[0].verdict
    'not told apart'
    """
    _check(level)
    errors = spread.errors_of_differences()[0].tolist()
    if len(estimates) == 2:
        factor = t_quantile(spread.degrees, (1 + level) / 2)
    else:
        factor = float(_quantiles(spread, level, of=slice(1), two_sided=True)[0])
    first = estimates[0]
    return tuple(
        Difference(one - first, one - first - factor * error, one - first + factor * error)
        for one, error in zip(estimates[1:], errors[1:], strict=True)
    )


def compare_with_best(
    estimates: Sequence[float],
    spread: Spread,
    level: float = 0.95,
    *,
    second: torch.Tensor | None = None,
    kept: Sequence[bool] | None = None,
) -> tuple[WithBest, ...]:
    """Multiple comparisons with the best (Hsu 1984): which estimates may be of the best, and by how much they miss it.

    Estimate i is a possible best if ``θ̂_i + q_i se_ij ≥ θ̂_j`` for all j, with ``q_i`` the one-sided 95% point of the
    largest of the K − 1 correlated t variables ``T_ij``. The true best is among them in at least 95% of studies,
    however many are equal. The interval of ``θ_i − max θ_j`` goes from ``min(θ̂_i − θ̂_j − q_j se_ij)`` over the other
    possible bests j, at most 0, to ``min(θ̂_i − θ̂_j + q_i se_ij)``, at least 0.

    Args:
        estimates: K estimates, K ≥ 2.
        spread: How they vary together.
        level: In place of 95%, between 0 and 1.
        second: The factors of a second test, ``(K, K)``: that of i against j is used where it is larger than ``q_i``.
        kept: The possible bests, if another rule has chosen them.

    Raises:
        SettingError: The level is not between 0 and 1.

    >>> import torch
    >>> from nctransfer.evaluation.spread import Spread
    >>> spread = Spread(vectors=0.01 * torch.eye(3, dtype=torch.float64), degrees=20)
    >>> [one.is_possible for one in compare_with_best([0.80, 0.79, 0.76], spread)]
    [True, True, False]
    >>> [one.is_possible for one in compare_with_best([0.80, 0.79, 0.76], spread, level=0.99)]
    [True, True, True]
    """
    import torch

    _check(level)
    values = torch.tensor(estimates, dtype=torch.float64)
    count = len(values)
    factors = (
        _quantiles(spread, level)
        if count > 2
        else values.new_full((2,), t_quantile(spread.degrees, level)).clamp(
            min=0
        )  # the largest estimate stays possible
    )
    itself = torch.eye(count, dtype=torch.bool)
    gaps = values[:, None] - values  # (K, K): i minus j
    either = factors[:, None] if second is None else factors[:, None].maximum(second)
    reach = either * spread.errors_of_differences()  # (K, K): q_i se_ij
    upper = (gaps + reach).masked_fill(itself, math.inf).amin(dim=1)
    is_possible = upper >= 0 if kept is None else torch.tensor(kept, dtype=torch.bool)
    lower = (gaps - reach.T).masked_fill(itself | ~is_possible, math.inf).amin(dim=1)
    lower = lower.where(lower.isfinite(), 0).clamp(max=0)  # the only possible best is not below any other
    to_best = gaps.masked_fill(itself, math.inf).amin(dim=1)
    is_alone = int(is_possible.sum()) == 1
    return tuple(
        WithBest(value, low, max(high, 0.0) if possible else 0.0, possible, _verdict(possible, is_alone))
        for value, low, high, possible in zip(
            to_best.tolist(), lower.tolist(), upper.tolist(), is_possible.tolist(), strict=True
        )
    )


def band_factor(spread: Spread, level: float = 0.95) -> float:
    """How many standard errors the intervals of K estimates extend, so that all of them hold together.

    It is the 95% point of the largest ``|T_i|`` of the K correlated t variables, by Monte Carlo with a fixed seed.

    Args:
        spread: How the estimates vary together.
        level: The share of studies in which all intervals hold, between 0 and 1.

    >>> import torch
    >>> from nctransfer.evaluation.spread import Spread
    >>> spread = Spread(vectors=0.01 * torch.eye(3, dtype=torch.float64), degrees=float("inf"))
    >>> round(band_factor(spread), 1)  # the 95% point of the largest of three: Φ⁻¹((1 + 0.95^⅓)/2) = 2.388
    2.4
    """
    _check(level)
    count = spread.vectors.shape[1]
    if count == 1 or count > MOST_TOGETHER:
        return t_quantile(spread.degrees, 1 - (1 - level) / (2 * count))
    return _largest(spread, level, of_differences=False)


def range_factor(spread: Spread, level: float = 0.95) -> float:
    """How many standard errors the intervals of all differences of K estimates extend, so that all hold together.

    It is the 95% point of the largest ``|T_ij|`` over all pairs (Tukey), by Monte Carlo with a fixed seed.

    Args:
        spread: How the estimates vary together.
        level: The share of studies in which all intervals hold, between 0 and 1.

    >>> import torch
    >>> from nctransfer.evaluation.spread import Spread
    >>> spread = Spread(vectors=0.01 * torch.eye(3, dtype=torch.float64), degrees=float("inf"))
    >>> round(range_factor(spread), 1)  # of the studentised range of three, 3.314/√2 = 2.344
    2.3
    """
    _check(level)
    count = spread.vectors.shape[1]
    if count == 2 or count > MOST_TOGETHER:
        return t_quantile(spread.degrees, 1 - (1 - level) / (count * (count - 1)))
    return _largest(spread, level, of_differences=True)


def _largest(spread: Spread, level: float, *, of_differences: bool) -> float:
    """The quantile of the largest ``|T|`` of all estimates, or of all their differences."""
    import numpy as np
    import torch

    values, axes = torch.linalg.eigh(spread.vectors.T @ spread.vectors)
    root = axes * values.clamp(min=0).sqrt() @ axes.T
    errors = spread.errors_of_differences() if of_differences else spread.errors()
    is_constant = errors <= 1e-9 * spread.errors().max()
    largest = []
    for normal, replicates in _draws(len(root), spread.degrees, level):
        changes = normal @ root
        changes = changes[:, :, None] - changes[:, None] if of_differences else changes
        if replicates is None:
            scale = errors
        elif of_differences:
            scale = _errors_of_differences(replicates @ root, EACH)
        else:
            scale = (replicates @ root).square().sum(dim=1).sqrt()
        t = (changes / scale).masked_fill_(is_constant, 0).abs_()
        largest.append(t.flatten(1).amax(dim=1))
    return float(np.quantile(torch.cat(largest).numpy(), level))


def _check(level: float) -> None:
    if not 0 < level < 1:
        raise SettingError(
            f"the level of a comparison is {level:g}; it must be between 0 and 1",
            hint="give a probability, such as 0.95",
        )


def _verdict(is_possible: bool, is_alone: bool) -> Verdict:
    if not is_possible:
        return "worse"
    return "better" if is_alone else "not told apart"


def _quantiles(spread: Spread, level: float, *, of: slice = EACH, two_sided: bool = False) -> torch.Tensor:
    """For each estimate the quantile of its largest t variable, ``(K,)``: ``max_j (ε_j − ε_i)/se_ij``, at least 0.

    By Monte Carlo: errors ε as correlated as the estimates, and standard errors as they come from as many
    replicates, each difference with its own. (One χ² for all, as in the textbook's multivariate t, would be too small:
    the largest of many t variables often is the one with a small standard error.)

    Args:
        spread: How the K estimates vary together.
        level: The probability that the largest t variable is below the quantile.
        of: The estimates of which the quantile is asked.
        two_sided: Whether ``|T|`` counts.
    """
    import numpy as np
    import torch

    values, axes = torch.linalg.eigh(spread.vectors.T @ spread.vectors)
    root = axes * values.clamp(min=0).sqrt() @ axes.T  # of the covariance, (K, K), the same in any order of estimates
    errors = spread.errors_of_differences()[of]  # (k, K), with k estimates asked of
    is_constant = errors <= 1e-9 * spread.errors().max()
    largest = []
    for normal, replicates in _draws(len(root), spread.degrees, level):
        changes = normal @ root
        scale = errors if replicates is None else _errors_of_differences(replicates @ root, of)
        t = (changes[:, None] - changes[:, of, None]).div_(scale).masked_fill_(is_constant, 0)  # (n, k, K)
        above, below = t.amax(dim=2), -t.amin(dim=2)  # of ε and of −ε, which is as likely
        largest += [torch.maximum(above, below)] if two_sided else [above, below]
    found = np.quantile(torch.cat(largest).numpy(), level, axis=0)  # torch's takes at most 16 million numbers
    return torch.from_numpy(found).clamp(min=0)


def _errors_of_differences(vectors: torch.Tensor, of: slice) -> torch.Tensor:
    """The standard errors of the differences to some estimates, ``(n, k, K)``, from vectors ``(n, N, K)``."""
    products = vectors[..., of].mT @ vectors
    squares = vectors.square().sum(dim=1)
    return products.mul_(-2).add_(squares[:, None]).add_(squares[:, of, None]).clamp_(min=0).sqrt_()


def _draws(count: int, degrees: float, level: float) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
    """Standard normal variables ``(n, count)``, and replicates ``(n, N, count)`` of mean square 1; always the same.

    The products of the replicates have the law of those of ``degrees`` rows of normal variables, over their number
    (Bartlett's decomposition of the Wishart distribution). There are none where standard errors are as good as known.
    """
    import numpy as np
    import torch

    generator = np.random.default_rng(0)
    draws = min(max(DRAWS, round(TAIL / (1 - level))), MOST_DRAWS)
    rows = max(1, int(min(degrees, count)))
    size = max(1, CHUNK // count**2)
    upper = np.triu_indices(rows, 1, count)
    for start in range(0, draws, size):
        here = min(size, draws - start)
        errors = torch.from_numpy(generator.standard_normal((here, count)))
        if degrees >= MOST_DEGREES:
            yield errors, None
            continue
        root = np.zeros((here, rows, count))
        root[:, range(rows), range(rows)] = np.sqrt(generator.chisquare(degrees - np.arange(rows), (here, rows)))
        root[:, *upper] = generator.standard_normal((here, len(upper[0])))
        yield errors, torch.from_numpy(root).div_(math.sqrt(degrees))

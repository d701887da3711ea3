"""How much better the best of several candidates looks than it is, if it was picked and scored on the same classes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.intervals import t_quantile

if TYPE_CHECKING:
    import torch

    from nctransfer.evaluation.spread import Spread

__all__ = ["SelectionBias", "parts_of", "selection_bias"]

SPLITS = 200  # random halves; more change the estimate by less than a tenth of its interval


class SelectionBias(NamedTuple):
    """What the best of several candidates loses on other classes (or images) than those on which it was picked.

    Attributes:
        value: The loss, in units of the estimates.
        low: The lower end of its 95% interval over the draw of classes (or images).
        high: The upper end.
    """

    value: float
    low: float
    high: float


def parts_of(estimates: torch.Tensor, spread: Spread, count: int) -> torch.Tensor:
    """What each of N classes contributes to K estimates, ``(N, K)``: the pseudo-values of the jackknife.

    ``N θ̂ − (N − 1) θ̂₍₋c₎``; they average to the estimates.

    Args:
        estimates: ``(K,)``.
        spread: Their jackknife over classes, or over tenths of the images.
        count: The number of classes, or of tenths, N.
    """
    return estimates - spread.vectors[:count] * math.sqrt(count * (count - 1))


def selection_bias(parts: torch.Tensor) -> SelectionBias:
    """The bias of the largest of K means that are picked and scored on the same N parts, with a 95% interval.

    The best is picked on a random half of the parts and scored on the other half, both ways, for 200 splits with a
    fixed seed. The mean difference of the two scores is the bias of a pick from N/2 parts. It is divided by √2: where
    all candidates are equal that is the bias of a pick from N parts, as errors are √2 times as large with half of them,
    and where some are clearly better it is an upper estimate of it. The interval is a jackknife over the parts,
    ``± t_{N−1} se``, ``se² = (N−1)/N Σ(b₍₋c₎ − b̄)²``.

    Args:
        parts: What each part contributes to each mean, ``(N, K)``, N ≥ 4.

    >>> import torch
    >>> equal = torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> bias = selection_bias(equal)
    >>> bias.low < 1.267 / 20**0.5 < bias.high  # the mean of the largest of 6 normal variables, over √N
    True
    >>> apart = equal + 9 * torch.arange(6)  # one candidate wins every half
    >>> [abs(round(one, 6)) for one in selection_bias(apart)]
    [0.0, 0.0, 0.0]
    """
    import numpy as np
    import torch

    count = len(parts)
    parts = parts.double()
    generator = np.random.default_rng(0)
    half = np.argsort(generator.random((SPLITS, count)), axis=1) < count // 2
    first = torch.from_numpy(half).double()  # (R, N)
    bias = _of_halves(first, parts)
    without = []
    for left_out in range(count):
        kept = torch.arange(count) != left_out
        without.append(_of_halves(first[:, kept], parts[kept]))
    others = torch.tensor(without, dtype=torch.float64)
    error = math.sqrt((count - 1) / count * float((others - others.mean()).square().sum()))
    reach = t_quantile(count - 1) * error
    return SelectionBias(bias, bias - reach, bias + reach)


def _of_halves(first: torch.Tensor, parts: torch.Tensor) -> float:
    """The mean over splits, and over both ways, of the score of the pick where it was picked minus where it was not."""
    sums = parts.sum(dim=0)
    sizes = first.sum(dim=1, keepdim=True)
    inside = first @ parts
    halves = inside / sizes, (sums - inside) / (len(parts) - sizes)  # (R, K) each
    total = 0.0
    for here, there in (halves, halves[::-1]):
        chosen = here.max(dim=1, keepdim=True).indices
        total += float((here - there).gather(1, chosen).mean())
    return total / 2 / math.sqrt(2)

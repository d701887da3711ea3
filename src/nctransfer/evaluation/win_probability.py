"""The chance to win against several classes drawn at random: elementary symmetric polynomials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["CHUNK", "chance_to_win", "mean_wins"]

CHUNK = 32_768  # pairs of a query and a centre of its own class at a time, at most
CACHED = 2**19  # values of the recursion at a time, so that they stay in the cache of the processor
NODES = 16  # of the integral over lots; exact up to 31 other classes


def chance_to_win(chances: torch.Tensor, most: int) -> torch.Tensor:
    """The chance to win against k classes drawn from T without replacement, for every k up to ``most``.

    It is the elementary symmetric polynomial of degree k of the chances, divided by ``binom(T, k)``. Where
    ``binom(T, k)`` is an ordinary number, the recursion is ``e_k ← e_k + p_t e_{k−1}``, one step of which is one pass
    over memory. Otherwise it is ``e_k ← (1 − k/t) e_k + (k/t) p_t e_{k−1}``, with t the number of classes taken so far,
    which never overflows.

    Args:
        chances: The chance to win against each class alone, ``(T, b)``.
        most: The largest k; at most T.

    Returns:
        ``(most + 1, b)``; row k is the chance for k classes.

    >>> import torch
    >>> chance_to_win(torch.tensor([[1.0], [1.0], [0.0]]), 2)[:, 0]  # of the three pairs of classes, one is won
    tensor([1.0000, 0.6667, 0.3333])
    """
    import torch

    classes = len(chances)
    choices = [math.comb(classes, k) for k in range(most + 1)]
    if max(choices) > torch.finfo(chances.dtype).max ** 0.75:
        return _normalised(chances, most)
    found = chances.new_zeros(most + 1, chances.shape[1])
    found[0] = 1
    other = found.clone()
    for taken, chance in enumerate(chances, start=1):
        top = min(taken, most)  # the polynomials of higher degree are zero so far
        torch.addcmul(found[1 : top + 1], chance, found[:top], out=other[1 : top + 1])
        found, other = other, found
    return found.div_(torch.tensor(choices, dtype=torch.float64).to(found)[:, None])


def _normalised(chances: torch.Tensor, most: int) -> torch.Tensor:
    import torch

    found = chances.new_zeros(most + 1, chances.shape[1])
    found[0] = 1
    degrees = torch.arange(1, most + 1, dtype=chances.dtype, device=chances.device)[:, None]
    for taken, chance in enumerate(chances, start=1):
        share = degrees / taken
        added = (share * chance) * found[:-1]
        found[1:].mul_(1 - share).add_(added)
    return found


def mean_wins(chances: torch.Tensor, degrees: Sequence[int], ties: torch.Tensor | None = None) -> torch.Tensor:
    """:func:`chance_to_win` for some numbers of classes, computed in pieces; ties are broken by lot.

    A lot u, uniform between 0 and 1 and the same for all classes of a column, turns a chance into
    ``chance + u · tie``. The result is the mean over u, by Gauss-Legendre quadrature: a query that ties with j classes
    wins with probability ``1/(j + 1)``.

    Args:
        chances: The chance to win against each class alone, ``(T, b)``.
        degrees: Numbers of classes, k of them, each at most T.
        ties: The chance of a tie with each class, ``(T, b)``; ``None`` if there are no ties.

    Returns:
        ``(k, b)``.

    >>> import torch
    >>> never, always = torch.zeros(2, 1), torch.ones(2, 1)
    >>> mean_wins(never, [1, 2], always).T  # a tie with one class, and with two
    tensor([[0.5000, 0.3333]])
    """
    import torch

    classes, columns = chances.shape
    below = [degree for degree in degrees if degree < classes]  # for all classes, the polynomial is the product
    most = max(below, default=0)
    size = min(CHUNK, max(CHUNK // 16, CACHED // (most + 1)))
    found = chances.new_empty(len(degrees), columns)
    for start in range(0, columns, size):
        part = chances[:, start : start + size]
        part = part if part.stride(1) == 1 else part.contiguous()
        polynomials = chance_to_win(part, most) if below else part
        for place, degree in enumerate(degrees):
            found[place, start : start + size] = part.prod(dim=0) if degree == classes else polynomials[degree]
    tied = torch.empty(0) if ties is None else ties.any(dim=0).nonzero().squeeze(1)
    if ties is None or not len(tied):
        return found
    points, weights = _lots(max(degrees))
    size = max(1, CHUNK // len(points))
    for some in torch.split(tied, size):
        base, lot = chances[:, some], ties[:, some]
        each = torch.cat([base + point * lot for point in points], dim=1)
        values = mean_wins(each, degrees).view(len(degrees), len(points), len(some))
        found[:, some] = torch.einsum("kpb,p->kb", values, torch.tensor(weights).to(values))
    return found


def _lots(degree: int) -> tuple[list[float], list[float]]:
    """Points and weights of the integral from 0 to 1 of a polynomial."""
    import numpy as np

    points, weights = np.polynomial.legendre.leggauss(min(NODES, degree // 2 + 1))
    return ((points + 1) / 2).tolist(), (weights / 2).tolist()

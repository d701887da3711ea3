"""The chance to win against several classes drawn at random: elementary symmetric polynomials."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["CHUNK", "chance_to_win", "mean_wins"]

CHUNK = (
    8192  # pairs of a query and a centre of its own class at a time, so that they stay in the cache of the processor
)


def chance_to_win(chances: torch.Tensor, most: int) -> torch.Tensor:
    """The chance to win against k classes drawn from T without replacement, for every k up to ``most``.

    It is the elementary symmetric polynomial of degree k of the chances, divided by ``binom(T, k)``. The recursion
    ``e_k ← (1 − k/t) e_k + (k/t) p_t e_{k−1}``, with t the number of classes taken so far, never overflows.

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

    found = chances.new_zeros(most + 1, chances.shape[1])
    found[0] = 1
    degrees = torch.arange(1, most + 1, dtype=chances.dtype, device=chances.device)[:, None]
    for taken, chance in enumerate(chances, start=1):
        share = degrees / taken
        added = (share * chance) * found[:-1]
        found[1:].mul_(1 - share).add_(added)
    return found


def mean_wins(chances: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """:func:`chance_to_win` for some numbers of classes, computed in pieces.

    Args:
        chances: The chance to win against each class alone, ``(T, b)``.
        degrees: Numbers of classes, ``(k,)``.

    Returns:
        ``(k, b)``.
    """
    import torch

    most = int(degrees.max())
    return torch.cat([chance_to_win(part, most)[degrees] for part in torch.split(chances, CHUNK, dim=1)], dim=1)

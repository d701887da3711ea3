"""The chance to win against classes drawn at random: elementary symmetric polynomials."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["CHUNK", "chance_to_win", "mean_wins"]

CHUNK = 8192  # pairs of query and own centre at a time


def chance_to_win(chances: torch.Tensor, most: int) -> torch.Tensor:
    """The chance to win against k classes drawn from T, for every k up to ``most``.

    ``e_k ← (1 − k/t) e_k + (k/t) p_t e_{k−1}`` with t classes taken so far: the elementary symmetric polynomial over
    the binomial coefficient, which never overflows.

    Args:
        chances: To win against each class alone, ``(T, b)``.
        most: k ≤ T.

    Returns:
        ``(most + 1, b)``; row k is for k classes.

    >>> import torch
    >>> chance_to_win(torch.tensor([[1.0], [1.0], [0.0]]), 2)[:, 0]  # one pair of the three
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
    """:func:`chance_to_win` against as many classes as are wanted, ``(k, b)``, in pieces that stay in the cache."""
    import torch

    most = int(degrees.max())
    return torch.cat([chance_to_win(part, most)[degrees] for part in torch.split(chances, CHUNK, dim=1)], dim=1)

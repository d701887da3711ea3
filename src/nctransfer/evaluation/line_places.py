"""Where the images of two classes lie on the line between their means.

With ``mu_a`` and ``mu_b`` the class means and Δ their difference, the place of an image f of class a is
``(‖f − mu_b‖² − ‖f − mu_a‖²) / (2 ‖Δ‖²)``: ½ at its own mean, 0 on the border, and negative on the other side of it.
The image itself is left out of the mean of its class, which it would otherwise pull towards itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["line_places"]

ROWS = 1024  # at a time


def line_places(own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Where images lie on the line from the mean of another class to that of their own, each left out of the latter.

    Args:
        own: The features of the n images of a class, ``(n, d)`` float64, two at least.
        other: The mean of the other class, ``(d,)`` float64.

    Returns:
        ``(n,)``: ½ at the own mean, 0 on the border, negative where the other mean is nearer.

    >>> import torch
    >>> line_places(torch.tensor([[0.0], [2.0], [6.0]], dtype=torch.float64), torch.tensor([12.0]).double()).tolist()
    [1.0, 0.6111111111111112, 0.045454545454545456]
    """
    import torch

    n, mean = len(own), own.mean(dim=0)
    places = []
    for rows in torch.split(own, ROWS):
        residuals = (rows - mean) * (n / (n - 1))  # from the mean of the others, (m, d)
        squared = (rows - residuals - other).square().sum(dim=1)
        gain = (rows - other).square().sum(dim=1) - residuals.square().sum(dim=1)
        places.append(gain / (2 * squared).clamp(min=1e-300))
    return torch.cat(places)

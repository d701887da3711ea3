"""Features joined side by side: their inner products are the sum of those of the parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nctransfer.episodes.inner_products import Products

if TYPE_CHECKING:
    import torch

__all__ = ["joined"]


def joined(parts: Sequence[Products], weights: Sequence[float], factor: float = 1.0) -> Products:
    """The inner products of the features ``[√v₁ f₁, √v₂ f₂, …]``, from those of each part f and its weight v.

    Args:
        parts: The inner products of the same episodes, one for each part.
        weights: The weight v ≥ 0 of each part.
        factor: What the joined features were multiplied by, see :class:`Products`.

    >>> import torch
    >>> one, other = torch.tensor([[[1.0], [3.0]]]), torch.tensor([[[2.0], [5.0]]])
    >>> apart = [Products.of(one, one, 2), Products.of(other, other, 2)]
    >>> together = Products.of(torch.cat([one, 2 * other], dim=2), torch.cat([one, 2 * other], dim=2), 2)
    >>> bool((joined(apart, [1.0, 4.0]).support == together.support).all())
    True
    """
    points = [part.with_point for part in parts]
    return Products(
        support=_sum([part.support for part in parts], weights),
        cross=_sum([part.cross.mT for part in parts], weights).mT,
        ways=parts[0].ways,
        squares=_sum([part.squares for part in parts], weights),
        with_point=(
            _sum([point[0] for point in points if point], weights),
            _sum([point[1] for point in points if point], weights),
            _sum([point[2] for point in points if point], weights),
        )
        if all(points)
        else None,
        factor=factor,
    )


def _sum(matrices: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    total = matrices[0] * weights[0]
    for matrix, weight in zip(matrices[1:], weights[1:], strict=True):
        total = total.add(matrix, alpha=weight)
    return total

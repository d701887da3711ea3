"""Ridge regression on one-hot labels, batched over episodes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from nctransfer.episodes.inner_products import Products, one_hot
from nctransfer.errors import EpisodeError

if TYPE_CHECKING:
    import torch

__all__ = ["LOO_EXPONENTS", "ridge"]

LOO_EXPONENTS = range(-3, 4)  # of ten: the penalties that leave-one-out chooses from


def ridge(products: Products, penalty: float | Literal["loo"] | None = None) -> torch.Tensor:
    """Ridge regression on one-hot labels: ``argmin ‖XW + b − Y‖² + λ‖W‖²``, the intercept not penalised.

    In the dual, with K the inner products of the centred support: ``scores = k (K + λI)⁻¹ Y + 1/w``.

    Args:
        products: Inner products.
        penalty: λ > 0; by default ``√(ways · shots)``, as Galanti et al. (ICLR 2022) is remembered. ``loo`` picks it
            for each episode from ``10^{−3…3}`` times the mean squared length of the centred support, by squared
            leave-one-out error.

    Raises:
        EpisodeError: A leave-one-out choice of one shot.

    >>> import torch
    >>> x, f = torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[0.4], [1.6]]])
    >>> ridge(Products.of(x, f, 2)).argmax(dim=2).tolist()
    [[0, 1]]
    """
    import torch

    centred, ways = products.about_mean, products.ways  # float64, or 1/w would swallow the scores of short features
    targets = one_hot(products) - 1 / ways  # (N, w), centred
    if penalty == "loo":
        return centred.cross @ _by_leave_one_out(centred.support, targets, products.shots) + 1 / ways
    chosen = math.sqrt(len(targets)) if penalty is None else penalty
    kernel = centred.support.clone()
    diagonal = kernel.diagonal(dim1=1, dim2=2)
    # the second term is far below any penalty, but for features so long that their rounding exceeds it
    diagonal.add_(chosen + 4 * torch.finfo(kernel.dtype).eps * diagonal.sum(dim=1, keepdim=True))
    weights = torch.cholesky_solve(targets.expand(len(kernel), -1, -1), torch.linalg.cholesky(kernel))
    return centred.cross @ weights + 1 / ways


def _by_leave_one_out(kernel: torch.Tensor, targets: torch.Tensor, shots: int) -> torch.Tensor:
    """The dual weights ``(E, N, w)`` at the penalty of the least squared leave-one-out error of each episode.

    A left-out residual is the residual over ``1 − h``, h the diagonal of the hat matrix, intercept included.
    """
    import torch

    if shots < 2:
        raise EpisodeError("a leave-one-out choice of the penalty needs 2 shots", "give --ridge-lambda a number")
    size = kernel.shape[1]  # N
    values, vectors = torch.linalg.eigh(kernel)
    values = values.clamp(min=0)  # (E, N)
    scale = values.mean(dim=1)
    scale = scale.where(scale > 0, 1)
    rotated = vectors.mT @ targets  # (E, N, w)
    best, chosen = torch.full_like(scale, torch.inf), scale.clone()
    for exponent in LOO_EXPONENTS:
        shrunk = values / (values + (penalty := 10.0**exponent * scale)[:, None])
        left = targets - vectors @ (shrunk[:, :, None] * rotated)
        hat = (vectors.square() * shrunk[:, None]).sum(dim=2) + 1 / size
        error = (left / (1 - hat)[:, :, None]).square().sum(dim=(1, 2))
        is_better = error < best
        best, chosen = error.where(is_better, best), penalty.where(is_better, chosen)
    weights: torch.Tensor = vectors @ (rotated / (values + chosen[:, None])[:, :, None])
    return weights

"""Ridge regression on one-hot labels, batched over episodes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nctransfer.episodes.classifier import RIDGE_LAMBDA, Classifier, ClassifierSettings, RidgePenalty
from nctransfer.episodes.inner_products import Products, one_hot
from nctransfer.errors import SettingError

if TYPE_CHECKING:
    import torch

__all__ = ["LOO_EXPONENTS", "RIDGE", "ridge"]

LOO_EXPONENTS = range(-3, 4)  # leave-one-out chooses from these powers of ten, times the scale of the data


def ridge(products: Products, penalty: RidgePenalty = RIDGE_LAMBDA) -> torch.Tensor:
    """Ridge regression on one-hot labels: ``argmin ‖XW + b − Y‖² + λ‖W‖²``; the intercept b is not penalised.

    In the dual form, with K the inner products of the centred support and k those of the queries with it:
    ``scores = k (K + λI)⁻¹ Y``, which leaves out the constant 1/w that all classes share. The penalty is relative,
    ``λ = λ₀ s²`` with s² the mean squared length of the centred support of the episode, so that multiplying all
    features by a constant changes no score.

    Args:
        products: The inner products of E episodes.
        penalty: λ₀ > 0; the default was chosen on five backbones and three data sets, see the documentation on choosing
            a backbone. ``loo`` chooses λ₀ in each episode from ``10^{−3…3}`` by the squared leave-one-out error.
            ``paper`` takes the absolute ``λ = √(ways · shots)``, for which the scale of the features matters; we
            believe that Galanti et al. (ICLR 2022) use it, but could not check the exponent.

    Returns:
        The score of each query and class, ``(E, Q, w)``.

    Raises:
        SettingError: ``loo`` with one shot.

    >>> import torch
    >>> x, f = torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[0.4], [1.6]]])
    >>> ridge(Products.of(x, f, 2)).argmax(dim=2).tolist()
    [[0, 1]]
    """
    import torch

    ways = products.ways
    targets = one_hot(products) - 1 / ways  # (N, w), centred
    kernel = products.centred_support[0].clone()
    if penalty == "loo":
        return products.weighted(_by_leave_one_out(kernel, targets, products.shots))
    kernel.diagonal(dim1=1, dim2=2).add_(_strength(products, penalty)[:, None])
    weights = torch.cholesky_solve(targets.expand(len(kernel), -1, -1), torch.linalg.cholesky(kernel))
    return products.weighted(weights)


def directions(centred: torch.Tensor, ways: int, penalty: RidgePenalty = RIDGE_LAMBDA) -> torch.Tensor | None:
    """The weights of :func:`ridge` in the primal form, ``W = (XᵀX + λI)⁻¹ Xᵀ Y``, for a relative penalty.

    Args:
        centred: The support minus its mean, X, ``(E, N, d)``.
        ways: The number of classes, w.
        penalty: λ₀; ``None`` is returned for ``loo`` and ``paper``.

    Returns:
        W, ``(E, d, w)``, float64.
    """
    import torch

    if isinstance(penalty, str):
        return None
    episodes, size, width = centred.shape
    squares = (centred.mT @ centred).double()
    diagonal = squares.diagonal(dim1=1, dim2=2)
    strength = penalty * diagonal.sum(dim=1) / size
    strength += 4 * torch.finfo(centred.dtype).eps * math.sqrt(size) * diagonal.sum(dim=1) / size
    diagonal.add_(strength.where(strength > 0, 1)[:, None])
    by_class = centred.view(episodes, ways, -1, width).sum(dim=2).mT.double()  # XᵀY; centring Y changes nothing
    return torch.cholesky_solve(by_class, torch.linalg.cholesky(squares))


def left_out(products: Products, penalty: RidgePenalty = RIDGE_LAMBDA) -> torch.Tensor | None:
    """The scores of the support by :func:`ridge` without sample number k of each class, for each k.

    With ``B = (K + λI)⁻¹`` and Y the centred one-hot labels, the residuals are ``r = λBY``, one minus the hat matrix is
    ``λB − 11ᵀ/N``, and without the samples k the residuals are ``(λB − 11ᵀ/N)ₖₖ⁻¹ rₖ``. The penalty λ stays that of
    the whole support.

    Args:
        products: The inner products of E episodes, s ≥ 2.
        penalty: λ₀; ``None`` is returned for ``loo``.

    Returns:
        The scores less 1/w, ``(E, w, s, w)``, float64.
    """
    import torch

    if penalty == "loo":
        return None
    ways, shots = products.ways, products.shots
    targets = one_hot(products) - 1 / ways
    kernel = products.centred_support[0].clone()
    strength = _strength(products, penalty)[:, None, None]
    kernel.diagonal(dim1=1, dim2=2).add_(strength[:, 0])
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(kernel)).mul_(strength)  # λB
    residuals = (inverse @ targets).view(-1, ways, shots, ways).transpose(1, 2)  # (E, s, w, w)
    blocks = inverse.view(-1, ways, shots, ways, shots).diagonal(dim1=2, dim2=4).permute(0, 3, 1, 2)  # (E, s, w, w)
    without: torch.Tensor = torch.linalg.solve(blocks - 1 / len(targets), residuals)
    return (targets[::shots] - without).transpose(1, 2)


def _strength(products: Products, penalty: RidgePenalty) -> torch.Tensor:
    """The penalty λ of each episode, ``(E,)``; never 0."""
    import torch

    diagonal = products.centred_support[0].diagonal(dim1=1, dim2=2)  # (E, N)
    if isinstance(penalty, str):
        strength = torch.full_like(diagonal[:, 0], math.sqrt(diagonal.shape[1]) * products.factor**2)
    else:
        strength = penalty * diagonal.mean(dim=1).clamp(min=0)
    strength = strength + _rounding(products)
    return strength.where(strength > 0, 1)


def _rounding(products: Products) -> torch.Tensor:
    """A bound on how far below zero rounding may take the eigenvalues of the kernel, ``(E,)``.

    It is far below any penalty, unless the support is much closer together than to the mean of all features, or the
    penalty is tiny.
    """
    import torch

    support = products.support
    squares = support.diagonal(dim1=1, dim2=2).double().mean(dim=1)
    return 4 * torch.finfo(support.dtype).eps * math.sqrt(support.shape[1]) * squares


def _by_leave_one_out(kernel: torch.Tensor, targets: torch.Tensor, shots: int) -> torch.Tensor:
    """The dual weights ``(E, N, w)`` at the penalty of the least squared leave-one-out error of each episode.

    A leave-one-out residual is the residual over ``1 − h``, with h the diagonal of the hat matrix, intercept included.
    """
    import torch

    _check_shots(shots)
    size = kernel.shape[1]  # N
    values, vectors = torch.linalg.eigh(kernel)
    values = values.clamp(min=0)  # (E, N)
    scale = values.mean(dim=1)
    scale = scale.where(scale > 0, 1)
    rotated = vectors.mT @ targets  # (E, N, w)
    best, chosen = torch.full_like(scale, torch.inf), scale.clone()
    for exponent in LOO_EXPONENTS:
        shrunk = values / (values + (penalty := 10.0**exponent * scale)[:, None])
        residuals = targets - vectors @ (shrunk[:, :, None] * rotated)
        hat = (vectors.square() * shrunk[:, None]).sum(dim=2) + 1 / size
        error = (residuals / (1 - hat)[:, :, None]).square().sum(dim=(1, 2))
        is_better = error < best
        best, chosen = error.where(is_better, best), penalty.where(is_better, chosen)
    weights: torch.Tensor = vectors @ (rotated / (values + chosen[:, None])[:, :, None])
    return weights


def _check_shots(shots: int) -> None:
    if shots < 2:
        raise SettingError(
            f"leave-one-out cannot choose the penalty of ridge with {shots} shot per class; it needs 2",
            "give --ridge-lambda a number or 'paper', or --shots 2 or more",
        )


def _ridge_options(settings: ClassifierSettings) -> Mapping[str, Any]:
    if settings.ridge_lambda == "loo":
        _check_shots(settings.shots)
    return {"penalty": settings.ridge_lambda}


RIDGE = Classifier(
    name="ridge",
    function=ridge,
    meaning="ridge regression on one-hot labels",
    options=_ridge_options,
    directions=directions,
    left_out=left_out,
)

"""Multinomial logistic regression, batched over episodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nctransfer.episodes.inner_products import Products, one_hot

if TYPE_CHECKING:
    import torch

__all__ = ["logistic"]

TOLERANCE = 1e-8  # of logistic regression: the gradient, relative to that of all weights zero
NEWTON_STEPS, CONJUGATE_STEPS = 50, 200


def logistic(products: Products, on_end: Callable[[torch.Tensor], None] | None = None) -> torch.Tensor:
    """Multinomial logistic regression, ``½‖W‖² + Σ cross-entropy``: L2 with C = 1, the intercept not penalised.

    Of two classes the binary form, as scikit-learn has it: in two weight vectors of opposite sign, its penalty is twice
    as high. Newton's method by conjugate gradients, for all episodes at once, until converged.

    Args:
        products: Inner products.
        on_end: Called with the length of the gradient relative to that of all weights zero, ``(E,)``.

    >>> import torch
    >>> x, f = torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[0.4], [1.6]]])
    >>> logistic(Products.of(x, f, 2)).argmax(dim=2).tolist()
    [[0, 1]]
    """
    centred = products.about_mean
    weights, intercepts, gradients = _fit_logistic(
        centred.support, one_hot(products), 2.0 if products.ways == 2 else 1.0
    )
    if on_end:
        on_end(gradients)
    return centred.cross @ weights + intercepts


def _fit_logistic(
    kernel: torch.Tensor, targets: torch.Tensor, penalty: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Dual weights ``(E, N, w)``, intercepts ``(E, 1, w)`` and relative gradients ``(E,)``.

    The weight vectors are ``W = XᵀA``; everything is written in A, with ``⟨A, B⟩ = tr(AᵀKB)`` as inner product, so that
    gradients and steps are those of W and the kernel is met once a step.
    """
    import torch

    size, ways = targets.shape
    weights = kernel.new_zeros(len(kernel), size, ways)
    images = torch.zeros_like(weights)  # K A
    intercepts = kernel.new_zeros(len(kernel), 1, ways)
    first = None
    floor = (1e-15 * size) ** 2 * (1 + kernel.diagonal(dim1=1, dim2=2).amax(dim=1))  # squared: what rounding leaves

    def loss(weights: torch.Tensor, images: torch.Tensor, intercepts: torch.Tensor) -> torch.Tensor:
        entropy = (images + intercepts).log_softmax(dim=2).mul(targets).sum(dim=(1, 2))
        return penalty / 2 * (weights * images).sum(dim=(1, 2)) - entropy

    for _ in range(NEWTON_STEPS):
        shares = (images + intercepts).softmax(dim=2)
        residuals = shares - targets
        slope0 = residuals.sum(dim=1, keepdim=True)
        slope = (
            penalty * weights + residuals - slope0 / size
        )  # the mean makes no difference, as K 1 = 0, but would grow
        slope_images = penalty * images + kernel @ residuals
        squared = (slope * slope_images).sum(dim=(1, 2)).clamp(min=0) + slope0.square().sum(dim=(1, 2))
        squared = squared.where(squared > floor, 0)
        first = squared if first is None else first
        ratio = (squared / first.where(first > 0, 1)).sqrt()
        if bool((ratio <= TOLERANCE).all()):
            break
        step = _newton_step(kernel, shares, penalty, slope, slope0, slope_images, squared, ratio)
        # halve steps that do not lower the loss
        before, rate = loss(weights, images, intercepts), (ratio > TOLERANCE).double()
        for _ in range(30):
            tried = [a + rate[:, None, None] * b for a, b in zip((weights, images, intercepts), step, strict=True)]
            fails = ~(loss(*tried) <= before + 1e-12 * before.abs())
            if not bool(fails.any()):
                break
            rate = rate.where(~fails, rate / 2)
        moves = (~fails & (rate > 0))[:, None, None]
        if not bool(moves.any()):
            break
        weights, images, intercepts = (
            torch.where(moves, new, old) for new, old in zip(tried, (weights, images, intercepts), strict=True)
        )
    return weights, intercepts, ratio


def _newton_step(
    kernel: torch.Tensor,
    shares: torch.Tensor,
    penalty: float,
    slope: torch.Tensor,
    slope0: torch.Tensor,
    slope_images: torch.Tensor,
    squared: torch.Tensor,
    ratio: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What solves ``Hessian · step = −gradient`` well enough: in weights, in their images, and in intercepts."""
    import torch

    step, image, step0 = torch.zeros_like(slope), torch.zeros_like(slope), torch.zeros_like(slope0)
    left, left_image, left0 = -slope, -slope_images, -slope0
    along, along_image, along0 = left, left_image, left0
    # ever more exact, but no more than the end asks for
    share = torch.maximum(ratio.sqrt().clamp(max=0.3), TOLERANCE / 3 / ratio).clamp(max=0.5)
    enough = squared * share.square()
    length = squared
    for _ in range(CONJUGATE_STEPS):
        active = length > enough
        if not bool(active.any()):
            break
        pushed = shares * (along_image + along0)
        curved = pushed - shares * pushed.sum(dim=2, keepdim=True)  # (diag p − p pᵀ) of each sample
        bent0 = curved.sum(dim=1, keepdim=True)
        bent = penalty * along + curved - bent0 / curved.shape[1]
        bent_image = penalty * along_image + kernel @ curved
        curvature = (along * bent_image).sum(dim=(1, 2)) + (along0 * bent0).sum(dim=(1, 2))
        rate = torch.where(active & (curvature > 0), length / curvature, 0.0)[:, None, None]
        step, image, step0 = step + rate * along, image + rate * along_image, step0 + rate * along0
        left, left_image, left0 = left - rate * bent, left_image - rate * bent_image, left0 - rate * bent0
        new = (left * left_image).sum(dim=(1, 2)).clamp(min=0) + left0.square().sum(dim=(1, 2))
        turn = torch.where(active, new / length, 0.0)[:, None, None]
        along, along_image, along0 = left + turn * along, left_image + turn * along_image, left0 + turn * along0
        length = new.where(active, length)
    return step, image, step0

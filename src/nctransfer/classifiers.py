"""Few-shot classifiers, batched over episodes.

All of them need inner products only: of the support with itself, and of the queries with the support. Shapes: E
episodes, w ways, s shots, N = w·s support samples (class by class), Q queries. A classifier returns a score for
each query and class, ``(E, Q, w)``; the highest wins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from nctransfer.errors import EpisodeError
from nctransfer.products import Products

if TYPE_CHECKING:
    import torch

__all__ = ["CLASSIFIERS", "Classifier", "cosine", "knn", "logistic", "ncc", "ridge", "simpleshot"]

LOO_EXPONENTS = range(-3, 4)  # of ten: the penalties that leave-one-out chooses from
TOLERANCE = 1e-8  # of logistic regression: the gradient, relative to that of all weights zero
NEWTON_STEPS, CONJUGATE_STEPS = 50, 200


Classifier = Callable[[Products], "torch.Tensor"]


def ncc(products: Products) -> torch.Tensor:
    """Nearest class centre: ``−‖f − m_c‖²/2`` up to a constant of the query, m_c the mean of the support of class c.

    >>> import torch
    >>> x, f = torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[0.4], [1.6]]])  # one episode, 2-way 1-shot
    >>> ncc(Products.of(x, f, 2)).argmax(dim=2).tolist()
    [[0, 1]]
    """
    cross, squares = _centres(products)
    return cross - squares[:, None] / 2


def _centres(products: Products) -> tuple[torch.Tensor, torch.Tensor]:
    """Inner products of queries with class centres ``(E, Q, w)``, and squared lengths of these ``(E, w)``."""
    ways, shots = products.ways, products.shots
    if shots == 1:
        return products.cross, products.support.diagonal(dim1=1, dim2=2)
    blocks = products.support.view(-1, ways, shots, ways, shots)
    squares = blocks.diagonal(dim1=1, dim2=3).mean(dim=(1, 2))
    return products.cross.view(*products.cross.shape[:2], ways, shots).mean(dim=3), squares


def cosine(products: Products) -> torch.Tensor:
    """Nearest class centre by cosine: ``⟨f, m_c⟩ / ‖m_c‖``, up to the length of the query; m_c the mean as it is.

    >>> import torch
    >>> x, f = torch.tensor([[[1.0, 0.0], [9.0, 9.0]]]), torch.tensor([[[8.0, 1.0], [0.1, 0.1]]])
    >>> cosine(Products.of(x, f, 2)).argmax(dim=2).tolist()
    [[0, 1]]
    """
    cross, squares = _centres(products.about_origin)
    lengths = squares.clamp(min=0).sqrt()
    return cross / lengths.where(lengths > 0, 1)[:, None]


def simpleshot(products: Products, about: Literal["mean", "origin"] = "mean") -> torch.Tensor:
    """CL2N: subtract a reference mean, scale to unit length, nearest class centre (Wang et al. 2019, 1911.04623).

    Args:
        products: Inner products.
        about: The reference mean: that of the support, or the origin, where features are centred already.

    >>> import torch
    >>> x, f = torch.tensor([[[1.0, 0.0], [9.0, 9.0]]]), torch.tensor([[[4.0, 0.0], [5.0, 6.0]]])
    >>> simpleshot(Products.of(x, f, 2)).argmax(dim=2).tolist()
    [[0, 1]]
    """
    centred = products.about_mean if about == "mean" else products.about_origin
    return ncc(centred.scaled())


def knn(products: Products) -> torch.Tensor:
    """The nearest neighbour, Euclidean: of each class the nearest support sample counts.

    >>> import torch
    >>> x, f = torch.tensor([[[0.0], [9.0], [3.0], [3.0]]]), torch.tensor([[[8.0], [2.0]]])  # 2-way 2-shot
    >>> knn(Products.of(x, f, 2)).argmax(dim=2).tolist()
    [[0, 1]]
    """
    scores = products.cross - products.support.diagonal(dim1=1, dim2=2)[:, None] / 2
    return scores.view(*scores.shape[:2], products.ways, products.shots).amax(dim=3)


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
    targets = _one_hot(products) - 1 / ways  # (N, w), centred
    if penalty == "loo":
        return centred.cross @ _by_leave_one_out(centred.support, targets, products.shots) + 1 / ways
    chosen = math.sqrt(len(targets)) if penalty is None else penalty
    kernel = centred.support.clone()
    diagonal = kernel.diagonal(dim1=1, dim2=2)
    # the second term is far below any penalty, but for features so long that their rounding exceeds it
    diagonal.add_(chosen + 4 * torch.finfo(kernel.dtype).eps * diagonal.sum(dim=1, keepdim=True))
    weights = torch.cholesky_solve(targets.expand(len(kernel), -1, -1), torch.linalg.cholesky(kernel))
    return centred.cross @ weights + 1 / ways


def _one_hot(products: Products) -> torch.Tensor:
    import torch

    classes = torch.eye(products.ways, dtype=torch.float64, device=products.support.device)
    return classes.repeat_interleave(products.shots, dim=0)


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
        centred.support, _one_hot(products), 2.0 if products.ways == 2 else 1.0
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


CLASSIFIERS: Mapping[str, Classifier] = {
    "ridge": ridge,
    "ncc": ncc,
    "cosine": cosine,
    "simpleshot": simpleshot,
    "logistic": logistic,
    "knn": knn,
}
"""Every classifier by name."""

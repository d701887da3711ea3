"""Multinomial logistic regression, batched over episodes: Newton's method with conjugate gradients.

Shapes: E episodes, N support samples, w ways. The weights are ``W = XᵀA`` with dual weights A, so that the features X
are needed only through the kernel ``K = X Xᵀ`` of the centred support.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.episodes.classifier import Classifier, Report
from nctransfer.episodes.inner_products import Products, one_hot

if TYPE_CHECKING:
    import torch

__all__ = ["LOGISTIC", "TOLERANCE", "logistic"]

TOLERANCE = 1e-8  # the norm of the gradient at which an episode has converged, relative to that at zero weights
NEWTON_STEPS, CONJUGATE_GRADIENT_STEPS, HALVINGS = 50, 200, 30
GRADIENT_NORM = "gradient_norm"


def logistic(products: Products, report: Report | None = None) -> torch.Tensor:
    """Multinomial logistic regression: ``argmin ½‖W‖² + Σ cross-entropy``, which is L2 with C = 1.

    The intercept is not penalised. With two classes it is the binary form, as in scikit-learn: written with two weight
    vectors of opposite sign, its penalty is twice as high. All episodes are fitted at once, until they have converged.
    The penalty does not grow with the features, so their scale matters: longer features are penalised less.

    Args:
        products: The inner products of E episodes.
        report: Receives ``gradient_norm``: the norm of the gradient at the end of each episode, relative to that at
            zero weights, ``(E,)``.

    Returns:
        The score of each query and class, ``(E, Q, w)``, float64.

    >>> import torch
    >>> x, f = torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[0.4], [1.6]]])
    >>> logistic(Products.of(x, f, 2)).argmax(dim=2).tolist()
    [[0, 1]]
    """
    penalty = (2.0 if products.ways == 2 else 1.0) * products.factor**2
    weights, intercepts, gradient_norms = _fit_logistic(products.centred_support[0], one_hot(products), penalty)
    if report:
        report(GRADIENT_NORM, gradient_norms)
    return products.weighted(weights) + intercepts


class _Vector(NamedTuple):
    """A point, or a direction, in the space of the weights ``W = XᵀA`` and the intercepts b.

    Its norm and inner product are those of (W, b): ``⟨W, W'⟩ = tr(AᵀKA')``. The product K A is kept beside A, so that
    the kernel is multiplied once per step.
    """

    dual: torch.Tensor  # A, (E, N, w)
    image: torch.Tensor  # K A, (E, N, w)
    intercepts: torch.Tensor  # b, (E, 1, w)

    def plus(self, size: torch.Tensor, direction: _Vector) -> _Vector:
        """``self + size · direction``, with one size per episode, ``(E,)``."""
        size = size[:, None, None]
        return _Vector(*(x + size * p for x, p in zip(self, direction, strict=True)))

    def dot(self, other: _Vector) -> torch.Tensor:
        """The inner product in each episode, ``(E,)``."""
        return (self.dual * other.image).sum(dim=(1, 2)) + (self.intercepts * other.intercepts).sum(dim=(1, 2))

    def squared_norm(self) -> torch.Tensor:
        """The squared norm in each episode, ``(E,)``."""
        return (self.dual * self.image).sum(dim=(1, 2)).clamp(min=0) + self.intercepts.square().sum(dim=(1, 2))


@dataclass(frozen=True, eq=False)
class _Problem:
    """The penalised cross-entropy of E episodes: its value, gradient and Hessian.

    Attributes:
        kernel: K, ``(E, N, N)``, with K 1 = 0.
        targets: The one-hot labels Y, ``(N, w)``.
        penalty: λ in ``λ/2 ‖W‖² + cross-entropy``.
    """

    kernel: torch.Tensor
    targets: torch.Tensor
    penalty: float

    def loss(self, point: _Vector) -> torch.Tensor:
        """The value in each episode, ``(E,)``."""
        log_likelihood = (point.image + point.intercepts).log_softmax(dim=2).mul(self.targets).sum(dim=(1, 2))
        return self.penalty / 2 * (point.dual * point.image).sum(dim=(1, 2)) - log_likelihood

    def probabilities(self, point: _Vector) -> torch.Tensor:
        """The softmax P of the scores of the support, ``(E, N, w)``."""
        return (point.image + point.intercepts).softmax(dim=2)

    def gradient(self, point: _Vector, probabilities: torch.Tensor) -> _Vector:
        """``λW + Xᵀ(P − Y)``, and ``1ᵀ(P − Y)`` for the intercepts."""
        return self._penalised(point, probabilities - self.targets)

    def hessian_product(self, direction: _Vector, probabilities: torch.Tensor) -> _Vector:
        """The Hessian times a direction D: ``λD + Xᵀ S``, each row of S being ``(diag p − p pᵀ)`` times that of X D."""
        weighted = probabilities * (direction.image + direction.intercepts)
        return self._penalised(direction, weighted - probabilities * weighted.sum(dim=2, keepdim=True))

    def _penalised(self, point: _Vector, rows: torch.Tensor) -> _Vector:
        """``λ · point + Xᵀ rows`` for rows ``(E, N, w)``."""
        total = rows.sum(dim=1, keepdim=True)
        # Subtracting the mean row changes nothing, as K 1 = 0, but without it the dual weights would grow.
        dual = self.penalty * point.dual + rows - total / rows.shape[1]
        return _Vector(dual, self.penalty * point.image + self.kernel @ rows, total)


def _fit_logistic(
    kernel: torch.Tensor, targets: torch.Tensor, penalty: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Newton's method: dual weights ``(E, N, w)``, intercepts ``(E, 1, w)`` and relative gradient norms ``(E,)``."""
    import torch

    problem = _Problem(kernel, targets, penalty)
    size, ways = targets.shape
    zeros = kernel.new_zeros(len(kernel), size, ways)
    point = _Vector(zeros, torch.zeros_like(zeros), kernel.new_zeros(len(kernel), 1, ways))
    # The squared norm of a gradient that is nothing but rounding.
    floor = (1e-15 * size) ** 2 * (1 + kernel.diagonal(dim1=1, dim2=2).amax(dim=1))
    initial = None
    for _ in range(NEWTON_STEPS):
        probabilities = problem.probabilities(point)
        gradient = problem.gradient(point, probabilities)
        squared = gradient.squared_norm()
        squared = squared.where(squared > floor, 0)
        initial = squared if initial is None else initial
        ratio = (squared / initial.where(initial > 0, 1)).sqrt()
        if bool((ratio <= TOLERANCE).all()):
            break
        direction = _newton_direction(problem, probabilities, gradient, squared, ratio)
        new, moves = _line_search(problem, point, direction, ratio)
        if not bool(moves.any()):
            break
        point = _Vector(*(torch.where(moves[:, None, None], x, old) for x, old in zip(new, point, strict=True)))
    return point.dual, point.intercepts, ratio


def _line_search(
    problem: _Problem, point: _Vector, direction: _Vector, ratio: torch.Tensor
) -> tuple[_Vector, torch.Tensor]:
    """Halve the step size until the loss does not rise: the new point, and which episodes may move there, ``(E,)``."""
    loss, step_size = problem.loss(point), (ratio > TOLERANCE).double()
    for _ in range(HALVINGS):
        new = point.plus(step_size, direction)
        fails = ~(problem.loss(new) <= loss + 1e-12 * loss.abs())
        if not bool(fails.any()):
            break
        step_size = step_size.where(~fails, step_size / 2)
    return new, ~fails & (step_size > 0)


def _newton_direction(
    problem: _Problem, probabilities: torch.Tensor, gradient: _Vector, squared: torch.Tensor, ratio: torch.Tensor
) -> _Vector:
    """An approximate solution of ``Hessian · x = −gradient`` by conjugate gradients.

    Args:
        problem: The loss.
        probabilities: The softmax at the current point.
        gradient: The gradient there.
        squared: Its squared norm, ``(E,)``.
        ratio: Its norm relative to that at zero weights, ``(E,)``.
    """
    import torch

    x = _Vector(*map(torch.zeros_like, gradient))
    r = _Vector(*(-part for part in gradient))  # residual
    p = r  # search direction
    # The residual must fall to this share of the gradient: ever less near the minimum, but no less than is needed
    # there.
    forcing = torch.maximum(ratio.sqrt().clamp(max=0.3), TOLERANCE / 3 / ratio).clamp(max=0.5)
    enough = squared * forcing.square()
    rr = squared  # ⟨r, r⟩
    for _ in range(CONJUGATE_GRADIENT_STEPS):
        active = rr > enough
        if not bool(active.any()):
            break
        Ap = problem.hessian_product(p, probabilities)  # noqa: N806 - the usual name
        curvature = p.dot(Ap)
        alpha = torch.where(active & (curvature > 0), rr / curvature, 0.0)
        x, r = x.plus(alpha, p), r.plus(-alpha, Ap)
        rr_new = r.squared_norm()
        beta = torch.where(active, rr_new / rr, 0.0)
        p = r.plus(beta, p)
        rr = rr_new.where(active, rr)
    return x


LOGISTIC = Classifier(
    name="logistic",
    function=logistic,
    meaning="multinomial logistic regression",
    reports=(GRADIENT_NORM,),
)

"""Ridge regression and linear discriminant analysis from one eigenbasis, with weights, each row left out exactly.

With weights w, the weighted mean m, and ``Σ w (x − m)(x − m)ᵀ = U S Uᵀ``, let ``z = Uᵀ(x − m)``, ``k`` the weight of
each class, N the rows ``√k (μ_c − m)ᵀ U`` and ``G = (S + λ)⁻¹``. Of each row, only ``u = N G z`` and ``g = zᵀ G z`` are
needed.

**Ridge regression** on one-hot labels has the scores ``k/Σw + √k u``. Without the row, its residual is divided by
``1 − h`` with the leverage ``h = w (1/Σw + g)``.

**Discriminant analysis** measures ``(x − μ_c)ᵀ (W + λI)⁻¹ (x − μ_c)`` with the scatter within classes,
``W = Σ w r rᵀ = U (S − NᵀN) Uᵀ`` for ``r = x − μ_y``. By Woodbury, with ``K = (I − N G Nᵀ)⁻¹``, the inner products
under ``A = (W + λI)⁻¹`` are, about m, ``xᵀ A x = g + uᵀ K u``, ``xᵀ A μ_c = (K u)_c/√k_c`` and
``μ_cᵀ A μ_e = (K − I)_ce/√(k_c k_e)``. Without the row, ``μ_y`` moves by ``−w r/(k − w)`` and W loses ``a r rᵀ`` with
``a = w k/(k − w)``. So, by Sherman and Morrison, with ``q = rᵀ A r``, the squared distance becomes

- ``(x − μ_c)ᵀ A (x − μ_c) + a (rᵀ A (x − μ_c))² / (1 − a q)`` from another class c,
- ``(k/(k − w))² q / (1 − a q)`` from its own class y.

Source: J. H. Friedman, "Regularized discriminant analysis", JASA 84 (1989), who leaves samples out by such updates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

    from nctransfer.label_audit.unit_rows import UnitRows

__all__ = ["LeftOutModels", "Projections"]

SMALLEST = 1e-9  # what is left, at least, of a class, of a direction, or of a row, without a row
KEPT = 2**25  # so many numbers of rows in the eigenbasis stay in memory


class Projections(NamedTuple):
    """What both models need of a batch of b rows at one penalty.

    Attributes:
        place: Where the rows are.
        u: ``N G z``, ``(b, C)``.
        g: ``zᵀ G z``, ``(b,)``.
    """

    place: slice
    u: torch.Tensor
    g: torch.Tensor


class LeftOutModels:
    """Both models of one set of weighted rows.

    Args:
        rows: n rows of C classes.
        weights: The weight of each row, ``(n,)``, above zero.

    Attributes:
        ridge_scale: The mean squared length of a row about the mean, the unit of penalties of ridge regression.
        scatter_scale: The mean of those eigenvalues of W that can be above zero, the unit of shrinkage.
    """

    def __init__(self, rows: UnitRows, weights: torch.Tensor) -> None:
        import torch

        self._rows, self._weights = rows, weights
        totals, sums, second = rows.moments(weights)
        self._total = totals.sum()
        self._mean = sums.sum(dim=0) / self._total
        values, self._vectors = torch.linalg.eigh(second - self._total * torch.outer(self._mean, self._mean))
        self._values, self._roots, self._totals = values.clamp(min=0), totals.sqrt(), totals
        self._means = (sums - totals[:, None] * self._mean) @ self._vectors / self._roots[:, None]  # N, (C, d)
        scatter = float(self._values.sum())
        within = max(scatter - float(self._means.square().sum()), SMALLEST * scatter)
        self.ridge_scale = scatter / len(rows) or 1.0
        self.scatter_scale = within / min(len(values), len(rows)) or 1.0
        self._kept = list(self._rotated()) if len(rows) * len(values) <= KEPT else None

    def _rotated(self) -> Iterator[tuple[slice, torch.Tensor]]:
        for place, rows in self._rows.batches():
            yield place, (rows - self._mean) @ self._vectors

    def projections(self, penalties: list[float]) -> Iterator[list[Projections]]:
        """The projections of each batch of rows, one for each penalty λ, in one pass."""
        inverses = [1 / (self._values + penalty) for penalty in penalties]
        maps = [(self._means * inverse).T for inverse in inverses]
        for place, z in self._kept or self._rotated():
            squares = z.square()
            yield [
                Projections(place, z @ some, squares @ inverse) for some, inverse in zip(maps, inverses, strict=True)
            ]

    def ridge(self, seen: Projections) -> torch.Tensor:
        """The ridge scores of some rows, each left out, ``(b, C)``; they do not depend on the label of the row."""
        import torch

        targets = torch.nn.functional.one_hot(self._rows.labels[seen.place], len(self._totals)).double()
        residuals = targets - self._totals / self._total - seen.u * self._roots
        leverage = self._weights[seen.place] * (1 / self._total + seen.g)
        scores: torch.Tensor = targets - residuals / (1 - leverage).clamp(min=SMALLEST)[:, None]
        return scores

    def kernel(self, penalty: float) -> torch.Tensor:
        """``K = (I − N G Nᵀ)⁻¹``, ``(C, C)``."""
        import torch

        inside = (self._means / (self._values + penalty)) @ self._means.T
        eye = torch.eye(len(inside), dtype=inside.dtype, device=inside.device)
        found: torch.Tensor = torch.linalg.inv(eye - inside)
        return found

    def squared_distances(self, seen: Projections, kernel: torch.Tensor) -> torch.Tensor:
        """The squared distances of some rows from all class means, each row left out, ``(b, C)``."""
        import torch

        codes, weight = self._rows.labels[seen.place], self._weights[seen.place]
        own = torch.arange(len(codes), device=codes.device), codes
        means = (kernel - torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)) / self._roots
        means /= self._roots[:, None]
        products = seen.u @ kernel
        lengths = seen.g + (products * seen.u).sum(dim=1)
        products = products / self._roots
        distances = lengths[:, None] - 2 * products + means.diagonal()
        total = self._totals[codes]
        others = (total - weight).clamp(min=SMALLEST)
        q = distances[own].clamp(min=0)
        rest = (1 - weight * total / others * q).clamp(min=SMALLEST)
        crossed = (lengths - products[own])[:, None] - products + means[codes]
        distances += (weight * total / others / rest)[:, None] * crossed.square()
        distances[own] = (total / others).square() * q / rest
        return distances.clamp(min=0)

"""Exact leave-one-out distances of rows from class means, as linear discriminant analysis measures them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from nctransfer.label_audit.unit_rows import UnitRows, WeightedMoments

__all__ = ["LeftOutDiscriminant"]

SMALLEST = 1e-6  # what is left of a class or of a direction without a row


class LeftOutDiscriminant:
    """Squared distances ``(x − μ_c)ᵀ (W + λI)⁻¹ (x − μ_c)``, where μ and W do not know the row x.

    W is the scatter within classes, ``Σ w r rᵀ`` with ``r = x − μ_y``. Without a row of weight w in a class of weight
    k, ``μ_y`` moves by ``−w r/(k − w)``, and W loses ``a r rᵀ`` with ``a = w k/(k − w)``. So, by Sherman and Morrison,
    with ``A = (W + λI)⁻¹`` and ``q = rᵀ A r``, the squared distance becomes

    - ``(x − μ_c)ᵀ A (x − μ_c) + a (rᵀ A (x − μ_c))² / (1 − a q)`` for another class c,
    - ``(k/(k − w))² q / (1 − a q)`` for its own class y.

    J. H. Friedman, "Regularized discriminant analysis", JASA 84 (1989), leaves samples out by such updates.

    Args:
        rows: n rows of C classes.
        weights: The weight of each row, ``(n,)``, above zero.
        moments: The moments of the rows with these weights.
    """

    def __init__(self, rows: UnitRows, weights: torch.Tensor, moments: WeightedMoments) -> None:
        import torch

        self._rows, self._weights, self._totals = rows, weights, moments.weights
        means = moments.sums / moments.weights[:, None]
        values, self._vectors = torch.linalg.eigh(moments.second - moments.sums.T @ means)
        self._values = values.clamp(min=0)
        self._scale = float(self._values.sum()) / min(len(values), len(rows)) or 1.0
        self._means = means @ self._vectors

    def squared_distances(self, shrinkage: float) -> torch.Tensor:
        """The squared distances ``(n, C)``, each row left out in turn.

        Args:
            shrinkage: λ over the mean of those eigenvalues of W that can be above zero.
        """
        import torch

        factor = 1 / (self._values + shrinkage * self._scale).sqrt()
        means = self._means * factor
        lengths = means.square().sum(dim=1)
        found = torch.empty(len(self._rows), len(means), dtype=torch.float64, device=means.device)
        for place, rows in self._rows.batches():
            codes, weight = self._rows.labels[place], self._weights[place]
            z = rows @ (self._vectors * factor)
            r = z - means[codes]
            q = r.square().sum(dim=1)
            total = self._totals[codes]
            others = (total - weight).clamp(min=SMALLEST)
            rest = (1 - weight * total / others * q).clamp(min=SMALLEST)
            products = z @ means.T
            crossed = (r * z).sum(dim=1)[:, None] - r @ means.T
            distances = z.square().sum(dim=1)[:, None] + lengths - 2 * products
            distances += (weight * total / others / rest)[:, None] * crossed.square()
            distances[torch.arange(len(codes)), codes] = (total / others).square() * q / rest
            found[place] = distances
        return found.clamp(min=0)

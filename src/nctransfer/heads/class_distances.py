"""Distances to the nearest class and to all images together, also of training images that are left out.

A scatter matrix without image i is one with a rank-one update: within classes ``S − a r rᵀ`` with r the residual of the
image and ``a = n_k/(n_k − 1)``, because the mean of its class moves too. By Sherman–Morrison, with products in some
metric P and ``h = a r·r``, the squared distance to the mean of another class is ``δ·δ + a (δ·r)²/(1 − h)`` with δ the
difference from it, and that to the mean of the own class is ``a h/(1 − h)``.

The penalty is ``ρ = 3 tr(S)/d``, so that an odd image raises it and thereby seems less odd. Without the image it is
smaller by ``ε = 3 a ‖r‖²/d``. With ``M = S + ρ I`` of all images, P is the inverse of ``M − ε I`` to first order in ε::

    x·y = xᵀ (M⁻¹ + ε M⁻²) y = (x + ε M⁻¹ x)ᵀ M⁻¹ y

With this P there is one factorisation for all images; the inverse itself would need one for each. The terms that are
left out are positive semidefinite, so ``h < 1``, and no distance to a class is larger than that with the penalty of the
others. As ``ε ≤ ρ``, the first of them is at most ``(ε/ρ)²`` of ``M⁻¹``, and ``ε/ρ`` is about ``1/n`` on average.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["SHRINKAGE", "ClassDistances", "Metric", "unit_length"]

SHRINKAGE = 3.0
"""What is added to the diagonal of a covariance, in units of the mean variance of a coordinate."""

BATCH = 1024


class Metric(NamedTuple):
    """The metric of a covariance ``(scatter + ridge I) / degrees``.

    Attributes:
        factor: The lower Cholesky factor of ``scatter + ridge I``, ``(r, r)``.
        ridge: The penalty.
        degrees: The degrees of freedom of the scatter.
    """

    factor: torch.Tensor
    ridge: float
    degrees: int

    @classmethod
    def of(cls, scatter: torch.Tensor, trace: float, dim: int, degrees: int) -> Metric:
        """The metric of a scatter matrix.

        Args:
            scatter: ``(r, r)``, in coordinates that span the images.
            trace: Its trace, or a stand-in for zero.
            dim: The width of the features, which is at least r.
            degrees: Its degrees of freedom.
        """
        import torch

        ridge = SHRINKAGE * trace / dim
        eye = torch.eye(len(scatter), dtype=scatter.dtype, device=scatter.device)
        return cls(torch.linalg.cholesky(scatter + ridge * eye), ridge, max(degrees, 1))

    def whitened(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows ``(b, r)`` whose inner products are those of the metric without its degrees of freedom."""
        import torch

        found: torch.Tensor = torch.linalg.solve_triangular(self.factor, rows.T, upper=False).T
        return found

    def solved(self, rows: torch.Tensor) -> torch.Tensor:
        """``(scatter + ridge I)⁻¹`` times each of the rows ``(b, r)``."""
        import torch

        found: torch.Tensor = torch.cholesky_solve(rows.T, self.factor).T
        return found

    def inverse(self) -> torch.Tensor:
        """The inverse covariance, ``(r, r)``."""
        import torch

        return torch.cholesky_inverse(self.factor) * self.degrees

    @property
    def outside(self) -> float:
        """The inverse variance in directions that no image spans."""
        return self.degrees / self.ridge


class ClassDistances:
    """Training images at unit length, in coordinates that span them, and the metrics within classes and of all images.

    Args:
        features: n training images of C classes.
        device: Where to compute, in float64.

    Attributes:
        mean: The mean of all images, ``(d,)``.
        basis: Orthonormal columns in whose coordinates all else is, ``(d, r)``; ``None`` for the features themselves.
        means: The class means minus ``mean``, ``(C, r)``.
        within: The metric within classes.
        total: The metric of all images.
        noise: What the noise of each class mean adds to a squared distance on average, ``(C,)``; minus infinity for
            a class without images, which is then nowhere near.
    """

    def __init__(self, features: FeatureSet, device: torch.device) -> None:
        import torch

        self._features, self._device = features, device
        self._labels, self._counts = features.labels.to(device), features.counts.to(device, torch.float64)
        total, dim = len(features), features.dim
        self.mean = torch.stack([rows.sum(dim=0) for rows in self._at_unit_length()]).sum(dim=0) / total
        self.basis = self._spanning() if 2 * total < dim else None
        width = dim if self.basis is None else self.basis.shape[1]
        sums = torch.zeros(len(self._counts), width, dtype=torch.float64, device=device)
        scatter = torch.zeros(width, width, dtype=torch.float64, device=device)
        for rows, labels in self._batches():
            sums.index_add_(0, labels, rows)
            scatter.addmm_(rows.T, rows)
        self.means = sums / self._counts.clamp(min=1)[:, None]
        within = scatter - sums.T @ self.means
        spread = float(scatter.trace()) or 1.0
        self.total = Metric.of(scatter, spread, dim, total)
        inside = max(float(within.trace()), 1e-6 * spread)  # of classes whose images are all equal
        self.within = Metric.of(within, inside, dim, total - int((self._counts > 0).sum()))
        self._centres = self.within.whitened(self.means)
        self._noise_of_one = self._mean_distance()
        self.noise = torch.where(self._counts > 0, self._noise_of_one / self._counts, -torch.inf)

    def of(self, features: torch.Tensor, is_relative: bool = True) -> torch.Tensor:
        """``min_k (distance to class k − noise_k) − distance to all images`` of new images.

        Args:
            features: ``(b, d)``.
            is_relative: Whether the distance to all images is subtracted.

        Returns:
            ``(b,)`` float64.
        """
        moved = unit_length(features.to(self._device).double()) - self.mean
        rows = moved if self.basis is None else moved @ self.basis
        beyond = (moved.square().sum(dim=1) - rows.square().sum(dim=1)).clamp(min=0)  # what no image spans
        white = self.within.whitened(rows)
        squared = white.square().sum(dim=1, keepdim=True) - 2 * white @ self._centres.T
        squared = (squared + self._centres.square().sum(dim=1)) * self.within.degrees - self.noise
        found: torch.Tensor = squared.amin(dim=1) + beyond * self.within.outside
        if is_relative:
            found = found - self.total.whitened(rows).square().sum(dim=1) * self.total.degrees
            found = found - beyond * self.total.outside
        return found

    def left_out(self, is_relative: bool = True) -> torch.Tensor:
        """``min_k (distance to class k − noise_k) − distance to all images``, each image left out, ``(n,)`` float64.

        What the penalties owe to the image is taken off to first order; the noise is that of all images.

        Args:
            is_relative: Whether the distance to all images is subtracted.
        """
        import torch

        slopes = self.within.solved(self.means)
        found = []
        for rows, labels in self._batches():
            distance = self._nearest_without(rows, labels, slopes)
            found.append(distance - self._far_without(rows) if is_relative else distance)
        return torch.cat(found)

    def _nearest_without(self, rows: torch.Tensor, labels: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
        """``min_k (distance to class k − noise_k)`` without each of some images, ``(b,)``.

        Args:
            rows: ``(b, r)``.
            labels: ``(b,)``.
            slopes: ``M⁻¹`` times each class mean, ``(C, r)``.
        """
        import torch

        share, degrees = self._without_one(labels)
        residual, solved = rows - self.means[labels], self.within.solved(rows)
        owed = self._owed(residual, share)
        leverage, raised = _leverage(residual, solved - slopes[labels], share, owed)
        products = (raised * solved).sum(dim=1, keepdim=True) - raised @ slopes.T
        raised = rows + owed[:, None] * solved
        squared = (raised * solved).sum(dim=1, keepdim=True) - 2 * raised @ slopes.T
        squared = squared + (self.means * slopes).sum(dim=1) + owed[:, None] * slopes.square().sum(dim=1)
        squared = (squared + (share / (1 - leverage))[:, None] * products.square()) * degrees[:, None] - self.noise
        others = self._counts[labels] - 1
        own = share * leverage / (1 - leverage) * degrees - self._noise_of_one / others
        is_own = torch.arange(len(self._counts), device=self._device) == labels[:, None]
        return torch.where(is_own, own.where(others > 0, torch.inf)[:, None], squared).amin(dim=1)

    def _far_without(self, rows: torch.Tensor) -> torch.Tensor:
        """The distance of each of some images to all others, ``(b,)``, as if all were one class."""
        total = len(self._features)
        share = rows.new_full(rows.shape[:1], total / max(total - 1, 1))
        leverage, _ = _leverage(rows, self.total.solved(rows), share, self._owed(rows, share))
        return share * leverage / (1 - leverage) * max(self.total.degrees - 1, 1)

    def _owed(self, residual: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        """By how much the penalty is smaller without each image, ε, ``(b,)``."""
        return SHRINKAGE * share * residual.square().sum(dim=1) / self._features.dim

    def _without_one(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``n_k/(n_k − 1)``, and the degrees of freedom within classes without an image of these classes, ``(b,)``."""
        import torch

        own = self._counts[labels]
        # a class of one image is gone without it, and the degree of freedom of its mean with it
        degrees = torch.where(own > 1, max(self.within.degrees - 1, 1), self.within.degrees)
        return own / (own - 1).clamp(min=1), degrees

    def _mean_distance(self) -> torch.Tensor:
        """The mean squared distance of images to the true mean of their class, ``()``, with the penalty of all images.

        The distance to the mean of m other images is ``1 + 1/m`` times that, on average.
        """
        import torch

        found = []
        for rows, labels in self._batches():
            share, degrees = self._without_one(labels)
            leverage = share * (self.within.whitened(rows) - self._centres[labels]).square().sum(dim=1)
            found.append(leverage / (1 - leverage) * degrees)
        return torch.cat(found).mean()

    def _at_unit_length(self) -> Iterator[torch.Tensor]:
        for rows, _ in self._features.batches(BATCH):
            yield unit_length(rows.to(self._device).double())

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Coordinates ``(b, r)`` about the overall mean, and labels ``(b,)``."""
        start = 0
        for rows in self._at_unit_length():
            moved = rows - self.mean
            yield moved if self.basis is None else moved @ self.basis, self._labels[start : start + len(rows)]
            start += len(rows)

    def _spanning(self) -> torch.Tensor:
        """Orthonormal columns that span far fewer images than dimensions, ``(d, n)``."""
        import torch

        basis: torch.Tensor = torch.linalg.qr((torch.cat(list(self._at_unit_length())) - self.mean).T).Q
        return basis


def _leverage(
    residual: torch.Tensor, solved: torch.Tensor, share: torch.Tensor, owed: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """``h = a r·r``, ``(b,)``, and ``r + ε M⁻¹ r``, ``(b, r)``, from ``r``, ``M⁻¹ r``, ``a`` and ``ε``."""
    raised = residual + owed[:, None] * solved
    return share * (raised * solved).sum(dim=1), raised


def unit_length(rows: torch.Tensor) -> torch.Tensor:
    """Rows ``(b, d)`` scaled to unit length; a row of zeros stays.

    >>> import torch
    >>> unit_length(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6..., 0.8...], [0.0, 0.0]]
    """
    length = rows.norm(dim=1, keepdim=True)
    scaled: torch.Tensor = rows / length.where(length > 0, 1)
    return scaled

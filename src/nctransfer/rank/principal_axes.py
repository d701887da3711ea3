"""The principal axes of a feature set, and where the class means lie on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.features.size_limits import check_size
from nctransfer.neural_collapse.measure import Undefined
from nctransfer.neural_collapse.moments import Means, add_outer, symmetric

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_stream import Features

__all__ = ["PrincipalAxes"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PrincipalAxes:
    """The k axes along which n samples of C classes vary; float64.

    Attributes:
        samples: n.
        dim: The feature width, d.
        codes: The codes of the classes that have samples, ``(C,)``.
        counts: The number of samples of each of them, ``(C,)``.
        variances: The variance along each axis, ascending, ``(k,)``; axes whose variance is rounding are left out.
        means: The class means about the centre, on each axis, ``(k, C)``.
        total: The sum of all variances.
        fourths: The mean over samples of ``‖f − centre‖⁴``.
    """

    samples: int
    dim: int
    codes: torch.Tensor
    counts: torch.Tensor
    variances: torch.Tensor
    means: torch.Tensor
    total: float
    fourths: float

    @property
    def is_balanced(self) -> bool:
        """Whether all classes have the same size."""
        return bool((self.counts == self.counts[0]).all())

    @property
    def shrinkage(self) -> float:
        """The weight of the identity in the covariance of Ledoit and Wolf (2004), from 0 to 1, of unweighted samples.

        With λ the variances, ``δ = Σλ² − (Σλ)²/d`` and ``β = (E‖f − centre‖⁴ − Σλ²)/n``, it is ``min(β, δ)/δ``.
        """
        squares = float(self.variances.square().sum())
        distance = squares - self.total**2 / self.dim
        noise = min((self.fourths - squares) / self.samples, distance)
        return noise / distance if noise > 0 else 0.0

    @classmethod
    def of(cls, features: Features, device: torch.device, *, by_class: bool = False) -> PrincipalAxes:
        """The axes of a feature set. With fewer samples than features, they come from the products of samples.

        Args:
            features: The feature set; classes without samples are left out.
            device: Where to compute.
            by_class: Whether every class has the same weight, and the centre is the mean of the class means, so that
                the variances are those of ``Sigma_T``. Otherwise every sample has the same weight.

        Raises:
            Undefined: There is only one class, or all features are equal.
            FeaturesError: The features are so large or small that their moments leave float64.
        """
        import torch

        n, dim, eps = len(features), features.dim, torch.finfo(torch.float64).eps
        sums = Means.of(features, device, torch.empty(n, 0, dtype=torch.bool))
        codes = sums.counts.nonzero()[:, 0]
        if len(codes) < 2:
            raise Undefined("there is only one class")
        counts, means = sums.counts[codes], sums.shift + sums.sums[codes] / sums.counts[codes, None]
        weights = (n / (len(codes) * sums.counts)).sqrt() if by_class else torch.ones_like(sums.counts)
        centre = means.mean(dim=0) if by_class else counts @ means / n
        rows = _Rows.of(features, centre, weights)
        total = float(rows.products.trace()) / n
        check_size(max(float(means.abs().max()), total**0.5))
        if total <= (8 * eps * float(means.norm(dim=1).max())) ** 2:
            raise Undefined("all features are equal")
        values, vectors = torch.linalg.eigh(rows.products)
        kept = values > values[-1] * max(n, dim) * eps
        kept[: max(0, len(kept) - n + 1)] = False  # n samples about their centre vary along n − 1 axes
        values, vectors = values[kept], vectors[:, kept]
        if rows.labels is None:
            on_axes = vectors.T @ (means - centre).T
        else:
            of_class = vectors.new_zeros(len(weights), len(values)).index_add_(0, rows.labels, vectors)
            on_axes = (of_class[codes] / (counts * weights[codes])[:, None] * values.sqrt()).T
        return cls(
            samples=n,
            dim=dim,
            codes=codes,
            counts=counts,
            variances=values / n,
            means=on_axes,
            total=total,
            fourths=rows.fourths / n,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rows:
    """The products of n rows: centred, and each weighted by its class.

    Attributes:
        products: Of features, ``(d, d)``; or of rows, ``(n, n)``, if there are fewer of these.
        labels: The class codes in the order of such rows, ``(n,)``; ``None`` for products of features.
        fourths: The sum of ``‖f − centre‖⁴``, without weights.
    """

    products: torch.Tensor
    labels: torch.Tensor | None
    fourths: float

    @classmethod
    def of(cls, features: Features, centre: torch.Tensor, weights: torch.Tensor) -> _Rows:
        """One pass over the rows of a set."""
        import torch

        is_wide, fourths = len(features) <= features.dim, 0.0
        products = centre.new_zeros((0, 0) if is_wide else (features.dim, features.dim))
        every, codes = [], []
        for batch, labels in features.batches(512):
            rows = batch.to(centre.device, torch.float64) - centre
            labels = labels.to(centre.device)
            fourths += float(rows.square().sum(dim=1).square().sum())
            rows *= weights[labels, None]
            if is_wide:
                every.append(rows)
                codes.append(labels)
            else:
                add_outer(products, rows)
        if not is_wide:
            return cls(products=symmetric(products), labels=None, fourths=fourths)
        matrix = torch.cat(every)
        return cls(products=matrix @ matrix.T, labels=torch.cat(codes), fourths=fourths)

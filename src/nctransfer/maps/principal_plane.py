"""The plane in which the images of a feature set vary most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.features.size_limits import check_size
from nctransfer.neural_collapse.moments import add_outer, symmetric

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["PrincipalPlane", "principal_plane"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PrincipalPlane:
    """The first two principal axes of n images.

    Attributes:
        centre: The mean of all images, ``(d,)`` float64.
        axes: Two orthogonal unit vectors, ``(2, d)`` float64. An axis along which nothing varies is zero.
        variances: The variance of the images along each axis, ``(2,)`` float64, descending.
        total: The variance of the images, summed over all d directions.
    """

    centre: torch.Tensor
    axes: torch.Tensor
    variances: torch.Tensor
    total: float

    @property
    def shares(self) -> tuple[float, float]:
        """The share of the variance along each axis, from 0 to 1; 0 if nothing varies."""
        first, second = (self.variances / self.total).tolist() if self.total > 0 else (0.0, 0.0)
        return first, second


def principal_plane(features: FeatureSet, device: torch.device) -> PrincipalPlane:
    """The first two principal axes, exactly: eigenvectors of the covariance, whose sums are float64.

    With fewer images than features, they come from the products of images, which is less work. The sign of an axis is
    the one that makes its largest entry positive, as scikit-learn's PCA has it.

    Args:
        features: n images of width d. The memory is about ``min(n, d)²`` numbers, and with fewer images than features
            that of the images in float64.
        device: Where to compute, with float64.

    Raises:
        FeaturesError: The features are so large or small that their moments leave float64.

    >>> import torch
    >>> from nctransfer.features.feature_set import FeatureSet
    >>> rows = [[3.0, 4.0, 0.0], [-3.0, -4.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]
    >>> plane = principal_plane(FeatureSet.from_arrays(rows, "aabb"), torch.device("cpu"))
    >>> plane.axes.round(decimals=2).abs().tolist(), plane.variances.round(decimals=2).tolist()
    ([[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]], [12.5, 0.5])
    """
    import torch

    n, dim = len(features), features.dim
    shift = features.features[0].to(device, torch.float64)
    total = torch.zeros(dim, dtype=torch.float64, device=device)
    for rows, _ in features.batches():
        total += (rows.to(device, torch.float64) - shift).sum(dim=0)
    centre = shift + total / n
    is_wide = n <= dim
    products = torch.zeros(0 if is_wide else dim, 0 if is_wide else dim, dtype=torch.float64, device=device)
    kept = []
    for rows, _ in features.batches():
        centred = rows.to(device, torch.float64) - centre
        if is_wide:
            kept.append(centred)
        else:
            add_outer(products, centred)
    matrix = torch.cat(kept) if is_wide else None
    products = symmetric(products) if matrix is None else matrix @ matrix.T
    spread = float(products.trace()) / n
    check_size(max(float(centre.abs().max()), spread**0.5))
    rounding = 8 * torch.finfo(torch.float64).eps * float(centre.norm())
    if spread <= rounding**2:
        return PrincipalPlane(centre=centre, axes=shift.new_zeros(2, dim), variances=shift.new_zeros(2), total=0.0)
    values, vectors = _two_largest(products.cpu().numpy())
    variances, axes = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dim, dtype=torch.float64)
    for place, (value, vector) in enumerate(zip(values, vectors, strict=True)):
        if value > values[0] * max(n, dim) * torch.finfo(torch.float64).eps:
            variances[place] = value / n
            axes[place] = _signed(_axis(torch.from_numpy(vector), matrix))
    return PrincipalPlane(centre=centre, axes=axes.to(device), variances=variances.to(device), total=spread)


def _two_largest(products: NDArray[np.float64]) -> tuple[list[float], list[NDArray[np.float64]]]:
    """The two largest eigenvalues of a symmetric matrix, descending, with their eigenvectors; one of a 1 × 1 matrix."""
    from scipy.linalg import eigh

    size = len(products)
    values, vectors = eigh(products, subset_by_index=(max(0, size - 2), size - 1))
    return values[::-1].tolist(), list(vectors.T[::-1])


def _axis(vector: torch.Tensor, matrix: torch.Tensor | None) -> torch.Tensor:
    """The unit vector among features, ``(d,)``, that an eigenvector of the products stands for."""
    if matrix is None:
        return vector
    axis = vector.to(matrix.device) @ matrix
    found: torch.Tensor = axis / axis.norm()
    return found.cpu()


def _signed(axis: torch.Tensor) -> torch.Tensor:
    """The axis, with its largest entry positive."""
    found: torch.Tensor = axis if float(axis[axis.abs().argmax()]) > 0 else -axis
    return found

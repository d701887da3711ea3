"""How unlike every class an image is: the relative Mahalanobis distance of its feature, scaled to unit length.

With ``u`` the feature scaled to unit length, ``μ_k`` the mean of ``u`` over class k and ``m`` over all images, the
unlikeness is::

    min_k (u − μ_k)ᵀ (W + λ_W I)⁻¹ (u − μ_k) − (u − m)ᵀ (T + λ_T I)⁻¹ (u − m)

W is the covariance within classes, T that of all images, and each λ is three times the mean variance of a coordinate.
The first term is the distance to the nearest class in units of how far images of a class lie from its mean; the second
is small for images like all the others and large for odd ones, so that an image which is odd in ways that have nothing
to do with the classes is not counted as unlike them. Source: Ren et al., "A simple fix to Mahalanobis distance for
improving near-OOD detection" (2021); unit length as in Müller and Hein, "Mahalanobis++" (2025).

The unlikeness of a training image is that of an image which was left out, exactly: its class mean, both covariances and
the overall mean are those of the other images (Sherman–Morrison). Only both λ are those of all images.
Images that are almost equal to another training image seem less unlike than new ones.

A head stores one quadratic function for all classes and a linear function for each. The quadratic one keeps the 256
directions that matter most, in half precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.devices import with_float64

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["Unlikeness", "fit_unlikeness"]

SHRINKAGE = 3.0  # λ in units of the mean variance of a coordinate
MOST_DIRECTIONS = 256
BATCH = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class Unlikeness:
    """How unlike every class an image is, as a function of its feature; a larger value is more unlike.

    With ``v`` the feature, scaled to unit length, minus ``centre``, it is
    ``constant ‖v‖² + Σ_r curvatures_r (directions_r · v)² + min_k (offset_k − weight_k · v)``.

    Attributes:
        centre: ``(d,)`` float32.
        constant: ``()`` float32.
        directions: ``(r, d)`` float32, whose values float16 holds exactly; r is at most 256.
        curvatures: ``(r,)`` float32.
        weight: ``(C, d)`` float32.
        offset: ``(C,)`` float32.
    """

    centre: torch.Tensor
    constant: torch.Tensor
    directions: torch.Tensor
    curvatures: torch.Tensor
    weight: torch.Tensor
    offset: torch.Tensor

    def of(self, features: torch.Tensor) -> torch.Tensor:
        """The unlikeness of some images.

        Args:
            features: ``(b, d)``.

        Returns:
            ``(b,)`` float32.
        """
        v = _unit_length(features.float()) - self.centre
        common = (v @ self.directions.T).square() @ self.curvatures + self.constant * v.square().sum(dim=1)
        found: torch.Tensor = common + (self.offset - v @ self.weight.T).amin(dim=1)
        return found

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a file of a head stores, by name; see :meth:`from_tensors`."""
        found: dict[str, torch.Tensor] = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**found, "directions": self.directions.half()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor], dim: int, classes: int) -> Unlikeness:
        """The unlikeness from its tensors.

        Args:
            tensors: What :meth:`tensors` returned.
            dim: The width of the features, d.
            classes: The number of classes, C.

        Raises:
            ValueError: A tensor is missing or unknown, has another shape or type, or holds NaN or infinite values.
        """
        names = [one.name for one in fields(cls)]
        if set(tensors) != set(names):
            raise ValueError(f"the unlikeness has the tensors {sorted(tensors)}; expected {sorted(names)}")
        kept = len(tensors["curvatures"]) if tensors["curvatures"].ndim == 1 else 0
        shapes = {
            "centre": (dim,),
            "constant": (),
            "directions": (kept, dim),
            "curvatures": (kept,),
            "weight": (classes, dim),
            "offset": (classes,),
        }
        for name, shape in shapes.items():
            _check(name, tensors[name], shape)
        return cls(**{name: tensors[name].float() for name in names})


def _check(name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> None:
    import torch

    expected = torch.float16 if name == "directions" else torch.float32
    if tuple(tensor.shape) != shape:
        raise ValueError(f"the tensor {name} of the unlikeness has the shape {tuple(tensor.shape)}; expected {shape}")
    if tensor.dtype != expected:
        raise ValueError(f"the tensor {name} of the unlikeness is of type {tensor.dtype}; expected {expected}")
    if not bool(tensor.isfinite().all()):
        raise ValueError(f"the tensor {name} of the unlikeness holds NaN or infinite values")


def fit_unlikeness(features: FeatureSet, device: str = "auto") -> tuple[Unlikeness, torch.Tensor]:
    """Fit the unlikeness to training images, and say how unlike each of them is when it is left out.

    Args:
        features: n training images of C classes.
        device: Where to compute.

    Returns:
        The unlikeness, and that of the training images, ``(n,)`` float32. The image of a class of one image is compared
        with the other classes.

    >>> from nctransfer.features.feature_set import FeatureSet
    >>> corners = [[5, 0], [5, 1], [6, 0], [0, 5], [1, 5], [0, 6]]
    >>> unlikeness, left_out = fit_unlikeness(FeatureSet.from_arrays(corners, "aaabbb"), "cpu")
    >>> import torch
    >>> like, unlike = unlikeness.of(torch.tensor([[5.5, 0.5], [-5.0, -5.0]])).tolist()
    >>> like < float(left_out.max()) < unlike
    True
    """
    import torch

    geometry = _Geometry(features, with_float64(device))
    return geometry.function(), torch.cat(list(geometry.left_out())).float().cpu()


class _Metric(NamedTuple):
    """A covariance as ``(scatter + ridge I) / degrees``, and its inverse's factor.

    Attributes:
        factor: The lower Cholesky factor of ``scatter + ridge I``, ``(r, r)``.
        ridge: The penalty.
        degrees: The degrees of freedom of the scatter.
    """

    factor: torch.Tensor
    ridge: float
    degrees: int

    @classmethod
    def of(cls, scatter: torch.Tensor, trace: float, dim: int, degrees: int) -> _Metric:
        import torch

        ridge = SHRINKAGE * trace / dim
        eye = torch.eye(len(scatter), dtype=scatter.dtype, device=scatter.device)
        return cls(torch.linalg.cholesky(scatter + ridge * eye), ridge, max(degrees, 1))

    def whitened(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows ``(b, r)`` whose inner products are those of the metric without its degrees of freedom."""
        import torch

        found: torch.Tensor = torch.linalg.solve_triangular(self.factor, rows.T, upper=False).T
        return found

    def inverse(self) -> torch.Tensor:
        """The inverse covariance, ``(r, r)``."""
        import torch

        return torch.cholesky_inverse(self.factor) * self.degrees


class _Geometry:
    """Training images at unit length, in coordinates that span them, with both metrics; float64."""

    def __init__(self, features: FeatureSet, device: torch.device) -> None:
        import torch

        self._features, self._device = features, device
        self._labels, self._counts = features.labels.to(device), features.counts.to(device, torch.float64)
        total, self._dim = len(features), features.dim
        self._mean = torch.stack([rows.sum(dim=0) for rows in self._at_unit_length()]).sum(dim=0) / total  # (d,)
        self._basis = self._spanning() if 2 * total < self._dim else None  # (d, r)
        width = self._dim if self._basis is None else self._basis.shape[1]
        sums = torch.zeros(len(self._counts), width, dtype=torch.float64, device=device)
        scatter = torch.zeros(width, width, dtype=torch.float64, device=device)
        for rows, labels in self._batches():
            sums.index_add_(0, labels, rows)
            scatter.addmm_(rows.T, rows)
        self._means = sums / self._counts.clamp(min=1)[:, None]  # (C, r)
        within = scatter - sums.T @ self._means
        spread = float(scatter.trace()) or 1.0
        self._total = _Metric.of(scatter, spread, self._dim, total)
        inside = max(float(within.trace()), 1e-6 * spread)  # of classes whose images are all equal
        self._within = _Metric.of(within, inside, self._dim, total - int((self._counts > 0).sum()))

    def _at_unit_length(self) -> Iterator[torch.Tensor]:
        for rows, _ in self._features.batches(BATCH):
            yield _unit_length(rows.to(self._device).double())

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Coordinates ``(b, r)`` about the overall mean, and labels ``(b,)``."""
        start = 0
        for rows in self._at_unit_length():
            moved = rows - self._mean
            yield moved if self._basis is None else moved @ self._basis, self._labels[start : start + len(rows)]
            start += len(rows)

    def _spanning(self) -> torch.Tensor:
        """Orthonormal columns that span far fewer images than dimensions, ``(d, n)``."""
        import torch

        basis: torch.Tensor = torch.linalg.qr((torch.cat(list(self._at_unit_length())) - self._mean).T).Q
        return basis

    def left_out(self) -> Iterator[torch.Tensor]:
        """The unlikeness of each image when it is left out, a batch ``(b,)`` at a time."""
        import torch

        total, centres = len(self._features), self._within.whitened(self._means)
        lengths, factor = centres.square().sum(dim=1), total / max(total - 1, 1)
        for rows, labels in self._batches():
            white, own = self._within.whitened(rows), self._counts[labels]
            residual, share = white - centres[labels], own / (own - 1).clamp(min=1)
            products = (white * residual).sum(dim=1, keepdim=True) - residual @ centres.T
            h = share * residual.square().sum(dim=1)
            squared = white.square().sum(dim=1, keepdim=True) - 2 * white @ centres.T + lengths
            squared = squared + (share / (1 - h))[:, None] * products.square()
            to_own = torch.where(own > 1, share * h / (1 - h), torch.inf)
            squared[torch.arange(len(labels)), labels] = to_own
            q = factor * self._total.whitened(rows).square().sum(dim=1)
            degrees = torch.where(own > 1, max(self._within.degrees - 1, 1), self._within.degrees)
            yield squared.amin(dim=1) * degrees - factor * q / (1 - q) * max(self._total.degrees - 1, 1)

    def function(self) -> Unlikeness:
        """The unlikeness of a new image."""
        import torch

        inverse = self._within.inverse()
        outside = self._within.degrees / self._within.ridge - self._total.degrees / self._total.ridge
        curved = inverse - self._total.inverse()
        curved.diagonal().sub_(outside)
        values, vectors = torch.linalg.eigh(curved)
        kept = values.abs().argsort(descending=True)[:MOST_DIRECTIONS]
        directions, slopes = vectors[:, kept].T, self._means @ inverse  # (r, ·), (C, ·)
        offset = (slopes * self._means).sum(dim=1)
        if self._basis is not None:
            directions, slopes = directions @ self._basis.T, slopes @ self._basis.T
        return Unlikeness(
            centre=self._mean.float().cpu(),
            constant=torch.tensor(outside),
            directions=directions.half().float().cpu(),
            curvatures=values[kept].float().cpu(),
            weight=(2 * slopes).float().cpu(),
            offset=offset.float().cpu(),
        )


def _unit_length(rows: torch.Tensor) -> torch.Tensor:
    """Rows scaled to unit length; a row of zeros stays."""
    length = rows.norm(dim=1, keepdim=True)
    scaled: torch.Tensor = rows / length.where(length > 0, 1)
    return scaled

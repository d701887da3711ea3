"""How unlike every class an image is: the relative Mahalanobis distance of its feature, scaled to unit length.

With ``u`` the feature scaled to unit length, ``μ_k`` the mean of ``u`` over the n_k images of class k and ``m`` over
all n images, the unlikeness is::

    min_k [ (u − μ_k)ᵀ (W + λ_W I)⁻¹ (u − μ_k) − τ / n_k ] − (u − m)ᵀ (T + λ_T I)⁻¹ (u − m)

W is the covariance within classes, T that of all images, and each λ is three times the mean variance of a coordinate.
The first term is the distance to the nearest class, in units of how far images of a class lie from its mean. The noise
of a mean of n_k images adds ``τ / n_k`` to it on average. The second term is larger for odd images, so that one which
is odd in ways that have nothing to do with the classes is not counted as unlike them. Source: Ren et al., "A simple fix
to Mahalanobis distance for improving near-OOD detection" (2021); unit length as in Müller and Hein, "Mahalanobis++"
(2025).

The unlikeness of a training image is that of an image which was left out: its class mean, both covariances and the
overall mean are those of the other images. So is each λ, to first order in what the image adds to it
(:mod:`~nctransfer.heads.class_distances`); only τ is that of all images. Images that are almost equal to another
training image seem less unlike than new ones.

Without its second term it is the Mahalanobis distance (Lee et al., NeurIPS 2018), which a head may have in its place.

A head stores one quadratic function for all classes and a linear function for each. The quadratic one keeps the 512
directions that matter most, in half precision; along the others its curvature is their mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from nctransfer.devices import with_float64
from nctransfer.heads.class_distances import SHRINKAGE, ClassDistances, unit_length

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = [
    "MAHALANOBIS",
    "RELATIVE",
    "Unlikeness",
    "check_tensor",
    "fit_mahalanobis",
    "fit_unlikeness",
    "unlikeness_from",
]

RELATIVE, MAHALANOBIS = "relative-mahalanobis", "mahalanobis"
MOST_DIRECTIONS = 512
TINY = 1e-300  # in place of the sum of nothing
NEVER_NEAREST = 1e30  # the offset of a class without images


@dataclass(frozen=True, kw_only=True, eq=False)
class Unlikeness:
    """How unlike every class an image is, as a function of its feature; a larger value is more unlike.

    With ``v`` the feature, scaled to unit length, minus ``centre``, it is
    ``constant ‖v‖² + Σ_r curvatures_r (directions_r · v)² + min_k (offset_k − weight_k · v)``.

    Attributes:
        centre: ``(d,)`` float32.
        constant: ``()`` float32.
        directions: ``(r, d)`` float32, whose values float16 holds exactly; r is at most 512.
        curvatures: ``(r,)`` float32.
        weight: ``(C, d)`` float32.
        offset: ``(C,)`` float32.
        is_relative: Whether the distance to all images is subtracted from that to the nearest class.
    """

    centre: torch.Tensor
    constant: torch.Tensor
    directions: torch.Tensor
    curvatures: torch.Tensor
    weight: torch.Tensor
    offset: torch.Tensor
    is_relative: bool = True

    @property
    def name(self) -> str:
        """Its kind; see :mod:`nctransfer.heads.unlikeness_kinds`."""
        return RELATIVE if self.is_relative else MAHALANOBIS

    def of(self, features: torch.Tensor) -> torch.Tensor:
        """The unlikeness of some images.

        Args:
            features: ``(b, d)``.

        Returns:
            ``(b,)`` float32.
        """
        v = unit_length(features.float()) - self.centre
        common = (v @ self.directions.T).square() @ self.curvatures + self.constant * v.square().sum(dim=1)
        found: torch.Tensor = common + (self.offset - v @ self.weight.T).amin(dim=1)
        return found

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a file of a head stores, by name; see :meth:`from_tensors`."""
        found: dict[str, torch.Tensor] = {name: getattr(self, name) for name in _tensor_names()}
        return {**found, "directions": self.directions.half()}

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, torch.Tensor], dim: int, classes: int, *, is_relative: bool = True
    ) -> Unlikeness:
        """The unlikeness from its tensors.

        Args:
            tensors: What :meth:`tensors` returned.
            dim: The width of the features, d.
            classes: The number of classes, C.
            is_relative: Whether it is the relative distance.

        Raises:
            ValueError: A tensor is missing or unknown, has another shape or type, or holds NaN or infinite values.
        """
        names = _tensor_names()
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
            check_tensor(name, tensors[name], shape, is_half=name == "directions")
        return cls(**{name: tensors[name].float() for name in names}, is_relative=is_relative)


def _tensor_names() -> list[str]:
    return [one.name for one in fields(Unlikeness) if one.name != "is_relative"]


def check_tensor(name: str, tensor: torch.Tensor, shape: tuple[int, ...], is_half: bool = False) -> None:
    """Refuse a tensor of an unlikeness that a file may not hold.

    Args:
        name: Its name.
        tensor: The tensor.
        shape: The shape that it must have.
        is_half: Whether it must be of float16, else of float32.

    Raises:
        ValueError: It has another shape or type, or holds NaN or infinite values.
    """
    import torch

    expected = torch.float16 if is_half else torch.float32
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
    distances = ClassDistances(features, with_float64(device))
    return unlikeness_from(distances), distances.left_out().float().cpu()


def fit_mahalanobis(features: FeatureSet, device: str = "auto") -> tuple[Unlikeness, torch.Tensor]:
    """The same with the distance to the nearest class alone; see :func:`fit_unlikeness`."""
    distances = ClassDistances(features, with_float64(device))
    return unlikeness_from(distances, is_relative=False), distances.left_out(is_relative=False).float().cpu()


def unlikeness_from(distances: ClassDistances, is_relative: bool = True) -> Unlikeness:
    """The unlikeness as a quadratic function and a linear one per class.

    Args:
        distances: The metrics of the training images.
        is_relative: Whether the distance to all images is subtracted from that to the nearest class.
    """
    import torch

    within, total, basis, dim = distances.within, distances.total, distances.basis, len(distances.mean)
    inverse, constant = within.inverse(), within.outside
    curved = inverse
    if is_relative:
        constant -= total.outside
        curved = inverse - total.inverse()
    curved = curved.clone()
    curved.diagonal().sub_(constant)
    values, vectors = torch.linalg.eigh(curved)
    least = total.ridge / SHRINKAGE  # the mean variance of a coordinate, up to the factor of all variances here
    variances = (total.factor.T @ vectors).square().sum(dim=0) - total.ridge + least
    order = (values.abs() * variances).argsort(descending=True)
    kept, others = order[:MOST_DIRECTIONS], order[MOST_DIRECTIONS:]
    mean = float(values[others] @ variances[others] / (variances[others].sum() + (dim - len(values)) * least + TINY))
    directions, slopes = vectors[:, kept].T, distances.means @ inverse  # (kept, r), (C, r)
    offset = (slopes * distances.means).sum(dim=1) - distances.noise
    if basis is not None:
        directions, slopes = directions @ basis.T, slopes @ basis.T
    return Unlikeness(
        is_relative=is_relative,
        centre=distances.mean.float().cpu(),
        constant=torch.tensor(constant + mean),
        directions=directions.half().float().cpu(),
        curvatures=(values[kept] - mean).float().cpu(),
        weight=(2 * slopes).float().cpu(),
        offset=offset.where(distances.noise.isfinite(), NEVER_NEAREST).float().cpu(),
    )

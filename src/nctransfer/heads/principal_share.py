"""How little of an image lies along the principal axes of the training images: the NECO score.

With ``v = f − m`` the feature minus the mean of the training images, and P the projection onto their C − 1 principal
axes, the unlikeness is ``1 − ‖P v‖ / ‖v‖``. Where features have collapsed, the C class means span C − 1 dimensions and
hold all the variance, and features of other images are orthogonal to them (NC5). Source: Ammar et al., "NECO: neural
collapse based out-of-distribution detection" (ICLR 2024). As we remember it, they choose the number of axes on each
data set, scale every coordinate to variance one first, and multiply by the largest logit for most architectures. Here
nothing is chosen on other images, coordinates keep their scale, and no classifier plays a part.

For training images that are left out the axes are those of the other nine tenths of the images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.devices import with_float64
from nctransfer.heads.left_out_groups import left_out_groups
from nctransfer.heads.unlikeness import check_tensor

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["PrincipalShare", "fit_principal_share", "principal_axes", "principal_share"]

FOLDS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class PrincipalShare:
    """The share of the length of a feature that is not along some axes; a larger value is more unlike.

    Attributes:
        centre: The mean of the training images, ``(d,)`` float32.
        axes: Orthonormal rows, ``(r, d)`` float32, whose values float16 holds exactly.
    """

    centre: torch.Tensor
    axes: torch.Tensor

    @property
    def name(self) -> str:
        """Its kind; see :mod:`nctransfer.heads.unlikeness_kinds`."""
        return "neco"

    def of(self, features: torch.Tensor) -> torch.Tensor:
        """The unlikeness of some images.

        Args:
            features: ``(b, d)``.

        Returns:
            ``(b,)`` float32; 0 for an image that is equal to the centre.
        """
        moved = features.float() - self.centre
        whole = moved.norm(dim=1)
        found: torch.Tensor = 1 - (moved @ self.axes.T).norm(dim=1) / whole.where(whole > 0, 1)
        return found.where(whole > 0, 0)

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a file of a head stores, by name; see :meth:`from_tensors`."""
        return {"centre": self.centre, "axes": self.axes.half()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor], dim: int, classes: int) -> PrincipalShare:
        """The unlikeness from its tensors.

        Args:
            tensors: What :meth:`tensors` returned.
            dim: The width of the features, d.
            classes: The number of classes, C.

        Raises:
            ValueError: A tensor is missing or unknown, or does not fit.
        """
        if set(tensors) != {"centre", "axes"}:
            raise ValueError(f"the unlikeness has the tensors {sorted(tensors)}; expected ['axes', 'centre']")
        axes = tensors["axes"]
        check_tensor("centre", tensors["centre"], (dim,))
        check_tensor("axes", axes, (len(axes) if axes.ndim == 2 else 0, dim), is_half=True)
        if not 1 <= len(axes) <= min(classes, dim):
            raise ValueError(f"the unlikeness has {len(axes):,} axes for {classes:,} classes")
        return cls(centre=tensors["centre"], axes=axes.float())


def fit_principal_share(features: FeatureSet, device: str = "auto") -> tuple[PrincipalShare, torch.Tensor]:
    """The unlikeness of training images, and how unlike each of them is when it is left out.

    Args:
        features: n training images of C classes.
        device: Where to compute.

    Returns:
        The unlikeness, and that of the training images, ``(n,)`` float32.

    >>> from nctransfer.features.feature_set import FeatureSet
    >>> line = [[1.0, 0.0], [2.0, 0.1], [3.0, 0.0], [-1.0, 0.1], [-2.0, 0.0], [-3.0, 0.1]]
    >>> share, left_out = fit_principal_share(FeatureSet.from_arrays(line, "aaabbb"), "cpu")
    >>> import torch
    >>> [f"{value:.2f}" for value in share.of(torch.tensor([[5.0, 0.5], [0.0, 5.0]])).abs().tolist()]
    ['0.00', '0.99']
    """
    import torch

    left_out = torch.empty(len(features))
    for group in left_out_groups(features.labels, most=FOLDS):
        others = torch.ones(len(features), dtype=torch.bool)
        others[group] = False
        left_out[group] = principal_share(features.only_rows(others.nonzero()[:, 0]), device).of(
            features.features[group]
        )
    return principal_share(features, device), left_out


def principal_share(features: FeatureSet, device: str = "auto") -> PrincipalShare:
    """The unlikeness alone; see :func:`fit_principal_share`."""
    centre, axes, _ = principal_axes(features, device)
    number = max(1, min(int((features.counts > 0).sum()) - 1, len(axes)))
    return PrincipalShare(centre=centre.float().cpu(), axes=axes[:number].half().float().cpu())


def principal_axes(features: FeatureSet, device: str = "auto") -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The mean of some images, their principal axes, and the variance along each.

    Args:
        features: n images.
        device: Where to compute, in float64.

    Returns:
        The mean ``(d,)``, orthonormal axes ``(min(n, d), d)`` by descending variance, and the variances.
    """
    import torch

    on = with_float64(device)
    centre = torch.stack([rows.to(on).double().sum(dim=0) for rows, _ in features.batches()]).sum(dim=0) / len(features)

    def moved() -> Iterator[torch.Tensor]:
        for rows, _ in features.batches():
            yield rows.to(on).double() - centre

    if len(features) < features.dim:
        _, values, axes = torch.linalg.svd(torch.cat(list(moved())), full_matrices=False)
        return centre, axes, values.square() / len(features)
    scatter = torch.zeros(features.dim, features.dim, dtype=torch.float64, device=on)
    for rows in moved():
        scatter.addmm_(rows.T, rows)
    values, vectors = torch.linalg.eigh(scatter)
    return centre, vectors.T.flip(0), values.flip(0).clamp(min=0) / len(features)

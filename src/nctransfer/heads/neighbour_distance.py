"""How far an image lies from its k-th nearest training image, features at unit length.

With ``u`` the feature scaled to unit length, the unlikeness is ``‖u − u_(k)‖``, with ``u_(k)`` the k-th nearest of the
training images. Classes play no part. Source: Sun et al., "Out-of-distribution detection with deep nearest neighbors"
(ICML 2022). They take k = 50 or more of many images per class; here k is a quarter of the mean number of images per
class, from 1 to 50.

A head stores the training images in half precision, at most 20,000 of them. A training image is left out by leaving it
out of its neighbours, which is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.devices import with_float64
from nctransfer.heads.class_distances import unit_length
from nctransfer.heads.unlikeness import check_tensor

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["NeighbourDistance", "fit_neighbour_distance"]

MOST_ROWS = 20_000
MOST_NEIGHBOURS = 50
BATCH = 512


@dataclass(frozen=True, kw_only=True, eq=False)
class NeighbourDistance:
    """The distance to the k-th nearest training image; a larger value is more unlike.

    Attributes:
        rows: Training images at unit length, ``(r, d)`` float32, whose values float16 holds exactly.
        neighbours: k, from 1 to r.
    """

    rows: torch.Tensor
    neighbours: int

    @property
    def name(self) -> str:
        """Its kind; see :mod:`nctransfer.heads.unlikeness_kinds`."""
        return "knn"

    def of(self, features: torch.Tensor) -> torch.Tensor:
        """The unlikeness of some images.

        Args:
            features: ``(b, d)``.

        Returns:
            ``(b,)`` float32.
        """
        found: torch.Tensor = self._squared(unit_length(features.float())).topk(self.neighbours, largest=False).values
        return found[:, -1].clamp(min=0).sqrt()

    def _squared(self, unit: torch.Tensor) -> torch.Tensor:
        """Squared distances ``(b, r)``."""
        lengths = unit.square().sum(dim=1, keepdim=True) + self.rows.square().sum(dim=1)
        return lengths - 2 * unit @ self.rows.T

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a file of a head stores, by name; see :meth:`from_tensors`."""
        import torch

        return {"rows": self.rows.half(), "neighbours": torch.tensor(float(self.neighbours))}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor], dim: int, classes: int) -> NeighbourDistance:  # noqa: ARG003
        """The unlikeness from its tensors.

        Args:
            tensors: What :meth:`tensors` returned.
            dim: The width of the features, d.
            classes: The number of classes, which plays no part.

        Raises:
            ValueError: A tensor is missing or unknown, or does not fit.
        """
        if set(tensors) != {"rows", "neighbours"}:
            raise ValueError(f"the unlikeness has the tensors {sorted(tensors)}; expected ['neighbours', 'rows']")
        rows, neighbours = tensors["rows"], tensors["neighbours"]
        if len(rows) > MOST_ROWS:
            raise ValueError(f"the unlikeness has {len(rows):,} rows; expected at most {MOST_ROWS:,}")
        check_tensor("neighbours", neighbours, ())
        check_tensor("rows", rows, (len(rows) if rows.ndim == 2 else 0, dim), is_half=True)
        if not 1 <= float(neighbours) <= len(rows) or float(neighbours) % 1:
            raise ValueError(f"the unlikeness takes {float(neighbours):g} neighbours of {len(rows):,} images")
        return cls(rows=rows.float(), neighbours=int(neighbours))


def fit_neighbour_distance(features: FeatureSet, device: str = "auto") -> tuple[NeighbourDistance, torch.Tensor]:
    """The unlikeness of training images, and how unlike each of them is when it is left out.

    Args:
        features: n training images, at least 2.
        device: Where to compute.

    Returns:
        The unlikeness, and that of the training images, ``(n,)`` float32.

    >>> from nctransfer.features.feature_set import FeatureSet
    >>> corners = FeatureSet.from_arrays([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], "aabb")
    >>> distance, left_out = fit_neighbour_distance(corners, "cpu")
    >>> import torch
    >>> distance.neighbours, left_out.tolist(), distance.of(torch.tensor([[-1.0, 0.0]])).tolist()
    (1, [0.0, 0.0, 0.0, 0.0], [1.414...])
    """
    import torch

    n = len(features)
    kept = torch.arange(n) if n <= MOST_ROWS else torch.linspace(0, n - 1, MOST_ROWS, dtype=torch.float64).long()
    unit = torch.cat([unit_length(rows.float()).half().float() for rows, _ in features.batches(BATCH)])
    there = max(1, int((features.counts > 0).sum()))
    neighbours = min(max(1, round(n / there / 4)), MOST_NEIGHBOURS, len(kept) - 1)
    found = NeighbourDistance(rows=unit[kept], neighbours=neighbours)
    place = torch.full((n,), -1)
    place[kept] = torch.arange(len(kept))
    on = with_float64(device)
    moved = NeighbourDistance(rows=found.rows.to(on), neighbours=neighbours)
    left_out = []
    for rows, own in zip(torch.split(unit, BATCH), torch.split(place, BATCH), strict=True):
        squared = moved._squared(rows.to(on))
        stored = (own >= 0).nonzero()[:, 0]
        squared[stored, own[stored]] = torch.inf
        left_out.append(squared.topk(neighbours, largest=False).values[:, -1].clamp(min=0).sqrt().cpu())
    return found, torch.cat(left_out)

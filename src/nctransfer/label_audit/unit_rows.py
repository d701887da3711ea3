"""Rows of features as unit vectors about their mean, with weighted moments; a batch of rows is in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.features.size_limits import check_size

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["UnitRows", "WeightedMoments"]


class WeightedMoments(NamedTuple):
    """Moments of weighted rows x with weights w.

    Attributes:
        weights: The sum of the weights of each class, ``(C,)``.
        sums: ``Σ w x`` of each class, ``(C, d)``.
        second: ``Σ w x xᵀ`` over all rows, ``(d, d)``.
    """

    weights: torch.Tensor
    sums: torch.Tensor
    second: torch.Tensor


class UnitRows:
    """``(f − m) / ‖f − m‖`` for each row f of a feature set, with m the mean of all rows; a row equal to m becomes 0.

    Args:
        features: n rows of C classes.
        device: Where to compute, in float64.

    Raises:
        FeaturesError: The features are so large or small that their squares leave float64.
    """

    def __init__(self, features: FeatureSet, device: torch.device) -> None:
        import torch

        self._features, self._device = features, device
        self.labels, self.number = features.labels.to(device), len(features.classes)
        total = torch.zeros(features.dim, dtype=torch.float64, device=device)
        largest = 0.0
        for rows, _ in features.batches():
            total += rows.to(device, torch.float64).sum(dim=0)
            largest = max(largest, float(rows.abs().max()))
        check_size(largest)
        self._mean = total / len(features)

    def __len__(self) -> int:
        """The number of rows, n."""
        return len(self.labels)

    def rows(self, numbers: torch.Tensor) -> torch.Tensor:
        """Some rows, ``(b, d)`` float64."""
        import torch

        chosen = self._features.features[numbers.cpu()].to(self._device, torch.float64)
        return torch.nn.functional.normalize(chosen - self._mean, dim=1)

    def batches(self, size: int = 1024) -> Iterator[tuple[slice, torch.Tensor]]:
        """All rows in batches, with their places."""
        import torch

        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            yield slice(start, stop), self.rows(torch.arange(start, stop))

    def moments(self, weights: torch.Tensor) -> WeightedMoments:
        """The moments of all rows with weights ``(n,)``."""
        import torch

        dim = len(self._mean)
        totals = torch.zeros(self.number, dtype=torch.float64, device=self._device)
        sums = torch.zeros(self.number, dim, dtype=torch.float64, device=self._device)
        second = torch.zeros(dim, dim, dtype=torch.float64, device=self._device)
        for place, rows in self.batches():
            weighted = rows * weights[place, None]
            totals.index_add_(0, self.labels[place], weights[place])
            sums.index_add_(0, self.labels[place], weighted)
            second.addmm_(weighted.T, rows)
        return WeightedMoments(totals, sums, second)

"""Nearest class centre, by distance and by cosine, and its scores without some of the training images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["ClassCentres"]

ROWS = 4096  # at a time


class ClassCentres:
    """The class centres of a training set, as a linear classifier.

    With m_c the mean feature of class c, the score of class c is ``⟨f, m_c⟩ − ‖m_c‖²/2``, which ranks classes as
    ``−‖f − m_c‖²`` does; by cosine it is the cosine of f and m_c.

    Args:
        features: The training set.
        by_cosine: Whether classes are compared by cosine.
        device: Where to compute, in float64.
    """

    def __init__(self, features: FeatureSet, by_cosine: bool, device: torch.device) -> None:
        import torch

        self._features, self.by_cosine, self._device = features, by_cosine, device
        self._counts = features.counts.double().to(device)
        sums = torch.zeros(len(self._counts), features.dim, dtype=torch.float64, device=device)
        for rows, labels in features.batches(ROWS):
            sums.index_add_(0, labels.to(device), rows.to(device, torch.float64))
        self.centre = sums.sum(dim=0) / self._counts.sum()
        if by_cosine:
            self.centre = torch.zeros_like(self.centre)
        self._sums = sums - self._counts[:, None] * self.centre

    def linear_map(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight ``(C, d)`` and intercept ``(C,)`` of the scores of features minus :attr:`centre`."""
        return self._weights(self._sums, self._counts)

    def scores_without_groups(self, groups: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """The scores of groups of training images, the images of each group being left out of all centres.

        Args:
            groups: The rows of each group; none has all images of a class.

        Yields:
            The scores of each group, ``(b, C)`` float64, on the CPU.
        """
        import torch

        for group in groups:
            rows = self._features.features[group].to(self._device, torch.float64) - self.centre
            labels = self._features.labels[group].to(self._device)
            sums = self._sums.index_add(0, labels, rows, alpha=-1)
            weight, intercept = self._weights(sums, self._counts - labels.bincount(minlength=len(sums)))
            if self.by_cosine:
                rows = torch.nn.functional.normalize(rows, dim=1)
            yield (rows @ weight.T + intercept).cpu()

    def _weights(self, sums: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        means = sums / counts[:, None]
        if self.by_cosine:
            return torch.nn.functional.normalize(means, dim=1), torch.zeros_like(counts)
        return means, -means.square().sum(dim=1) / 2

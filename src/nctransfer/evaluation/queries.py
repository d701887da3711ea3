"""The samples that are classified: all, unless there are too many of them and of classes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["PAIRS", "Queries"]

PAIRS = 5 * 10**7  # of a query and a class, at most


class Queries:
    """The samples that are classified: all, or a random share of each class.

    Args:
        features: The labels.
        generator: Draws the share.
        pairs: The largest number of queries times classes.

    Attributes:
        rows: Row numbers, class by class.
        of_class: The row numbers of each class.
        sizes: The number of samples of each class.
        starts: The first row of each class.
    """

    def __init__(self, features: FeatureSet, generator: torch.Generator, pairs: int | None = None) -> None:
        self.sizes: list[int] = features.counts.tolist()
        self.starts: list[int] = (features.counts.cumsum(0) - features.counts).tolist()
        self._share = min(1.0, (PAIRS if pairs is None else pairs) / (len(features) * len(self.sizes)))
        self._generator = generator
        self.draw()

    @property
    def is_all(self) -> bool:
        """Whether every sample is classified."""
        return len(self.rows) == sum(self.sizes)

    def draw(self) -> None:
        """Draw the queries anew."""
        import torch

        self.of_class: list[torch.Tensor] = []
        for start, size in zip(self.starts, self.sizes, strict=True):
            kept = min(size, max(2, math.floor(size * self._share)))
            some = torch.randperm(size, generator=self._generator)[:kept].sort().values
            self.of_class.append(start + some)
        self.rows = torch.cat(self.of_class)

    def mean(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean over classes, and its squared standard error by the subsampling of queries; both ``(k,)``.

        Args:
            values: A value of each query, ``(k, n)``.
        """
        import torch

        means, squares = [], []
        for size, of_class in zip(self.sizes, torch.split(values, list(map(len, self.of_class)), dim=1), strict=True):
            means.append(of_class.mean(dim=1))
            share = 1 - of_class.shape[1] / size
            squares.append(of_class.var(dim=1) * (share / of_class.shape[1]) if share else 0 * means[-1])
        return torch.stack(means).mean(dim=0), torch.stack(squares).sum(dim=0) / len(means) ** 2

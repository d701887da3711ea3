"""The nearest other images of each image, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["NearestImages", "nearest_images", "unit_rows"]

ENTRIES = 2**24  # of a matrix of cosines that is in memory at once: 64 MiB


class NearestImages(NamedTuple):
    """The K nearest other images of each of n images.

    Attributes:
        distance: ``(n, K)`` float32, ascending.
        places: Their positions, ``(n, K)`` int64.
    """

    distance: torch.Tensor
    places: torch.Tensor


def unit_rows(features: FeatureSet, device: torch.device) -> torch.Tensor:
    """Features minus their mean over all images, scaled to unit length, ``(n, d)`` float32; a row of zeros stays one.

    Args:
        features: The features.
        device: Where the rows will lie.
    """
    import torch

    rows = features.features.to(device)
    rows = rows - rows.mean(dim=0, dtype=torch.float64 if rows.dtype == torch.float64 else None)
    return torch.nn.functional.normalize(rows, dim=1).float()


def nearest_images(
    rows: torch.Tensor, number: int, progress: Callable[[str, int, int], None] | None = None
) -> NearestImages:
    """The nearest other rows of each row. Memory grows with n, not with n².

    Args:
        rows: ``(n, d)`` float32, of unit length.
        number: How many, K; at most n − 1.
        progress: Called as ``progress(stage, done, total)``.

    Returns:
        Distances and positions, on the CPU.

    >>> import torch
    >>> found = nearest_images(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), 1)
    >>> found.places[:, 0].tolist(), found.distance[0].item().__round__(4)
    ([1, 2, 1], 0.8944)
    """
    import torch

    blocks = []
    for start, cosines in _cosines(rows):
        own = torch.arange(len(cosines), device=rows.device)
        cosines[own, start + own] = -torch.inf
        blocks.append(NearestImages(*(column.cpu() for column in cosines.topk(number))))
        if progress:
            progress("comparing images", start + len(cosines), len(rows))
    cosine, places = (torch.cat(column) for column in zip(*blocks, strict=True))
    return NearestImages((2 - 2 * cosine).clamp(min=0).sqrt(), places)


def _cosines(rows: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """Blocks of the matrix of cosines, each with the number of its first row."""
    size = max(1, ENTRIES // len(rows))
    for start in range(0, len(rows), size):
        yield start, rows[start : start + size] @ rows.T

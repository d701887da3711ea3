"""An even random share of the images of every class."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["even_share"]


def even_share(labels: torch.Tensor, most: int, seed: int = 0) -> torch.Tensor:
    """The positions of at most so many images: the same random share of every class, and at least one image of each.

    A larger number of images with the same seed holds all images of a smaller one.

    Args:
        labels: Class codes, ``(n,)`` int64.
        most: How many images. Of more classes than images, some classes get none.
        seed: Decides the draw.

    Returns:
        ``min(n, most)`` positions, ascending, int64.

    >>> import torch
    >>> even_share(torch.tensor([0] * 6 + [1] * 3 + [2]), 4).diff().gt(0).all().item()
    True
    >>> torch.tensor([0] * 6 + [1] * 3 + [2])[even_share(torch.tensor([0] * 6 + [1] * 3 + [2]), 4)].tolist()
    [0, 0, 1, 2]
    """
    import torch

    if len(labels) <= most:
        return torch.arange(len(labels))
    drawn = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    drawn = drawn[labels[drawn].argsort(stable=True)]  # by class, in random order within each
    counts = labels.bincount()
    starts = counts.cumsum(0) - counts
    codes = labels[drawn]
    place = (torch.arange(len(labels)) - starts[codes]).double() / counts[codes]  # 0 for the first image of each class
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed + 1))  # breaks ties
    kept: torch.Tensor = drawn[shuffled[place[shuffled].argsort(stable=True)[:most]]]
    return kept.sort().values

"""Groups of images that are left out together: about one image of each class.

If a single image is left out, its own class has one image fewer than all others, so that the image is judged more
strictly than a new image would be. With five images per class and real features that costs 2 to 19 points of accuracy.
If one image of each class is left out, all classes have lost as much, and what remains of the bias is that of a head
that has seen one image of each class fewer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["MOST_GROUPS", "left_out_groups"]

MOST_GROUPS = 200  # with more images per class, half a percent of them are left out at a time
LARGEST_GROUP = 2_000  # images, as a group costs the cube of its size


def left_out_groups(
    labels: torch.Tensor, size: int = 1, most: int = MOST_GROUPS, seed: int = 0
) -> tuple[torch.Tensor, ...]:
    """A random partition of images into groups, each of about ``size`` images of each class.

    A class with fewer images than the largest has none in some groups. No group has all images of a class.

    Args:
        labels: The class codes, ``(n,)``; at least 2 images of each class that there is.
        size: How many images of a class are in a group, if ``most`` allows it.
        most: The number of groups, at most.
        seed: The seed of the partition.

    Returns:
        The rows of each group, ascending.

    >>> import torch
    >>> [group.tolist() for group in left_out_groups(torch.tensor([0, 0, 0, 1, 1]))]
    [[1], [0, 4], [2, 3]]
    """
    import torch

    counts = labels.bincount()
    number = max(-(-int(counts.max()) // size), 2)
    number = min(number, max(most, len(labels) // LARGEST_GROUP))
    generator = torch.Generator().manual_seed(seed)
    group = torch.empty_like(labels)
    for code in counts.nonzero()[:, 0].tolist():
        rows = (labels == code).nonzero()[:, 0]
        parts = min(number, max(-(-len(rows) // size), 2))
        part = torch.arange(len(rows)) % parts
        slots = torch.randperm(number, generator=generator)[:parts]
        group[rows[torch.randperm(len(rows), generator=generator)]] = slots[part]
    ends = group.bincount(minlength=number).cumsum(0)[:-1]
    return tuple(rows for rows in group.argsort(stable=True).tensor_split(ends) if len(rows))

"""Groups of near-duplicates: which image of each to keep, and which others it stands for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

    from nctransfer.label_audit.near_duplicates import NearDuplicates

__all__ = ["Extra", "extra_images"]


class Extra(NamedTuple):
    """An image that shows what another one of its group shows.

    Attributes:
        image: Its position.
        like: The position of the image that it is like, which is nearer to the one to keep, or is that one.
        closeness: How close the two are, from 0 to 1.
        is_copy: Whether both files have the same content.
        agreeing: How many sets find the pair.
    """

    image: int
    like: int
    closeness: float
    is_copy: bool
    agreeing: int


def extra_images(found: NearDuplicates, doubt: torch.Tensor) -> list[Extra]:
    """All images but one of each group of near-duplicates, each with the image that it is like.

    Of a group, the image whose label is least in doubt is kept. The others follow in the order in which they can be
    reached from it, the closest first, as in Prim's minimum spanning tree.

    Args:
        found: The pairs.
        doubt: How doubtful the label of each image is, ``(n,)``.

    >>> import torch
    >>> from nctransfer.label_audit.near_duplicates import NearDuplicates
    >>> pairs = NearDuplicates(
    ...     torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([0.2, 0.5]), torch.zeros(2), torch.ones(2)
    ... )
    >>> [(one.image, one.like) for one in extra_images(pairs, torch.tensor([0.1, 0.9, 0.0]))]
    [(1, 2), (0, 1)]
    """
    links: dict[int, list[Extra]] = {}
    for values in zip(*(column.tolist() for column in found), strict=True):
        first, second, closeness, is_copy, agreeing = values
        links.setdefault(first, []).append(Extra(second, first, closeness, is_copy, agreeing))
        links.setdefault(second, []).append(Extra(first, second, closeness, is_copy, agreeing))
    seen: set[int] = set()
    extras: list[Extra] = []
    for start in sorted(links, key=lambda image: (float(doubt[image]), image)):
        if start not in seen:
            seen.add(start)
            extras += _reached(start, links, seen)
    return extras


def _reached(start: int, links: dict[int, list[Extra]], seen: set[int]) -> Iterator[Extra]:
    """The other images of the group of an image, the closest to those reached first."""
    import heapq

    waiting = [(one.closeness, one.image, one) for one in links[start]]
    heapq.heapify(waiting)
    while waiting:
        _, image, extra = heapq.heappop(waiting)
        if image in seen:
            continue
        seen.add(image)
        yield extra
        for one in links[image]:
            heapq.heappush(waiting, (one.closeness, one.image, one))

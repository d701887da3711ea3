"""The few items of a stream that rank highest."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

__all__ = ["Foremost"]

Item = TypeVar("Item")


class Foremost(Generic[Item]):
    """Keeps the items of the highest rank, and no others in memory; of equal ranks, those that came first.

    Args:
        most: How many items are kept.

    >>> best = Foremost(2)
    >>> for rank, name in [(0.3, "a"), (0.9, "b"), (0.3, "c"), (0.9, "d"), (0.9, "e")]:
    ...     best.add(rank, name)
    >>> best.items
    ('b', 'd')
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._added = 0
        self._heap: list[tuple[float, int, Item]] = []

    def add(self, rank: float, item: Item) -> None:
        """Keep an item if it is among the foremost so far."""
        self._added += 1
        entry = rank, -self._added, item  # no two numbers are the same, so items are never compared
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, entry)
        elif entry[:2] > self._heap[0][:2]:
            heapq.heapreplace(self._heap, entry)

    @property
    def items(self) -> tuple[Item, ...]:
        """The items, the foremost first."""
        return tuple(item for _, _, item in sorted(self._heap, key=lambda entry: entry[:2], reverse=True))

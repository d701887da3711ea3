"""Counts of right answers and of confusions, over episodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.episode import Episodes

__all__ = ["Counts", "Tally"]

MOST_CONFUSED = 1000  # classes: more of them have too many pairs to count


@dataclass(eq=False)
class Counts:
    """Queries of C classes: how many there were ``(C,)``, and how many of them were right ``(C,)``.

    ``together`` and ``taken`` are ``(C, C)``: queries of a class in episodes that had the other, and how many of them
    were taken for it.
    """

    asked: torch.Tensor
    right: torch.Tensor
    together: torch.Tensor | None
    taken: torch.Tensor | None


class Tally:
    """Counts, over episodes of one task, which classes queries had and which they were taken for."""

    def __init__(self, classes: int, names: Iterable[str]) -> None:
        import torch

        self._classes = classes
        self._asked = torch.zeros(classes, dtype=torch.int64)
        self._right = {name: torch.zeros_like(self._asked) for name in names}
        pairs = classes * classes if classes <= MOST_CONFUSED else 0
        self._together = torch.zeros(pairs, dtype=torch.int64)
        self._taken = {name: torch.zeros_like(self._together) for name in names}

    def ask(self, episodes: Episodes) -> None:
        """Count the queries of some episodes."""
        import torch

        classes = episodes.classes
        count = episodes.queries.shape[2]
        asked = torch.full(classes.shape, count) if episodes.is_query is None else episodes.is_query.sum(dim=2)
        self._asked.index_add_(0, classes.flatten(), asked.flatten())
        if len(self._together):
            pairs = classes[:, :, None] * self._classes + classes[:, None]  # (E, w, w)
            self._together.index_add_(0, pairs.flatten(), asked[:, :, None].expand(pairs.shape).flatten())

    def count(self, name: str, episodes: Episodes, chosen: torch.Tensor) -> torch.Tensor:
        """Count the answers ``(E, Q)``, each one of the ways; the share of them that is right, ``(E,)`` float64."""
        import torch

        ways, count = episodes.queries.shape[1:]
        truth = torch.arange(ways).repeat_interleave(count)
        right = chosen == truth
        wrong = ~right
        if episodes.is_query is None:
            shares = right.double().mean(dim=1)
        else:
            is_query = episodes.is_query.flatten(1)
            right &= is_query
            wrong &= is_query
            shares = right.sum(dim=1) / is_query.sum(dim=1).double()
        of_way = right.view(-1, ways, count).sum(dim=2)
        self._right[name].index_add_(0, episodes.classes.flatten(), of_way.flatten())
        if len(self._together):
            episode, query = wrong.nonzero(as_tuple=True)
            own = episodes.classes[episode, truth[query]]
            other = episodes.classes[episode, chosen[episode, query]]
            self._taken[name].index_add_(0, own * self._classes + other, torch.ones_like(own))
        return shares

    def counts(self, name: str) -> Counts:
        """What was counted of one classifier."""
        shape = (self._classes, self._classes)
        pairs = (self._together.view(shape), self._taken[name].view(shape)) if len(self._together) else (None, None)
        return Counts(self._asked, self._right[name], *pairs)

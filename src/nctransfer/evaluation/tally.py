"""Counts of right answers and of confusions over episodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.episode import Episodes

__all__ = ["Counts", "Tally", "is_right", "share_right"]

MOST_CONFUSED = 1000  # with more classes there are too many pairs to count


@dataclass(eq=False, kw_only=True)
class Counts:
    """What happened to the queries of C classes with one classifier.

    Attributes:
        asked: Queries of each class, ``(C,)``.
        right: Queries of each class that were classified right, ``(C,)``.
        together: Queries of class i in episodes that had class j too, ``(C, C)``; ``None`` for too many classes.
        taken: Queries of class i that were classified as class j, ``(C, C)``; ``None`` for too many classes.
        shortened: Episodes with fewer queries than most, because a class has fewer images than were drawn of it.
    """

    asked: torch.Tensor
    right: torch.Tensor
    together: torch.Tensor | None
    taken: torch.Tensor | None
    shortened: int = 0

    def plus(self, more: Counts) -> Counts:
        """The counts of these episodes and of more."""
        pairs = ((self.together, more.together), (self.taken, more.taken))
        together, taken = (None if one is None or other is None else one + other for one, other in pairs)
        return Counts(
            asked=self.asked + more.asked,
            right=self.right + more.right,
            together=together,
            taken=taken,
            shortened=self.shortened + more.shortened,
        )


def is_right(episodes: Episodes, chosen: torch.Tensor) -> torch.Tensor:
    """Which queries count and were classified right, ``(E, Q)``.

    Args:
        episodes: E episodes of w classes.
        chosen: The predicted class of each query, from 0 to ``w − 1``, ``(E, Q)``.
    """
    import torch

    ways, count = episodes.queries.shape[1:]
    right = chosen == torch.arange(ways).repeat_interleave(count)
    return right if episodes.is_query is None else right & episodes.is_query.flatten(1)


def share_right(episodes: Episodes, right: torch.Tensor) -> torch.Tensor:
    """The accuracy of each episode, ``(E,)`` float64, from :func:`is_right`."""
    if episodes.is_query is None:
        return right.double().mean(dim=1)
    return right.sum(dim=1) / episodes.is_query.flatten(1).sum(dim=1).double()


class Tally:
    """Counts, over episodes of one task, the true classes of queries and the classes that they were taken for.

    Args:
        classes: The number of classes, C.
        names: The classifiers.
        usual: The number of queries of an episode that is not shortened; ``None`` if no episode can be.
    """

    def __init__(self, classes: int, names: Iterable[str], usual: int | None = None) -> None:
        import torch

        self._classes, self._usual, self._shortened = classes, usual, 0
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
        if self._usual is not None:
            self._shortened += int((asked.sum(dim=1) < self._usual).sum())
        if len(self._together):
            pairs = classes[:, :, None] * self._classes + classes[:, None]  # (E, w, w)
            self._together.index_add_(0, pairs.flatten(), asked[:, :, None].expand(pairs.shape).flatten())

    def count(self, name: str, episodes: Episodes, chosen: torch.Tensor) -> torch.Tensor:
        """Count the predictions of one classifier.

        Args:
            name: The classifier.
            episodes: E episodes of w classes.
            chosen: The predicted class of each query, from 0 to ``w − 1``, ``(E, Q)``.

        Returns:
            The accuracy of each episode, ``(E,)`` float64.
        """
        import torch

        ways, count = episodes.queries.shape[1:]
        truth = torch.arange(ways).repeat_interleave(count)
        right = is_right(episodes, chosen)
        of_way = right.view(-1, ways, count).sum(dim=2)
        self._right[name].index_add_(0, episodes.classes.flatten(), of_way.flatten())
        if len(self._together):
            wrong = ~right if episodes.is_query is None else ~right & episodes.is_query.flatten(1)
            episode, query = wrong.nonzero(as_tuple=True)
            own = episodes.classes[episode, truth[query]]
            other = episodes.classes[episode, chosen[episode, query]]
            self._taken[name].index_add_(0, own * self._classes + other, torch.ones_like(own))
        return share_right(episodes, right)

    def counts(self, name: str) -> Counts:
        """The counts of one classifier."""
        shape = (self._classes, self._classes)
        has_pairs = len(self._together) > 0
        return Counts(
            asked=self._asked,
            right=self._right[name],
            together=self._together.view(shape) if has_pairs else None,
            taken=self._taken[name].view(shape) if has_pairs else None,
            shortened=self._shortened,
        )

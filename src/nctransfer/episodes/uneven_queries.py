"""Queries of which there are not as many for each class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nctransfer.episodes.query_prior import fitted

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.episode import Episodes

__all__ = ["PackedQueries", "first_wanted"]


def first_wanted(
    rows: torch.Tensor, is_usable: torch.Tensor, wanted: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The first usable rows of each class, as many as were drawn, or fewer in the same proportions.

    Args:
        rows: The rows of each class in random order, ``(E, w, x)``.
        is_usable: Which of them can be queries, ``(E, w, x)``.
        wanted: The number of queries of each class that was drawn, ``(E, w)``.

    Returns:
        Rows ``(E, w, q)``, padded to the largest number of queries of a class, and which of them count.

    >>> import torch
    >>> rows = torch.tensor([[[7, 8, 9], [4, 5, -1]]])
    >>> queries, is_query = first_wanted(rows, rows >= 0, torch.tensor([[1, 2]]))
    >>> queries[is_query].tolist()
    [7, 4, 5]
    """
    import torch

    counts = fitted(wanted, is_usable.sum(dim=2))
    most = int(counts.max())
    order = (~is_usable).sort(dim=2, stable=True).indices[:, :, :most]
    is_query = torch.arange(most) < counts[..., None]
    return rows.gather(2, order) * is_query, is_query


@dataclass(frozen=True, eq=False)
class PackedQueries:
    """Episodes without the padding between the queries of their classes.

    Attributes:
        episodes: The episodes with queries ``(E, 1, Q)``, class after class, of which the first of each episode count.
        places: Where each of them is among all queries of the episode, padding included, ``(E, Q)``.
    """

    episodes: Episodes
    places: torch.Tensor

    @classmethod
    def of(cls, episodes: Episodes) -> PackedQueries:
        """The packed form of episodes with padding."""
        assert episodes.is_query is not None
        is_query = episodes.is_query.flatten(1)
        places = (~is_query).sort(dim=1, stable=True).indices[:, : int(is_query.sum(dim=1).max())]
        queries, counted = episodes.queries.flatten(1).gather(1, places), is_query.gather(1, places)
        return cls(replace(episodes, queries=queries[:, None], is_query=counted[:, None]), places)

    def unpacked(self, chosen: torch.Tensor, size: int) -> torch.Tensor:
        """Values at the places of the queries before packing, and 0 at the padding.

        Args:
            chosen: A value of each packed query, ``(E, Q)``.
            size: The number of queries with padding.
        """
        return chosen.new_zeros(len(chosen), size).scatter_(1, self.places, chosen)

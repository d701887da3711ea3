"""Episodes: their specification, and their rows in a feature set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nctransfer.errors import EpisodeError

if TYPE_CHECKING:
    import torch

__all__ = ["EpisodeSpec", "Episodes"]


@dataclass(frozen=True)
class EpisodeSpec:
    """A task: n-way, k-shot, with so many queries a class; ``None`` for every sample that is left.

    Raises:
        EpisodeError: A number is too small.
    """

    ways: int = 5
    shots: int = 1
    queries: int | None = 15
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("ways", 2), ("shots", 1), ("queries", 1), ("seed", 0)):
            if (given := getattr(self, name)) is not None and given < least:
                raise EpisodeError(f"{name} is {given}; it must be at least {least}", f"give --{name} {least} or more")


@dataclass(frozen=True, eq=False)
class Episodes:
    """Some episodes of one task, as rows of a feature set (and of a query set that follows it).

    Attributes:
        classes: ``(E, ways)`` class codes.
        queries: ``(E, ways, queries)`` row numbers.
        support: ``(E, ways, shots)`` row numbers.
        is_query: ``(E, ways, queries)``: false where a row only fills up, or, after :meth:`cut`, is in the support;
            ``None`` if every row counts.
    """

    classes: torch.Tensor
    queries: torch.Tensor
    support: torch.Tensor
    is_query: torch.Tensor | None = None

    def __len__(self) -> int:
        """The number of episodes, E."""
        return len(self.classes)

    def cut(self, shots: int) -> Episodes:
        """Those of the first ``shots``; where every sample that is left is a query, those that this leaves."""
        support = self.support[:, :, :shots]
        if self.is_query is None:
            return replace(self, support=support)
        is_taken = (self.queries[..., None] == support[:, :, None]).any(dim=3)
        return replace(self, support=support, is_query=self.is_query & ~is_taken)

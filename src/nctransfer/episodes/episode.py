"""Episodes: what is drawn, and which rows of a feature set it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nctransfer.episodes.query_prior import BALANCED, QueryPrior
from nctransfer.episodes.uneven_queries import first_wanted
from nctransfer.errors import SettingError

if TYPE_CHECKING:
    import torch

__all__ = ["EpisodeSpec", "Episodes"]


@dataclass(frozen=True)
class EpisodeSpec:
    """What is drawn: n-way k-shot episodes.

    Attributes:
        ways: Classes per episode.
        shots: Support samples per class.
        queries: Query samples per class; ``None`` for every sample that is not in the support.
        seed: The seed of the draw.
        query_prior: How queries are spread over the classes, see :class:`~nctransfer.episodes.query_prior.QueryPrior`.

    Raises:
        SettingError: A number is too small, or every sample is a query and shall be drawn by a prior.
    """

    ways: int = 5
    shots: int = 1
    queries: int | None = 15
    seed: int = 0
    query_prior: str = BALANCED

    def __post_init__(self) -> None:
        if not QueryPrior.parse(self.query_prior).is_balanced and self.queries is None:
            raise SettingError(
                f"the query prior {self.query_prior} cannot draw queries if every sample that is left is one",
                "give --queries a number, such as 15, or --query-prior balanced",
            )
        for name, least in (("ways", 2), ("shots", 1), ("queries", 1), ("seed", 0)):
            if (given := getattr(self, name)) is not None and given < least:
                raise SettingError(f"{name} is {given}; it must be at least {least}", f"give --{name} {least} or more")


@dataclass(frozen=True, eq=False)
class Episodes:
    """A batch of E episodes, as rows of a feature set. The rows of a query set follow those of the feature set.

    Attributes:
        classes: Class codes, ``(E, ways)``.
        queries: Row numbers of the queries, ``(E, ways, queries)``.
        support: Row numbers of the support, ``(E, ways, shots)``.
        is_query: Which of the queries count, ``(E, ways, queries)``: false for padding, and for rows that are in the
            support; ``None`` if all count.
        spare: Row numbers of further samples of the classes, in random order, ``(E, ways, x)``; −1 where a class has no
            more. Only drawn on request.
        spare_queries: The same of the query set; ``None`` if there is none.
        wanted: How many queries of each class were drawn, ``(E, ways)``, if there are not as many of each class: they
            are the first of ``queries`` and, after them, of the further samples; :meth:`cut` takes them. ``None`` if
            ``queries`` are the queries.
    """

    classes: torch.Tensor
    queries: torch.Tensor
    support: torch.Tensor
    is_query: torch.Tensor | None = None
    spare: torch.Tensor | None = None
    spare_queries: torch.Tensor | None = None
    wanted: torch.Tensor | None = None

    def __len__(self) -> int:
        """The number of episodes, E."""
        return len(self.classes)

    def cut(self, shots: int) -> Episodes:
        """The episodes with only the first ``shots`` support samples per class.

        If every sample that is not in the support is a query, the samples that leave the support become queries. If
        there are not as many queries of each class, those that were drawn are taken here.
        """
        support = self.support[:, :, :shots]
        if self.wanted is not None:
            return self._with_wanted(support, self.support[:, :, shots:], self.wanted)
        if self.is_query is None:
            return replace(self, support=support)
        is_taken = (self.queries[..., None] == support[:, :, None]).any(dim=3)
        return replace(self, support=support, is_query=self.is_query & ~is_taken)

    def _with_wanted(self, support: torch.Tensor, rest: torch.Tensor, wanted: torch.Tensor) -> Episodes:
        """The episodes with the queries that were drawn, and no further samples.

        Args:
            support: The support that is used.
            rest: The samples that leave the support; they are the first of the further samples.
            wanted: See :class:`Episodes`.
        """
        import torch

        assert self.spare is not None
        more = torch.cat([rest, self.spare], dim=2) if self.spare_queries is None else self.spare_queries
        rows = torch.cat([self.queries, more], dim=2)
        queries, is_query = first_wanted(rows, rows >= 0, wanted)
        return Episodes(classes=self.classes, queries=queries, support=support, is_query=is_query)

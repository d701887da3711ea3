"""Samples that give answers away, because a classifier is tested on what it was fitted on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nctransfer.errors import counted
from nctransfer.features.sample_content import Duplicates, SampleContent

if TYPE_CHECKING:
    from nctransfer.features.feature_stream import Features

__all__ = ["Leaks"]


@dataclass(frozen=True, kw_only=True)
class Leaks:
    """What gives answers away in a set from which labelled examples and queries are drawn, or in two sets.

    Attributes:
        duplicates: The samples of the set with the same features as an earlier one.
        queries_in_support: How many samples of the query set are also in the set of the labelled examples; ``None`` if
            both are drawn from one set.
    """

    duplicates: Duplicates = field(default_factory=Duplicates)
    queries_in_support: int | None = None

    @classmethod
    def of(cls, features: Features, query_set: Features | None = None) -> Leaks:
        """What gives answers away.

        Args:
            features: The set of the labelled examples.
            query_set: The set of the queries, if it is another.
        """
        content = SampleContent.of(features)
        shared = None if query_set is None else int(SampleContent.of(query_set).is_in(content).sum())
        return cls(duplicates=Duplicates.of(content.rows, content.labels), queries_in_support=shared)

    def warnings(self) -> tuple[str, ...]:
        """What they do to an accuracy, in a sentence; none if nothing is given away.

        Duplicates among the labelled examples alone give nothing away.

        >>> Leaks(duplicates=Duplicates(samples=3), queries_in_support=0).warnings()
        ()
        """
        if self.queries_in_support:
            shared = counted(self.queries_in_support, "sample")
            return (f"the query set shares {shared} with the labelled examples: {_GIVEN_AWAY}",)
        if self.queries_in_support is None and self.duplicates.samples:
            return (f"{self.duplicates}: where one is a labelled example and the other a query, {_GIVEN_AWAY}",)
        return ()

    def to_dict(self) -> dict[str, Any]:
        """The numbers as a dictionary for JSON."""
        return {"duplicates": self.duplicates.to_dict(), "queries_in_support": self.queries_in_support}


_GIVEN_AWAY = (
    "the answer is given away, so this is not the accuracy on new images; --drop-duplicates leaves such samples out"
)

"""The same random episodes under every query prior of a task."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nctransfer.episodes.query_prior import BALANCED
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.episodes.sampling import sample, sample_disjoint
from nctransfer.evaluation.tally import Tally

if TYPE_CHECKING:
    from nctransfer.episodes.episode import Episodes, EpisodeSpec
    from nctransfer.episodes.pool import Pool
    from nctransfer.evaluation.fewshot_plan import Plan
    from nctransfer.evaluation.fewshot_task import Contender, FewShotTask

__all__ = ["PriorDraws", "has_transductive"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PriorDraws:
    """Draws the episodes of a plan: the same classes and supports for each query prior.

    Attributes:
        plan: The task on its feature set.
        pool: The inner products of the features.
    """

    plan: Plan
    pool: Pool

    @functools.cached_property
    def contenders(self) -> dict[str, list[Contender]]:
        """The contenders of each query prior."""
        found: dict[str, list[Contender]] = {}
        for one in self.plan.task.contenders:
            found.setdefault(one.query_prior, []).append(one)
        return found

    def batches(self, spec: EpisodeSpec, first: int, ends: Sequence[int]) -> Iterator[dict[str, Episodes]]:
        """The episodes of one number of ways in batches, by query prior.

        Args:
            spec: The episodes.
            first: The number of the first one.
            ends: Numbers of episodes at which a batch ends.
        """
        features, query_set, task = self.plan.features, self.plan.query_set, self.plan.task
        if task.interval == "disjoint":
            drawn = sample_disjoint(features, spec, task.episodes, query_set, self._batch_size(spec))
            return ({BALANCED: batch} for batch in drawn)
        return self._drawn(spec, task.episodes, first=first, ends=ends)

    def with_spare(self, spec: EpisodeSpec, episodes: int) -> Iterator[dict[str, Episodes]]:
        """The first episodes, with spare samples so that some can be left out.

        Args:
            spec: The episodes.
            episodes: Their number.
        """
        return self._drawn(spec, episodes, with_spare=True)

    def tallies(self, spec: EpisodeSpec) -> dict[tuple[int, str], Tally]:
        """A tally for each number of shots and query prior.

        Args:
            spec: The episodes.
        """
        classes = len(self.plan.features.classes)
        usual = None if spec.queries is None else spec.ways * spec.queries
        return {
            (shots, prior): Tally(classes, [one.label for one in some], None if prior == BALANCED else usual)
            for shots, (prior, some) in itertools.product(self.plan.task.shots, self.contenders.items())
        }

    def _drawn(self, spec: EpisodeSpec, episodes: int, **options: Any) -> Iterator[dict[str, Episodes]]:
        features, query_set, most = self.plan.features, self.plan.query_set, self._batch_size(spec)
        streams = (
            sample(features, replace(spec, query_prior=prior), episodes, query_set, most, **options)
            for prior in self.contenders
        )
        return (dict(zip(self.contenders, batches, strict=True)) for batches in zip(*streams, strict=True))

    def _batch_size(self, spec: EpisodeSpec) -> int:
        most = int((self.plan.query_set or self.plan.features).counts.max())
        return self.pool.batch(spec, spec.queries or most, between_queries=has_transductive(self.plan.task))


def has_transductive(task: FewShotTask) -> bool:
    """Whether a classifier of the task answers a query by all queries of its episode."""
    return any(CLASSIFIERS[name].is_transductive for name in task.classifiers)

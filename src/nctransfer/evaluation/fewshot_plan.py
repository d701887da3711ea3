"""A few-shot task on a feature set, by its labels alone: which classes take part, and which episodes are drawn."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.episodes.episode import EpisodeSpec
from nctransfer.episodes.requirements import check, large_enough, same_classes
from nctransfer.errors import EpisodeError, counted, join_names

if TYPE_CHECKING:
    from nctransfer.evaluation.fewshot_task import FewShotTask
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["Plan", "plan_episodes"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What a few-shot task comes to on one feature set.

    Attributes:
        task: The task.
        features: The samples of the classes that take part.
        query_set: The samples of these classes that the queries come from, if not from the features.
        specs: The episodes of each number of ways, with the largest number of shots.
        dropped: The classes that were left out because they have too few samples.
    """

    task: FewShotTask
    features: FeatureSet
    query_set: FeatureSet | None
    specs: tuple[EpisodeSpec, ...]
    dropped: tuple[str, ...]


def plan_episodes(task: FewShotTask, features: FeatureSet, query_set: FeatureSet | None = None) -> Plan:
    """Fit a task to a feature set. Only labels are looked at, so that it can be done before features are there.

    Args:
        task: The task.
        features: The feature set.
        query_set: Where the queries come from, if not from the features.

    Raises:
        EpisodeError: The sets have too few classes or samples for the task, or do not suit each other.
    """
    if query_set is not None:
        features, query_set = same_classes(features, query_set)
    dropped: tuple[str, ...] = ()
    if task.drop_small:
        features, query_set, dropped = _without_small(features, query_set, task.spec(2))
    count = len(features.classes)
    sizes = sorted({count if ways == "all" else ways for ways in task.ways})
    specs = tuple(task.spec(size) for size in sizes)
    for spec in specs:
        check(features, spec, query_set)
        if task.interval == "classes" and spec.ways > count - 2:
            another = "another --interval"
            raise EpisodeError(
                f"an interval over the draw of classes needs two classes more than ways: {spec.ways} ways and "
                f"{count} classes",
                f"give --ways {count - 2} or less, or {another}" if count >= 4 else f"give {another}",
            )
    return Plan(task=task, features=features, query_set=query_set, specs=specs, dropped=dropped)


def _without_small(
    features: FeatureSet, query_set: FeatureSet | None, spec: EpisodeSpec
) -> tuple[FeatureSet, FeatureSet | None, tuple[str, ...]]:
    """The sets without the classes that have too few samples, and the names of these classes."""
    enough = large_enough(features, spec, query_set)
    dropped = tuple(features.classes[code] for code in (~enough).nonzero()[:, 0].tolist())
    if dropped and bool(enough.any()):
        log.warning(
            "%s of too few samples left out: %s",
            counted(len(dropped), "class", "classes"),
            join_names([repr(name) for name in dropped]),
        )
        codes = enough.nonzero()[:, 0]
        features, query_set = features.only_classes(codes), query_set.only_classes(codes) if query_set else None
    return features, query_set, dropped

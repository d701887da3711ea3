"""A few-shot task on a feature set, by its labels alone: which classes take part, and which episodes are drawn."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.episodes.episode import EpisodeSpec
from nctransfer.episodes.leaving_out import TENTHS
from nctransfer.episodes.requirements import check, large_enough, same_classes
from nctransfer.errors import EpisodeError, counted, join_names
from nctransfer.sources.label_depth import MORE_CLASSES

if TYPE_CHECKING:
    from nctransfer.evaluation.fewshot_task import FewShotTask
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.intervals import Interval

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
        impossible: Why there can be no interval, by ways, shots and population.
    """

    task: FewShotTask
    features: FeatureSet
    query_set: FeatureSet | None
    specs: tuple[EpisodeSpec, ...]
    dropped: tuple[str, ...]
    impossible: Mapping[tuple[int, int, Interval], str]

    def population(self, ways: int) -> Interval:
        """The population that verdicts on these episodes are about.

        It is that of the interval that was asked for. The customary interval over episodes says nothing of other images
        or classes; with it, verdicts are about other classes if episodes draw some of the classes, and about other
        images if every episode has all of them, or all but one.
        """
        if self.task.interval == "episodes":
            return "samples" if ways > len(self.features.classes) - 2 else "classes"
        return "samples" if self.task.interval == "disjoint" else self.task.interval


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
    if count < 2 and "all" in task.ways:
        which = f"one class, {features.classes[0]!r}"
        raise EpisodeError(
            f"only {which}, has enough images" if dropped else f"there is only {which}; a task needs two or more",
            "give fewer shots, or data with more classes" if dropped else f"give {MORE_CLASSES}",
        )
    sizes = sorted({count if ways == "all" else ways for ways in task.ways})
    specs = tuple(task.spec(size) for size in sizes)
    for spec in specs:
        check(features, spec, query_set)
    impossible = {
        (spec.ways, shots, name): why
        for spec, shots in itertools.product(specs, task.shots)
        for name, why in _impossible(features, query_set, spec.ways, shots)
    }
    return Plan(task=task, features=features, query_set=query_set, specs=specs, dropped=dropped, impossible=impossible)


def _impossible(
    features: FeatureSet, query_set: FeatureSet | None, ways: int, shots: int
) -> Iterator[tuple[Interval, str]]:
    """Over which populations these episodes can have no interval, and why."""
    count = len(features.classes)
    if ways > count - 2:
        yield (
            "classes",
            (
                f"an interval over other classes needs two classes more than ways, and there are {count} classes for "
                f"{ways} ways"
            ),
        )
    left = [size - -(-size // TENTHS) for size in features.counts.tolist()]
    needed = shots + (query_set is None)
    others = [] if query_set is None else query_set.counts.tolist()
    if min(left) < needed or min(others, default=2) < 2:
        yield (
            "samples",
            (
                f"an interval over other images leaves out a tenth of them; {counted(shots, 'shot')} would then "
                f"need more images than the {min(*features.counts.tolist(), *others)} of the smallest class"
            ),
        )


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

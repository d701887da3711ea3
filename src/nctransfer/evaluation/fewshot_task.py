"""A few-shot task as it is asked for, checked against the labels."""

from __future__ import annotations

import functools
import logging
import math
import operator
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nctransfer.episodes.episode import EpisodeSpec
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.episodes.requirements import check, check_disjoint, large_enough, same_classes
from nctransfer.errors import EpisodeError, counted
from nctransfer.intervals import INTERVALS

if TYPE_CHECKING:
    from nctransfer.episodes.registry import Classifier
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.intervals import Interval

__all__ = ["Number", "Plan", "Task", "check_task", "chosen_classifiers"]

log = logging.getLogger(__name__)

Number = int | Literal["all"]
Task = tuple[int, int, str]  # ways, shots, classifier


class Plan(NamedTuple):
    """What a request for few-shot tasks comes to.

    Attributes:
        features: Of the classes that are drawn.
        query_set: Likewise.
        specs: One a number of ways, for the most shots.
        all_shots: Ascending.
        dropped: Classes of too few samples.
    """

    features: FeatureSet
    query_set: FeatureSet | None
    specs: Sequence[EpisodeSpec]
    all_shots: Sequence[int]
    dropped: Sequence[str]


def _listed(given: Number | Sequence[Number]) -> list[Number]:
    return [given] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)


def _several(given: Number | Sequence[Number], every: int | None = None) -> list[int]:
    return sorted({every if number == "all" and every else operator.index(number) for number in _listed(given)})  # type: ignore[arg-type]


def check_task(
    features: FeatureSet,
    query_set: FeatureSet | None = None,
    *,
    ways: Number | Sequence[Number] = 5,
    shots: int | Sequence[int] = 1,
    queries: Number = 15,
    episodes: int = 10_000,
    classifiers: str | Sequence[str] = ("ridge", "ncc"),
    seed: int = 0,
    ridge_lambda: float | Literal["loo"] | None = None,
    interval: Interval = "episodes",
    drop_small: bool = False,
) -> Plan:
    """Whether :func:`fewshot` can do what is asked for, by the labels alone: the vectors are not looked at.

    Raises:
        EpisodeError: See there.
    """
    names, _ = chosen_classifiers(classifiers, ridge_lambda, "mean")
    all_shots = _several(shots)
    if not (all_shots and names and _listed(ways)):
        raise EpisodeError("ways, shots and classifiers must each hold something")
    if episodes < 2:
        raise EpisodeError(f"episodes is {episodes}; an interval needs at least 2")
    if interval not in INTERVALS:
        raise EpisodeError(f"there is no interval {interval!r}", f"choose --interval from {', '.join(INTERVALS)}")
    if ridge_lambda == "loo" and "ridge" in names and min(all_shots) < 2:
        raise EpisodeError("a leave-one-out choice of the penalty needs 2 shots", "give --ridge-lambda a number")
    count = None if isinstance(queries, str) and queries == "all" else operator.index(queries)
    seed = operator.index(seed)
    if query_set is not None:
        features, query_set = same_classes(features, query_set)
    dropped: list[str] = []
    if drop_small:
        features, query_set, dropped = _without_small(features, query_set, EpisodeSpec(2, max(all_shots), count, seed))
    specs = [EpisodeSpec(size, max(all_shots), count, seed) for size in _several(ways, len(features.classes))]
    for least in all_shots:
        EpisodeSpec(2, least, count, seed)
    for spec in specs:
        check(features, spec, query_set)
        if interval == "disjoint":
            check_disjoint(spec)
        if interval == "classes" and spec.ways > (most := len(features.classes) - 2):
            raise EpisodeError(
                f"an interval over the draw of classes needs more of them: {spec.ways} ways and "
                f"{len(features.classes)} classes",
                f"give --ways {most} or less, or another --interval" if most >= 2 else "give another --interval",
            )
    return Plan(features, query_set, specs, all_shots, dropped)


def chosen_classifiers(
    classifiers: str | Sequence[str], penalty: float | Literal["loo"] | None, about: Literal["mean", "origin"]
) -> tuple[list[str], dict[str, Classifier]]:
    """The names of the classifiers, and the functions with their settings.

    Raises:
        EpisodeError: There is no such classifier, or the penalty of ridge is not one.
    """
    names = [classifiers] if isinstance(classifiers, str) else list(dict.fromkeys(classifiers))
    if names == ["all"]:
        names = list(CLASSIFIERS)
    if unknown := [name for name in names if name not in CLASSIFIERS]:
        raise EpisodeError(
            f"there is no classifier {unknown[0]!r}", f"choose --classifier from {', '.join(CLASSIFIERS)}, or all"
        )
    if isinstance(penalty, str) and penalty != "loo":
        raise EpisodeError(f"the penalty of ridge is {penalty!r}", "give --ridge-lambda a number above zero, or loo")
    if isinstance(penalty, (int, float)) and not 0 < penalty < math.inf:
        raise EpisodeError(f"the penalty of ridge is {penalty}", "give --ridge-lambda a number above zero, or loo")
    settings: dict[str, dict[str, Any]] = {"ridge": {"penalty": penalty}, "simpleshot": {"about": about}}
    return names, {name: functools.partial(CLASSIFIERS[name], **settings.get(name, {})) for name in names}


def _without_small(
    features: FeatureSet, query_set: FeatureSet | None, spec: EpisodeSpec
) -> tuple[FeatureSet, FeatureSet | None, list[str]]:
    """Without the classes of too few samples, and which those are."""
    enough = large_enough(features, spec, query_set)
    dropped = [features.classes[code] for code in (~enough).nonzero()[:, 0].tolist()]
    if dropped and bool(enough.any()):
        log.warning(
            "%s of too few samples left out: %s",
            counted(len(dropped), "class", "classes"),
            ", ".join(map(repr, dropped[:5])) + ", …" * (len(dropped) > 5),
        )
        codes = enough.nonzero()[:, 0]
        features, query_set = features.only_classes(codes), query_set.only_classes(codes) if query_set else None
    return features, query_set, dropped

"""A few-shot task: which episodes are drawn, what classifies them, and what is said about the result."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, NamedTuple, TypeVar, overload

from nctransfer.episodes.classifier import RIDGE_LAMBDA, ClassifierSettings, RidgePenalty
from nctransfer.episodes.episode import EpisodeSpec
from nctransfer.episodes.query_prior import BALANCED, UNEVEN, QueryPrior
from nctransfer.episodes.registry import CLASSIFIERS, choose_classifiers
from nctransfer.episodes.requirements import check_disjoint
from nctransfer.errors import SettingError
from nctransfer.evaluation.stopping import PRECISION
from nctransfer.intervals import INTERVALS, Interval

__all__ = ["Contender", "FewShotTask", "Number", "OneOrSeveral", "only_balanced"]

Number = int | Literal["all"]
T = TypeVar("T")


class OneOrSeveral(Generic[T]):
    """A field of a dataclass that is given as one value or several, and read as a tuple.

    Args:
        default: The values if none are given.
    """

    def __init__(self, *default: T) -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> tuple[T, ...]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> tuple[T, ...]: ...
    def __get__(self, instance: object | None, owner: type) -> tuple[T, ...]:
        several: tuple[T, ...] = self._default if instance is None else instance.__dict__[self._name]
        return several

    def __set__(self, instance: object, given: T | Iterable[T]) -> None:
        if isinstance(given, str) or not isinstance(given, Iterable):
            several: tuple[T, ...] = (given,)
        else:
            several = tuple(given)
        instance.__dict__[self._name] = several


class Contender(NamedTuple):
    """What a row of a result is about beside ways and shots: a classifier, and the prior of its queries."""

    classifier: str
    query_prior: str = BALANCED

    @property
    def label(self) -> str:
        """The name of the row: that of the classifier; a transductive one is never named without its query prior.

        >>> Contender("ncc", "dirichlet:2").label, Contender("soft-kmeans", "dirichlet:2").label
        ('ncc', 'soft-kmeans (dirichlet:2)')
        """
        is_transductive = self.classifier in CLASSIFIERS and CLASSIFIERS[self.classifier].is_transductive
        return f"{self.classifier} ({self.query_prior})" if is_transductive else self.classifier


@dataclass(frozen=True, kw_only=True)
class FewShotTask:
    """Few-shot tasks on one feature set: every number of ways with every number of shots and every classifier.

    A task validates itself when it is created. ``ways``, ``shots`` and ``classifiers`` take one value or several.

    Attributes:
        ways: Classes per episode; ``all`` stands for every class.
        shots: Support samples per class, ascending. All numbers of shots use the same episodes.
        queries: Query samples per class, on average over the classes of an episode; ``all`` takes every sample that is
            not in the support.
        query_prior: How queries are spread over the classes, see
            :class:`~nctransfer.episodes.query_prior.QueryPrior`. Transductive classifiers are always measured twice:
            with balanced queries, and with this prior, or with ``dirichlet:2`` if this is ``balanced``.
        episodes: Episodes per number of ways, at most.
        precision: In percentage points: no more episodes are drawn once the half-width of the 95% interval over
            episodes is below it for every row of a number of ways and shots, see
            :mod:`~nctransfer.evaluation.stopping`; 0 if there are always as many as ``episodes`` says.
        classifiers: Names of the registry :data:`~nctransfer.episodes.registry.CLASSIFIERS`; ``all`` stands for all.
        seed: The seed of the episodes. The same seed draws the same episodes for any backbone on the same data.
        ridge_lambda: The penalty of ``ridge``, see :func:`~nctransfer.episodes.ridge.ridge`.
        l2_normalise: Whether features are scaled to unit length.
        interval: What the 95% interval refers to, see :data:`~nctransfer.intervals.INTERVALS`. With ``disjoint`` no two
            episodes share a sample, and there are as many episodes as the samples allow.
        drop_small: Whether classes with too few samples are left out; otherwise they are an error.
        theory: Whether the expected accuracy and the error bounds are computed for the classifiers that have them.

    Raises:
        SettingError: A number is too small, a name is unknown, or settings do not go together.

    >>> task = FewShotTask(ways=5, shots=(5, 1), classifiers="ncc")
    >>> task.ways, task.shots, task.classifiers
    ((5,), (1, 5), ('ncc',))
    """

    ways: OneOrSeveral[Number] = OneOrSeveral[Number](5)  # noqa: RUF009 - a descriptor, which tasks share
    shots: OneOrSeveral[int] = OneOrSeveral[int](1)  # noqa: RUF009
    queries: Number = 15
    query_prior: str = BALANCED
    episodes: int = 10_000
    precision: float = PRECISION
    classifiers: OneOrSeveral[str] = OneOrSeveral[str]("ridge", "ncc")  # noqa: RUF009
    seed: int = 0
    ridge_lambda: RidgePenalty = RIDGE_LAMBDA
    l2_normalise: bool = False
    interval: Interval = "episodes"
    drop_small: bool = False
    theory: bool = True

    def __post_init__(self) -> None:
        self._normalise()
        if not (self.ways and self.shots and self.classifiers):
            raise SettingError("ways, shots and classifiers must each hold something", "give at least one of each")
        if self.episodes < 2:
            raise SettingError(
                f"episodes is {self.episodes}; an interval needs at least 2", "give --episodes 2 or more"
            )
        if not 0 <= self.precision < math.inf:
            raise SettingError(
                f"precision is {self.precision}; it is a number of percentage points, at least 0",
                "give --precision 0 or more; 0 never stops early",
            )
        if self.interval not in INTERVALS:
            raise SettingError(
                f"there is no interval {self.interval!r}", f"choose --interval from {', '.join(INTERVALS)}"
            )
        for ways in self.ways:
            self.spec(2 if ways == "all" else ways)
        for shots in self.shots:
            EpisodeSpec(ways=2, shots=shots, queries=self.query_count, seed=self.seed)
        settings = self.classifier_settings()
        for name in self.classifiers:
            CLASSIFIERS[name].options(settings)
        if self.interval == "disjoint":
            check_disjoint(self.spec(2))

    def _normalise(self) -> None:
        """Numbers as ``int``; shots and ways in ascending order; each name once."""
        numbers = sorted({operator.index(number) for number in self.ways if number != "all"})
        normal: dict[str, Any] = {
            "ways": (*numbers, *(["all"] if "all" in self.ways else [])),
            "shots": sorted({operator.index(number) for number in self.shots}),
            "queries": self.queries if self.queries == "all" else operator.index(self.queries),
            "query_prior": str(QueryPrior.parse(self.query_prior)),
            "classifiers": choose_classifiers(self.classifiers, self._why_only_inductive()),
            "episodes": operator.index(self.episodes),
            "precision": float(self.precision),
            "seed": operator.index(self.seed),
        }
        for name, value in normal.items():
            object.__setattr__(self, name, value)

    def _why_only_inductive(self) -> str:
        """Why transductive classifiers cannot be used; empty if they can be."""
        needs = "it is always measured with uneven queries too, which needs"
        if self.queries == "all":
            return f"{needs} a number of queries"
        return f"{needs} another interval than disjoint" if self.interval == "disjoint" else ""

    @property
    def contenders(self) -> tuple[Contender, ...]:
        """What is measured with each number of ways and shots, in the order of the rows of a result."""
        uneven = self.query_prior if self.query_prior != BALANCED else UNEVEN
        return tuple(
            Contender(name, prior)
            for name in self.classifiers
            for prior in ((BALANCED, uneven) if CLASSIFIERS[name].is_transductive else (self.query_prior,))
        )

    @property
    def query_count(self) -> int | None:
        """Query samples per class; ``None`` for every sample that is not in the support."""
        return None if self.queries == "all" else self.queries

    def spec(self, ways: int) -> EpisodeSpec:
        """The episodes of one number of ways, with the largest number of shots."""
        return EpisodeSpec(
            ways=ways,
            shots=max(self.shots),
            queries=self.query_count,
            seed=self.seed,
            query_prior=self.query_prior,
        )

    def classifier_settings(self, has_reference_mean: bool = False) -> ClassifierSettings:
        """What the classifiers may need to know of the task."""
        return ClassifierSettings(
            shots=min(self.shots), ridge_lambda=self.ridge_lambda, has_reference_mean=has_reference_mean
        )


def only_balanced(task: FewShotTask, what: str) -> FewShotTask:
    """The task for a measurement that knows balanced queries and inductive classifiers only.

    Args:
        task: The task; where it has all classifiers, the transductive ones are left out.
        what: The measurement, for messages.

    Raises:
        SettingError: The task has another query prior, or a transductive classifier was chosen.
    """
    if task.query_prior != BALANCED:
        raise SettingError(f"{what} has balanced queries only, not {task.query_prior}", "leave out --query-prior")
    chosen = ["all"] if set(task.classifiers) == set(CLASSIFIERS) else task.classifiers
    names = choose_classifiers(chosen, f"{what} classifies each query by itself")
    return task if names == task.classifiers else replace(task, classifiers=names)

"""Few-shot accuracy: episodes times classifiers."""

from __future__ import annotations

import functools
import itertools
import logging
import math
import operator
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nctransfer.classifiers import CLASSIFIERS, Classifier
from nctransfer.episodes import (
    Episodes,
    EpisodeSpec,
    check,
    check_disjoint,
    large_enough,
    same_classes,
    sample,
    sample_disjoint,
)
from nctransfer.errors import EpisodeError, FeaturesError, counted
from nctransfer.expectation import QUERIES, expect
from nctransfer.features.feature_set import FeatureSet
from nctransfer.products import Pool, prepared
from nctransfer.statistics import ClassStatistics
from nctransfer.theory import BOUNDS, Bound, error_bounds

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import torch

__all__ = [
    "INTERVALS",
    "ClassAccuracy",
    "Confusion",
    "FewShotComparison",
    "FewShotDifference",
    "FewShotResult",
    "FewShotRow",
    "Interval",
    "Plan",
    "check_task",
    "compare_fewshot",
    "fewshot",
    "paired_difference",
]

log = logging.getLogger(__name__)

Interval = Literal["episodes", "classes", "disjoint"]
INTERVALS: Mapping[Interval, str] = {
    "episodes": "over the draw of episodes from these samples (not over other samples or classes)",
    "classes": "over the draw of classes (delete-one-class jackknife)",
    "disjoint": "over episodes of which no two share a sample",
}
"""What an interval is of."""
EXPECTED_WORK = 1e8  # steps of the recursion of a deal, some seconds: with more there is no expected accuracy
MOST_CONFUSED = 1000  # classes: more of them have too many pairs to count

Number = int | Literal["all"]
Task = tuple[int, int, str]  # ways, shots, classifier


@dataclass(frozen=True)
class FewShotRow:
    """Accuracy of one classifier on one task.

    Attributes:
        accuracy: Mean over episodes of the share of queries classified right.
        ci95: Half the width of its 95% interval.
        interval: What that is of, see :data:`INTERVALS`.
        std: Standard deviation over episodes.
        lowest_decile: What a tenth of the episodes do not exceed.
        seconds: Time of the episodes: drawing, inner products and classifier.
        gradient_norm: Of logistic regression: the largest, relative to that of all weights zero.
        expected_accuracy: Of ``ncc``: the mean over all episodes, computed without drawing them.
        bounds: Of the error of ``ncc``: value and whether it is vacuous, by name.
        undefined: Why there is no value, by name.
    """

    ways: int
    shots: int
    queries: int | Literal["all"]
    episodes: int
    classifier: str
    seed: int
    accuracy: float
    ci95: float
    interval: Interval
    std: float
    lowest_decile: float
    seconds: float
    gradient_norm: float | None = None
    expected_accuracy: float | None = None
    bounds: Mapping[str, Mapping[str, Any]] | None = None
    undefined: Mapping[str, str] = field(default_factory=dict)

    def to_row(self) -> dict[str, Any]:
        """The fields as one row of a table: each bound a column."""
        row = asdict(self)
        del row["undefined"]
        bounds = row.pop("bounds") or {}
        return row | {f"bound_{name}": one["value"] for name, one in bounds.items()}


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


class ClassAccuracy(NamedTuple):
    """How often the queries of a class were classified right; ``None`` if no episode had it."""

    name: str
    accuracy: float | None
    queries: int


class Confusion(NamedTuple):
    """How often queries of one class were taken for another, of those that could have been."""

    name: str
    taken_for: str
    rate: float
    queries: int


@dataclass(eq=False)
class _Counts:
    """Queries of C classes: how many there were ``(C,)``, and how many of them were right ``(C,)``.

    ``together`` and ``taken`` are ``(C, C)``: queries of a class in episodes that had the other, and how many of them
    were taken for it.
    """

    asked: torch.Tensor
    right: torch.Tensor
    together: torch.Tensor | None
    taken: torch.Tensor | None


@dataclass(frozen=True)
class FewShotResult:
    """Few-shot accuracies on one feature set.

    Attributes:
        features: What was measured, as :meth:`~nctransfer.features.feature_set.FeatureSet.to_dict` says it.
        rows: One row for each of ways × shots × classifiers.
        classes: The class names.
        settings: What else was asked for: query set, reference mean, normalisation, penalty, classes left out.
        accuracies: Of each episode, ``(E,)``, by ways, shots and classifier.
        drawn: The class codes of each episode, ``(E, ways)``, by ways.
    """

    features: dict[str, Any]
    rows: tuple[FewShotRow, ...]
    classes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    accuracies: Mapping[Task, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)
    drawn: Mapping[int, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)
    counts: Mapping[Task, _Counts] = field(default_factory=dict, repr=False, compare=False)

    def class_accuracies(self, task: Task) -> tuple[ClassAccuracy, ...]:
        """Of each class, by name."""
        counts = self.counts[task]
        pairs = zip(self.classes, counts.right.tolist(), counts.asked.tolist(), strict=True)
        return tuple(ClassAccuracy(name, right / asked if asked else None, int(asked)) for name, right, asked in pairs)

    def confusions(self, task: Task, most: int | None = None) -> tuple[Confusion, ...]:
        """The most confused pairs first: by the lower end of the 95% (Wilson) interval of their rate.

        Args:
            task: Ways, shots and classifier.
            most: So many at most.

        Raises:
            EpisodeError: There are more than 1,000 classes.
        """
        counts = self.counts[task]
        if counts.taken is None or counts.together is None:
            raise EpisodeError(
                f"pairs of {len(self.classes):,} classes are too many to count", "choose by --classes FILE"
            )
        taken, together = counts.taken.double(), counts.together.double().clamp(min=1)
        rate, z2 = taken / together, 1.96**2
        middle = rate + z2 / (2 * together)
        reach = (z2 * (rate * (1 - rate) + z2 / (4 * together)) / together).sqrt()
        lower = (middle - reach) / (1 + z2 / together)
        lower[taken == 0] = 0
        order = lower.flatten().sort(descending=True, stable=True).indices[: int((taken > 0).sum())][:most]
        return tuple(
            Confusion(self.classes[a], self.classes[b], float(rate[a, b]), int(together[a, b]))
            for a, b in (divmod(place, len(self.classes)) for place in order.tolist())
        )

    def to_dict(self, confusions: int | None = 5) -> dict[str, Any]:
        """The result as JSON has it, with so many of the most confused pairs; ``None`` for all."""
        rows = []
        for row in self.rows:
            task, found = (row.ways, row.shots, row.classifier), asdict(row)
            if task in self.counts:
                found["classes"] = [one._asdict() for one in self.class_accuracies(task)]
                can = self.counts[task].taken is not None
                found["confusions"] = [one._asdict() for one in self.confusions(task, confusions)] if can else None
            rows.append(found)
        return {"features": self.features, "settings": dict(self.settings), "results": rows}

    def to_frame(self) -> pd.DataFrame:
        """One row a task and classifier, the fields of :class:`FewShotRow`, each bound a column."""
        import pandas as pd

        return pd.DataFrame([row.to_row() for row in self.rows])

    def episodes_table(self) -> pa.Table:
        """One row an episode, task and classifier: which classes it had, and its accuracy."""
        import numpy as np
        import pyarrow as pa

        names = pa.array(self.classes, pa.string())
        tables = []
        for (ways, shots, classifier), accuracies in self.accuracies.items():
            drawn = self.drawn[ways].numpy()
            size = len(drawn)
            codes = pa.DictionaryArray.from_arrays(pa.array(drawn.reshape(-1).astype(np.int32)), names)
            tables.append(
                pa.table(
                    {
                        "features": pa.repeat(self.features["id"], size),
                        "ways": pa.repeat(ways, size),
                        "shots": pa.repeat(shots, size),
                        "classifier": pa.repeat(classifier, size),
                        "episode": np.arange(size),
                        "classes": pa.FixedSizeListArray.from_arrays(codes, ways).cast(pa.list_(codes.type)),
                        "accuracy": accuracies.numpy(),
                    }
                )
            )
        return pa.concat_tables(tables)


@dataclass(frozen=True)
class FewShotDifference:
    """How much more accurate one set is than the first, on the same episodes.

    Attributes:
        difference: Mean over episodes of the accuracy less that of the first.
        ci95: Half the width of its 95% interval.
        is_real: Whether the interval leaves out zero.
    """

    name: str
    first: str
    ways: int
    shots: int
    classifier: str
    difference: float
    ci95: float
    is_real: bool


@dataclass(frozen=True)
class FewShotComparison:
    """Several feature sets of the same samples, on the same episodes.

    Attributes:
        results: By name.
        differences: Of each set but the first, for each task and classifier.
    """

    results: Mapping[str, FewShotResult]
    differences: tuple[FewShotDifference, ...]

    def to_dict(self, confusions: int | None = 5) -> dict[str, Any]:
        """The comparison as JSON has it."""
        return {
            "sets": [{"name": name, **result.to_dict(confusions)} for name, result in self.results.items()],
            "differences": [asdict(one) for one in self.differences],
        }

    def to_frame(self) -> pd.DataFrame:
        """The rows of every set, named by ``set``."""
        import pandas as pd

        return pd.DataFrame([{"set": name, **row.to_row()} for name, one in self.results.items() for row in one.rows])

    def episodes_table(self) -> pa.Table:
        """See :meth:`FewShotResult.episodes_table`; the sets one after the other, named by ``set``."""
        import pyarrow as pa

        tables = {name: result.episodes_table() for name, result in self.results.items()}
        return pa.concat_tables(
            [table.add_column(0, "set", pa.repeat(name, len(table))) for name, table in tables.items()]
        )


def fewshot(
    features: FeatureSet,
    ways: Number | Sequence[Number] = 5,
    shots: int | Sequence[int] = 1,
    *,
    queries: Number = 15,
    episodes: int = 10_000,
    classifiers: str | Sequence[str] = ("ridge", "ncc"),
    seed: int = 0,
    device: str = "auto",
    query_set: FeatureSet | None = None,
    center_on: FeatureSet | None = None,
    l2_normalise: bool = False,
    ridge_lambda: float | Literal["loo"] | None = None,
    interval: Interval = "episodes",
    drop_small: bool = False,
    theory: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> FewShotResult:
    """n-way k-shot accuracy of simple classifiers on frozen features.

    Args:
        features: The feature set.
        ways: Classes an episode; one number or several; ``all`` for every class.
        shots: Support samples a class; one number or several, on the same episodes.
        queries: Query samples a class; ``all`` for every sample that is left.
        episodes: Episodes for each task.
        classifiers: Names from :data:`~nctransfer.classifiers.CLASSIFIERS`, or ``all``.
        seed: Of the episodes; the same seed gives the same episodes for any backbone on the same data.
        device: Where to compute, see :func:`~nctransfer.devices.with_float64`.
        query_set: Where the queries come from, if not from the features; other samples of the same classes.
        center_on: A set whose mean is taken off first: the reference mean of ``simpleshot``. Without, ``simpleshot``
            takes the mean of each support.
        l2_normalise: Scale features to unit length (after that).
        ridge_lambda: The penalty of ``ridge``, see there.
        interval: What the 95% interval is of, see :data:`INTERVALS`. With ``disjoint``, the episodes are drawn so that
            no two share a sample, and are as many as that gives.
        drop_small: Leave out classes of too few samples; else they are an error.
        theory: Say beside what is measured of ``ncc`` what is expected, and how the geometry of the classes bounds it.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        EpisodeError: The features have too few classes or samples for a task, or a name is unknown.
    """
    described = features.to_dict()
    settings: dict[str, Any] = {
        "query_set": query_set.to_dict() if query_set is not None else None,
        "center_on": center_on.info.id if center_on is not None else None,
        "l2_normalise": l2_normalise,
        "ridge_lambda": ridge_lambda,
    }
    plan = check_task(
        features,
        query_set,
        ways=ways,
        shots=shots,
        queries=queries,
        episodes=episodes,
        classifiers=classifiers,
        seed=seed,
        ridge_lambda=ridge_lambda,
        interval=interval,
        drop_small=drop_small,
    )
    features, query_set, specs, all_shots = plan.features, plan.query_set, plan.specs, plan.all_shots
    seed, count = specs[0].seed, specs[0].queries
    names, functions = _chosen(classifiers, ridge_lambda, "origin" if center_on is not None else "mean")
    if drop_small:
        settings["dropped"] = plan.dropped
    seen = prepared(features, query_set, center_on, l2_normalise)
    pool = Pool(seen, device)
    if interval != "disjoint":
        pool.prepare(specs, episodes, int((query_set or features).counts.max()))
    log.debug("inner products: %s", "all at once, looked up" if pool.has_gram else "of the rows of each episode")
    runs = _Runs(features, query_set, pool, functions, all_shots, episodes, interval)
    rows: list[FewShotRow] = []
    accuracies: dict[Task, torch.Tensor] = {}
    counts: dict[Task, _Counts] = {}
    drawn: dict[int, torch.Tensor] = {}
    for number, spec in enumerate(specs):
        run = runs(spec, functools.partial(_told, progress, number, len(specs), episodes))
        drawn[spec.ways] = run.classes
        if len(run.classes) < episodes:
            log.warning(
                "%d-way: %s, as no two may share a sample; %s were asked for",
                spec.ways,
                counted(len(run.classes), "episode"),
                f"{episodes:,}",
            )
        for key, values in run.accuracies.items():
            task = (spec.ways, *key)
            accuracies[task], counts[task] = values, run.counts[key]
            rows.append(
                FewShotRow(
                    ways=spec.ways,
                    shots=key[0],
                    queries="all" if count is None else count,
                    episodes=len(values),
                    classifier=key[1],
                    seed=seed,
                    accuracy=float(values.mean()),
                    ci95=half_width(values, run.classes, len(features.classes), interval),
                    interval=interval,
                    std=float(values.std()),
                    lowest_decile=float(values.quantile(0.1)),
                    seconds=run.seconds[key],
                    gradient_norm=run.gradients.get(key),
                )
            )
    if theory and "ncc" in names:
        rows = _with_theory(rows, replace(features, features=seen[: len(features)]), query_set is not None, device)
    return FewShotResult(described, tuple(rows), features.classes, settings, accuracies, drawn, counts)


def _with_theory(
    rows: Sequence[FewShotRow], features: FeatureSet, has_query_set: bool, device: str
) -> list[FewShotRow]:
    """The rows of ``ncc`` with what is expected, and with bounds."""
    of_ncc = [row for row in rows if row.classifier == "ncc"]
    all_ways, all_shots = (sorted({getattr(row, name) for row in of_ncc}) for name in ("ways", "shots"))
    expected: dict[tuple[int, int], float] = {}
    reason = None
    work = (
        min(len(features), QUERIES) * len(features.classes) * all_ways[-1] * int(features.counts.max()) / all_shots[0]
    )
    if has_query_set:
        reason = "the queries are of another set"
    elif of_ncc[0].queries == "all" and len(set(features.counts.tolist())) > 1:
        reason = "where all that are left are queries, large classes weigh more"
    elif work > EXPECTED_WORK:
        reason = (
            f"it is {work:.1e} steps of work, above the limit of {EXPECTED_WORK:.0e}: nctransfer expect computes it"
        )
    else:
        found = expect(features, all_ways, all_shots, seed=of_ncc[0].seed, device=device)
        expected = {(row.ways, row.shots): row.accuracy for row in found.rows}
    undefined = {"expected_accuracy": reason} if reason else {}
    stats, why = None, "the queries are of another set"
    if not has_query_set:
        try:
            stats = ClassStatistics.of(features, device)
        except FeaturesError as error:
            why = error.message
    new = []
    for row in rows:
        if row.classifier == "ncc":
            bounds = (
                error_bounds(stats, row.ways, row.shots)
                if stats is not None
                else {name: Bound(None, why) for name in BOUNDS}
            )
            row = replace(
                row,
                expected_accuracy=expected.get((row.ways, row.shots)),
                bounds={name: one.to_dict() for name, one in bounds.items()},
                undefined=undefined | {name: one.reason for name, one in bounds.items() if one.reason},
            )
        new.append(row)
    return new


def compare_fewshot(sets: Mapping[str, FeatureSet], *args: Any, **settings: Any) -> FewShotComparison:
    """:func:`fewshot` on the same episodes of several feature sets of the same samples, and the paired differences.

    Args:
        sets: By name; the first is what the others are compared with. Samples that not all have are left out.
        args: See :func:`fewshot`.
        settings: Likewise.

    Raises:
        EpisodeError: They have no classes or samples in common; see also :func:`fewshot`.
    """
    if len(sets) < 2:
        raise EpisodeError("a comparison needs at least two sets of features")
    results = {
        name: fewshot(features, *args, **settings)
        for name, features in zip(sets, _same_samples(list(sets.values())), strict=True)
    }
    first, *others = results
    differences = []
    for name, row in ((other, row) for other in others for row in results[other].rows):
        task = (row.ways, row.shots, row.classifier)
        mean, reach = paired_difference(results[name], results[first], task, row.interval)
        differences.append(FewShotDifference(name, first, *task, mean, reach, abs(mean) > reach))
    return FewShotComparison(results, tuple(differences))


def paired_difference(
    one: FewShotResult, other: FewShotResult, task: Task, interval: Interval = "episodes"
) -> tuple[float, float]:
    """How much more accurate one set is than another on the same episodes, and half the width of its 95% interval.

    Args:
        one: Of the same samples as ``other``, drawn by the same seed.
        other: What it is compared with.
        task: Ways, shots and classifier.
        interval: What the interval is of.
    """
    values = one.accuracies[task] - other.accuracies[task]
    return float(values.mean()), half_width(values, one.drawn[task[0]], len(one.classes), interval)


def half_width(values: torch.Tensor, classes: torch.Tensor, count: int, interval: Interval) -> float:
    """Half the width of the 95% interval of a mean over episodes.

    - ``episodes``: ``1.96 s/√E``, as is customary. It shrinks with the number of episodes, whatever the data.
    - ``disjoint``: ``t_{E−1} s/√E`` of episodes that share no sample.
    - ``classes``: ``t_{C−1} se``, ``se² = (C−1)/C Σ(θ₍₋c₎ − θ̄)²``, with ``θ₍₋c₎`` the mean over the episodes without c.

    Args:
        values: Of each episode, ``(E,)``.
        classes: Codes of its classes, ``(E, w)``.
        count: The number of classes, C.
        interval: Which.
    """
    from scipy.special import stdtrit

    if interval == "classes":
        of_class, with_class = values.new_zeros(count), values.new_zeros(count)
        of_class.index_add_(0, classes.flatten(), values.repeat_interleave(classes.shape[1]))
        with_class += classes.flatten().bincount(minlength=count)
        if bool((with_class == len(values)).any()):
            raise EpisodeError(
                f"a class is in all of {len(values):,} episodes: too few for an interval over the draw of classes",
                "give more --episodes, or another --interval",
            )
        without = (values.sum() - of_class) / (len(values) - with_class)
        error = math.sqrt((count - 1) / count * float((without - without.mean()).square().sum()))
        return float(stdtrit(count - 1, 0.975)) * error
    factor = 1.96 if interval == "episodes" else float(stdtrit(len(values) - 1, 0.975))
    return factor * float(values.std()) / math.sqrt(len(values))


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
    names, _ = _chosen(classifiers, ridge_lambda, "mean")
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


def _chosen(
    classifiers: str | Sequence[str], penalty: float | Literal["loo"] | None, about: Literal["mean", "origin"]
) -> tuple[list[str], dict[str, Classifier]]:
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


def _told(progress: Callable[[str, int, int], None] | None, number: int, of: int, episodes: int, done: int) -> None:
    if progress:
        progress("episodes", number * episodes + done, of * episodes)


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


def _same_samples(sets: Sequence[FeatureSet]) -> list[FeatureSet]:
    """The samples that all sets have, by class and id."""
    import torch

    keys = [
        [(one.classes[label], key) for label, key in zip(one.labels.tolist(), one.ids, strict=True)] for one in sets
    ]
    shared = set(keys[0]).intersection(*keys[1:])
    if not shared:
        raise EpisodeError(
            "the sets have no sample in common, by class and id: they cannot be compared on the same episodes",
            "compare backbones on the same data",
        )
    order = [key for key in keys[0] if key in shared]  # that of the first: a set orders its ids by what they all are
    same: list[FeatureSet] = []
    for one, own in zip(sets, keys, strict=True):
        if left_out := len(one) - len(order):
            log.warning("%s of %s that not all sets have are left out", counted(left_out, "sample"), one.info.id)
        places = {key: row for row, key in enumerate(own)}
        rows = torch.tensor([places[key] for key in order])
        part = replace(one, features=one.features[rows], labels=one.labels[rows], ids=tuple(key for _, key in order))
        same.append(part.only_classes(part.counts.nonzero()[:, 0]))
    return same


class _Run(NamedTuple):
    """What the episodes of one task gave, by shots and classifier."""

    classes: torch.Tensor
    accuracies: dict[tuple[int, str], torch.Tensor]
    seconds: dict[tuple[int, str], float]
    gradients: dict[tuple[int, str], float]
    counts: dict[tuple[int, str], _Counts]


@dataclass(frozen=True, eq=False)
class _Runs:
    """Runs the episodes of a task, a batch at a time."""

    features: FeatureSet
    query_set: FeatureSet | None
    pool: Pool
    classifiers: Mapping[str, Classifier]
    all_shots: Sequence[int]
    episodes: int
    interval: Interval

    def __call__(self, spec: EpisodeSpec, progress: Callable[[int], None]) -> _Run:
        import torch

        keys = list(itertools.product(self.all_shots, self.classifiers))
        found: dict[tuple[int, str], list[torch.Tensor]] = {key: [] for key in keys}
        seconds = dict.fromkeys(keys, 0.0)
        gradients: dict[tuple[int, str], float] = {}
        tally = {shots: _Tally(len(self.features.classes), self.classifiers) for shots in self.all_shots}
        classes: list[torch.Tensor] = []
        done, start = 0, time.perf_counter()
        for batch in self._batches(spec):
            products = self.pool(batch)
            shared = time.perf_counter() - start
            for shots in self.all_shots:
                start = time.perf_counter()
                cut, some = products.cut(shots), batch.cut(shots)
                shared_cut = time.perf_counter() - start
                tally[shots].ask(some)
                for name, classifier in self.classifiers.items():
                    start = time.perf_counter()
                    if name == "logistic":
                        ends: list[torch.Tensor] = []
                        scores = classifier(cut, on_end=ends.append)  # type: ignore[call-arg]
                        gradients[shots, name] = max(gradients.get((shots, name), 0.0), float(ends[0].max()))
                    else:
                        scores = classifier(cut)
                    chosen = scores.argmax(dim=2).cpu()
                    found[shots, name].append(tally[shots].count(name, some, chosen))
                    seconds[shots, name] += shared + shared_cut + time.perf_counter() - start
            classes.append(batch.classes)
            done += len(batch)
            progress(done)
            start = time.perf_counter()
        progress(self.episodes)
        if done < 2:
            raise EpisodeError(
                f"the samples are enough for {counted(done, 'episode')} that {'shares' if done == 1 else 'share'} none",
                "an interval needs at least 2: give fewer --queries or --shots, or another --interval",
            )
        return _Run(
            torch.cat(classes),
            {key: torch.cat(values) for key, values in found.items()},
            seconds,
            gradients,
            {(shots, name): tally[shots].counts(name) for shots, name in keys},
        )

    def _batches(self, spec: EpisodeSpec) -> Iterator[Episodes]:
        most = int((self.query_set or self.features).counts.max())
        size = self.pool.batch(spec, spec.queries or most)
        draw = sample_disjoint if self.interval == "disjoint" else sample
        return draw(self.features, spec, self.episodes, self.query_set, size)


class _Tally:
    """Counts, over episodes of one task, which classes queries had and which they were taken for."""

    def __init__(self, classes: int, names: Iterable[str]) -> None:
        import torch

        self._classes = classes
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
        if len(self._together):
            pairs = classes[:, :, None] * self._classes + classes[:, None]  # (E, w, w)
            self._together.index_add_(0, pairs.flatten(), asked[:, :, None].expand(pairs.shape).flatten())

    def count(self, name: str, episodes: Episodes, chosen: torch.Tensor) -> torch.Tensor:
        """Count the answers ``(E, Q)``, each one of the ways; the share of them that is right, ``(E,)`` float64."""
        import torch

        ways, count = episodes.queries.shape[1:]
        truth = torch.arange(ways).repeat_interleave(count)
        right = chosen == truth
        wrong = ~right
        if episodes.is_query is None:
            shares = right.double().mean(dim=1)
        else:
            is_query = episodes.is_query.flatten(1)
            right &= is_query
            wrong &= is_query
            shares = right.sum(dim=1) / is_query.sum(dim=1).double()
        of_way = right.view(-1, ways, count).sum(dim=2)
        self._right[name].index_add_(0, episodes.classes.flatten(), of_way.flatten())
        if len(self._together):
            episode, query = wrong.nonzero(as_tuple=True)
            own = episodes.classes[episode, truth[query]]
            other = episodes.classes[episode, chosen[episode, query]]
            self._taken[name].index_add_(0, own * self._classes + other, torch.ones_like(own))
        return shares

    def counts(self, name: str) -> _Counts:
        """What was counted of one classifier."""
        shape = (self._classes, self._classes)
        pairs = (self._together.view(shape), self._taken[name].view(shape)) if len(self._together) else (None, None)
        return _Counts(self._asked, self._right[name], *pairs)

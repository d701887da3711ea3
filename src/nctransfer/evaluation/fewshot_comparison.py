"""Several feature sets on the same episodes, and their paired differences."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nctransfer.episodes.query_prior import BALANCED
from nctransfer.errors import EpisodeError, SettingError, counted
from nctransfer.evaluation.equal_episodes import drawn_by_task, with_equal_episodes
from nctransfer.evaluation.fewshot_accuracy import run_fewshot
from nctransfer.evaluation.fewshot_task import Contender, FewShotTask
from nctransfer.evaluation.multiple_comparisons import compare_with_best, compare_with_first
from nctransfer.evaluation.spread import spread_of
from nctransfer.notebook import ShownInNotebooks

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from nctransfer.evaluation.fewshot_accuracy import Progress
    from nctransfer.evaluation.fewshot_results import FewShotResult, RowKey
    from nctransfer.evaluation.fewshot_task import Number
    from nctransfer.evaluation.multiple_comparisons import Difference, Verdict
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.intervals import Interval

__all__ = [
    "FewShotComparison",
    "FewShotDifference",
    "PossibleBests",
    "compare_fewshot",
    "differences_to_first",
    "find_possible_bests",
    "run_comparison",
    "same_samples",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FewShotDifference:
    """How much more accurate one set is than the first, on the same episodes.

    Attributes:
        name: The set.
        first: The set that it is compared with.
        ways: Classes per episode.
        shots: Support samples per class.
        classifier: The name of the classifier.
        query_prior: How queries are spread over the classes.
        difference: The mean over episodes of the accuracy minus that of the first.
        interval: The 95% interval of the difference over the population. The intervals of all sets hold together.
            ``None`` if there is none.
        population: What the interval and the verdict are about: ``samples``, other images of these classes, or
            ``classes``, other classes of this kind.
        verdict: ``better`` or ``worse`` if the interval excludes zero, else ``not told apart``; ``None`` without an
            interval.
        reason: Why there is no interval.
    """

    name: str
    first: str
    ways: int
    shots: int
    classifier: str
    query_prior: str = BALANCED
    difference: float
    interval: tuple[float, float] | None
    population: Interval
    verdict: Verdict | None
    reason: str | None = None

    @property
    def key(self) -> RowKey:
        """The key of the rows that are compared: ways, shots and label."""
        return (self.ways, self.shots, Contender(self.classifier, self.query_prior).label)


@dataclass(frozen=True, kw_only=True)
class PossibleBests:
    """The sets that may be the most accurate of all: the best is among them in at least 95% of studies.

    Attributes:
        ways: Classes per episode.
        shots: Support samples per class.
        classifier: The name of the classifier.
        query_prior: How queries are spread over the classes.
        population: What this is about: ``samples``, other images of these classes, or ``classes``, other classes of
            this kind.
        names: The sets, the most accurate first; ``None`` if nothing can be said.
        reason: Why nothing can be said.
    """

    ways: int
    shots: int
    classifier: str
    query_prior: str = BALANCED
    population: Interval
    names: tuple[str, ...] | None
    reason: str | None = None

    @property
    def key(self) -> RowKey:
        """The key of the rows that are compared: ways, shots and label."""
        return (self.ways, self.shots, Contender(self.classifier, self.query_prior).label)


@dataclass(frozen=True, kw_only=True)
class FewShotComparison(ShownInNotebooks):
    """Several feature sets of the same samples, on the same episodes.

    Attributes:
        results: The result of each set, by name.
        differences: The paired difference of each set but the first to the first, for each row.
        possible_bests: The sets that may be the most accurate, for each row.
        warnings: What weakens a conclusion from the differences.
    """

    results: Mapping[str, FewShotResult]
    differences: tuple[FewShotDifference, ...]
    possible_bests: tuple[PossibleBests, ...]
    warnings: tuple[str, ...] = ()

    def to_dict(self, confusions: int | None = 5) -> dict[str, Any]:
        """The comparison as a dictionary for JSON.

        Args:
            confusions: How many of the most confused pairs each row lists; ``None`` for all.
        """
        return {
            "sets": [{"name": name, **result.to_dict(confusions)} for name, result in self.results.items()],
            "differences": [asdict(one) for one in self.differences],
            "possible_bests": [asdict(one) for one in self.possible_bests],
            "warnings": list(self.warnings),
        }

    def to_frame(self) -> pd.DataFrame:
        """The rows of every set; the column ``set`` names it."""
        import pandas as pd

        return pd.DataFrame([{"set": name, **row.to_row()} for name, one in self.results.items() for row in one.rows])

    def episodes_table(self) -> pa.Table:
        """The episodes of every set, see :meth:`FewShotResult.episodes_table`; the column ``set`` names it."""
        import pyarrow as pa

        tables = {name: result.episodes_table() for name, result in self.results.items()}
        return pa.concat_tables(
            [table.add_column(0, "set", pa.repeat(name, len(table))) for name, table in tables.items()]
        )


def compare_fewshot(
    sets: Mapping[str, FeatureSet],
    ways: Number | Sequence[Number] = 5,
    shots: int | Sequence[int] = 1,
    *,
    device: str = "auto",
    progress: Progress | None = None,
    **settings: Any,
) -> FewShotComparison:
    """Several feature sets of the same samples on the same episodes, their paired differences, and the possible bests.

    Args:
        sets: The feature sets by name; the others are compared with the first. Samples that not all sets have are left
            out.
        ways: Classes per episode; one number or several; ``all`` for every class.
        shots: Support samples per class; one number or several, on the same episodes.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.
        settings: Further settings of :class:`~nctransfer.evaluation.fewshot_task.FewShotTask`.

    Raises:
        EpisodeError: The sets have no classes or samples in common, or too few for the task.
        SettingError: There is one set only.
    """
    return run_comparison(sets, FewShotTask(ways=ways, shots=shots, **settings), device=device, progress=progress)


def run_comparison(
    sets: Mapping[str, FeatureSet], task: FewShotTask, *, device: str = "auto", progress: Progress | None = None
) -> FewShotComparison:
    """:func:`compare_fewshot` with a task that was made before.

    Args:
        sets: The feature sets by name.
        task: The task.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        EpisodeError: The sets have no classes or samples in common, or too few for the task.
        SettingError: There is one set only.
    """
    if len(sets) < 2:
        raise SettingError(
            f"a comparison needs at least two sets of features; {len(sets)} was given", "give another set"
        )
    same = same_samples(list(sets.values()))
    warnings = tuple(_other_images(list(sets), same))
    for warning in warnings:
        log.warning("%s", warning)
    run = functools.partial(run_fewshot, task=task, device=device, for_comparison=True, progress=progress)
    found: list[FewShotResult] = []
    for features in same:
        found.append(run(features, at_least=drawn_by_task(found)))
    found = with_equal_episodes(
        found, lambda place, before, at_least: run(same[place], at_least=at_least, before=before)
    )
    results = dict(zip(sets, found, strict=True))
    keys = [row.key for row in next(iter(results.values())).rows]
    return FewShotComparison(
        results=results,
        differences=tuple(one for key in keys for one in differences_to_first(results, key)),
        possible_bests=tuple(find_possible_bests(results, key) for key in keys),
        warnings=warnings,
    )


def differences_to_first(results: Mapping[str, FewShotResult], key: RowKey) -> tuple[FewShotDifference, ...]:
    """The paired difference of each result to the first, on one task.

    Args:
        results: Results on the same samples, drawn with the same seed, by name.
        key: The key of a row: ways, shots and label.
    """
    population = next(iter(results.values())).populations[key[0]]
    means = [float(one.accuracies[key].mean()) for one in results.values()]
    first, *others = results
    about: dict[str, Any] = {"first": first, **results[first].about(key)}
    found: Sequence[Difference | None]
    try:
        found, reason = compare_with_first(means, spread_of(list(results.values()), key, population)), None
    except EpisodeError as error:
        found, reason = [None] * len(others), error.message
    return tuple(
        FewShotDifference(
            name=name,
            difference=mean - means[0],
            interval=(one.low, one.high) if one else None,
            population=population,
            verdict=one.verdict if one else None,
            reason=reason,
            **about,
        )
        for name, mean, one in zip(others, means[1:], found, strict=True)
    )


def find_possible_bests(results: Mapping[str, FewShotResult], key: RowKey) -> PossibleBests:
    """Which results may be the most accurate on one task.

    Args:
        results: Results on the same samples, drawn with the same seed, by name.
        key: The key of a row: ways, shots and label.
    """
    population = next(iter(results.values())).populations[key[0]]
    about: dict[str, Any] = {"population": population, **next(iter(results.values())).about(key)}
    means = {name: float(one.accuracies[key].mean()) for name, one in results.items()}
    try:
        found = compare_with_best(list(means.values()), spread_of(list(results.values()), key, population))
    except EpisodeError as error:
        return PossibleBests(names=None, reason=error.message, **about)
    possible = [name for name, one in zip(results, found, strict=True) if one.is_possible]
    return PossibleBests(names=tuple(sorted(possible, key=lambda name: -means[name])), **about)


def _other_images(names: Sequence[str], same: Sequence[FeatureSet]) -> Iterator[str]:
    """A warning for each set that has other images than the first under the same names, as far as images are known."""
    first = same[0].images
    for name, one in zip(names[1:], same[1:], strict=True):
        if first is not None and one.images is not None and (count := int((one.images != first).sum())):
            yield (
                f"{name} has other images than {names[0]} under the same class and name for {count:,} of "
                f"{counted(len(one), 'sample')}: their difference is not due to the backbone alone"
            )


def same_samples(sets: Sequence[FeatureSet]) -> list[FeatureSet]:
    """The samples that all sets have, matched by class and id."""
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
    order = [
        key for key in keys[0] if key in shared
    ]  # the order of the first set, as another set may sort its ids otherwise
    same: list[FeatureSet] = []
    for one, own in zip(sets, keys, strict=True):
        if left_out := len(one) - len(order):
            verb = "is" if left_out == 1 else "are"
            log.warning("%s of %s that not all sets have %s left out", counted(left_out, "sample"), one.info.id, verb)
        places = {key: row for row, key in enumerate(own)}
        rows = torch.tensor([places[key] for key in order])
        part = one.only_rows(rows)
        same.append(part.only_classes(part.counts.nonzero()[:, 0]))
    return same

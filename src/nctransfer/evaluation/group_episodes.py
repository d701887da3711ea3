"""Few-shot accuracy by group: the same episodes as always, with right answers counted by the group of the query."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.episodes.classifier import RIDGE_LAMBDA
from nctransfer.episodes.groups import Groups
from nctransfer.episodes.leaving_out import TENTHS, tenths, with_shots, without
from nctransfer.episodes.pool import Pool, prepared
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.episodes.sampling import sample
from nctransfer.errors import SettingError
from nctransfer.evaluation.episode_runs import left_out_episodes, stopping_rule
from nctransfer.evaluation.fewshot_plan import plan_episodes
from nctransfer.evaluation.fewshot_task import FewShotTask, only_balanced
from nctransfer.evaluation.group_counts import GroupTally, LeftOutCells
from nctransfer.evaluation.group_results import GroupResult, GroupRow
from nctransfer.evaluation.group_verdicts import find_groups
from nctransfer.evaluation.leaks import Leaks
from nctransfer.evaluation.stopping import PRECISION, half_width, sizes
from nctransfer.evaluation.tally import is_right

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.classifier import ClassifierSettings, RidgePenalty
    from nctransfer.episodes.episode import EpisodeSpec
    from nctransfer.evaluation.fewshot_plan import Plan
    from nctransfer.evaluation.fewshot_task import Number
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.intervals import Interval

__all__ = ["by_group_task", "fewshot_by_group", "run_by_group"]

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
Key = tuple[int, str]  # shots, classifier


def fewshot_by_group(
    features: FeatureSet,
    column: str,
    ways: Number | Sequence[Number] = 5,
    shots: int | Sequence[int] = 1,
    *,
    queries: Number = 15,
    episodes: int = 10_000,
    precision: float = PRECISION,
    classifiers: str | Sequence[str] = ("ridge", "ncc"),
    seed: int = 0,
    device: str = "auto",
    query_set: FeatureSet | None = None,
    center_on: FeatureSet | None = None,
    l2_normalise: bool = False,
    ridge_lambda: RidgePenalty = RIDGE_LAMBDA,
    interval: Interval = "episodes",
    drop_small: bool = False,
    progress: Progress | None = None,
) -> GroupResult:
    """n-way k-shot accuracy by group of the query: site, camera, scanner.

    The episodes are those of :func:`~nctransfer.fewshot`, so that the accuracy over all groups is the same. A group may
    have other classes than the others, which are easier or harder: the difference to the other groups is on the same
    classes. The worst group and the gap have intervals that account for having picked the worst of many.

    Args:
        features: The feature set, with the attribute; it is also that of the queries, unless there is a query set.
        column: The attribute that names the group of each sample, or several that commas separate.
        ways: Classes per episode; one number or several; ``all`` for every class.
        shots: Support samples per class; one number or several, on the same episodes.
        queries: Query samples per class; ``all`` for every sample that is not in the support.
        episodes: Episodes per number of ways, at most.
        precision: No more episodes are drawn once the half-width of the 95% interval over episodes is below so many
            percentage points for every row of a number of ways; 0 never stops early.
        classifiers: Names from :data:`~nctransfer.episodes.registry.CLASSIFIERS`, or ``all``.
        seed: The seed of the episodes.
        device: Where to compute, see :func:`~nctransfer.devices.with_float64`.
        query_set: Where the queries come from, if not from the features: other samples of the same classes.
        center_on: A set whose mean is subtracted from all features first.
        l2_normalise: Scale features to unit length, after the mean was subtracted.
        ridge_lambda: The penalty of ``ridge``, see :func:`~nctransfer.episodes.ridge.ridge`.
        interval: What the interval of each group refers to, see :data:`~nctransfer.intervals.INTERVALS`. Verdicts are
            about other classes or other images if it is ``episodes``, as those of :func:`~nctransfer.compare_fewshot`.
        drop_small: Leave out classes with too few samples; otherwise they are an error.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        FeaturesError: There is no such attribute.
        EpisodeError: There are fewer than two groups, or too few classes or samples for the task.
        SettingError: A number is too small, or a name is unknown.

    >>> import numpy as np
    >>> from nctransfer.features.feature_set import FeatureSet
    >>> values = np.repeat([0.0, 1.0], 20)
    >>> values[::2] = values[::-2]  # camera "old" shows the classes the wrong way round
    >>> cameras = ["old", "new"] * 20
    >>> pair = FeatureSet.from_arrays(values[:, None], "a" * 20 + "b" * 20, attributes={"camera": cameras})
    >>> found = fewshot_by_group(pair, "camera", 2, 5, queries=10, episodes=50, classifiers="ncc", device="cpu")
    >>> tuple(group.name for group in found.rows[0].groups)
    ('new', 'old')
    """
    task = FewShotTask(
        ways=ways,
        shots=shots,
        queries=queries,
        episodes=episodes,
        precision=precision,
        classifiers=classifiers,
        seed=seed,
        ridge_lambda=ridge_lambda,
        l2_normalise=l2_normalise,
        interval=interval,
        drop_small=drop_small,
        theory=False,
    )
    return run_by_group(
        features, column, task, query_set=query_set, center_on=center_on, device=device, progress=progress
    )


def by_group_task(task: FewShotTask) -> FewShotTask:
    """The task with the classifiers that go with groups.

    Raises:
        SettingError: There are no accuracies by group of this task.
    """
    if task.interval == "disjoint":
        raise SettingError(
            "episodes that share no image are too few for accuracies by group", "give --interval samples or classes"
        )
    return only_balanced(task, "accuracy by group")


def run_by_group(
    features: FeatureSet,
    column: str,
    task: FewShotTask,
    *,
    query_set: FeatureSet | None = None,
    center_on: FeatureSet | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> GroupResult:
    """:func:`fewshot_by_group` with a task that was made before.

    Args:
        features: The feature set.
        column: The attribute that says the group of each query.
        task: The task.
        query_set: Where the queries come from, if not from the features: other samples of the same classes.
        center_on: A set whose mean is subtracted from all features first.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        EpisodeError: There are too few classes or samples for the task.
        FeaturesError: The features have no such attribute.
        SettingError: There is no accuracy by group of this task.
    """
    task = by_group_task(task)
    plan = plan_episodes(task, features, query_set)
    leaks = Leaks.of(plan.features, plan.query_set)
    for warning in leaks.warnings():
        log.warning("%s", warning)
    asked = plan.features if plan.query_set is None else plan.query_set
    groups = Groups.of(asked, column)
    run = _Runs(
        plan=plan,
        groups=_behind(groups, len(plan.features) if plan.query_set is not None else 0),
        pool=Pool(prepared(plan.features, plan.query_set, center_on, task.l2_normalise), device),
        settings=task.classifier_settings(has_reference_mean=center_on is not None),
        progress=progress,
    )
    run.pool.prepare(plan.specs, task.episodes, int(asked.counts.max()))
    cells = groups.cells(asked)
    rows = tuple(row for spec in plan.specs for row in run.rows(spec, cells))
    return GroupResult(
        features=features.describe(),
        column=column,
        rows=rows,
        task=task,
        without_group=float((groups.codes == len(groups)).double().mean()),
        dropped=plan.dropped,
        query_set=None if query_set is None else query_set.describe(),
        warnings=leaks.warnings(),
    )


def _behind(groups: Groups, rows: int) -> Groups:
    """The groups of a query set, whose rows follow those of the support in a pool."""
    import torch

    codes = torch.cat([groups.codes.new_full((rows,), len(groups)), groups.codes])
    return Groups(column=groups.column, names=groups.names, codes=codes)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Runs:
    """Runs the episodes of one plan.

    Attributes:
        plan: The task on its feature set.
        groups: The group of each row of the pool.
        pool: The inner products of the features.
        settings: What the classifiers need to know of the task.
        progress: Called as ``progress(stage, done, total)``.
    """

    plan: Plan
    groups: Groups
    pool: Pool
    settings: ClassifierSettings
    progress: Progress | None = None

    def rows(self, spec: EpisodeSpec, cells: torch.Tensor) -> Iterator[GroupRow]:
        """The rows of one number of ways.

        Args:
            spec: The episodes.
            cells: The number of images of each class and group, ``(C, G)``.
        """
        task = self.plan.task
        population = self.plan.population(spec.ways)
        tallies = self._tallies(spec)
        for (shots, name), tally in tallies.items():
            about, interval = self._possible(spec, shots, population), task.interval
            left_out = None
            if "samples" in (about, interval) and not self._impossible(spec, shots, "samples"):
                left_out = self._left_out(spec, shots, name)
            counts, reasons = tally.counts(), {}
            if reason := self._impossible(spec, shots, interval):
                reasons["ci95"], interval = reason, "episodes"
            found = find_groups(counts, self.groups.names, cells, interval, about, left_out)
            yield GroupRow(
                ways=spec.ways,
                shots=shots,
                queries=task.queries,
                episodes=len(counts.accuracies),
                classifier=name,
                seed=task.seed,
                accuracy=float(counts.accuracies.mean()),
                ci95=half_width(counts.accuracies),
                interval=interval,
                groups=found.groups,
                worst=found.worst,
                undefined=reasons | found.undefined,
            )

    def _impossible(self, spec: EpisodeSpec, shots: int, interval: Interval) -> str | None:
        return self.plan.impossible.get((spec.ways, shots, interval))

    def _possible(self, spec: EpisodeSpec, shots: int, population: Interval) -> Interval | str:
        """The population of verdicts, or why there are none."""
        return self._impossible(spec, shots, population) or population

    def _tallies(self, spec: EpisodeSpec) -> dict[Key, GroupTally]:
        task, plan = self.plan.task, self.plan
        classes = len(plan.features.classes)
        keys = itertools.product(task.shots, task.classifiers)
        tallies = {key: GroupTally(classes, self.groups) for key in keys}
        ends = () if task.precision == 0 else tuple(sizes(task.episodes))
        rule, done = stopping_rule(plan, spec, task.interval), 0
        most = self._batch_size(spec)
        for batch in sample(plan.features, spec, task.episodes, plan.query_set, most, ends=ends):
            products = self.pool(batch)
            for shots in task.shots:
                some, part = products.cut(shots), batch.cut(shots)
                for name in task.classifiers:
                    chosen = CLASSIFIERS[name].scores(some, self.settings).max(dim=2).indices.cpu()
                    tallies[shots, name].add(part, is_right(part, chosen))
            done += len(batch)
            if self.progress is not None:
                self.progress("episodes", done, task.episodes)
            if done in ends and rule.is_met(tally.accuracies for tally in tallies.values()):
                break
        return tallies

    def _batch_size(self, spec: EpisodeSpec) -> int:
        most = int((self.plan.query_set or self.plan.features).counts.max())
        return self.pool.batch(spec, spec.queries or most)

    def _left_out(self, spec: EpisodeSpec, shots: int, name: str) -> LeftOutCells:
        """The counts of the first episodes without each tenth of the images."""
        import torch

        plan = self.plan
        tenth = tenths(plan.features, plan.query_set, plan.task.seed)
        episodes = left_out_episodes(plan, spec)
        tallies = [GroupTally(len(plan.features.classes), self.groups) for _ in range(TENTHS)]
        most, done = self._batch_size(spec), 0
        for batch in sample(plan.features, spec, episodes, plan.query_set, most, with_spare=True):
            for number, tally in enumerate(tallies):
                part = without(with_shots(batch, shots), tenth == number)
                part = part if part.is_query is None else part.cut(shots)
                chosen = CLASSIFIERS[name].scores(self.pool(part), self.settings).max(dim=2).indices.cpu()
                tally.add(part, is_right(part, chosen))
            done += len(batch)
            if self.progress is not None:
                self.progress("leaving out images", done, episodes)
        right, asked = torch.stack([tally.cells() for tally in tallies], dim=1)
        return LeftOutCells(right=right, asked=asked)

"""Few-shot accuracy on new groups: support and queries are of different sites, cameras or scanners."""

from __future__ import annotations

import functools
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from nctransfer.episodes.across_groups import BLOCK, AcrossDraws, AcrossPlan, check_classes, draw_across, unfit_classes
from nctransfer.episodes.classifier import RIDGE_LAMBDA
from nctransfer.episodes.groups import Groups
from nctransfer.episodes.pool import Pool, prepared
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.errors import EpisodeError, SettingError, counted, join_names
from nctransfer.evaluation.fewshot_task import FewShotTask, only_balanced
from nctransfer.evaluation.group_counts import GroupCounts, GroupTally, class_jackknife
from nctransfer.evaluation.group_jackknife import GroupJackknife
from nctransfer.evaluation.group_results import AcrossResult, AcrossRow, Shift
from nctransfer.evaluation.group_verdicts import find_groups
from nctransfer.evaluation.leaks import Leaks
from nctransfer.evaluation.multiple_comparisons import Difference
from nctransfer.evaluation.spread import Spread
from nctransfer.evaluation.stopping import PRECISION, StoppingRule, half_width, inflation, sizes
from nctransfer.evaluation.tally import is_right, share_right
from nctransfer.intervals import t_quantile

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.classifier import ClassifierSettings, RidgePenalty
    from nctransfer.episodes.episode import Episodes, EpisodeSpec
    from nctransfer.evaluation.fewshot_task import Number
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["across_groups_task", "fewshot_across_groups", "run_across_groups"]

log = logging.getLogger(__name__)

MOST_NUMBERS = 4 * 10**6  # of random orders in a batch of episodes
ACROSS, REFERENCES = "across", ("mixed", "same")

Progress = Callable[[str, int, int], None]
Key = tuple[int, str]  # shots, classifier


def fewshot_across_groups(
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
    center_on: FeatureSet | None = None,
    l2_normalise: bool = False,
    ridge_lambda: RidgePenalty = RIDGE_LAMBDA,
    interval: Literal["episodes", "classes"] = "episodes",
    drop_small: bool = False,
    progress: Progress | None = None,
) -> AcrossResult:
    """n-way k-shot accuracy on a new site, camera or scanner: one of which no labelled example is in the support.

    In each episode all queries are of one group, and the support is of the others, see
    :mod:`~nctransfer.episodes.across_groups`. The same queries are also classified with a support drawn from all groups
    (``mixed``) and from their own group (``same``), so that the *shift* is a paired difference. With three groups or
    more, intervals are over other groups of this kind (delete-one-group jackknife): the site is what is drawn anew.

    Args:
        features: The feature set, with the attribute. Samples without a group are left out.
        column: The attribute that names the group of each sample, or several that commas separate.
        ways: Classes per episode; one number or several; ``all`` for every class.
        shots: Support samples per class; one number or several, on the same queries.
        queries: Query samples per class, at most; ``all`` for all of the group. A group with fewer gives fewer.
        episodes: Episodes per number of ways, at most.
        precision: No more episodes are drawn once the half-width of the 95% interval over episodes is below so many
            percentage points for every row of a number of ways; 0 never stops early.
        classifiers: Names from :data:`~nctransfer.episodes.registry.CLASSIFIERS`, or ``all``.
        seed: The seed of the episodes.
        device: Where to compute, see :func:`~nctransfer.devices.with_float64`.
        center_on: A set whose mean is subtracted from all features first.
        l2_normalise: Scale features to unit length, after the mean was subtracted.
        ridge_lambda: The penalty of ``ridge``, see :func:`~nctransfer.episodes.ridge.ridge`.
        interval: What the ± of an accuracy refers to: ``episodes`` or ``classes``.
        drop_small: Leave out classes that one group alone has, or whose groups have too few samples; otherwise they are
            an error.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        FeaturesError: There is no such attribute.
        EpisodeError: There are fewer than two groups, a class cannot be asked on a new group, or no two groups have
            enough classes.
        SettingError: A number is too small, a name is unknown, or the interval is another.

    >>> import numpy as np
    >>> from nctransfer.features.feature_set import FeatureSet
    >>> values = np.repeat([0.0, 1.0], 20) + 10 * (np.arange(40) % 2)  # camera "new" is brighter by 10
    >>> cameras = ["old", "new"] * 20
    >>> pair = FeatureSet.from_arrays(values[:, None], "a" * 20 + "b" * 20, attributes={"camera": cameras})
    >>> found = fewshot_across_groups(pair, "camera", 2, 3, queries=5, episodes=64, classifiers="ncc", device="cpu")
    >>> found.rows[0].accuracy, dict(found.rows[0].references)["same"]
    (0.5, 1.0)
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
    return run_across_groups(features, column, task, center_on=center_on, device=device, progress=progress)


def across_groups_task(task: FewShotTask) -> FewShotTask:
    """The task with the classifiers that go with new groups.

    Raises:
        SettingError: There is no accuracy on new groups of this task.
    """
    if task.interval not in ("episodes", "classes"):
        raise SettingError(
            f"accuracies across groups have no interval over {task.interval}",
            "give --interval episodes or classes; the interval over other groups stands beside it",
        )
    return only_balanced(task, "accuracy across groups")


def run_across_groups(
    features: FeatureSet,
    column: str,
    task: FewShotTask,
    *,
    center_on: FeatureSet | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> AcrossResult:
    """:func:`fewshot_across_groups` with a task that was made before; see there for arguments and errors."""
    task = across_groups_task(task)
    given, groups = _grouped(features, column)
    given, groups, dropped = _fitting(given, groups, task)
    count = len(given.classes)
    specs = [task.spec(size) for size in sorted({count if ways == "all" else ways for ways in task.ways})]
    pool = Pool(prepared(given, None, center_on, task.l2_normalise), device)
    plans = [AcrossPlan.of(given, groups, spec) for spec in specs]
    unasked = (words for spec, plan in zip(specs, plans, strict=True) for words in plan.never_asked(given, spec))
    warnings = (*Leaks.of(given).warnings(), *unasked)
    for warning in warnings:
        log.warning("%s", warning)
    pool.prepare(specs, (1 + len(REFERENCES)) * task.episodes, int(given.counts.max()))
    rows: list[AcrossRow] = []
    for spec, plan in zip(specs, plans, strict=True):
        run = _Runs(
            features=given,
            task=task,
            spec=spec,
            plan=plan,
            pool=pool,
            settings=task.classifier_settings(has_reference_mean=center_on is not None),
            progress=progress,
        )
        rows += run.rows()
    return AcrossResult(
        features=given.describe(),
        column=column,
        rows=tuple(rows),
        task=task,
        without_group=1 - len(_grouped(features, column)[0]) / len(features),
        dropped=dropped,
        query_groups={
            spec.ways: tuple(groups.names[place] for place in plan.query_groups.tolist())
            for spec, plan in zip(specs, plans, strict=True)
        },
        asked_classes={spec.ways: int(plan.classes_asked.sum()) for spec, plan in zip(specs, plans, strict=True)},
        warnings=warnings,
    )


def _grouped(features: FeatureSet, column: str) -> tuple[FeatureSet, Groups]:
    """The samples that have a group."""
    groups = Groups.of(features, column)
    rows = (groups.codes < len(groups)).nonzero()[:, 0]
    return features.only_rows(rows), replace(groups, codes=groups.codes[rows])


def _fitting(features: FeatureSet, groups: Groups, task: FewShotTask) -> tuple[FeatureSet, Groups, tuple[str, ...]]:
    """The samples of the classes that can be asked, and the names of those that are left out."""
    import torch

    if not task.drop_small:
        return features, groups, ()
    cells = groups.cells(features)
    unfit = unfit_classes(cells, max(task.shots))
    dropped = tuple(features.classes[code] for code in unfit.nonzero()[:, 0].tolist())
    codes = (~unfit).nonzero()[:, 0]
    if len(codes) < 2:
        check_classes(features, groups, cells, max(task.shots))
        raise EpisodeError(
            f"{counted(len(codes), 'class', 'classes')} can be asked on a new group; a task needs two or more",
            "give fewer shots, or data in which several groups have each class",
        )
    if dropped:
        log.warning(
            "%s left out, which too few groups have: %s",
            counted(len(dropped), "class", "classes"),
            join_names([repr(name) for name in dropped]),
        )
    kept = torch.isin(features.labels, codes)
    return features.only_classes(codes), replace(groups, codes=groups.codes[kept]), dropped


@dataclass(frozen=True, kw_only=True, eq=False)
class _Runs:
    """Runs the episodes of one number of ways.

    Attributes:
        features: The samples that take part; every one has a group.
        task: What was asked for.
        spec: The episodes, with the largest number of shots.
        plan: What can be drawn.
        pool: The inner products of the features.
        settings: What the classifiers need to know of the task.
        progress: Called as ``progress(stage, done, total)``.
    """

    features: FeatureSet
    task: FewShotTask
    spec: EpisodeSpec
    plan: AcrossPlan
    pool: Pool
    settings: ClassifierSettings
    progress: Progress | None = None

    @property
    def classes_asked(self) -> int:
        """The number of classes that take part in episodes."""
        return int(self.plan.classes_asked.sum())

    @property
    def rules(self) -> tuple[str, ...]:
        """From where the support is drawn; the first is the one that is asked about."""
        return (ACROSS, *REFERENCES) if self.plan.is_paired else (ACROSS,)

    def rows(self) -> list[AcrossRow]:
        """One row for each number of shots and classifier."""
        counts, of_group = self._counts()
        jackknife = GroupJackknife(plan=self.plan, spec=self.spec, rules=self.rules)
        reason = jackknife.impossible
        changes = {}
        if reason is None:
            draws = functools.partial(self._draws, jackknife.episodes(self.task.episodes))
            changes = jackknife.changes(draws, self.right_shares, self.progress)
        found = []
        for key in itertools.product(self.task.shots, self.task.classifiers):
            ours = {rule: counts[rule][key] for rule in self.rules}
            spread = None if reason else jackknife.spread(ours, of_group, changes[key])
            found.append(self._row(key, ours, spread, reason))
        return found

    def right_shares(self, draws: AcrossDraws, allowed: torch.Tensor) -> dict[Key, torch.Tensor]:
        """The accuracy of each episode with a support of the images that are allowed, by shots and classifier."""
        found = self._right(draws, allowed)
        return {key: share_right(part, right) for key, (part, right) in found.items()}

    def _right(self, draws: AcrossDraws, allowed: torch.Tensor) -> dict[Key, tuple[Episodes, torch.Tensor]]:
        """Which queries are right, by shots and classifier."""
        batch = draws.episodes(allowed, self.spec.shots)
        products = self.pool(batch)
        found = {}
        for shots in self.task.shots:
            part, some = batch.cut(shots), products.cut(shots)
            for name in self.task.classifiers:
                chosen = CLASSIFIERS[name].scores(some, self.settings).max(dim=2).indices.cpu()
                found[shots, name] = part, is_right(part, chosen)
        return found

    def _draws(self, episodes: int, ends: Sequence[int] = ()) -> Iterator[AcrossDraws]:
        most = int(self.features.counts.max())
        size = min(self.pool.batch(self.spec, self.spec.queries or most), MOST_NUMBERS // (self.spec.ways * most))
        return draw_across(self.features, self.plan, self.spec, episodes, max(1, size), ends=ends)

    def _counts(self) -> tuple[dict[str, dict[Key, GroupCounts]], torch.Tensor]:
        """What happened by rule, shots and classifier; and the group of each episode, ``(E,)``."""
        import torch

        keys = list(itertools.product(self.task.shots, self.task.classifiers))
        classes = len(self.features.classes)
        tallies = {rule: {key: GroupTally(classes, self.plan.groups) for key in keys} for rule in self.rules}
        times = inflation(self.spec.ways, self.classes_asked, self.task.interval)
        rule = StoppingRule(precision=self.task.precision, inflation=times, ways=self.spec.ways)
        ends = [-(-size // BLOCK) * BLOCK for size in sizes(self.task.episodes) if self.task.precision]
        of_group: list[torch.Tensor] = []
        done = 0
        for draws in self._draws(self.task.episodes, ends):
            for name in self.rules:
                for key, (part, right) in self._right(draws, draws.of_rule(name)).items():
                    tallies[name][key].add(part, right)
            of_group.append(draws.group)
            done += len(draws)
            if self.progress is not None:
                self.progress("episodes", done, self.task.episodes)
            if done in ends and rule.is_met(tally.accuracies for tally in tallies[ACROSS].values()):
                break
        found = {name: {key: tally.counts() for key, tally in ones.items()} for name, ones in tallies.items()}
        return found, torch.cat(of_group)

    def _row(
        self, key: Key, counts: Mapping[str, GroupCounts], over_groups: Spread | None, reason: str | None
    ) -> AcrossRow:
        count, ways, task = self.classes_asked, self.spec.ways, self.task
        no_classes = f"an interval over other classes needs two classes more than ways, and {count} classes are asked"
        over_classes = _over_classes(counts, self.plan.classes_asked) if ways <= count - 2 else None
        values = [float(one.accuracies.mean()) for one in counts.values()]
        undefined = {"over_groups": reason} if reason else {}
        interval = task.interval
        if interval == "classes" and over_classes is None:
            undefined["ci95"], interval = no_classes, "episodes"
        ci95 = half_width(counts[ACROSS].accuracies)
        if interval == "classes" and over_classes is not None:
            ci95 = float(over_classes.half_widths()[0])
        if not self.plan.is_paired:
            undefined["references"] = (
                f"no two groups have {self.spec.shots + 1} images of {ways} classes, so that a support of the same "
                "group cannot be drawn beside the queries"
            )
        groups = self.plan.groups
        about = no_classes if over_classes is None else "classes"
        found = find_groups(counts[ACROSS], groups.names, self.plan.asked, interval, about)
        return AcrossRow(
            ways=ways,
            shots=key[0],
            queries=task.queries,
            episodes=len(counts[ACROSS].accuracies),
            classifier=key[1],
            seed=task.seed,
            accuracy=values[0],
            ci95=ci95,
            interval=interval,
            over_groups=None if over_groups is None else _clipped(values[0], float(over_groups.half_widths()[0])),
            references=dict(zip(self.rules[1:], values[1:], strict=True)),
            shifts=_shifts(self.rules, values, over_groups, over_classes),
            groups=found.groups,
            worst=found.worst,
            undefined=undefined | found.undefined,
        )


def _over_classes(counts: Mapping[str, GroupCounts], is_asked: torch.Tensor) -> Spread:
    """How the accuracies of all rules vary together over other classes."""
    import torch

    values = torch.stack([one.accuracies for one in counts.values()], dim=1)  # (E, K)
    classes = next(iter(counts.values())).classes
    vectors = class_jackknife(values, torch.ones_like(values), classes, is_asked)
    return Spread(vectors=vectors, degrees=len(vectors) - 1)


def _clipped(value: float, half: float) -> tuple[float, float]:
    return max(0.0, value - half), min(1.0, value + half)


def _shifts(
    rules: Sequence[str], values: Sequence[float], over_groups: Spread | None, over_classes: Spread | None
) -> dict[str, Shift]:
    """The accuracy across groups less that of each other rule: over other groups, or else over other classes."""
    found = {}
    for place, rule in enumerate(rules[1:], start=1):
        value = values[0] - values[place]
        groups, classes = (_difference(value, spread, place) for spread in (over_groups, over_classes))
        one = groups or classes
        found[rule] = Shift(
            value=value,
            interval=None if one is None else (one.low, one.high),
            verdict=None if one is None else one.verdict,
            population=None if one is None else "classes" if groups is None else "groups",
            over_classes=None if classes is None else (classes.low, classes.high),
        )
    return found


def _difference(value: float, spread: Spread | None, place: int) -> Difference | None:
    """The first accuracy less another, with its interval."""
    if spread is None:
        return None
    half = t_quantile(spread.degrees) * float(spread.errors_of_differences()[0, place])
    return Difference(value, max(-1.0, value - half), min(1.0, value + half)) if math.isfinite(half) else None

"""Few-shot accuracy on new groups: support and queries are of different sites, cameras or scanners."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from nctransfer.episodes.across_groups import AcrossPlan, check_classes, unfit_classes
from nctransfer.episodes.classifier import RIDGE_LAMBDA
from nctransfer.episodes.groups import Groups
from nctransfer.episodes.pool import Pool, prepared
from nctransfer.errors import EpisodeError, SettingError, counted, join_names
from nctransfer.evaluation.across_runs import REFERENCES, AcrossRuns
from nctransfer.evaluation.fewshot_task import FewShotTask, only_balanced
from nctransfer.evaluation.group_results import AcrossResult, AcrossRow
from nctransfer.evaluation.leaks import Leaks
from nctransfer.evaluation.stopping import PRECISION

if TYPE_CHECKING:
    from nctransfer.episodes.classifier import RidgePenalty
    from nctransfer.evaluation.fewshot_task import Number
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["across_groups_task", "fewshot_across_groups", "run_across_groups"]

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]


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
    """:func:`fewshot_across_groups` with a task that was made before.

    Args:
        features: The feature set.
        column: The attribute that says the group of each sample.
        task: The task.
        center_on: A set whose mean is subtracted from all features first.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        EpisodeError: There are too few classes, groups or samples for the task.
        FeaturesError: The features have no such attribute.
        SettingError: There is no accuracy on new groups of this task.
    """
    task = across_groups_task(task)
    given, groups = _grouped(features, column)
    without_group = 1 - len(given) / len(features)
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
        run = AcrossRuns(
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
        without_group=without_group,
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

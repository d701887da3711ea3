"""Few-shot accuracy: simple classifiers on many random episodes."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nctransfer.episodes.classifier import RIDGE_LAMBDA
from nctransfer.episodes.pool import Pool, prepared
from nctransfer.episodes.query_prior import BALANCED
from nctransfer.episodes.registry import only_centres, reported_names
from nctransfer.errors import EpisodeError, counted
from nctransfer.evaluation.episode_runs import EpisodeRuns, RunResult
from nctransfer.evaluation.fewshot_plan import plan_episodes
from nctransfer.evaluation.fewshot_results import FewShotResult, FewShotRow
from nctransfer.evaluation.fewshot_task import FewShotTask
from nctransfer.evaluation.fewshot_theory import with_theory
from nctransfer.evaluation.leaks import Leaks
from nctransfer.evaluation.spread import spread_of
from nctransfer.evaluation.stopping import PRECISION

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.classifier import RidgePenalty
    from nctransfer.episodes.episode import EpisodeSpec
    from nctransfer.evaluation.fewshot_plan import Plan
    from nctransfer.evaluation.fewshot_task import Number
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.intervals import Interval

__all__ = ["fewshot", "run_fewshot", "say_what_is_odd"]

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]


def fewshot(
    features: FeatureSet,
    ways: Number | Sequence[Number] = 5,
    shots: int | Sequence[int] = 1,
    *,
    queries: Number = 15,
    query_prior: str = BALANCED,
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
    theory: bool = True,
    progress: Progress | None = None,
) -> FewShotResult:
    """n-way k-shot accuracy of simple classifiers on frozen features.

    Args:
        features: The feature set.
        ways: Classes per episode; one number or several; ``all`` for every class.
        shots: Support samples per class; one number or several, on the same episodes.
        queries: Query samples per class, on average over the classes of an episode; ``all`` for every sample that is
            not in the support.
        query_prior: How queries are spread over the classes: ``balanced``, ``dirichlet:A`` or ``empirical``, see
            :class:`~nctransfer.episodes.query_prior.QueryPrior`. Transductive classifiers are always measured twice:
            with balanced queries, and with this prior, or with ``dirichlet:2`` if this is ``balanced``.
        episodes: Episodes per number of ways, at most.
        precision: No more episodes are drawn once the half-width of the 95% interval over episodes is below so many
            percentage points for every row of a number of ways and shots; 0 never stops early.
        classifiers: Names from :data:`~nctransfer.episodes.registry.CLASSIFIERS`, or ``all``.
        seed: The seed of the episodes. The same seed draws the same episodes for any backbone on the same data.
        device: Where to compute, see :func:`~nctransfer.devices.with_float64`.
        query_set: Where the queries come from, if not from the features: other samples of the same classes.
        center_on: A set whose mean is subtracted from all features first. It is the reference mean of ``simpleshot``,
            which otherwise takes the mean of each support.
        l2_normalise: Scale features to unit length, after the mean was subtracted.
        ridge_lambda: The penalty of ``ridge``, see :func:`~nctransfer.episodes.ridge.ridge`.
        interval: What the 95% interval refers to, see :data:`~nctransfer.intervals.INTERVALS`. With ``disjoint``, no
            two episodes share a sample, and there are as many episodes as the samples allow.
        drop_small: Leave out classes with too few samples; otherwise they are an error.
        theory: Give the expected accuracy and the bounds of the error beside the measured accuracy of ``ncc``.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        EpisodeError: The features have too few classes or samples for the task.
        SettingError: A number is too small, or a name is unknown.

    >>> import numpy as np
    >>> from nctransfer.features.feature_set import FeatureSet
    >>> line = FeatureSet.from_arrays(np.arange(6.0)[:, None] // 3 + 0.01 * np.arange(6.0)[:, None], "aaabbb")
    >>> fewshot(line, ways=2, queries=2, episodes=10, classifiers="ncc").rows[0].accuracy
    1.0
    """
    task = FewShotTask(
        ways=ways,
        shots=shots,
        queries=queries,
        query_prior=query_prior,
        episodes=episodes,
        precision=precision,
        classifiers=classifiers,
        seed=seed,
        ridge_lambda=ridge_lambda,
        l2_normalise=l2_normalise,
        interval=interval,
        drop_small=drop_small,
        theory=theory,
    )
    return run_fewshot(features, task, query_set=query_set, center_on=center_on, device=device, progress=progress)


def run_fewshot(
    features: FeatureSet,
    task: FewShotTask,
    *,
    query_set: FeatureSet | None = None,
    center_on: FeatureSet | None = None,
    device: str = "auto",
    for_comparison: bool = False,
    at_least: Mapping[tuple[int, int], int] | None = None,
    before: FewShotResult | None = None,
    progress: Progress | None = None,
) -> FewShotResult:
    """:func:`fewshot` with a task that was made before.

    Args:
        features: The feature set.
        task: The task.
        query_set: Where the queries come from, if not from the features: other samples of the same classes.
        center_on: A set whose mean is subtracted from all features first.
        device: Where to compute.
        for_comparison: Whether the result will be compared with others, which needs more than its own interval does.
        at_least: The number of episodes to draw before drawing may stop early, by ways and shots.
        before: The result of the same call with fewer episodes, which is continued.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        EpisodeError: The features have too few classes or samples for the task.
    """
    plan = plan_episodes(task, features, query_set)
    leaks = Leaks.of(plan.features, plan.query_set)
    for warning in leaks.warnings():
        log.warning("%s", warning)
    rows_of_pool = prepared(plan.features, plan.query_set, center_on, task.l2_normalise)
    runs = EpisodeRuns(
        plan=plan,
        pool=_pool(plan, rows_of_pool, device),
        settings=task.classifier_settings(has_reference_mean=center_on is not None),
        for_comparison=for_comparison,
        progress=progress,
    )
    found: dict[int, RunResult] = {}
    for number, spec in enumerate(plan.specs):
        tell = functools.partial(_tell, progress, number, len(plan.specs), task.episodes)
        drawn = RunResult.of(before, spec.ways) if before is not None else None
        wanted = {shots: count for (ways, shots), count in (at_least or {}).items() if ways == spec.ways}
        found[spec.ways] = runs(spec, tell, wanted, drawn)
        _note_fewer(task, spec.ways, len(found[spec.ways].classes))
    result = FewShotResult(
        features=features.describe(),
        rows=(),
        classes=plan.features.classes,
        task=task,
        query_set=query_set.describe() if query_set is not None else None,
        center_on=center_on.info.id if center_on is not None else None,
        dropped=plan.dropped,
        leaks=leaks,
        accuracies={(ways, *key): one for ways, run in found.items() for key, one in run.accuracies.items()},
        drawn={ways: run.classes for ways, run in found.items()},
        counts={(ways, *key): one for ways, run in found.items() for key, one in run.counts.items()},
        left_out={(ways, *key): one for ways, run in found.items() for key, one in run.left_out.items()},
        populations={ways: plan.population(ways) for ways in found},
        impossible=plan.impossible,
    )
    rows = tuple(row for spec in plan.specs for row in _rows(result, spec, found[spec.ways]))
    if task.theory and before is not None:
        rows = tuple(_with_theory_of(old, new) for old, new in zip(before.rows, rows, strict=True))
    elif task.theory:
        seen = replace(plan.features, features=rows_of_pool[: len(plan.features)])
        rows = with_theory(rows, seen, plan.query_set is not None, device)
    return replace(result, rows=rows)


def _pool(plan: Plan, rows: torch.Tensor, device: str) -> Pool:
    """The inner products of the features: all at once, or of the rows of each episode, whichever is less work."""
    pool = Pool(rows, device)
    if plan.task.interval != "disjoint":
        most = int((plan.query_set or plan.features).counts.max())
        by_centres = only_centres(plan.task.classifiers)
        pool.prepare(plan.specs, plan.task.episodes, most, by_centres=by_centres)
    log.debug("inner products: %s", "all at once, looked up" if pool.has_gram else "of the rows of each episode")
    return pool


def _rows(result: FewShotResult, spec: EpisodeSpec, found: RunResult) -> list[FewShotRow]:
    """The accuracies of one number of ways, one row for each number of shots and classifier."""
    task = result.task
    nothing = dict.fromkeys(reported_names(task.classifiers))
    rows = []
    for shots, one in itertools.product(task.shots, task.contenders):
        key = (shots, one.label)
        run, values = found.runs[key], found.accuracies[key]
        try:
            half, reasons = float(spread_of([result], (spec.ways, *key), task.interval).half_widths()), {}
        except EpisodeError as error:
            half, reasons = None, {"ci95": error.message}
        rows.append(
            FewShotRow(
                ways=spec.ways,
                shots=shots,
                queries=task.queries,
                query_prior=one.query_prior,
                shortened=None if one.query_prior == BALANCED else found.counts[key].shortened / len(values),
                episodes=len(values),
                classifier=one.classifier,
                seed=task.seed,
                accuracy=float(values.mean()),
                ci95=half,
                interval=task.interval,
                std=float(values.std()),
                lowest_decile=float(values.quantile(0.1)),
                seconds=run.seconds,
                reported=nothing | run.reported,
                undefined=reasons,
            )
        )
    return rows


def _with_theory_of(old: FewShotRow, new: FewShotRow) -> FewShotRow:
    """A row with the theory of another, which stands whatever the number of episodes."""
    why = {name: reason for name, reason in old.undefined.items() if name != "ci95"}
    return replace(new, expected_accuracy=old.expected_accuracy, bounds=old.bounds, undefined=why | dict(new.undefined))


def say_what_is_odd(result: FewShotResult) -> None:
    """Log what :func:`run_fewshot` logged when it computed a result."""
    for warning in result.warnings:
        log.warning("%s", warning)
    for ways, classes in result.drawn.items():
        _note_fewer(result.task, ways, len(classes))


def _note_fewer(task: FewShotTask, ways: int, drawn: int) -> None:
    if task.interval == "disjoint" and drawn < task.episodes:
        log.warning(
            "%d-way: %s, as no two may share a sample; %s were asked for",
            ways,
            counted(drawn, "episode"),
            f"{task.episodes:,}",
        )


def _tell(progress: Progress | None, number: int, of: int, episodes: int, done: int) -> None:
    if progress:
        progress("episodes", number * episodes + done, of * episodes)

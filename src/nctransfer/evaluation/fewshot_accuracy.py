"""Few-shot accuracy: episodes times classifiers."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from nctransfer.episodes.inner_products import Pool, prepared
from nctransfer.errors import FeaturesError, counted
from nctransfer.evaluation.episode_runs import EpisodeRuns
from nctransfer.evaluation.expected_accuracy import expect
from nctransfer.evaluation.fewshot_results import FewShotResult, FewShotRow
from nctransfer.evaluation.fewshot_task import check_task, chosen_classifiers
from nctransfer.evaluation.resampled_supports import QUERIES
from nctransfer.intervals import half_width
from nctransfer.neural_collapse.bounds import BOUNDS, Bound, error_bounds
from nctransfer.neural_collapse.class_statistics import ClassStatistics

if TYPE_CHECKING:
    import torch

    from nctransfer.evaluation.fewshot_task import Number, Task
    from nctransfer.evaluation.tally import Counts
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.intervals import Interval

__all__ = ["fewshot"]

log = logging.getLogger(__name__)

EXPECTED_WORK = 1e8  # steps of the recursion of a deal, some seconds: with more there is no expected accuracy


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
        classifiers: Names from :data:`~nctransfer.episodes.registry.CLASSIFIERS`, or ``all``.
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
    names, functions = chosen_classifiers(classifiers, ridge_lambda, "origin" if center_on is not None else "mean")
    if drop_small:
        settings["dropped"] = plan.dropped
    seen = prepared(features, query_set, center_on, l2_normalise)
    pool = Pool(seen, device)
    if interval != "disjoint":
        pool.prepare(specs, episodes, int((query_set or features).counts.max()))
    log.debug("inner products: %s", "all at once, looked up" if pool.has_gram else "of the rows of each episode")
    runs = EpisodeRuns(features, query_set, pool, functions, all_shots, episodes, interval)
    rows: list[FewShotRow] = []
    accuracies: dict[Task, torch.Tensor] = {}
    counts: dict[Task, Counts] = {}
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


def _told(progress: Callable[[str, int, int], None] | None, number: int, of: int, episodes: int, done: int) -> None:
    if progress:
        progress("episodes", number * episodes + done, of * episodes)

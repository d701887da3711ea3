"""A trajectory from features that are there already: several sets that are checkpoints of one model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nctransfer.checkpoints.files import steps
from nctransfer.checkpoints.trajectory_result import TARGET, Point, Trajectory
from nctransfer.evaluation.equal_episodes import drawn_by_task, with_equal_episodes
from nctransfer.evaluation.fewshot_accuracy import run_fewshot
from nctransfer.evaluation.fewshot_comparison import same_samples
from nctransfer.evaluation.fewshot_task import FewShotTask
from nctransfer.neural_collapse.collapse_report import collapse

if TYPE_CHECKING:
    from nctransfer.evaluation.fewshot_results import FewShotResult
    from nctransfer.features.feature_info import FeatureInfo
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["are_checkpoints", "trajectory_of_sets"]

WAYS, SHOTS, QUERIES = 5, (1, 5), 15  # of the usual task
RANDOM = "random, "  # how the names of weights begin that were drawn

Progress = Callable[[str, int, int], None]


def are_checkpoints(sets: Sequence[FeatureSet]) -> bool:
    """Whether several sets are of the same images, by the same model with other weights: checkpoints of one training.

    >>> from nctransfer.features.feature_set import FeatureSet
    >>> are_checkpoints([FeatureSet.from_arrays([[0.0], [1.0]], "ab")] * 2)  # nothing is known of a model
    False
    """
    infos = [one.info for one in sets]
    if len(infos) < 2 or any(info.key is None or (info.weights or "").startswith(RANDOM) for info in infos):
        return False
    alike = {(info.data, info.split, info.layer) for info in infos}
    keys = [info.key for info in infos if info.key is not None]
    others = all(replace(key, weights="") == replace(keys[0], weights="") for key in keys)
    return len(alike) == 1 and others and len({key.weights for key in keys}) == len(keys)


def trajectory_of_sets(
    sets: Sequence[FeatureSet],
    task: FewShotTask | None = None,
    *,
    device: str = "auto",
    progress: Progress | None = None,
) -> Trajectory:
    """The collapse and the few-shot accuracy of stored sets, in the order of the steps in the names of their weights.

    Args:
        sets: Sets of the same images by the same model, see :func:`are_checkpoints`.
        task: The few-shot task; by default 5-way (or all classes, if they are fewer) with 1 and 5 shots, as far as the
            smallest class allows.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        EpisodeError: The sets have no samples in common, or too few for the task.
        FeaturesError: There are fewer than two classes with two samples.
    """
    names = _names([one.info for one in sets])
    found = steps(names)
    order = sorted(range(len(sets)), key=lambda place: (found[place] is None, found[place] or 0, names[place]))
    same = same_samples([sets[place] for place in order])
    run = functools.partial(run_fewshot, task=task or _usual_task(same[0]), device=device, for_comparison=True)
    results: list[FewShotResult] = []
    for number, features in enumerate(same):
        if progress:
            progress("checkpoints", number, len(same))
        results.append(run(features, at_least=drawn_by_task(results)))
    results = with_equal_episodes(
        results, lambda place, before, at_least: run(same[place], at_least=at_least, before=before)
    )
    first = same[0].info
    return Trajectory(
        model=first.model or "",
        transform={} if first.key is None else first.key.transform,
        points=tuple(
            Point(
                checkpoint=names[place],
                path=features.info.path or "",
                step=found[place],
                reports={TARGET: collapse(features, pairs=0, device=device)},
                fewshot=result,
            )
            for place, features, result in zip(order, same, results, strict=True)
        ),
        failed={},
    )


def _usual_task(features: FeatureSet) -> FewShotTask:
    """The task of a trajectory if none is given."""
    counts = features.counts[features.counts > 1]
    fewest = int(counts.min()) if len(counts) else 2
    shots = [number for number in SHOTS if number < fewest]
    return FewShotTask(
        ways=min(WAYS, max(2, len(counts))),
        shots=shots,
        queries=min(QUERIES, fewest - shots[-1]),
        classifiers=("ridge", "ncc"),
        drop_small=True,
        theory=False,
    )


def _names(infos: Sequence[FeatureInfo]) -> list[str]:
    """The name of each set's weights, with their digest where names are equal."""
    names = [(info.weights or info.id).partition(" (digest ")[0] for info in infos]
    return names if len(set(names)) == len(names) else [info.weights or info.id for info in infos]

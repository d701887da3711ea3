"""The same episodes for several feature sets: as many as the set needs that needs the most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from nctransfer.evaluation.stopping import StoppingRule, inflation, sizes

if TYPE_CHECKING:
    from nctransfer.evaluation.fewshot_results import FewShotResult

__all__ = ["drawn_by_task", "with_equal_episodes"]


Task = tuple[int, int]  # ways, shots


def drawn_by_task(results: Sequence[FewShotResult]) -> dict[Task, int]:
    """The largest number of episodes that any result has, by ways and shots."""
    found: dict[Task, int] = {}
    for result in results:
        for (ways, shots, _), values in result.accuracies.items():
            found[ways, shots] = max(found.get((ways, shots), 0), len(values))
    return found


def with_equal_episodes(
    results: Sequence[FewShotResult], continued: Callable[[int, FewShotResult, Mapping[Task, int]], FewShotResult]
) -> list[FewShotResult]:
    """Continue results until all have the same episodes.

    The number of a task is the smallest at which every set is precise enough, and so is every difference to the first
    set. It does not depend on the order in which the sets were run.

    Args:
        results: Results of one task on the same samples.
        continued: From the place of a result, the result so far, and the number of episodes to draw at least, by ways
            and shots, to the result with more episodes.
    """
    results = list(results)
    while True:
        wanted = {task: _wanted(results, task, most) for task, most in drawn_by_task(results).items()}
        short = [
            place
            for place, result in enumerate(results)
            if any(count < wanted[task] for task, count in drawn_by_task([result]).items())
        ]
        if not short:
            return results
        for place in short:
            results[place] = continued(place, results[place], wanted)


def _wanted(results: Sequence[FewShotResult], of: Task, most: int) -> int:
    """The number of episodes that all results should have: ``most``, or more if a difference is not precise enough."""
    first, *others = results
    task = first.task
    if task.interval == "disjoint" or most >= task.episodes or any(drawn_by_task([one])[of] < most for one in results):
        return most
    rule = StoppingRule(
        precision=task.precision, inflation=inflation(of[0], len(first.classes), first.populations[of[0]])
    )
    keys = [key for key in first.accuracies if key[:2] == of]
    if rule.is_met_by_differences(one.accuracies[key] - first.accuracies[key] for one in others for key in keys):
        return most
    return next(sizes(task.episodes, most + 1))

"""The same episodes for several feature sets: as many as the set needs that needs the most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from nctransfer.evaluation.stopping import StoppingRule, inflation, sizes

if TYPE_CHECKING:
    from nctransfer.evaluation.fewshot_results import FewShotResult

__all__ = ["drawn_by_ways", "with_equal_episodes"]


def drawn_by_ways(results: Sequence[FewShotResult]) -> dict[int, int]:
    """The largest number of episodes that any result has, by ways."""
    found: dict[int, int] = {}
    for result in results:
        for ways, classes in result.drawn.items():
            found[ways] = max(found.get(ways, 0), len(classes))
    return found


def with_equal_episodes(
    results: Sequence[FewShotResult], continued: Callable[[int, FewShotResult, Mapping[int, int]], FewShotResult]
) -> list[FewShotResult]:
    """Continue results until all have the same episodes.

    Their number is the smallest at which every set is precise enough, and so is every difference to the first set. It
    does not depend on the order in which the sets were run.

    Args:
        results: Results of one task on the same samples.
        continued: From the place of a result, the result so far, and the number of episodes to draw at least by ways,
            to the result with more episodes.
    """
    results = list(results)
    while True:
        wanted = {ways: _wanted(results, ways, most) for ways, most in drawn_by_ways(results).items()}
        short = [
            place
            for place, result in enumerate(results)
            if any(len(classes) < wanted[ways] for ways, classes in result.drawn.items())
        ]
        if not short:
            return results
        for place in short:
            results[place] = continued(place, results[place], wanted)


def _wanted(results: Sequence[FewShotResult], ways: int, most: int) -> int:
    """The number of episodes that all results should have: ``most``, or more if a difference is not precise enough."""
    first, *others = results
    task = first.task
    if task.interval == "disjoint" or most >= task.episodes or any(len(one.drawn[ways]) < most for one in results):
        return most
    rule = StoppingRule(
        precision=task.precision, inflation=inflation(ways, len(first.classes), first.populations[ways])
    )
    keys = [key for key in first.accuracies if key[0] == ways]
    if rule.is_met_by_differences(one.accuracies[key] - first.accuracies[key] for one in others for key in keys):
        return most
    return next(sizes(task.episodes, most + 1))

"""What counts by group show: the accuracy of each group, the worst group, and the gap between best and worst."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nctransfer.errors import EpisodeError, join_names
from nctransfer.evaluation.group_counts import GroupCounts, LeftOutCells, spread_of_groups, spread_to_others, to_others
from nctransfer.evaluation.group_results import GroupAccuracy, WorstGroup
from nctransfer.evaluation.multiple_comparisons import Difference, band_factor, compare_with_best, range_factor
from nctransfer.evaluation.spread import Spread

if TYPE_CHECKING:
    import torch

    from nctransfer.intervals import Interval

__all__ = ["GroupFindings", "find_groups", "worst_group"]


@dataclass(frozen=True, kw_only=True)
class GroupFindings:
    """The groups of one task and classifier.

    Attributes:
        groups: The accuracy of each group.
        worst: The worst group and the gap; ``None`` if there is no interval over a population.
        undefined: Why a value is missing, by name.
    """

    groups: tuple[GroupAccuracy, ...]
    worst: WorstGroup | None
    undefined: dict[str, str]


def find_groups(
    counts: GroupCounts,
    names: tuple[str, ...],
    cells: torch.Tensor,
    interval: Interval,
    population: Interval | str,
    left_out: LeftOutCells | None = None,
) -> GroupFindings:
    """The accuracy of each group with its intervals, and the worst group.

    Args:
        counts: What happened to the queries.
        names: The names of the G groups.
        cells: The number of images of each class and group, ``(C, G)``.
        interval: What the interval of each group by itself refers to.
        population: What verdicts are about, ``classes`` or ``samples``; or why there are none.
        left_out: For ``samples``, the counts without each tenth of the images.
    """
    images, accuracies = cells.sum(dim=0), counts.group_accuracies
    groups = tuple(
        GroupAccuracy(
            name=name,
            images=int(images[place]),
            classes=int((cells[:, place] > 0).sum()),
            queries=int(counts.cells_asked[:, place].sum()),
            accuracy=None if accuracies[place].isnan() else float(accuracies[place]),
        )
        for place, name in enumerate(names)
    )
    undefined: dict[str, str] = {}
    if interval != "samples" or left_out is not None:
        halves = spread_of_groups(counts, interval, images, left_out).half_widths()
        groups = tuple(replace(one, ci95=half) for one, half in zip(groups, halves, strict=True))
    if population not in ("classes", "samples"):
        return GroupFindings(groups=groups, worst=None, undefined={"worst": population})
    about: Interval = "classes" if population == "classes" else "samples"
    spread = spread_of_groups(counts, about, images, left_out)
    known = spread.comparable()
    if missing := [repr(one.name) for place, one in enumerate(groups) if place not in known]:
        undefined["groups"] = f"not compared over {about}, for too few classes or queries: {join_names(missing)}"
    if len(known) < 2:
        return GroupFindings(groups=groups, worst=None, undefined=undefined | {"worst": "fewer than two groups remain"})
    own = spread.of(known)
    groups = _with_band(groups, known, own)
    groups = _with_others(groups, counts, about, left_out)
    worst = worst_group([names[i] for i in known], accuracies[known].tolist(), own, about)
    return GroupFindings(groups=groups, worst=worst, undefined=undefined)


def _with_band(groups: tuple[GroupAccuracy, ...], places: list[int], spread: Spread) -> tuple[GroupAccuracy, ...]:
    """The groups with intervals that hold together."""
    halves = dict(zip(places, (band_factor(spread) * spread.errors()).tolist(), strict=True))
    found = list(groups)
    for place, half in halves.items():
        value = groups[place].accuracy or 0.0
        found[place] = replace(groups[place], simultaneous=(max(0.0, value - half), min(1.0, value + half)))
    return tuple(found)


def _with_others(
    groups: tuple[GroupAccuracy, ...], counts: GroupCounts, population: Interval, left_out: LeftOutCells | None
) -> tuple[GroupAccuracy, ...]:
    """The groups with their differences to the others on the same classes; the intervals hold together."""
    spread, values = spread_to_others(counts, population, left_out), to_others(counts.cells_right, counts.cells_asked)
    found = [replace(one, difference=None if v.isnan() else float(v)) for one, v in zip(groups, values, strict=True)]
    known = [place for place in spread.comparable() if math.isfinite(values[place])]
    if not known:
        return tuple(found)
    some = spread.of(known)
    halves = (band_factor(some) * some.errors()).tolist()
    for place, half in zip(known, halves, strict=True):
        value = float(values[place])
        one = Difference(value, value - half, value + half)
        found[place] = replace(found[place], difference_interval=(one.low, one.high), verdict=one.verdict)
    return tuple(found)


def worst_group(names: list[str], accuracies: list[float], spread: Spread, population: Interval) -> WorstGroup:
    """The worst of several groups, and the gap to the best, with intervals that account for having picked them.

    With ``a_g ± q se_g`` intervals that hold together in 95% of studies, the lowest true accuracy is between
    ``min(a_g − q se_g)`` and ``min(a_g + q se_g)`` in these studies, whichever group it is. In the same way the true
    gap is between the largest of the lower and the largest of the upper ends of all differences of two groups
    (Tukey). The groups that may be the worst are those of a comparison with the best (Hsu 1984), upside down.

    Args:
        names: The names of K groups, K ≥ 2.
        accuracies: Their accuracies.
        spread: How these vary together.
        population: Over which population.

    Raises:
        EpisodeError: There are fewer than two groups.

    >>> import torch
    >>> spread = Spread(vectors=0.01 * torch.eye(3, dtype=torch.float64), degrees=20)
    >>> found = worst_group(["a", "b", "c"], [0.90, 0.89, 0.70], spread, "samples")
    >>> found.name, found.possible, found.best
    ('c', ('c',), 'a')
    >>> [round(end, 2) for end in found.interval], [round(end, 2) for end in found.gap_interval]
    ([0.67, 0.73], [0.16, 0.24])
    """
    import torch

    if len(names) < 2:
        raise EpisodeError("there are fewer than two groups to compare", "give samples of two groups or more")
    values, errors = torch.tensor(accuracies, dtype=torch.float64), spread.errors()
    reach = band_factor(spread) * errors
    low, high = float((values - reach).min()), float((values + reach).min())
    gaps, between = values[:, None] - values, range_factor(spread) * spread.errors_of_differences()
    possible = [one.is_possible for one in compare_with_best([-value for value in accuracies], spread)]
    worst, best = int(values.argmin()), int(values.argmax())
    return WorstGroup(
        name=names[worst],
        accuracy=accuracies[worst],
        interval=(max(0.0, low), min(1.0, high)),
        possible=tuple(names[i] for i in values.argsort().tolist() if possible[i]),
        best=names[best],
        gap=float(gaps.max()),
        gap_interval=(max(0.0, float((gaps - between).max())), min(1.0, float((gaps + between).max()))),
        population=population,
    )

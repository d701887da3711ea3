"""Collapse and few-shot accuracy over the checkpoints of a training, as a figure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nctransfer.errors import short_text
from nctransfer.figures.number_axes import logarithmic, percent_axis
from nctransfer.figures.style import (
    COLOURS,
    COLUMN,
    GREY,
    PAGE,
    SMALL,
    add_caption,
    caption_of,
    in_style,
    new_figure,
    plain_text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nctransfer.checkpoints.trajectory_result import Point, Trajectory

__all__ = ["trajectory_figure"]

STYLES = ("-", "--", ":", "-.")  # of lines, one for each measure
LONG = 24  # characters of a name
MOST_NAMES = 20  # checkpoints that are named below the axis


@in_style
def trajectory_figure(found: Trajectory, *, width: float = PAGE) -> Figure:
    """Collapse of every sample, and few-shot accuracy on the target, over checkpoints.

    Args:
        found: The trajectory.
        width: The width in inches; in a narrow figure one panel stands below the other.
    """
    from nctransfer.neural_collapse.registry import MEASURES

    is_wide = width > 1.4 * COLUMN
    figure = new_figure(width, 3.7 if is_wide else 6.2)
    left, right = figure.subplots(1, 2) if is_wide else figure.subplots(2, 1)
    points, places = _place(found, (left, right))
    positive = []
    shown = [name for name, measure in MEASURES.items() if measure.in_trajectories]
    for measure, style in zip(shown, itertools.cycle(STYLES), strict=False):
        left.plot([], [], style, color=GREY, label=measure)
        for colour, sample in zip(COLOURS, found.points[0].reports, strict=False):
            values = [point.reports[sample].metrics[measure] for point in points]
            label = sample if measure == shown[0] else None
            left.plot(places, values, style, color=colour, marker="o", label=label)
            positive += [value for value in values if value is not None and 0 < value < math.inf]
    left.set(ylabel="lower is more collapsed", title="Collapse")
    if positive:
        logarithmic(left.yaxis, min(positive), max(positive), most=6)
    for number, row in enumerate(found.points[0].fewshot.rows):
        rows = [point.fewshot.rows[number] for point in points]
        accuracies, colour = [one.accuracy for one in rows], COLOURS[number % len(COLOURS)]
        label = f"{row.label}, {row.ways}-way {row.shots}-shot"
        right.plot(places, accuracies, color=colour, marker="o", label=label)
        ends = zip(*((one.accuracy - (one.ci95 or 0), one.accuracy + (one.ci95 or 0)) for one in rows), strict=True)
        right.fill_between(places, *ends, color=colour, alpha=0.2, linewidth=0)
    percent_axis(right.yaxis)
    right.set(ylabel="accuracy", title="Few-shot accuracy on the target")
    for axes in (left, right):  # the legend stands between the title and the panel
        legend = axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.98), ncols=2)
        axes.set_title(axes.get_title("left"), pad=7 + 11 * -(-len(legend.get_texts()) // 2))
    target = found.points[0].reports["target"].features
    shades = "Shades: 95% intervals" if any(row.ci95 for row in found.points[0].fewshot.rows) else ""
    add_caption(figure, caption_of(replace(target, model=found.model)), shades)
    return figure


def _place(found: Trajectory, all_axes: Sequence[Axes]) -> tuple[list[Point], list[int]]:
    """The points that are drawn, and where: at their steps, or else all one after the other."""
    from matplotlib.ticker import MaxNLocator

    stepped = [(point, point.step) for point in found.points if point.step is not None]
    if len({step for _, step in stepped}) == len(stepped) > 0:
        for axes in all_axes:
            axes.set_xlabel("step, by the names of the checkpoints")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return [point for point, _ in stepped], [step for _, step in stepped]
    places = list(range(len(found.points)))
    for axes in all_axes:
        axes.set_xlabel("checkpoint")
        if len(places) <= MOST_NAMES:
            names = [plain_text(short_text(point.checkpoint, LONG)) for point in found.points]
            axes.set_xticks(places, names, rotation=30, ha="right", fontsize=SMALL)
    return list(found.points), places

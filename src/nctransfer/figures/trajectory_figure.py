"""Collapse and few-shot accuracy over the checkpoints of a training, as a figure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nctransfer.figures.style import COLOURS, plain_numbers, plain_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nctransfer.checkpoints.trajectory_result import Point, Trajectory

__all__ = ["trajectory_figure"]

STYLES = ("-", "--", ":", "-.")  # of lines, one for each measure
MOST_NAMES = 20  # checkpoints that are named below the axis


def trajectory_figure(found: Trajectory) -> Figure:
    """Collapse of every sample (left), and few-shot accuracy on the target (right), over checkpoints."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    from nctransfer.neural_collapse.registry import MEASURES

    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    points, places = _place(found, (left, right))
    is_positive = False
    shown = [name for name, measure in MEASURES.items() if measure.in_trajectories]
    for measure, style in zip(shown, itertools.cycle(STYLES), strict=False):
        left.plot([], [], style, color="gray", label=measure)
        for colour, sample in zip(COLOURS, found.points[0].reports, strict=False):
            values = [point.reports[sample].metrics[measure] for point in points]
            label = sample if measure == shown[0] else None
            left.plot(places, values, style, color=colour, marker="o", markersize=3, label=label)
            is_positive = is_positive or any(value is not None and 0 < value < math.inf for value in values)
    left.set(ylabel="lower is more collapsed", title="Collapse")
    if is_positive:
        left.set_yscale("log")
        plain_numbers(left.yaxis)
    for number, row in enumerate(found.points[0].fewshot.rows):
        rows = [point.fewshot.rows[number] for point in points]
        accuracies, colour = [one.accuracy for one in rows], COLOURS[number % len(COLOURS)]
        label = f"{row.classifier}, {row.ways}-way {row.shots}-shot"
        right.plot(places, accuracies, color=colour, marker="o", markersize=3, label=label)
        ends = zip(*((one.accuracy - (one.ci95 or 0), one.accuracy + (one.ci95 or 0)) for one in rows), strict=True)
        right.fill_between(places, *ends, color=colour, alpha=0.2, linewidth=0)
    right.yaxis.set_major_formatter(PercentFormatter(1))
    right.set(ylabel="accuracy", title="Few-shot accuracy on the target")
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.legend(fontsize="small", frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3)
    figure.suptitle(plain_text(f"{found.model} on {found.points[0].reports['target'].features.data}"))
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
            names = [plain_text(point.checkpoint) for point in found.points]
            axes.set_xticks(places, names, rotation=30, ha="right", fontsize="small")
    return list(found.points), places

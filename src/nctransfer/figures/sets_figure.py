"""Collapse of several feature sets side by side."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from nctransfer.errors import short_text
from nctransfer.figures.number_axes import logarithmic, percent_axis
from nctransfer.figures.style import (
    COLOURS,
    COLUMN,
    PAGE,
    add_caption,
    caption_of,
    in_style,
    new_figure,
    plain_text,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nctransfer.neural_collapse.comparisons import CollapseComparison

__all__ = ["left_out_note", "sets_figure"]

PANELS = (("cdnv", "cdnv_debiased"), ("directional_cdnv", "directional_cdnv_debiased"), ("ncc_accuracy",))
LONG = 34  # characters of a name


@in_style
def sets_figure(found: CollapseComparison, *, width: float = PAGE) -> Figure:
    """CDNV, directional CDNV and the accuracy of the nearest class centre: a row a set, with intervals.

    A hollow mark is the debiased value.

    Args:
        found: A comparison of sets.
        width: The width in inches; in a narrow figure the panels stand one below the other.
    """
    count, is_wide = len(found.reports), width > 1.4 * COLUMN
    height = 0.45 + 0.24 * count
    figure = new_figure(width, 0.6 + height if is_wide else 0.4 + len(PANELS) * (height + 0.1))
    grid = (1, len(PANELS)) if is_wide else (len(PANELS), 1)
    all_axes = figure.subplots(*grid, squeeze=False, sharey=is_wide).flat
    for axes, measures in zip(all_axes, PANELS, strict=True):
        _draw(axes, found, measures)
    infos = [report.features for report in found.reports.values()]
    about = {caption_of(info) for info in infos}
    same_data = {(info.data, info.classes, info.samples) for info in infos}
    caption = (
        about.pop() if len(about) == 1 else caption_of(replace(infos[0], model=None)) if len(same_data) == 1 else ""
    )
    add_caption(figure, caption, "Bars: 95% intervals over classes; hollow: debiased", left_out_note(found))
    return figure


def left_out_note(found: CollapseComparison) -> str:
    """What debiased values leave out, if they leave out pairs of classes; else ""."""
    if not any(report.left_out for report in found.reports.values()):
        return ""
    return "Debiased values leave out pairs that the images do not tell apart, and are then too low"


def _draw(axes: Axes, found: CollapseComparison, measures: Sequence[str]) -> None:
    """A plain measure, and the debiased one below it."""
    from nctransfer.neural_collapse.registry import MEASURES

    drawn = []
    for number, name in enumerate(measures):
        for place, report in enumerate(found.reports.values()):
            value, ends = report.metrics[name], report.intervals.get(name)
            if value is None or not math.isfinite(value):
                continue
            at = place + (number - (len(measures) - 1) / 2) * 0.3
            fill = "white" if number else COLOURS[0]
            axes.plot([value], [at], "o", color=COLOURS[0], markerfacecolor=fill, markersize=4.5, zorder=3)
            if ends:
                axes.plot(ends, [at, at], color=COLOURS[0], linewidth=1.2, zorder=2)
            drawn += [value, *(ends or ())]
    measure = MEASURES[measures[0]]
    if measure.range == "0 to 1":
        percent_axis(axes.xaxis)
    elif drawn and min(drawn) > 0:
        logarithmic(axes.xaxis, min(drawn), max(drawn))
    axes.set_yticks(range(len(found.reports)), [plain_text(short_text(name, LONG)) for name in found.reports])
    axes.set_ylim(len(found.reports) - 0.5, -0.5)
    arrow = {"lower": "← more collapsed", "higher": "→ more collapsed"}[measure.direction or "lower"]
    axes.set(title=measure.label.replace("_", " "), xlabel=arrow)
    axes.grid(visible=False, axis="y")

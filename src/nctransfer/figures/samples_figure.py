"""Collapse of the samples that a backbone was trained on, of others of their classes, and of new classes."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from nctransfer.figures.number_axes import logarithmic, percent_axis
from nctransfer.figures.sets_figure import left_out_note
from nctransfer.figures.style import COLOURS, COLUMN, GREY, PAGE, SMALL, add_caption, caption_of, in_style, new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nctransfer.neural_collapse.comparisons import CollapseComparison
    from nctransfer.neural_collapse.measure import Measure

__all__ = ["samples_figure"]

MARKERS = ("o", "D", "s")


@in_style
def samples_figure(found: CollapseComparison, *, width: float = PAGE) -> Figure:
    """Three dots a measure, one for each sample, and how many times as large each is as the one before it.

    Args:
        found: A comparison of samples.
        width: The width in inches.
    """
    from nctransfer.neural_collapse.registry import MEASURES

    shown = [one for one in MEASURES.values() if one.is_usual and _values(found, one)]
    positive = [one for one in shown if one.direction == "lower" and one.range == "0 to ∞"]
    shares = [one for one in shown if one.range == "0 to 1" and one.direction]
    rows = (len(positive), len(shares))
    figure = new_figure(width, 1.5 + 0.27 * sum(rows))
    above, below = figure.subplots(2, 1, height_ratios=[max(1, row) for row in rows])
    _draw(above, found, positive)
    _draw(below, found, shares)
    if drawn := [value for one in positive for value in _values(found, one) if value > 0]:
        logarithmic(above.xaxis, min(drawn), max(drawn))
    percent_axis(below.xaxis)
    for name, colour, marker in zip(found.reports, COLOURS, MARKERS, strict=False):
        above.plot([], [], linestyle="", color=colour, marker=marker, markersize=5, label=name)
    figure.legend(loc="outside upper left", ncols=3 if width > COLUMN else 2)
    ratios = f"Ratios: {', '.join(name.replace('/', ' over ') for name in found.ratios)}"
    target = next(reversed(found.reports.values()))
    add_caption(figure, f"target: {caption_of(target.features)}", ratios, left_out_note(found))
    return figure


def _values(found: CollapseComparison, measure: Measure) -> list[float]:
    """The values of a measure that can be drawn."""
    every = [report.metrics[measure.name] for report in found.reports.values()]
    return [value for value in every if value is not None and math.isfinite(value)]


def _draw(axes: Axes, found: CollapseComparison, measures: Sequence[Measure]) -> None:
    """One row a measure."""
    for place, measure in enumerate(measures):
        there = _values(found, measure)
        axes.plot([min(there), max(there)], [place, place], color=GREY, linewidth=1, zorder=1)
        for report, colour, marker in zip(found.reports.values(), COLOURS, MARKERS, strict=False):
            value = report.metrics[measure.name]
            if value is not None and math.isfinite(value):
                axes.plot([value], [place], color=colour, marker=marker, markersize=5, linestyle="")
        ratios = [one[measure.name] for one in found.ratios.values()]
        words = "  ".join("–" if ratio is None else f"×{ratio:.3g}" for ratio in ratios)
        axes.text(1.02, place, words, transform=axes.get_yaxis_transform(), fontsize=SMALL, va="center")
    arrows = {"lower": "↓", "higher": "↑"}
    names = [textwrap.fill(f"{one.label.replace('_', ' ')} {arrows[one.direction or 'lower']}", 18) for one in measures]
    axes.set_yticks(range(len(measures)), names)
    axes.set_ylim(len(measures) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")

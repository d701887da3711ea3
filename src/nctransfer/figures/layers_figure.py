"""Collapse over the layers of one network."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from nctransfer.figures.axis_labels import show_layers
from nctransfer.figures.number_axes import logarithmic, percent_axis
from nctransfer.figures.style import COLOURS, COLUMN, GREY, PAGE, SMALL, add_caption, caption_of, in_style, new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nctransfer.neural_collapse.comparisons import CollapseComparison
    from nctransfer.neural_collapse.measure import Measure

__all__ = ["layers_figure"]


@in_style
def layers_figure(found: CollapseComparison, *, width: float = PAGE) -> Figure:
    """The measures of each layer, from the first to the last: one panel for the positive ones, and one for each other.

    A dotted line marks the layer from which on the nearest class centre is no more accurate, but by chance.

    Args:
        found: A comparison of layers.
        width: The width in inches; in a narrow figure the panels stand one below the other.
    """
    from nctransfer.neural_collapse.registry import MEASURES

    shown = [measure for measure in MEASURES.values() if measure.in_layers]
    together = [one for one in shown if one.direction == "lower" and one.range == "0 to ∞"]
    panels = [together, *([one] for one in shown if one not in together)]
    is_wide = width > 1.4 * COLUMN
    figure = new_figure(width, 2.7 if is_wide else 0.5 + 1.75 * len(panels))
    all_axes = figure.subplots(*((1, len(panels)) if is_wide else (len(panels), 1)), squeeze=False).flat
    for axes, measures in zip(all_axes, panels, strict=True):
        _draw(axes, found, measures)
    first = next(iter(found.reports.values())).features
    add_caption(figure, caption_of(replace(first, layer="feature")), *_fit(found))
    return figure


def _draw(axes: Axes, found: CollapseComparison, measures: Sequence[Measure]) -> None:
    """These measures over the layers."""
    layers, reports = list(found.reports), list(found.reports.values())
    drawn = []
    for measure, colour in zip(measures, COLOURS, strict=False):
        values = [report.metrics[measure.name] for report in reports]
        points = [math.nan if value is None or not math.isfinite(value) else value for value in values]
        axes.plot(range(len(layers)), points, color=colour, marker="o", label=measure.label.replace("_", " "))
        drawn += [value for value in points if value > 0]
    if measures[0].range == "0 to 1":
        percent_axis(axes.yaxis)
    elif drawn and (len(measures) > 1 or max(drawn) > 20 * min(drawn)):
        logarithmic(axes.yaxis, min(drawn), max(drawn))
    place = layers.index(found.fit["saturated"])
    axes.axvline(place, color=GREY, linestyle=":", linewidth=1, zorder=1)
    arrow = {"lower": "↓ more collapsed", "higher": "↑ more collapsed"}.get(measures[0].direction or "", "")
    axes.set_xlabel("layer")
    axes.set_ylabel(arrow, fontsize=SMALL)
    if len(measures) == 1:
        axes.set_title(measures[0].label.replace("_", " "))
    else:  # in the place of a title
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.99), borderpad=0, ncols=len(measures), columnspacing=1)
    show_layers(axes, layers)


def _fit(found: CollapseComparison) -> list[str]:
    """The law of separation, and the layer from which on accuracy rises no more."""
    fit = found.fit
    law = ""
    if "rho" in fit:
        quality = f" (R² {fit['r_squared']:.2f})" if fit["r_squared"] is not None else ""
        law = f"Separation fuzziness changes by a factor of {fit['rho']:.3f} per layer{quality}"
    begin = "the output" if fit["saturated"] == "feature" else fit["saturated"]
    return [law, f"Dotted: from {begin} on, ncc_accuracy rises no more than by chance"]

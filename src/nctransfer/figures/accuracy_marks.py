"""How accuracies are drawn: as curves with bands, or as dots with bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nctransfer.figures.axis_labels import show_places
from nctransfer.figures.bound_names import by
from nctransfer.figures.foot import name_of
from nctransfer.figures.style import COLOURS, GREY

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from nctransfer.figures.accuracy_panels import Floor, Panel

__all__ = ["draw_curves", "draw_dots"]

MARKERS = ("o", "s", "^", "v", "P", "X", "*")  # the next one each time that colours begin again
DASHES: dict[str, Any] = {  # of bounds; of others, solid
    "margin_per_query": (0, (6, 2)),
    "margin": (0, (5, 1.5, 1, 1.5)),
    "luthra2026": (0, (2.5, 1)),
    "luthra2025": (0, (5, 1, 1, 1, 1, 1)),
}
SIGNS = {"margin_per_query": ">", "margin": "D", "luthra2026": "P", "luthra2025": "X"}
DARK = "#777777"
LABELLED = 0.44  # inches below axes: their numbers and label


def _look(number: int) -> dict[str, Any]:
    """The colour and the marker of a curve."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number // len(COLOURS) % len(MARKERS)]}


def draw_curves(axes: Axes, panel: Panel, own_legend: Sequence[str] | None, across: int) -> dict[str, Artist]:
    """Draw the curves of a panel.

    Args:
        axes: Where to draw.
        panel: What to draw.
        own_legend: The names in a legend of the panel itself; ``None``: the figure names the curves.
        across: The number of panels side by side.

    Returns:
        What the legend of the figure has, by name.
    """
    entries: dict[str, Artist] = {}
    lines = []
    for number, curve in enumerate(panel.curves):
        look = _look(number)
        lines += axes.plot(curve.places, curve.accuracies, zorder=3, **look)
        if own_legend is None:
            entries[name_of(curve.name)] = lines[-1]
        low, high = zip(*((math.nan, math.nan) if ends is None else ends for ends in curve.intervals), strict=True)
        axes.fill_between(curve.places, low, high, color=look["color"], alpha=0.25, linewidth=0)
        if any(value is not None for value in curve.expected):
            values = [math.nan if value is None else value for value in curve.expected]
            [line] = axes.plot(curve.places, values, color="black", linewidth=0.8, linestyle="--", zorder=4)
            entries[f"{name_of(curve.name)}, expected by theory"] = line
    for floor in panel.floors:
        look = {"linestyle": DASHES.get(floor.name, "-"), "marker": SIGNS.get(floor.name, "h"), "markersize": 2.5}
        entries[_says(floor)] = axes.plot(floor.places, floor.accuracies, color=DARK, linewidth=1, **look)[0]
    if panel.chance:
        [line] = axes.plot(*zip(*panel.chance.items(), strict=True), color=GREY, linewidth=1, linestyle=":")
        entries["chance"] = line
    show_places(axes, [place for curve in panel.curves for place in curve.places], across)
    if own_legend is not None:
        _add_legend(axes, lines, own_legend)
    return entries


def _add_legend(axes: Axes, lines: Sequence[Artist], names: Sequence[str]) -> None:
    """Write a legend below the numbers and the label of the x axis."""
    from matplotlib.transforms import ScaledTranslation

    below = ScaledTranslation(0, -LABELLED, axes.figure.dpi_scale_trans)
    place = axes.transAxes + below
    axes.legend(lines, names, loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=place, borderaxespad=0)


def draw_dots(axes: Axes, panel: Panel, names: Sequence[str]) -> dict[str, Artist]:
    """Draw the only point of each curve of a panel on a line of its own, with its accuracy in percent.

    Args:
        axes: Where to draw.
        panel: What to draw.
        names: The names of the lines.

    Returns:
        What the legend of the figure has, by name.
    """
    entries: dict[str, Artist] = {}
    for number, curve in enumerate(panel.curves):
        look, accuracy = _look(number), curve.accuracies[0]
        axes.plot([accuracy], [number], markersize=6, linestyle="", zorder=3, **look)
        if ends := curve.intervals[0]:
            axes.plot(ends, [number] * 2, color=look["color"], linewidth=2.5, alpha=0.5, solid_capstyle="butt")
        for expected in curve.expected:
            if expected is not None:
                [tick] = axes.plot([expected], [number], color="black", marker="|", markersize=12, linestyle="")
                entries["expected by theory"] = tick
        place = axes.get_yaxis_transform()
        axes.annotate(f"{100 * accuracy:.2f}%", (1.02, number), xycoords=place, va="center")
    rows = {curve.name: number for number, curve in enumerate(panel.curves)}
    for floor in panel.floors:
        look = {"marker": SIGNS.get(floor.name, "h"), "markersize": 5, "linestyle": ""}
        entries[_says(floor)] = axes.plot(floor.accuracies, [rows[floor.of]], color=DARK, **look)[0]
    for chance in panel.chance.values():
        entries["chance"] = axes.axvline(chance, color=GREY, linewidth=1, linestyle=":")
    axes.set_yticks(range(len(panel.curves)), names)
    axes.set_ylim(len(panel.curves) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    return entries


def _says(floor: Floor) -> str:
    return f"{name_of(floor.of)} is at least this, by {by(floor.name)}"

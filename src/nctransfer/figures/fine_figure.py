"""How well fine classes are told apart inside their class: by layer, and by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nctransfer.figures.axis_labels import show_layers
from nctransfer.figures.foot import add_foot, name_of, names_of
from nctransfer.figures.number_axes import percent_axis
from nctransfer.figures.style import COLOURS, GREY, PAGE, caption_of, in_style, new_figure

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nctransfer.neural_collapse.fine_results import FineLayer, FineStructure

__all__ = ["fine_figure"]

MOST = 30  # classes
LONG = 24  # characters of a name
INSIDE = "inside the class"
PERMUTED = "inside, fine labels permuted"
COARSE = "of the classes themselves"


@in_style
def fine_figure(found: FineStructure, *, width: float = PAGE) -> Figure:
    """The accuracy of the nearest fine-class centre, beside that with permuted labels.

    The left panel has the layers, if there are several, with 95% intervals over other classes and the accuracy of the
    classes themselves. The right panel has the classes in the last layer, the least accurate one first.

    Args:
        found: The fine structure.
        width: The width in inches.
    """
    count = min(MOST, len(found.layers[-1].classes))
    has_layers = len(found.layers) > 1
    figure = new_figure(width if has_layers else 0.6 * width, max(2.6 * has_layers, 1.1 + 0.17 * count) + 0.4)
    panels = figure.subplots(1, 1 + has_layers, squeeze=False)[0]
    entries: dict[str, Artist] = {}
    if has_layers:
        entries |= _draw_layers(panels[0], found)
    entries |= _draw_classes(panels[-1], found.layers[-1], found.column)
    left_out = len(found.layers[-1].classes) - count
    sentences = (
        caption_of(found.features),
        "Bands: 95% intervals over other classes" if has_layers and found.layers[-1].accuracy_interval else "",
        f"{left_out:,} more accurate classes are left out" if left_out else "",
    )
    add_foot(figure, sentences, entries)
    return figure


def _draw_layers(axes: Axes, found: FineStructure) -> Mapping[str, Artist]:
    """The accuracies over the layers; returns what the legend has."""
    layers, places = found.layers, range(len(found.layers))
    [inside] = axes.plot(places, [one.accuracy for one in layers], color=COLOURS[0], marker="o")
    if all(one.accuracy_interval for one in layers):
        low, high = zip(*(one.accuracy_interval or (0.0, 0.0) for one in layers), strict=True)
        axes.fill_between(places, low, high, color=COLOURS[0], alpha=0.25, linewidth=0)
    [permuted] = axes.plot(places, [one.permuted for one in layers], color=GREY, marker="o", fillstyle="none")
    entries: dict[str, Artist] = {INSIDE: inside, PERMUTED: permuted}
    if all(one.coarse_accuracy is not None for one in layers):
        coarse = [one.coarse_accuracy or 0.0 for one in layers]
        [entries[COARSE]] = axes.plot(places, coarse, color=COLOURS[1], marker="s")
    show_layers(axes, [one.name for one in layers])
    percent_axis(axes.yaxis)
    axes.set(title="By layer", xlabel="layer", ylabel="accuracy")
    return entries


def _draw_classes(axes: Axes, layer: FineLayer, column: str) -> Mapping[str, Artist]:
    """The accuracy inside each class; returns what the legend has."""
    classes = sorted(layer.classes, key=lambda one: one.accuracy)[:MOST]
    for place, one in enumerate(classes):
        [permuted] = axes.plot([one.permuted], [place], "o", color=GREY, markersize=4.5, fillstyle="none", zorder=2)
        [inside] = axes.plot([one.accuracy], [place], "o", color=COLOURS[0], markersize=4.5, zorder=3)
    shorts = names_of([one.name for one in classes], LONG)
    names = [f"{name} ({one.fine_classes:,})" for name, one in zip(shorts, classes, strict=True)]
    axes.set_yticks(range(len(classes)), names)
    axes.set_ylim(len(classes) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    percent_axis(axes.xaxis)
    axes.set(title=f"{name_of(column, LONG)} inside each class (how many)", xlabel="accuracy")
    return {INSIDE: inside, PERMUTED: permuted}

"""The learning curve as a figure, with the targets and what was extrapolated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nctransfer.figures.number_axes import logarithmic, percent_axis
from nctransfer.figures.style import COLOURS, COLUMN, GREY, PAGE, SMALL, add_caption, caption_of, in_style, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nctransfer.evaluation.label_counts import LabelCounts

__all__ = ["labels_figure"]


@in_style
def labels_figure(found: LabelCounts, *, width: float = PAGE) -> Figure:
    """Accuracy over labelled images per class: measured (solid, 95% bands) and extrapolated (dashed, 85% bands).

    Curves are extrapolated only if a target lies beyond the images at hand. A diamond with the
    number stands where a curve reaches a target.

    Args:
        found: The numbers of labels.
        width: The width in inches.
    """
    figure = new_figure(width, 0.35 * width + 1.2)
    axes = figure.subplots()
    for number, name in enumerate(found.curve.task.classifiers):
        _draw(axes, found, name, COLOURS[number % len(COLOURS)])
    for target in dict.fromkeys(one.target for one in found.targets):
        axes.axhline(target, color=GREY, linewidth=0.8, linestyle=":")
        _write(axes, f"target {100 * target:g}%", (0.01, target), (0, 2), xycoords=axes.get_yaxis_transform())
    logarithmic(axes.xaxis, axes.dataLim.x0, axes.dataLim.x1, most=9 if width > COLUMN else 5)
    percent_axis(axes.yaxis)
    axes.set(xlabel="labelled images per class", ylabel="accuracy", title="How many labels are needed")
    axes.legend(loc="lower right")
    is_longer = any(line.get_linestyle() == "--" for line in axes.lines)
    bands = "Bands: 95% intervals" + (", beyond the images at hand 85%" if is_longer else "")
    add_caption(figure, caption_of(found.curve.features), bands)
    return figure


def _draw(axes: Axes, found: LabelCounts, name: str, colour: str) -> None:
    """The curve of one classifier."""
    from nctransfer.evaluation.labels_needed import extrapolate

    shots = found.curve.task.shots
    estimates = [found.curve.estimates[number, name] for number in shots]
    axes.plot(shots, [one.accuracy for one in estimates], color=colour, marker="o", label=name)
    low, high = zip(*(one.interval for one in estimates), strict=True)
    axes.fill_between(shots, low, high, color=colour, alpha=0.2, linewidth=0)
    mine = [one for one in found.targets if one.classifier == name]
    reached = [(one.value, one.target) for one in mine if one.value is not None]
    if reached:
        axes.plot(*zip(*reached, strict=True), color=colour, marker="D", markersize=6, linestyle="", fillstyle="none")
    for value, target in reached:
        _write(axes, f"{value:,}", (value, target), (6, -9), color=colour)
    if all(one.interval[1] is not None and one.interval[1] <= shots[-1] for one in mine):
        return
    if (beyond := extrapolate(found.curve, name)) is not None:
        lower, middle, upper = beyond.band()
        axes.plot(beyond.shots, middle, color=colour, linestyle="--", label=f"{name}, extrapolated")
        axes.fill_between(beyond.shots, lower, upper, color=colour, alpha=0.1, linewidth=0)


def _write(axes: Axes, text: str, place: tuple[float, float], offset: tuple[float, float], **look: Any) -> None:
    """A small text beside a place, this many points away."""
    axes.annotate(text, place, offset, textcoords="offset points", fontsize=SMALL, zorder=4, **look)

"""How many images of no known class a score finds, over the share of known images that are lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.figures.number_axes import percent_axis
from nctransfer.figures.style import COLOURS, GREY, PAGE, add_caption, caption_of, in_style, new_figure, plain_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nctransfer.ood.ood_result import OodResult, OtherSet

__all__ = ["ood_figure"]

COLUMNS = 3  # panels beside each other
DASHES = ("-", "--", ":")


@in_style
def ood_figure(found: OodResult, *, width: float = PAGE) -> Figure:
    """A panel for each set of others, a line for each score: the ROC curve with known and other images in place.

    Args:
        found: The result.
        width: The width in inches.
    """
    count = len(found.others)
    columns = min(COLUMNS, count)
    lines = -(-count // columns)
    figure = new_figure(width, 2.9 * lines + 0.9)
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).flatten()
    for axes, other in zip(panels, found.others, strict=False):
        _draw(axes, found, other)
    for axes in panels[count:]:
        axes.set_axis_off()
    figure.suptitle("How many other images are found, and how many known ones are lost", x=0.01, ha="left")
    panels[0].legend(loc="lower right")
    about = "Dotted: 5% of the known images lost, as for FPR95. Grey: a score that knows nothing"
    add_caption(figure, caption_of(found.features), about)
    return figure


def _draw(axes: Axes, found: OodResult, other: OtherSet) -> None:
    places = [place / 100 for place in range(101)]
    for number, score in enumerate(found.scores):
        curve = found.curves[other.name, score]
        axes.plot(
            places,
            curve,
            color=COLOURS[number % len(COLOURS)],
            linestyle=DASHES[number // len(COLOURS) % len(DASHES)],
            linewidth=1.1,
            label=plain_text(score),
        )
    axes.axvline(0.05, color=GREY, linewidth=0.8, linestyle=":")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    percent_axis(axes.xaxis)
    percent_axis(axes.yaxis)
    axes.set(xlabel="known images lost", ylabel="other images found", title=plain_text(other.name), xlim=(0, 1))

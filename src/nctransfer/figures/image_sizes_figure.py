"""How large the images of a data set are, as a histogram of their shorter sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.figures.style import COLOURS, PAGE, SMALL, add_caption, in_style, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SizeBin", "image_sizes_figure", "size_bins"]

MOST_BINS = 24
STEPS = (1, 2, 5)  # and these times powers of ten: the width of a bin in pixels


class SizeBin(NamedTuple):
    """Images whose shorter side has from ``low`` to less than ``high`` pixels, and how many there are."""

    low: int
    high: int
    images: int


def size_bins(sides: Sequence[int]) -> list[SizeBin]:
    """A histogram of shorter sides, in bins of a round width.

    Args:
        sides: The shorter side of each image in pixels, at least one.

    >>> size_bins([31, 32, 45, 98])[:2]
    [SizeBin(low=30, high=35, images=2), SizeBin(low=35, high=40, images=0)]
    """
    least, most = min(sides), max(sides)
    wide = next(
        step * 10**power
        for power in range(12)
        for step in STEPS
        if most // (step * 10**power) - least // (step * 10**power) < MOST_BINS
    )
    first = least // wide
    counts = [0] * (most // wide - first + 1)
    for side in sides:
        counts[side // wide - first] += 1
    return [SizeBin((first + place) * wide, (first + place + 1) * wide, count) for place, count in enumerate(counts)]


@in_style
def image_sizes_figure(sides: Sequence[int], taken: int | None = None, caption: str = "") -> Figure:
    """The shorter sides of images as a histogram.

    Args:
        sides: The shorter side of each image in pixels, at least one.
        taken: The size of the images that the backbone takes, which a line marks, if it is known.
        caption: What the figure is about.
    """
    from matplotlib.ticker import MaxNLocator

    bins = size_bins(sides)
    figure = new_figure(PAGE, 2.4)
    axes = figure.subplots()
    axes.bar(
        [one.low for one in bins],
        [one.images for one in bins],
        width=[0.94 * (one.high - one.low) for one in bins],
        align="edge",
        color=COLOURS[0],
        linewidth=0,
    )
    if taken is not None and bins[0].low <= taken <= bins[-1].high:
        axes.axvline(taken, color=COLOURS[1], linestyle="--", linewidth=1.2)
        axes.annotate(
            f"the backbone takes {taken:,}",
            (taken, 1),
            (4, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            fontsize=SMALL,
        )
    axes.set_ylim(0, 1.18 * max(one.images for one in bins))  # room for the label of the line
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("shorter side in pixels")
    axes.set_ylabel("images")
    axes.set_title("Sizes of the images")
    add_caption(figure, caption)
    return figure

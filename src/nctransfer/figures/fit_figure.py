"""A fitted head as a figure: whether its probabilities hold, and its hardest classes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nctransfer.figures.foot import add_foot, name_of
from nctransfer.figures.number_axes import percent_axis
from nctransfer.figures.style import COLOURS, GREY, PAGE, caption_of, in_style, new_figure, plain_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nctransfer.heads.fit_result import FitResult

__all__ = ["fit_figure"]

HARDEST = 20  # classes
LONGEST = 24  # letters of the name of a class
LEAST_HEIGHT, CLASS_HEIGHT = 3.7, 0.165  # inches


@in_style
def fit_figure(found: FitResult) -> Figure:
    """A reliability diagram (left) beside the accuracy of the hardest classes (right), from images that were left out.

    The diagram has a point for each of up to 15 bins of equally many images, see
    :func:`~nctransfer.heads.calibration.reliability_bins`: where the probabilities hold, it lies on the diagonal.

    Args:
        found: The head.
    """
    head = found.head
    shown = min(HARDEST, len(found.classes))
    figure = new_figure(PAGE, max(LEAST_HEIGHT, 1.2 + CLASS_HEIGHT * shown))
    left, right = figure.subplots(1, 2)
    _draw_reliability(left, found)
    _draw_classes(right, found)
    low, high = head.promise.interval
    figure.suptitle(
        f"{plain_text(head.classifier)}: {head.promise.accuracy:.1%} right on other images of these classes "
        f"(95% interval {100 * low:.1f} to {100 * high:.1f})"
    )
    caption = (
        caption_of(found.features),
        f"Each of the {head.promise.images:,} images is classified by a head that was fitted without it",
        "Bars are 95% intervals (Wilson)",
    )
    add_foot(figure, caption, {})
    return figure


def _draw_reliability(axes: Axes, found: FitResult) -> None:
    from nctransfer.heads.calibration import reliability_bins

    bins = reliability_bins(found.head.held_out.probability, found.head.held_out.right)
    for one in bins:
        axes.plot([one.probability] * 2, one.interval, color=COLOURS[0], linewidth=1, alpha=0.5)
    points = [one.probability for one in bins], [one.accuracy for one in bins]
    axes.plot(*points, color=COLOURS[0], marker="o", markersize=4, linestyle="")
    lowest = min(min(one.probability, one.interval[0]) for one in bins)
    start = max(0.0, math.floor(10 * lowest) / 10)
    room = 0.03 * (1 - start)
    axes.plot([start, 1], [start, 1], color=GREY, linestyle=":", linewidth=1, zorder=1)
    axes.set(xlim=(start - room, 1 + room), ylim=(start - room, 1 + room), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        percent_axis(axis)
    axes.set(
        xlabel="probability of the predicted class", ylabel="share that is right", title="Do the probabilities hold?"
    )
    promise = found.head.promise
    lines = (
        f"off by {100 * promise.calibration_error:.1f} points on average",
        f"({100 * promise.calibration_error_before:.1f} before calibration;",
        f"{100 * found.calibration_noise:.1f} even if they were perfect,",
        f"with {promise.images:,} images)",
    )
    axes.text(0.98, 0.03, "\n".join(lines), transform=axes.transAxes, ha="right", va="bottom", fontsize="small")


def _draw_classes(axes: Axes, found: FitResult) -> None:
    """The accuracy of the hardest classes, each on a line of its own, with its right and all its images."""
    hardest = found.classes[:HARDEST]
    codes = {name: code for code, name in enumerate(found.head.classes)}
    for number, one in enumerate(hardest):
        axes.plot(one.interval, [number] * 2, color=COLOURS[1], linewidth=1.4, alpha=0.5, solid_capstyle="butt")
        place = axes.get_yaxis_transform()
        axes.annotate(f"{one.right:,} of {one.images:,}", (1.02, number), xycoords=place, va="center", fontsize="small")
    axes.plot([one.accuracy for one in hardest], range(len(hardest)), color=COLOURS[1], marker="o", linestyle="")
    axes.axvline(found.head.promise.accuracy, color=GREY, linestyle=":", linewidth=1, zorder=1)
    axes.set_yticks(range(len(hardest)), [name_of(one.name, LONGEST) for one in hardest])
    for text, one in zip(axes.get_yticklabels(), hardest, strict=True):
        text.set_gid(f"class-{codes[one.name]}")
    axes.set_ylim(len(hardest) - 0.4, -0.6)
    axes.set_xlim(max(0, min(one.interval[0] for one in hardest) - 0.02), 1.02)
    percent_axis(axes.xaxis)
    axes.grid(visible=False, axis="y")
    whole = len(hardest) == len(found.classes)
    title = (
        "All classes, the hardest first" if whole else f"The hardest {len(hardest)} of {len(found.classes):,} classes"
    )
    axes.set(xlabel="share that is right (dotted: expected of all classes)", title=title)

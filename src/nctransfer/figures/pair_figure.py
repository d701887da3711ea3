"""Two classes on the line between their means."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from nctransfer.errors import short_text
from nctransfer.figures.style import (
    COLOURS,
    GREY,
    PAGE,
    SMALL,
    add_caption,
    caption_of,
    in_style,
    new_figure,
    plain_text,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from nctransfer.evaluation.pair_explanation import PairExplanation

__all__ = ["pair_figure"]

FEW = 40  # images of a class up to which each is a dot
BINS = 36  # of a histogram, at most
GOLDEN = 0.618034  # the golden ratio: its multiples fill an interval evenly
SIDES = (-1, 1)  # on which side of the border the first class is, and the second


@in_style
def pair_figure(found: PairExplanation, *, width: float = PAGE) -> Figure:
    """Both classes on the line between their means, in standard deviations within a class, with the border of ncc.

    Images are dots if there are few, else they are counted. Those on the wrong side of the border are dark.

    Args:
        found: The explanation, with its ``places``.
        width: The width in inches.

    Raises:
        ValueError: The explanation has no ``places``.
    """
    import numpy as np

    if found.places is None:
        raise ValueError("the explanation has no places; they are made by explain")
    scale = float(np.sqrt(np.mean([one.var() for one in found.places]))) or 1.0
    places = [one / scale for one in found.places]
    title = textwrap.wrap(found.reason[:1].upper() + found.reason[1:], int(width * 72 / (0.52 * 9.5)))
    figure = new_figure(width, 2.6 + 0.16 * len(title))
    axes = figure.subplots()
    (_draw_dots if max(map(len, places)) <= FEW else _draw_counts)(axes, places)
    axes.axvline(0, color=GREY, linewidth=1, linestyle="--", zorder=1)
    for one, place, colour, side in zip(found.directions, places, COLOURS, SIDES, strict=False):
        wrong, name = int((place * side < 0).sum()), short_text(one.name, int(width * 72 / (0.6 * SMALL) / 2.5))
        words = (plain_text(name), f"{wrong:,} of {len(place):,} ({wrong / len(place):.0%})", "on the wrong side")
        axes.text(
            0.5 + 0.49 * side,
            0.99,
            "\n".join(words),
            color=colour,
            fontsize=SMALL + 0.5,
            ha=("left", "right")[(side + 1) // 2],
            va="top",
            transform=axes.transAxes,
        )
    unit = "standard deviations within a class" if scale != 1 else "distances of the means"
    axes.set(
        xlabel=textwrap.fill(f"place on the line between the means, in {unit}", int(width * 72 / (0.54 * 8.5))),
        title="\n".join(map(plain_text, title)),
    )
    axes.grid(visible=False, axis="y")
    about = "Dashed: the border of ncc, between the means. Each image is left out of the mean of its own class"
    add_caption(figure, caption_of(found.features), _accuracies(found), about)
    return figure


def _accuracies(found: PairExplanation) -> str:
    """How often ncc is right, by labelled images per class."""
    parts = [f"{one.expected:.0%} with {one.shots:,}" for one in found.shots]
    parts += [f"{found.limit:.0%} with as many as one likes"] if found.limit is not None else []
    return f"Expected accuracy of ncc between the two, by labelled images per class (shots): {', '.join(parts)}"


def _draw_dots(axes: Axes, places: Sequence[NDArray[np.float64]]) -> None:
    """A row of dots for each class, up and down a little so that they do not cover each other."""
    import numpy as np

    for row, (place, colour, side) in enumerate(zip(places, COLOURS, SIDES, strict=False)):
        shift = 0.5 * ((np.arange(len(place)) * GOLDEN) % 1 - 0.5)
        is_wrong = np.sort(place) * side < 0
        for some, alpha in ((~is_wrong, 0.4), (is_wrong, 1.0)):
            x, y = np.sort(place)[some], (1 - row + shift)[some]
            axes.plot(x, y, "o", color=colour, alpha=alpha, markersize=4.5, markeredgewidth=0)
    axes.set(ylim=(-0.5, 2.3), yticks=[])
    axes.spines["left"].set_visible(False)


def _draw_counts(axes: Axes, places: Sequence[NDArray[np.float64]]) -> None:
    """A histogram of each class, with one bin that begins at the border."""
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    low, high = min(one.min() for one in places), max(one.max() for one in places)
    step = (high - low) / min(BINS, 8 + sum(map(len, places)) // 25)
    edges = step * np.arange(np.floor(low / step), np.ceil(high / step) + 1)
    highest = 0
    for place, colour, side in zip(places, COLOURS, SIDES, strict=False):
        counts, _ = np.histogram(place, edges)
        highest = max(highest, int(counts.max()))
        axes.stairs(counts, edges, color=colour, linewidth=1.2)
        wrong = (edges[:-1] + step / 2) * side < 0
        for some, alpha in ((~wrong, 0.2), (wrong, 0.75)):
            axes.bar(edges[:-1][some], counts[some], step, align="edge", color=colour, alpha=alpha, linewidth=0)
    axes.set(ylim=(0, 1.5 * highest), ylabel="images")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))

"""How many images each class has, as a bar chart; of many classes, the largest and the smallest ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nctransfer.errors import counted, short_text
from nctransfer.figures.style import COLOURS, PAGE, SMALL, add_caption, in_style, new_figure, plain_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["class_counts_figure", "shown_classes"]

EACH_END = 30  # classes that are drawn of the largest, and of the smallest, if not all can be
OF_EQUAL = 10  # the same where all classes have equally many images
LONGEST_NAME = 32  # characters
BAR = 0.155  # inches: the height that one class takes


def shown_classes(counts: Sequence[int]) -> tuple[list[int], int]:
    """The classes that the figure draws, the largest first, and the place of the gap between them.

    All classes are drawn if there are at most 60; otherwise, the 30 largest and the 30 smallest. If all classes have
    equally many images, 20 are enough. Classes with equally many images keep their order.

    Args:
        counts: The number of images of each class.

    Returns:
        The codes of the classes, and how many stand before the gap; all of them if there is no gap.

    >>> shown_classes([5, 9, 7])
    ([1, 2, 0], 3)
    >>> codes, before = shown_classes(range(100))
    >>> codes[before - 1], codes[before]
    (70, 29)
    """
    order = sorted(range(len(counts)), key=lambda code: -counts[code])
    each = OF_EQUAL if len(set(counts)) == 1 else EACH_END
    if len(order) <= 2 * each:
        return order, len(order)
    return order[:each] + order[-each:], each


@in_style
def class_counts_figure(names: Sequence[str], counts: Sequence[int], caption: str = "") -> Figure:
    """The number of images of each class as bars, sorted; at most 60 classes.

    Args:
        names: The name of each class.
        counts: The number of images of each class.
        caption: What the figure is about.
    """
    from matplotlib.ticker import MaxNLocator

    codes, before = shown_classes(counts)
    gap = len(codes) - before
    places = [place + (place >= before) * 1.5 for place in range(len(codes))]
    figure = new_figure(PAGE, 0.9 + BAR * (len(codes) + 1))
    axes = figure.subplots()
    drawn = axes.barh(places, [counts[code] for code in codes], height=0.72, color=COLOURS[0], linewidth=0)
    for code, bar, place in zip(codes, drawn, places, strict=True):
        bar.set_gid(f"class-{code}")
        axes.annotate(
            f"{counts[code]:,}", (counts[code], place), (3, 0), textcoords="offset points", va="center", fontsize=SMALL
        )
    labels = [plain_text(short_text(names[code], LONGEST_NAME)) for code in codes]
    for code, label in zip(codes, axes.set_yticks(places, labels, fontsize=SMALL), strict=True):
        label.label1.set_gid(f"class-{code}")
    if gap:
        between = counted(len(counts) - len(codes), "class", "classes")
        axes.annotate(f"… {between} between …", (0, before + 0.25), (3, 0), textcoords="offset points", va="center")
    axes.set_ylim(places[-1] + 0.7, -0.7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.margins(x=0.08)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("images")
    axes.set_title("Images of each class")
    add_caption(figure, caption)
    return figure

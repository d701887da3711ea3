"""Which classes resemble each other, as a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.errors import short_text
from nctransfer.figures.style import (
    COLOURS,
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
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from nctransfer.maps.class_map import ClassMap

__all__ = ["dendrogram_figure"]

MOST = 150  # classes; of more, those in the closest pairs are drawn
INTERESTING = 50
ROW = 0.125  # inches: the height of a leaf
LONG = 32  # characters of a name


@in_style
def dendrogram_figure(found: ClassMap, *, width: float = PAGE) -> Figure:
    """The tree of a class map: two branches join at the mean distance between their classes.

    Of more than 150 classes, the 50 in the closest pairs are drawn, with a tree of their own. The name of a class has
    the gid ``class-`` and its code.

    Args:
        found: The map.
        width: The width in inches.
    """
    from matplotlib.collections import LineCollection
    from scipy.cluster.hierarchy import dendrogram

    is_whole = len(found.classes) <= MOST
    codes = range(len(found.classes)) if is_whole else found.most_interesting(INTERESTING)
    tree = dendrogram(found.linkage if is_whole else _tree_of(found, codes), no_plot=True)
    leaves = [codes[leaf] for leaf in tree["leaves"]]
    figure = new_figure(width, 0.75 + ROW * len(leaves))
    axes = figure.subplots()
    heights, places = tree["dcoord"], [[place / 10 - 0.5 for place in link] for link in tree["icoord"]]
    links = [list(zip(height, place, strict=True)) for height, place in zip(heights, places, strict=True)]
    axes.add_collection(LineCollection(links, colors=COLOURS[0], linewidths=0.9))
    axes.set(xlim=(max(map(max, heights)) * 1.02 or 1, 0), ylim=(len(leaves) - 0.4, -0.6))
    axes.yaxis.tick_right()
    names = [plain_text(short_text(found.classes[code], LONG)) for code in leaves]
    axes.set_yticks(range(len(leaves)), names, fontsize=SMALL)
    for code, label in zip(leaves, axes.get_yticklabels(), strict=True):
        label.set_gid(f"class-{code}")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("distance, in within-class standard deviations")
    shown = "" if is_whole else f"Only the {len(leaves)} classes in the closest pairs are drawn"
    add_caption(figure, caption_of(found.features), shown)
    return figure


def _tree_of(found: ClassMap, codes: Sequence[int]) -> NDArray[np.float64]:
    """The tree of some of the classes, by average linkage."""
    import numpy as np
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    from nctransfer.maps.leaf_order import with_best_leaf_order

    distance = found.distance[np.ix_(codes, codes)]
    finite = distance[np.isfinite(distance)].max()
    lengths = np.where(np.isfinite(distance), distance, 2 * finite or 1.0)
    return with_best_leaf_order(linkage(squareform(lengths, checks=False), "average"), lengths)

"""How close any two classes are: a heat map of all pairs, and the closest of them by name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nctransfer.errors import short_text
from nctransfer.figures.number_axes import logarithmic
from nctransfer.figures.style import (
    COLOURS,
    COLUMN,
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

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nctransfer.neural_collapse.collapse_report import CollapseReport
    from nctransfer.neural_collapse.pair_matrix import PairMatrix

__all__ = ["class_pairs_figure"]

ALL = 150  # classes; of more, the most interesting are drawn
INTERESTING = 50
BARS = 12  # pairs that are named
BELOW = 3.1  # inches: the height of the bars that stand below the heat map
PITCH = 5.6  # points from one name to the next, at least
NAMED = 0.72  # of the side of a heat map with names: the map itself
LONG = 22  # characters of a name
CELL = 8  # pixels of a cell at least, so that no viewer smooths it away
COLOUR_MAP = "YlGnBu"  # from light to dark evenly, also in grey and for all eyes


@in_style
def class_pairs_figure(report: CollapseReport, *, width: float = PAGE) -> Figure:
    """The CDNV of all pairs of classes as a heat map, similar classes side by side, and the closest pairs as bars.

    Of more than 150 classes, the 50 that are in the closest pairs are drawn.

    Args:
        report: A report with its ``pair_matrix``.
        width: The width in inches. The bars stand below the heat map in a narrow figure, and where the names of the
            classes need the whole width.

    Raises:
        ValueError: The report has no ``pair_matrix``.
    """
    import numpy as np

    pairs = report.pair_matrix
    if pairs is None:
        raise ValueError("the report has no pair_matrix; call collapse with pair_matrix=True")
    count = len(pairs.classes)
    codes = _in_leaf_order(pairs, list(range(count)) if count <= ALL else pairs.most_interesting(INTERESTING))
    is_wide, half = width > 1.4 * COLUMN, 0.56 * width
    beside = is_wide and (_room(len(codes), half) >= PITCH or _room(len(codes), width) < PITCH)
    side = half if beside else width
    figure = new_figure(width, 1.12 * side if beside else 1.2 * side + BELOW)
    if beside:
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    else:
        left, right = figure.subplots(2, 1, height_ratios=(1.2 * side, BELOW))
    bar = _heat_map(figure, left, pairs, codes, side)
    _bars(right, pairs, 0.44 * width if beside else width)
    shown = "" if len(codes) == count else f"Only the {len(codes)} classes in the closest pairs are in the heat map"
    same = "Orange: two classes have the same mean" if np.isinf(pairs.cdnv).any() else ""
    add_caption(figure, caption_of(report.features), shown, same)
    _as_wide_as(bar, left)
    return figure


def _room(classes: int, side: float) -> float:
    """How many points a name has in a heat map that takes so many inches with its names."""
    return 72 * NAMED * side / classes


def _as_wide_as(bar: Axes, axes: Axes) -> None:
    """Place a colour bar exactly below the heat map, and fix the layout."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    heat, old = axes.get_position(), bar.get_position()
    bar.set_box_aspect(None)
    bar.set_position((heat.x0, old.y0, heat.width, old.height))


def _in_leaf_order(pairs: PairMatrix, codes: list[int]) -> list[int]:
    """The codes in the order of a hierarchical clustering, similar classes side by side."""
    import numpy as np
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    from nctransfer.maps.leaf_order import with_best_leaf_order

    if len(codes) < 3:
        return codes
    cdnv = pairs.cdnv[codes][:, codes].astype(np.float64)
    distance = np.zeros_like(cdnv)
    np.divide(1, np.sqrt(cdnv), out=distance, where=(cdnv > 0) & (cdnv < np.inf))
    distance[cdnv == 0] = 2 * distance.max() or 1  # no spread at all: farther than all others
    np.fill_diagonal(distance, 0)
    tree = with_best_leaf_order(linkage(squareform(distance, checks=False), "average"), distance)
    return [codes[place] for place in leaves_list(tree)]


def _heat_map(figure: Figure, axes: Axes, pairs: PairMatrix, codes: Sequence[int], side: float) -> Axes:
    """The matrix, dark where two classes are close; with the names of the classes if there is room for them.

    Returns:
        The colour bar.
    """
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    values = np.array(pairs.cdnv[codes][:, codes], dtype=np.float64)
    np.fill_diagonal(values, np.nan)
    seen = values[np.isfinite(values) & (values > 0)]
    low, high = (seen.min(), seen.max()) if len(seen) else (1, 1)
    low, high = (float(low), float(high)) if low < high else (low / 2, 2 * high)
    norm = LogNorm(low, high)
    values[values == 0], values[np.isinf(values)] = low, 10 * high
    colours = colormaps[COLOUR_MAP].with_extremes(over=COLOURS[1], bad="#eeeeee")  # same mean, the diagonal
    times = max(1, -(-CELL * 72 // len(codes)))
    image = axes.imshow(
        np.kron(values, np.ones((times, times))),
        norm=norm,
        cmap=colours,
        interpolation="none",
        extent=(0, len(codes), len(codes), 0),
    )
    axes.grid(visible=False)
    axes.set(title="How close two classes are", xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    room = _room(len(codes), side)
    if room >= PITCH:
        names = [plain_text(short_text(pairs.classes[code], LONG)) for code in codes]
        places, size = [place + 0.5 for place in range(len(codes))], min(SMALL, 0.9 * room)
        axes.set_yticks(places, names, fontsize=size)
        axes.set_xticks(places, names, fontsize=size, rotation=90)
        axes.tick_params(length=0, pad=2)
    else:
        axes.set_xlabel(f"{len(codes)} classes, similar ones side by side", fontsize=SMALL)
    bar = figure.colorbar(image, ax=axes, location="bottom", fraction=0.04, pad=0.02, aspect=30)
    bar.set_label("CDNV, not corrected for small classes: dark is close", fontsize=SMALL)
    logarithmic(bar.ax.xaxis, low, high)
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)
    return bar.ax


def _bars(axes: Axes, pairs: PairMatrix, width: float) -> None:
    """The closest pairs, each with its names above its bar; a bar without end stands for the same mean."""
    closest = pairs.closest(BARS)
    values = [float(pairs.cdnv[pair]) for pair in closest]
    finite = [value for value in values if math.isfinite(value)]
    end = 1.15 * max(finite, default=0) or 1
    letters = int((width * 72 - 60) / (0.55 * SMALL) / 2)
    for place, ((a, b), value) in enumerate(zip(closest, values, strict=True)):
        is_finite = math.isfinite(value)
        look = {"color": COLOURS[0]} if is_finite else {"color": COLOURS[1], "hatch": "////", "edgecolor": "white"}
        axes.barh(place + 0.24, value if is_finite else end, 0.3, **look)  # type: ignore[arg-type]
        names = " / ".join(short_text(pairs.classes[code], letters) for code in (a, b))
        axes.text(0, place + 0.02, plain_text(names), fontsize=SMALL, va="bottom", ha="left")
        words = f" {value:.3g}" if is_finite else " same mean"
        axes.text(value if is_finite else end, place + 0.24, words, fontsize=SMALL, va="center")
    axes.set(
        title="The closest pairs, with their CDNV", xlim=(0, 1.18 * end), ylim=(max(BARS / 2, len(closest)) - 0.4, -0.6)
    )
    axes.set_axis_off()

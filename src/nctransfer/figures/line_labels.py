"""Names at the ends of lines, moved apart so that they do not cover each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.text import Annotation

__all__ = ["move_apart", "spread"]

GAP = 1.15  # between the middles of two names, in units of their height


def spread(values: Sequence[float], gap: float) -> list[float]:
    """The nearest numbers, in the sense of least squares, of which neighbours are at least ``gap`` apart.

    Without the gaps, ``uᵢ = valuesᵢ − i · gap`` in ascending order, these are the nearest numbers that do not fall:
    isotonic regression, by pooling neighbours.

    Args:
        values: Numbers in any order.
        gap: At least 0.

    >>> spread([0.0, 10.0, 11.0], 3.0)
    [0.0, 9.0, 12.0]
    """
    order = sorted(range(len(values)), key=lambda number: values[number])
    pools: list[tuple[float, int]] = []  # sums and counts
    for rank, number in enumerate(order):
        total, count = values[number] - rank * gap, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            before = pools.pop()
            total, count = total + before[0], count + before[1]
        pools.append((total, count))
    places = [total / count for total, count in pools for _ in range(count)]
    found = [0.0] * len(values)
    for rank, (number, place) in enumerate(zip(order, places, strict=True)):
        found[number] = place + rank * gap
    return found


def move_apart(names: Sequence[Annotation]) -> None:
    """Move names up or down, in a figure whose layout is final, so that none covers another.

    Args:
        names: Names that stand side by side with their lines, in ``offset points``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    if not names:
        return
    figure = names[0].get_figure(root=True)
    assert figure is not None
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    boxes = [name.get_window_extent(renderer) for name in names]
    middles = [(box.y0 + box.y1) / 2 for box in boxes]
    moved = spread(middles, GAP * max(box.height for box in boxes))
    for name, old, new in zip(names, middles, moved, strict=True):
        x, y = name.xyann
        name.xyann = (x, y + (new - old) * 72 / figure.dpi)

"""Places for the names of points in a figure, so that they cover neither each other nor the points."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

__all__ = ["name_points"]

DISTANCES = (6, 14, 24, 36, 50)  # of a name from its point, in points
FAR = 24  # from here on, a line leads from the point to its name
DIRECTIONS = ((1, 0), (1, 1), (1, -1), (-1, 0), (-1, 1), (-1, -1), (0, 1), (0, -1))
OUTSIDE = 1e6  # what a name outside the axes costs, in the units of an overlap


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """The area that both cover.

        >>> Box(0, 0, 4, 4).overlap(Box(3, 2, 9, 9)), Box(0, 0, 1, 1).overlap(Box(2, 0, 3, 1))
        (2, 0)
        """
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.top, other.top) - max(self.bottom, other.bottom)
        return wide * high if wide > 0 and high > 0 else 0

    def wider(self, by: float) -> Box:
        """The box with this much more on each side."""
        return Box(self.left - by, self.bottom - by, self.right + by, self.top + by)

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The point of the box that is nearest to a point."""
        return min(max(x, self.left), self.right), min(max(y, self.bottom), self.top)

    def is_inside(self, other: Box) -> bool:
        """Whether all of it lies in another one."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.bottom >= other.bottom
            and self.top <= other.top
        )


class _Place(NamedTuple):
    """Where a name may stand."""

    box: Box
    is_far: bool


def name_points(
    figure: Figure,
    axes: Axes,
    names: Sequence[str],
    points: Sequence[tuple[float, float]],
    taken: Sequence[Box] = (),
    size: float | str = "x-small",
) -> list[Annotation]:
    """Write names beside points: each takes the place that covers least of what is there, the nearest of equal ones.

    A thin line leads to a name that is far from its point. The limits and the layout of the figure must be final.

    Args:
        figure: The figure.
        axes: Where the points are.
        names: The names, the most important ones first.
        points: The points, in the coordinates of the data.
        taken: Further boxes, in pixels, that should stay free.
        size: The size of the letters, as matplotlib has it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    scale = figure.dpi / 72  # pixels per point
    pixels = [(float(x), float(y)) for x, y in map(axes.transData.transform, points)]
    boxes = [*taken, *(Box(x, y, x, y).wider(4 * scale) for x, y in pixels)]
    frame = Box(*axes.get_window_extent(renderer).extents)
    found = []
    for name, point, (x, y) in zip(names, points, pixels, strict=True):
        text = axes.annotate(name, point, (0, 0), textcoords="offset points", fontsize=size)
        extent = Box(*text.get_window_extent(renderer).extents)
        places = list(_places(x, y, extent, scale))
        costs = [sum(map(one.box.overlap, boxes)) + OUTSIDE * (not one.box.is_inside(frame)) for one in places]
        best = places[costs.index(min(costs))]
        boxes.append(best.box)
        text.xyann = ((best.box.left - extent.left) / scale, (best.box.bottom - extent.bottom) / scale)
        if best.is_far:
            end = axes.transData.inverted().transform(best.box.nearest(x, y))
            axes.plot([point[0], end[0]], [point[1], end[1]], color="#999999", linewidth=0.5, zorder=1)
        found.append(text)
    return found


def _places(x: float, y: float, extent: Box, scale: float) -> Iterator[_Place]:
    """The places for a box around a point, the nearest first."""
    width, height = extent.right - extent.left, extent.top - extent.bottom
    for distance, (right, up) in itertools.product(DISTANCES, DIRECTIONS):
        gap = distance * scale * (0.7 if right and up else 1)
        left = x + right * gap - width * (1 - right) / 2
        bottom = y + up * gap - height * (1 - up) / 2
        yield _Place(Box(left, bottom, left + width, bottom + height), distance >= FAR)

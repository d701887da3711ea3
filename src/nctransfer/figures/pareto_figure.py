"""Candidates of a ranking as points: accuracy against images per second."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nctransfer.figures.label_places import Box, name_points
from nctransfer.figures.number_axes import logarithmic, percent_axis
from nctransfer.figures.style import COLOURS, COLUMN, GREY, PAGE, SMALL, add_caption, in_style, new_figure, plain_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Mark", "pareto_figure"]

Mark = Literal["possible best", "not best", "control"]
LOOKS: dict[Mark, dict[str, Any]] = {
    "possible best": {"color": COLOURS[0], "markerfacecolor": COLOURS[0], "marker": "o"},
    "not best": {"color": COLOURS[0], "markerfacecolor": "white", "marker": "o"},
    "control": {"color": GREY, "markerfacecolor": "white", "marker": "s"},
}
WORDS: dict[Mark, str] = {"possible best": "may be the best", "not best": "is not the best", "control": "control"}

NAMES = 8.5  # points: the letters of names, if they are not many
MANY = 14  # names


class _Point(NamedTuple):
    name: str
    accuracy: float
    interval: tuple[float, float] | None
    place: float  # images per second, or the number of the candidate if no speed is known
    mark: Mark
    is_on_front: bool


@in_style
def pareto_figure(
    names: Sequence[str],
    accuracies: Sequence[float],
    intervals: Sequence[tuple[float, float] | None],
    speeds: Sequence[float | None],
    marks: Sequence[Mark],
    front: Sequence[bool | None],
    *,
    title: str = "",
    accuracy_label: str = "accuracy",
    speed_label: str = "images per second",
    caption: str = "",
    width: float = PAGE,
) -> Figure:
    """Accuracy against speed: possible bests are filled, controls are grey, and a line joins the Pareto front.

    Candidates without a speed are named below the figure. If none has a speed, all are drawn side by side.

    Args:
        names: The names of K candidates.
        accuracies: Their accuracies, from 0 to 1.
        intervals: The intervals of these; ``None`` for a point without one.
        speeds: Images per second; ``None`` if they are not known.
        marks: What each candidate is.
        front: Whether each is on the Pareto front, see :func:`~nctransfer.rank.pareto.pareto_front`.
        title: The title.
        accuracy_label: What the accuracy is, for its axis.
        speed_label: What the speed is, for its axis.
        caption: What the figure is about.
        width: The width in inches.

    Raises:
        ValueError: The arguments are of unequal length.
    """
    known = [speed is not None and math.isfinite(speed) and speed > 0 for speed in speeds]
    has_speeds, drawn = any(known), [plain_text(name) for name in names]
    places = [float(speed or 0) for speed in speeds] if has_speeds else list(map(float, range(len(drawn))))
    rows = zip(drawn, accuracies, intervals, places, marks, (one is True for one in front), known, strict=True)
    points = [_Point(*row) for *row, has_speed in rows if has_speed or not has_speeds]
    figure = new_figure(width, 0.5 * width + 0.9)
    axes = figure.subplots()
    percent_axis(axes.yaxis)
    axes.set(ylabel=accuracy_label, title=plain_text(title))
    axes.margins(0.08)
    _draw_points(axes, points)
    if has_speeds:
        _draw_front(axes, [point for point in points if point.is_on_front])
        _label_speeds(axes, [point.place for point in points], speed_label)
        missing = [name for name, has_speed in zip(names, known, strict=True) if not has_speed]
        note = f"Not drawn, as the speed is not known: {', '.join(missing)}" if missing else ""
        _finish(figure, axes, caption, note)
        _name(figure, axes, points)
    else:
        axes.set_xticks(places, drawn, rotation=30, ha="right", fontsize=SMALL)
        _finish(figure, axes, caption, "No speed is known")
    return figure


def _draw_points(axes: Axes, points: Sequence[_Point]) -> None:
    for mark, look in LOOKS.items():
        some = [point for point in points if point.mark == mark]
        if not some:
            continue
        ends = [point.interval or (point.accuracy, point.accuracy) for point in some]
        lengths = [
            [max(0.0, point.accuracy - low) for point, (low, _) in zip(some, ends, strict=True)],
            [max(0.0, high - point.accuracy) for point, (_, high) in zip(some, ends, strict=True)],
        ]
        axes.errorbar(
            [point.place for point in some],
            [point.accuracy for point in some],
            yerr=lengths,
            linestyle="none",
            elinewidth=1,
            markersize=6,
            label=WORDS[mark],
            zorder=3,
            **look,
        )


def _draw_front(axes: Axes, front: Sequence[_Point]) -> None:
    line = sorted((point.place, point.accuracy) for point in front)
    if line:
        axes.plot(*zip(*line, strict=True), color=COLOURS[1], linewidth=1, zorder=2, label="Pareto front")


def _label_speeds(axes: Axes, speeds: Sequence[float], label: str) -> None:
    low, high = min(speeds), max(speeds)
    if high < 2 * low:  # an axis of one octave at least has numbers
        middle = math.sqrt(low * high)
        low, high = middle / 1.6, middle * 1.6
    logarithmic(axes.xaxis, low, high, most=7 if axes.figure.bbox.width > 400 else 5)
    if high > max(speeds):
        axes.set_xlim(low, high)
    axes.set_xlabel(plain_text(label))


def _finish(figure: Figure, axes: Axes, *caption: str) -> None:
    """Add the legend and the caption, and fix where everything is."""
    add_caption(figure, *caption)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper left", ncols=4 if figure.get_figwidth() > 1.4 * COLUMN else 2)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _name(figure: Figure, axes: Axes, points: Sequence[_Point]) -> None:
    """Write the names, those of possible bests and of the front first."""
    order = sorted(points, key=lambda point: (list(LOOKS).index(point.mark), not point.is_on_front, -point.accuracy))
    places = [(point.place, point.accuracy) for point in order]
    taken, size = [*_bars(axes, points), *_line(axes)], NAMES if len(points) <= MANY else SMALL
    texts = name_points(figure, axes, [point.name for point in order], places, taken, size)
    for text, point in zip(texts, order, strict=True):
        text.set_color(LOOKS[point.mark]["color"] if point.mark == "control" else "black")


def _bars(axes: Axes, points: Sequence[_Point]) -> Iterator[Box]:
    """The intervals in pixels."""
    for point in points:
        if point.interval:
            (left, bottom), (_, top) = (axes.transData.transform((point.place, end)) for end in point.interval)
            yield Box(left, bottom, left, top).wider(1.5)


def _line(axes: Axes) -> Iterator[Box]:
    """Short pieces of the lines in pixels."""
    for line in axes.get_lines():
        if line.get_linestyle() == "-":
            for (x, y), (u, v) in itertools.pairwise(axes.transData.transform(line.get_xydata())):
                steps = 1 + int(math.hypot(u - x, v - y) / 5)
                for k in range(steps):
                    at = x + (u - x) * k / steps, y + (v - y) * k / steps
                    yield Box(*at, *at).wider(2.5)

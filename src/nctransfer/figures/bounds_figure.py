"""Bounds of the error of nearest class centres as a figure, over labelled images per class."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nctransfer.figures.axis_labels import place_of_infinity, show_places
from nctransfer.figures.bound_names import readable
from nctransfer.figures.foot import add_foot
from nctransfer.figures.line_labels import move_apart
from nctransfer.figures.number_axes import logarithmic, percent_axis
from nctransfer.figures.style import COLOURS, GREY, PAGE, caption_of, in_style, new_figure

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

    from nctransfer.evaluation.expected_accuracy import ExpectedAccuracies, ExpectedAccuracy
    from nctransfer.neural_collapse.bound_table import BoundRow, BoundTable

__all__ = ["bounds_figure"]

MOST_PANELS = 6
WIDTHS = {1: 5.2, 2: PAGE, 3: PAGE}  # inches, by panels side by side
TOP, BOTTOM = 1.0, 1e-4  # of errors: larger ones say nothing and are beyond the figure, smaller ones at its edge
BESIDE_NAMES = 1.6  # panels side by side that have as little room as one with names at its right
MARKERS = ("o", "s", "^", "v", "D", "P", "X")
MEAN = "mean error of ncc over all episodes"
Z_ZONES, Z_LINES, Z_DOTS = 0, 3, 4


class _Line(NamedTuple):
    """A bound over shots, as far as it has values."""

    name: str
    number: int  # of its colour
    shots: tuple[float, ...]
    errors: tuple[float, ...]
    chance: float  # the error of a random answer

    @property
    def is_visible(self) -> bool:
        """Whether it says anything."""
        return any(error < self.chance for error in self.errors)


class _Panel(NamedTuple):
    """The bounds for one number of ways, and the mean errors."""

    ways: int
    shots: list[float]
    lines: list[_Line]
    dots: list[ExpectedAccuracy]


@in_style
def bounds_figure(found: BoundTable, expected: ExpectedAccuracies | None = None) -> Figure:
    """Bounds over shots, both on logarithmic axes. In the grey zone a bound says nothing.

    The axis of errors ends at 100%, and a bound that is nowhere below the error of a random answer is only named.

    There is a panel for each number of ways. Infinitely many shots stand at the end of the axis, behind a gap.

    Args:
        found: The bounds.
        expected: The expected accuracies of ``ncc``. The errors with the same ways are drawn as dots.
    """
    ways = list(dict.fromkeys(row.ways for row in found.rows))
    panels = [_panel(found, size, expected) for size in ways[:MOST_PANELS]]
    across = 2 if len(panels) == 4 else min(3, len(panels))
    down = math.ceil(len(panels) / across)
    figure = new_figure(WIDTHS[across], 0.9 + down * (2.7 if across < 3 else 2.2))
    grid = [*figure.subplots(down, across, squeeze=False).flat]
    for axes in grid[len(panels) :]:
        axes.remove()
    is_alone = len(panels) == 1
    entries: dict[str, Artist] = {}
    for axes, panel in zip(grid, panels, strict=False):
        entries |= _draw(axes, panel, across)
        axes.set_title("" if is_alone else f"{panel.ways}-way")
    _share_errors(grid[: len(panels)], panels, across)
    names = [_name(grid[0], line, panels[0].shots) for line in panels[0].lines if line.is_visible] if is_alone else []
    figure.suptitle("Bounds of the error of nearest class centres" + f", {ways[0]}-way" * is_alone)
    left_out = f"Only {MOST_PANELS} of {len(ways)} panels are drawn" if len(ways) > MOST_PANELS else ""
    at_lines = {name.get_text() for name in names}
    entries = {name: artist for name, artist in entries.items() if name not in at_lines}
    add_foot(figure, (caption_of(found.features), *_explained(found, panels), left_out), entries)
    move_apart(names)
    return figure


def _panel(found: BoundTable, ways: int, expected: ExpectedAccuracies | None) -> _Panel:
    rows = [row for row in found.rows if row.ways == ways]
    dots = [row for row in expected.rows if (row.ways, row.classifier) == (ways, "ncc")] if expected else []
    shots = sorted({row.shots for row in rows} | {float(row.shots) for row in dots})
    return _Panel(ways, shots, list(_lines(rows)), dots)


def _lines(rows: Sequence[BoundRow]) -> Iterator[_Line]:
    for number, name in enumerate([*rows[0].bounds][::-1]):  # the tightest come last and are named first
        points = [(row.shots, value) for row in rows if (value := row.bounds[name].value) is not None]
        if points:
            shots, errors = zip(*points, strict=True)
            yield _Line(readable(name), number, shots, errors, 1 - 1 / rows[0].ways)


def _draw(axes: Axes, panel: _Panel, across: int) -> dict[str, Artist]:
    """Draw one panel; what it has is returned by name."""
    entries: dict[str, Artist] = {}
    end = place_of_infinity([shots for shots in panel.shots if math.isfinite(shots)])
    for line in panel.lines:
        if not line.is_visible:
            continue
        look: dict[str, Any] = {"color": COLOURS[line.number % len(COLOURS)], "zorder": Z_LINES}
        shots = [min(number, end) for number in line.shots]
        errors = [max(error, BOTTOM) if math.isfinite(error) else math.nan for error in line.errors]
        finite = sum(map(math.isfinite, line.shots))
        marker = MARKERS[line.number % len(MARKERS)]
        axes.plot(shots[finite - 1 :], errors[finite - 1 :], linestyle=":", **look)  # from the last number to infinity
        axes.plot(shots[:finite], errors[:finite], **look)
        [entries[line.name]] = axes.plot(shots, errors, marker=marker, linestyle="", **look)
    if panel.dots:
        errors = [max(1 - row.accuracy, BOTTOM) for row in panel.dots]
        [entries[MEAN]] = axes.plot(
            [row.shots for row in panel.dots], errors, color="black", marker="o", linestyle="", zorder=Z_DOTS
        )
    show_places(axes, panel.shots, across if across > 1 else BESIDE_NAMES)
    axes.set_xlabel("labelled images per class (shots)")
    return entries


def _share_errors(grid: Sequence[Axes], panels: Sequence[_Panel], across: int) -> None:
    """Give all panels the same range of errors and their grey zones, and those at the left the numbers."""
    errors = [error for panel in panels for line in panel.lines if line.is_visible for error in line.errors]
    errors += [1 - row.accuracy for panel in panels for row in panel.dots]
    shown = [min(max(error, BOTTOM), TOP) for error in errors]
    low = min([*shown, 0.5]) / 1.4
    for number, (axes, panel) in enumerate(zip(grid, panels, strict=True)):
        logarithmic(axes.yaxis, low, TOP, most=9)
        axes.set_ylim(low, TOP)
        percent_axis(axes.yaxis)
        axes.axhspan(1 - 1 / panel.ways, TOP, color=GREY, alpha=0.2, linewidth=0, zorder=Z_ZONES)
        if number % across:
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel("error")


def _name(axes: Axes, line: _Line, shots: Sequence[float]) -> Annotation:
    """Write the name of a line at its right end."""
    end = place_of_infinity([number for number in shots if math.isfinite(number)])
    place = (min(line.shots[-1], end), min(max(line.errors[-1], BOTTOM), TOP))
    return axes.annotate(
        line.name,
        place,
        (8, 0),
        textcoords="offset points",
        va="center",
        color=COLOURS[line.number % len(COLOURS)],
        annotation_clip=False,
    )


def _explained(found: BoundTable, panels: Sequence[_Panel]) -> Iterator[str]:
    fewest, most = found.images_per_class
    images = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
    yield f"For draws with replacement from these images, {images} per class"
    yield "Grey: no better than a random answer"
    lines = [line for panel in panels for line in panel.lines]
    visible = {line.name for line in lines if line.is_visible}
    hidden = dict.fromkeys(line.name for line in lines if line.name not in visible)
    if hidden:
        yield f"Not drawn, as they are nowhere better than a random answer: {_listed(hidden)}"
    absent: dict[str, dict[str, None]] = {}
    for row in found.rows:
        for name, bound in row.bounds.items():
            if bound.reason:
                absent.setdefault(bound.reason, {})[name] = None
    for reason, names in absent.items():
        yield f"Without a value: {_listed(map(readable, names))} ({reason})"


def _listed(names: Iterable[str]) -> str:
    """All of the names; those that have a comma are separated by semicolons."""
    found = list(names)
    return ("; " if any("," in name for name in found) else ", ").join(found)

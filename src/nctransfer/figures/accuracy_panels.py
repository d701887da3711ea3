"""Accuracies with their intervals: curves over labelled images or over classes, or dots side by side.

A figure has one panel or several of equal size. If every curve has one point, the panels show dots, each on a line of
its own. Chance is a dotted line, and bounds are grey lines. Where they are so far below everything else that it would
look flat, the caption gives their numbers instead.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nctransfer.figures.bound_names import by
from nctransfer.figures.foot import LONGEST, add_foot, name_of
from nctransfer.figures.number_axes import percent_axis
from nctransfer.figures.style import PAGE, in_style, new_figure, plain_text

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MOST_PANELS", "Curve", "Ends", "Floor", "Panel", "accuracy_figure"]

MOST_PANELS = 6
WIDTHS = {1: 4.8, 2: PAGE, 3: PAGE}  # inches, by panels side by side
LETTERS = {1: 60, 2: 46, 3: 30}  # of a line of a panel's own legend, by panels side by side
LETTERS_OF_DOTS = 26  # of a line beside dots
REACH = 0.5  # heights of the curves below them: what is lower is not drawn, so that they have most of the axis
LEAST_HEIGHT = 0.02  # of the curves
MARGIN = 0.05  # above and below the curves, of their height

Ends = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Accuracies of one classifier or of one feature set, from 0 to 1.

    Attributes:
        name: Its name.
        places: Where its points are: numbers of shots, or of ways.
        accuracies: One per place.
        intervals: 95%, one per place; ``None`` where there is none.
        expected: The expected accuracies; ``None`` where theory has none. Empty if there are none at all.
        note: A few words about it.
    """

    name: str
    places: tuple[float, ...]
    accuracies: tuple[float, ...]
    intervals: tuple[Ends | None, ...]
    expected: tuple[float | None, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Floor:
    """What an accuracy is at least, by a bound of the error.

    Attributes:
        name: The bound.
        of: The name of the curve.
        places: The places at which the bound says more than chance.
        accuracies: One per place.
    """

    name: str
    of: str
    places: tuple[float, ...]
    accuracies: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Curves that share axes.

    Attributes:
        curves: The curves.
        chance: The accuracy of random answers, by place.
        title: The title.
        floors: Bounds of the accuracies.
    """

    curves: tuple[Curve, ...]
    chance: dict[float, float] = field(default_factory=dict)
    title: str = ""
    floors: tuple[Floor, ...] = ()

    @property
    def measured(self) -> Iterator[float]:
        """All accuracies, expected ones, and ends of intervals."""
        for one in self.curves:
            yield from (value for value in (*one.accuracies, *one.expected) if value is not None)
            yield from (end for ends in one.intervals if ends for end in ends)

    @property
    def below(self) -> Iterator[float]:
        """Chance and the floors."""
        yield from self.chance.values()
        for one in self.floors:
            yield from one.accuracies


@in_style
def accuracy_figure(
    panels: Sequence[Panel], *, title: str, x_label: str, unit: str = "shots", caption: tuple[str, ...] = ()
) -> Figure:
    """Draw panels; if there are more than six, the caption says that the others are left out.

    Args:
        panels: The panels. All have the same places, and curves of the same names.
        title: The title of the figure.
        x_label: What the places are.
        unit: The same in one word.
        caption: Sentences below the figure.
    """
    from nctransfer.figures.accuracy_marks import draw_curves, draw_dots

    shown, said = _without_what_is_far(panels[:MOST_PANELS], unit)
    is_dots = all(len(curve.places) == 1 for one in shown for curve in one.curves)
    has_own = any(curve.note for one in shown for curve in one.curves)
    across = 1 if is_dots else min(2 if has_own or len(shown) == 4 else 3, len(shown))
    names = [_own_names(panel, LETTERS_OF_DOTS if is_dots else LETTERS[across]) for panel in shown]
    figure = new_figure(*_size(shown, across, is_dots, max(map(_lines, names)) if has_own else 0))
    grid = [*figure.subplots(math.ceil(len(shown) / across), across, squeeze=False).flat]
    for axes in grid[len(shown) :]:
        axes.remove()
    entries: dict[str, Artist] = {}
    for axes, panel, own in zip(grid, shown, names, strict=False):
        if is_dots:
            entries |= draw_dots(axes, panel, own)
        else:
            entries |= draw_curves(axes, panel, own if has_own else None, across)
        axes.set_title(plain_text(panel.title))
        axes.set_xlabel("accuracy" if is_dots else x_label)
    _share_accuracies(grid[: len(shown)], shown, across, is_dots)
    figure.suptitle(plain_text(title))
    left_out = f"Only {MOST_PANELS} of {len(panels)} panels are drawn" if len(panels) > MOST_PANELS else ""
    add_foot(figure, (*caption, *said, left_out), entries)
    return figure


def _own_names(panel: Panel, letters: int) -> list[str]:
    """The names of the curves with their notes, in lines that fit the panel."""
    most = min(LONGEST, letters)
    return [
        textwrap.fill(f"{name_of(one.name, most)}: {one.note}", letters, subsequent_indent="  ", break_long_words=False)
        if one.note
        else name_of(one.name, most)
        for one in panel.curves
    ]


def _lines(names: Sequence[str]) -> int:
    return sum(1 + name.count("\n") for name in names)


def _size(panels: Sequence[Panel], across: int, is_dots: bool, lines: int) -> tuple[float, float]:
    """The width and the height of the figure in inches, for panels with legends of so many lines."""
    down = math.ceil(len(panels) / across)
    if is_dots:
        return WIDTHS[across], 1.1 + down * (0.7 + max(lines, *(len(one.curves) for one in panels), 1) * 0.24)
    return WIDTHS[across], 0.9 + down * ((2.5 if across < 3 else 2.1) + 0.14 * lines)


def _ends(values: Sequence[float]) -> Ends:
    low, high = min(values), max(values)
    return low, max(high, low + LEAST_HEIGHT)


def _without_what_is_far(panels: Sequence[Panel], unit: str) -> tuple[Sequence[Panel], list[str]]:
    """The panels without what is too far below the curves, and what the caption says of it."""
    low, high = _ends([value for panel in panels for value in panel.measured])
    lowest = low - REACH * (high - low)
    said = []
    chances = [value for panel in panels for value in panel.chance.values()]
    if is_far := bool(chances) and min(chances) < lowest:
        ends = " to ".join(dict.fromkeys(f"{100 * value:.3g}%" for value in (min(chances), max(chances))))
        said.append(f"Chance is {ends}")
    said += [_in_words(floor, panel, lowest, unit) for panel in panels for floor in panel.floors]
    near = [tuple(one for floor in panel.floors if (one := _from(floor, lowest)).places) for panel in panels]
    found = [
        replace(panel, chance={} if is_far else panel.chance, floors=floors)
        for panel, floors in zip(panels, near, strict=True)
    ]
    return found, [sentence for sentence in said if sentence]


def _from(floor: Floor, lowest: float) -> Floor:
    """The floor where it is not lower than this."""
    kept = [point for point in zip(floor.places, floor.accuracies, strict=True) if point[1] >= lowest]
    return replace(floor, places=tuple(place for place, _ in kept), accuracies=tuple(value for _, value in kept))


def _in_words(floor: Floor, panel: Panel, lowest: float, unit: str) -> str:
    """What a floor says where it is lower than this; "" if it is not."""
    low = [point for point in zip(floor.places, floor.accuracies, strict=True) if point[1] < lowest]
    if not low:
        return ""
    numbers = " to ".join(dict.fromkeys(f"{100 * value:.3g}%" for _, value in (low[0], low[-1])))
    said = f"By {by(floor.name)} (not drawn), {floor.of} is right at least {numbers} of the time"
    if len(panel.curves[0].places) > 1:
        at = " to ".join(dict.fromkeys(f"{place:g}" for place, _ in (low[0], low[-1])))
        said += f" with {at} {unit if at != '1' else unit.removesuffix('s')}"
    return said + f" ({panel.title})" * bool(panel.title)


def _share_accuracies(grid: Sequence[Axes], panels: Sequence[Panel], across: int, is_dots: bool) -> None:
    """Give all panels the same range of accuracies, and those at the left its numbers."""
    from matplotlib.ticker import MaxNLocator

    low, high = _ends([value for panel in panels for value in (*panel.measured, *panel.below)])
    room = MARGIN * (high - low)
    ends = low - room, min(high + room, 1 + room / 2)
    for number, axes in enumerate(grid):
        if is_dots:
            axes.set_xlim(*ends)
            axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
            percent_axis(axes.xaxis)
            continue
        axes.set_ylim(*ends)
        percent_axis(axes.yaxis)
        if number % across:
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel("accuracy")

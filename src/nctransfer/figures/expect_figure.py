"""Expected accuracies as a figure: a heat map over ways and shots, with the numbers in its cells."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nctransfer.figures.foot import add_foot
from nctransfer.figures.number_axes import percent_axis
from nctransfer.figures.style import PAGE, caption_of, in_style, new_figure, plain_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nctransfer.evaluation.expected_accuracy import ExpectedAccuracies, ExpectedAccuracy

__all__ = ["contrast", "expect_figure", "text_colour"]

MAP = "YlGnBu"  # from light to dark evenly, also in grey and for all eyes; it has no grey, which pages recolour
LIGHT, DARK = "#fefeff", "#000005"  # nearly white and black; a page in dark mode would exchange these two
ACROSS = 3  # panels side by side
SIDE, ABOVE, BETWEEN = 0.7, 0.5, 0.6  # inches beside the panels, above the figure, and for the labels of each panel
WIDEST, HIGHEST = 0.8, 0.42  # inches: of a cell
LEAST_HEIGHT, MOST_HEIGHT = 1.05, 6.0  # inches: of a panel, which has a label beside it, and of all panels together
TWO_LINES = (0.42, 0.34)  # inches: smaller cells have no ±
ONE_LINE = (0.27, 0.14)  # inches: smaller cells have no number, so that there is a scale
LEAST_RANGE = 0.02  # of accuracies


class Cell(NamedTuple):
    """The size of a cell in inches."""

    width: float
    height: float

    def fits(self, least: tuple[float, float]) -> bool:
        """Whether it is no smaller than this."""
        return self.width >= least[0] and self.height >= least[1]


@in_style
def expect_figure(*found: ExpectedAccuracies) -> Figure:
    """Expected accuracy over ways and shots: a cell for each task, with its accuracy in percent and its ±.

    Large cells have both; smaller ones have the accuracy, and tiny ones only their colour, with a scale beside them.

    Args:
        found: The expected accuracies, a panel for each, such as those of several classifiers.
    """
    from matplotlib.colors import Normalize

    across = min(ACROSS, len(found))
    down = math.ceil(len(found) / across)
    columns, rows = (max(len(_values(one.rows, name)) for one in found) for name in ("shots", "ways"))
    cell = Cell(
        min(WIDEST, (PAGE - SIDE * across) / (across * columns)),
        min(max(HIGHEST, LEAST_HEIGHT / rows), MOST_HEIGHT / (down * rows)),
    )
    width = max(3.4, across * (SIDE + columns * cell.width))
    figure = new_figure(width, ABOVE + down * (BETWEEN + rows * cell.height))
    grid = [*figure.subplots(down, across, squeeze=False).flat]
    for axes in grid[len(found) :]:
        axes.remove()
    values = [row.accuracy for one in found for row in one.rows]
    colours = Normalize(min(values), max(max(values), min(values) + LEAST_RANGE))
    for axes, one in zip(grid, found, strict=False):
        mesh = _draw(axes, one.rows, cell, colours)
        axes.set_title(plain_text(_name(one)) if len(found) > 1 else "")
    if not cell.fits(ONE_LINE):
        percent_axis(figure.colorbar(mesh, ax=grid[: len(found)], label="expected accuracy").ax.yaxis)
    title = "Expected accuracy" + (f" of {_name(found[0])}" if len(found) == 1 else "")
    figure.suptitle(plain_text(title))
    add_foot(figure, (caption_of(found[0].features), *_explained(found, cell)), {})
    return figure


def _values(rows: Sequence[ExpectedAccuracy], name: str) -> list[int]:
    return sorted({getattr(row, name) for row in rows})


def _name(found: ExpectedAccuracies) -> str:
    first = found.rows[0]
    return first.classifier + (" by the normal method" if first.method == "normal" else "")


def _draw(axes: Axes, rows: Sequence[ExpectedAccuracy], cell: Cell, colours: Any) -> Any:
    """The cells of one panel, the fewest ways at the top."""
    import numpy as np
    from matplotlib import colormaps

    ways, shots = _values(rows, "ways"), _values(rows, "shots")
    accuracies = np.full((len(ways), len(shots)), np.nan)
    for row in rows:
        place = ways.index(row.ways), shots.index(row.shots)
        accuracies[place] = row.accuracy
        colour = text_colour(colormaps[MAP](colours(row.accuracy)))
        for text, up, size in _texts(row, cell):
            axes.annotate(
                text,
                (place[1] + 0.5, place[0] + 0.5),
                (0, up),
                textcoords="offset points",
                ha="center",
                va="center",
                color=colour,
                fontsize=size,
            )
    mesh = axes.pcolormesh(accuracies, cmap=MAP, norm=colours, edgecolors="white", linewidth=0.8)
    axes.set_xticks([number + 0.5 for number in range(len(shots))], [f"{number:,}" for number in shots])
    axes.set_yticks([number + 0.5 for number in range(len(ways))], [f"{number:,}" for number in ways])
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="labelled images per class (shots)", ylabel="classes (ways)")
    return mesh


def _texts(row: ExpectedAccuracy, cell: Cell) -> Iterator[tuple[str, float, float]]:
    """What a cell says: text, height above its middle in points, size."""
    if not cell.fits(ONE_LINE):
        return
    error = "exact" if row.exact else f"± {100 * row.ci95:.2f}" if row.ci95 else ""
    has_error = bool(error) and cell.fits(TWO_LINES)
    yield f"{100 * row.accuracy:.1f}", 4.5 if has_error else 0, 8 if cell.fits(TWO_LINES) else 6.5
    if has_error:
        yield error, -5.5, 6


def _explained(found: Sequence[ExpectedAccuracies], cell: Cell) -> Iterator[str]:
    yield ("In %, the" if cell.fits(ONE_LINE) else "The") + " mean over all episodes, computed without drawing any"
    rows = [row for one in found for row in one.rows]
    if any(row.ci95 for row in rows):
        if cell.fits(TWO_LINES):
            yield "± is the 95% interval of the computation; exact values have none"
        else:
            yield f"The 95% interval of the computation is at most ± {100 * max(row.ci95 for row in rows):.2f}"


def text_colour(background: Sequence[float]) -> str:
    """The text colour, light or dark, that has the higher contrast on a background.

    Args:
        background: Red, green and blue from 0 to 1.

    >>> text_colour((0, 0, 0.3)), text_colour((0.9, 0.9, 0.2))
    ('#fefeff', '#000005')
    """
    from matplotlib.colors import to_rgb

    return max((LIGHT, DARK), key=lambda colour: contrast(to_rgb(colour), background))


def contrast(one: Sequence[float], other: Sequence[float]) -> float:
    """The contrast ratio of two colours, from 1 to 21, by the Web Content Accessibility Guidelines (WCAG 2.2).

    ``(L₁ + 0.05) / (L₂ + 0.05)``, L₁ the larger of the relative luminances. Text should have 4.5 or more.

    Args:
        one: Red, green and blue from 0 to 1.
        other: The other colour.

    >>> contrast((0, 0, 0), (1, 1, 1))
    21.0
    """
    low, high = sorted(map(_luminance, (one, other)))
    return round((high + 0.05) / (low + 0.05), 9)


def _luminance(colour: Sequence[float]) -> float:
    linear = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in colour)
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=False))

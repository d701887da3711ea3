"""Axes with numbers that read easily: percentages, and plain numbers on logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axis import Axis

__all__ = ["logarithmic", "percent_axis", "plain_numbers"]

STEPS: tuple[tuple[float, ...], ...] = (  # of the numbers on a logarithmic axis, within a power of ten
    (1,),
    (1, 3),
    (1, 2, 5),
    (1, 1.5, 2, 3, 5, 7),
    (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9),
)


def percent_axis(axis: Axis) -> None:
    """Label an axis of shares by percentages, with as many digits as they need."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 2):g}%"))


def plain_numbers(axis: Axis, subs: Sequence[float] = (1, 1.5, 2, 3, 5, 7)) -> None:
    """Label a logarithmic axis by plain numbers, not by powers: these multiples of each power of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def logarithmic(axis: Axis, low: float, high: float, most: int = 4) -> None:
    """Make an axis logarithmic, with plain numbers at some places between two values: a few, but three if possible.

    Args:
        axis: The axis.
        low: The smallest value, above zero.
        high: The largest value.
        most: How many numbers there is room for.
    """
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, StrMethodFormatter

    is_x = axis is axis.axes.xaxis
    (axis.axes.set_xscale if is_x else axis.axes.set_yscale)("log")
    axis.set_major_locator(FixedLocator(_round_numbers(low, high, most)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _round_numbers(low: float, high: float, most: int = 4) -> list[float]:
    """Numbers with few digits from one value to another, a few of them, evenly on a logarithmic axis.

    >>> _round_numbers(0.1, 30), _round_numbers(0.9, 1.6), _round_numbers(1.16, 1.39)
    ([0.1, 1.0, 10.0], [0.9, 1.2, 1.6], [1.2, 1.25, 1.3, 1.35])
    """
    from matplotlib.ticker import MaxNLocator

    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    best: list[float] = []
    for steps in STEPS:
        every = [float(f"{step}e{decade}") for decade in decades for step in steps]
        found = [number for number in every if low * (1 - 1e-9) <= number <= high * (1 + 1e-9)]
        if len(found) > most:
            return best if len(best) >= 3 else found[:: -(-len(found) // most)]
        best = found
    if len(best) >= 3:
        return best
    ticks = MaxNLocator(most + 1).tick_values(low, high)
    return [float(f"{number:.6g}") for number in ticks if low <= number <= high] or [float(f"{low:.3g}")]

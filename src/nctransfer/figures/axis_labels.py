"""What stands below an axis: places on a logarithmic axis, with infinity at its end, or the names of layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["place_of_infinity", "show_layers", "show_places", "spaced"]

NEAR = 0.04  # of an axis as wide as one panel: numbers that are nearer to each other would overlap
BEYOND = 0.2  # of the axis, from the largest number to infinity
ROOM = 0.05  # of the axis, at both ends
MOST_LAYERS = 8  # that are named; of more, every second, third, …


def spaced(places: Sequence[float], near: float = NEAR) -> list[float]:
    """Those of ascending places that can be labelled on a logarithmic axis without overlap: the last, and others.

    >>> spaced([1, 2, 5, 19, 20])
    [1, 2, 5, 20]
    """
    kept = list(places[-1:])
    span = math.log(places[-1] / places[0]) if places else 0
    for place in reversed(places[:-1]):
        if math.log(kept[0] / place) >= near * span:
            kept.insert(0, place)
    return kept


def place_of_infinity(places: Sequence[float]) -> float:
    """Where infinity stands on a logarithmic axis of these finite numbers.

    >>> round(place_of_infinity([1, 10, 100]), 1), place_of_infinity([5]), place_of_infinity([])
    (251.2, 10.0, 1.0)
    """
    if not places:
        return 1.0
    return max(places) * float(max((max(places) / min(places)) ** BEYOND, 2))


def show_places(axes: Axes, places: Sequence[float], panels: float = 1) -> None:
    """Make the x axis logarithmic, with the places that were measured as its numbers.

    Args:
        axes: The axes.
        places: Numbers of shots or of ways; infinity is the last, behind a gap.
        panels: The number of panels side by side; more for a panel with less room.
    """
    finite = sorted({place for place in places if math.isfinite(place)})
    ticks = spaced(finite, NEAR * panels)
    names = [f"{place:,.0f}" for place in ticks]
    if any(map(math.isinf, places)):
        end = place_of_infinity(finite)
        if ticks:
            gap = math.sqrt(end * finite[-1])
            axes.axvline(gap, color="#999999", linewidth=0.8, linestyle=(0, (1, 3)), zorder=1)
        ticks, names = [*ticks, end], [*names, "∞"]
    low, high = ticks[0], ticks[-1]
    room = (high / low) ** ROOM if high > low else 2.0
    axes.set_xscale("log")
    axes.set_xlim(low / room, high * room)
    axes.set_xticks(ticks, names)
    axes.set_xticks([], minor=True)


def show_layers(axes: Axes, layers: Sequence[str], others: Sequence[str] = ()) -> None:
    """Name the layers that stand at 0, 1, … of the x axis: of many, some, and always the last.

    Args:
        axes: The axes.
        layers: The columns of the layers, such as ``layer_3``; ``feature`` is the output.
        others: Names behind the layers, each of which is shown.
    """
    step, last = -(-len(layers) // MOST_LAYERS), len(layers) - 1
    names = ["out" if name == "feature" else name.removeprefix("layer_") for name in layers] + list(others)
    places = [*range(0, last - step + 1, step), *range(last, len(names))]
    axes.set_xticks(places, [names[place] for place in places])

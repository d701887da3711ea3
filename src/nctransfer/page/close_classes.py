"""The classes of a map that lie closest, and their distances as a page shows them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nctransfer.report.wording import format_number

if TYPE_CHECKING:
    from nctransfer.maps.class_map import ClassMap

__all__ = ["cdnv_cell", "closest_pairs", "distance_cell"]


def closest_pairs(class_map: ClassMap, most: int) -> list[tuple[int, int]]:
    """The codes of the pairs of classes with the smallest distances, the closest first.

    Args:
        class_map: The map of C classes.
        most: How many pairs; fewer if there are not so many.
    """
    import numpy as np

    rows, columns = np.triu_indices(len(class_map.distance), 1)
    distances = class_map.distance[rows, columns]
    most = min(most, len(distances))
    if not most:
        return []
    few = np.flatnonzero(distances <= np.partition(distances, most - 1)[most - 1])
    few = few[np.argsort(distances[few], kind="stable")][:most]
    return list(zip(rows[few].tolist(), columns[few].tolist(), strict=True))


def distance_cell(distance: float) -> str:
    """A distance as tables show it."""
    return "∞" if math.isinf(distance) else f"{distance:.2f}"


def cdnv_cell(distance: float) -> str:
    """The CDNV of two classes at this distance."""
    return format_number(distance**-2 if distance > 0 else math.inf)

"""The Pareto front: candidates to which no other is preferable in both accuracy and speed."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["pareto_front"]


def pareto_front(accuracies: Sequence[float | None], speeds: Sequence[float | None]) -> tuple[bool | None, ...]:
    """Which candidates are on the Pareto front of accuracy against speed.

    A candidate is on the front if no other is at least as accurate and at least as fast, and better in one of the two.
    Candidates that are equal in both are on the front together. A candidate whose accuracy or speed is not known is
    neither on the front nor off it, and keeps no other from being on it.

    Args:
        accuracies: The accuracy of each of K candidates; ``None`` or NaN if it is not known.
        speeds: Images per second of each; ``None`` or NaN if they are not known.

    Returns:
        K values: whether each is on the front; ``None`` where that is not known.

    Raises:
        ValueError: The two are of unequal length.

    >>> pareto_front([0.90, 0.89, 0.85, 0.80, 0.95], [10, 60, 50, 90, None])
    (True, True, False, True, None)
    """
    points = [
        None if accuracy is None or speed is None or math.isnan(accuracy) or math.isnan(speed) else (accuracy, speed)
        for accuracy, speed in zip(accuracies, speeds, strict=True)
    ]
    known = {point for point in points if point is not None}
    return tuple(
        None
        if point is None
        else not any(other != point and other[0] >= point[0] and other[1] >= point[1] for other in known)
        for point in points
    )

"""Isotonic regression, and where a rising curve over shots reaches a value."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["first_reaching", "isotonic"]

ROUNDING = 1e-12  # a mean of accuracies may miss its exact value by less


def isotonic(values: Sequence[float], weights: Sequence[float] | None = None) -> tuple[float, ...]:
    """The non-decreasing sequence nearest to the values: ``argmin Σ w_i (x_i − v_i)²`` with ``x_1 ≤ x_2 ≤ …``.

    Neighbours that are in the wrong order are pooled into their weighted mean until none are (pool adjacent violators).

    Args:
        values: K values.
        weights: K weights, above zero; by default all equal.

    Returns:
        K values, ascending.

    >>> isotonic([0.5, 0.75, 0.5, 0.875])
    (0.5, 0.625, 0.625, 0.875)
    >>> isotonic([2.0, 1.0], weights=[3.0, 1.0])
    (1.75, 1.75)
    """
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many values
    for value, weight in zip(values, weights or [1.0] * len(values), strict=True):
        pool = (value, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            mean, heavy, size = pools.pop()
            total = heavy + pool[1]
            pool = ((mean * heavy + pool[0] * pool[1]) / total, total, size + pool[2])
        pools.append(pool)
    return tuple(mean for mean, _, size in pools for _ in range(size))


def first_reaching(shots: Sequence[int], values: Sequence[float], target: float) -> int | None:
    """The smallest whole number of shots at which a rising curve reaches a target; ``None`` if it never does.

    Between two points the curve is a line over the logarithm of shots.

    Args:
        shots: K numbers of shots, ascending.
        values: The curve at them, ascending.
        target: The value to be reached.

    >>> first_reaching([1, 2, 4], [0.5, 0.7, 0.9], 0.8), first_reaching([1, 2, 4], [0.5, 0.7, 0.9], 0.95)
    (3, None)
    """
    place = next((place for place, value in enumerate(values) if value >= target - ROUNDING), None)
    if place is None or place == 0:
        return None if place is None else shots[0]
    (few, below), (many, above) = zip(shots[place - 1 : place + 1], values[place - 1 : place + 1], strict=True)
    exact = float(few * (many / few) ** ((target - below) / (above - below)))
    return min(many, max(few + 1, math.ceil(exact - 1e-9)))

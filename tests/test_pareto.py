"""The Pareto front: by hand, missing values, ties, and invariances."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nctransfer.rank.pareto import pareto_front

few = st.integers(0, 4).map(float)  # few values, so that there are ties
points = st.lists(st.tuples(st.none() | few, st.none() | few), max_size=8)


@pytest.mark.parametrize(
    ("accuracies", "speeds", "front"),
    [
        ([], [], ()),
        ([0.5], [1], (True,)),
        ([0.9, 0.8], [1, 2], (True, True)),
        ([0.9, 0.8], [2, 1], (True, False)),
        ([0.9, 0.9], [2, 1], (True, False)),
        ([0.9, 0.8], [1, 1], (True, False)),
        ([0.9, 0.9, 0.8], [1, 1, 1], (True, True, False)),
        ([0.9, 0.8], [None, 1], (None, True)),
        ([None, 0.8], [9, 1], (None, True)),
        ([0.9, 0.8], [math.nan, 1], (None, True)),
        ([None, 0.8], [None, None], (None, None)),
        ([0.9, 0.8], [1, math.inf], (True, True)),
    ],
)
def test_by_hand(accuracies: list[float | None], speeds: list[float | None], front: tuple[bool | None, ...]) -> None:
    assert pareto_front(accuracies, speeds) == front


@given(points)
def test_the_front_is_what_a_sweep_from_the_fastest_finds(found: list[tuple[float | None, float | None]]) -> None:
    """From the fastest on, only those more accurate than all faster ones are on the front, with their equals."""
    accuracies, speeds = [one[0] for one in found], [one[1] for one in found]
    best, expected = -math.inf, set()
    known = [(speed, accuracy) for accuracy, speed in found if accuracy is not None and speed is not None]
    for speed, accuracy in sorted(known, reverse=True):
        if accuracy > best:
            best = accuracy
            expected.add((accuracy, speed))
    for point, is_on in zip(found, pareto_front(accuracies, speeds), strict=True):
        assert is_on is (None if None in point else point in expected)


@given(points)
def test_accuracy_and_speed_may_be_exchanged(found: list[tuple[float | None, float | None]]) -> None:
    accuracies, speeds = [one[0] for one in found], [one[1] for one in found]
    assert pareto_front(accuracies, speeds) == pareto_front(speeds, accuracies)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        pareto_front([0.9, 0.8], [1])

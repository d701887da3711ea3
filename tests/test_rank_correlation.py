"""Rank correlations: against SciPy, exact enumeration of orders, and a known population."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from nctransfer.rank.rank_correlation import rank_correlation, rank_correlations

ACCURACIES = [0.70, 0.80, 0.85, 0.90, 0.88, 0.86]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("values", [3, 1000])
def test_the_value_is_that_of_scipy(seed: int, values: int) -> None:
    """With many equal values and with few."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(values, size=12).tolist(), rng.integers(values, size=12).tolist()
    found = rank_correlation("score", x, y)
    assert found.value == pytest.approx(float(spearmanr(x, y).statistic))
    assert found.interval is not None
    assert -1 <= found.interval[0] <= found.value <= found.interval[1] <= 1


def test_only_the_order_counts() -> None:
    scores = [1.0, 3.0, 2.0, 5.0, 4.0, math.inf]
    found = rank_correlation("score", scores, ACCURACIES)
    assert found == rank_correlation("score", [math.exp(one) for one in scores], [one**9 for one in ACCURACIES])


@pytest.mark.parametrize(("count", "excludes_zero"), [(4, False), (5, True), (8, True)])
def test_a_perfect_order_of_four_may_be_chance(count: int, excludes_zero: bool) -> None:
    """One of 4! orders is 4.2%, more than the tail of 2.5%; one of 5! is less."""
    ascending = [float(number) for number in range(count)]
    up = rank_correlation("score", ascending, ascending)
    down = rank_correlation("score", ascending[::-1], ascending)
    assert (up.value, down.value) == (1, -1)
    assert up.interval is not None
    assert down.interval is not None
    assert (up.interval[1], down.interval[0]) == (1, -1)
    assert (up.interval[0] > 0) == (down.interval[1] < 0) == excludes_zero


def test_a_correlation_and_its_negative_have_mirrored_intervals() -> None:
    up = rank_correlation("score", [1, 3, 2, 5, 4, 6], ACCURACIES).interval
    down = rank_correlation("score", [-1, -3, -2, -5, -4, -6], ACCURACIES).interval
    assert up is not None
    assert down is not None
    assert down == pytest.approx((-up[1], -up[0]), abs=0.03)


@pytest.mark.parametrize("count", [4, 5, 6])
def test_the_random_order_is_that_of_all_orders(count: int) -> None:
    ascending = np.arange(count)
    orders = np.array([spearmanr(ascending, one).statistic for one in itertools.permutations(range(count))])
    [found] = rank_correlations(list(map(float, ascending)), {})
    assert (found.name, found.value, found.is_control, found.candidates) == ("random order", 0, True, count)
    assert found.interval is not None
    low, high = found.interval
    assert low == -high
    assert (orders > high + 0.01).mean() <= 0.03
    assert (orders > high - 0.01).mean() >= 0.02


@pytest.mark.parametrize(("count", "rho"), [(5, 0.0), (6, 0.9), (12, 0.6)])
def test_intervals_contain_the_truth(count: int, rho: float) -> None:
    rng, studies, covers = np.random.default_rng(0), 300, 0
    root, truth = np.linalg.cholesky([[1, rho], [rho, 1]]), 6 / math.pi * math.asin(rho / 2)
    for _ in range(studies):
        x, y = (rng.standard_normal((count, 2)) @ root.T).T
        interval = rank_correlation("score", x.tolist(), y.tolist()).interval
        assert interval is not None
        covers += interval[0] <= truth <= interval[1]
    assert covers >= studies * (0.95 - 3 * math.sqrt(0.05 * 0.95 / studies))


@pytest.mark.parametrize(
    ("scores", "accuracies", "count", "words"),
    [
        ([1, 2, 3], [0.1, 0.2, 0.3], 3, "4 candidates"),
        ([], [], 0, "4 candidates"),
        ([1, 2, 3, None, math.nan], [0.1, 0.2, 0.3, 0.4, 0.5], 3, "there are 3"),
        ([2, 2, 2, 2], [0.1, 0.2, 0.3, 0.4], 4, "same value"),
        ([1, 2, 3, 4], [0.5] * 4, 4, "same accuracy"),
        ([1, 2, 3, 4, None], [0.5] * 4 + [0.6], 4, "same accuracy"),
    ],
)
def test_no_value_has_a_reason(scores: list[float | None], accuracies: list[float], count: int, words: str) -> None:
    found = rank_correlation("score", scores, accuracies)
    assert (found.value, found.interval, found.candidates) == (None, None, count)
    assert words in str(found.reason)


def test_scores_stand_beside_both_controls() -> None:
    scores = {"logme": [1.0, 3.0, 2.0, 5.0, 4.0, None], "h_score": [None] * 6}
    found = rank_correlations(ACCURACIES, scores, [5e6, 25e6, 5e6, 90e6, 300e6, 90e6])
    assert [one.name for one in found] == ["logme", "h_score", "parameters", "random order"]
    assert [one.is_control for one in found] == [False, False, True, True]
    assert [one.candidates for one in found] == [5, 0, 6, 6]
    assert [one.value is None for one in found] == [False, True, False, False]
    assert found[0].value == rank_correlation("logme", scores["logme"], ACCURACIES).value
    data = json.loads(json.dumps([one.to_dict() for one in found]))
    assert data[0]["interval"] == list(found[0].interval or ())
    assert data[1]["interval"] is None


def test_the_random_order_needs_candidates_too() -> None:
    [found] = rank_correlations([0.1, 0.2, 0.3], {})
    assert (found.value, found.interval) == (None, None)
    assert "4 candidates" in str(found.reason)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        rank_correlation("score", [1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4, 0.5])

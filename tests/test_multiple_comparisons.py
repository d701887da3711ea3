"""Comparisons with the first and with the best: against known quantiles, independent code, and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_t, norm, t

from messages import raises
from nctransfer.errors import SettingError
from nctransfer.evaluation.multiple_comparisons import compare_with_best, compare_with_first
from nctransfer.evaluation.spread import Spread


def spread(replicates: np.ndarray, degrees: float | None = None) -> Spread:
    """The spread of estimates with these jackknife deviations, ``(R, K)``, and no noise of episodes."""
    rows = torch.from_numpy(np.asarray(replicates, float))
    return Spread(vectors=rows, degrees=degrees or len(rows) - 1)


def independent(count: int, error: float = 1.0, degrees: int = 12) -> Spread:
    """Estimates that vary independently, with one standard error."""
    return spread(error * np.eye(count), degrees)


def test_two_are_compared_by_the_t_interval() -> None:
    [found] = compare_with_first([0.5, 0.7], independent(2, 0.05))
    reach = t.ppf(0.975, 12) * 0.05 * math.sqrt(2)
    assert found == pytest.approx((0.2, 0.2 - reach, 0.2 + reach))
    assert found.verdict == "better"
    [found] = compare_with_first([0.7, 0.5], independent(2, 0.05))
    assert found.verdict == "worse"
    [found] = compare_with_first([0.7, 0.6], independent(2, 0.05))
    assert found.verdict == "not told apart"


@pytest.mark.parametrize("count", [3, 6])
def test_several_are_compared_by_the_quantile_of_dunnett(count: int) -> None:
    """The 95% point of the largest of K − 1 t variables of correlation ½, by scipy's integral."""
    found = compare_with_first([0.0] * count, independent(count, degrees=100))
    factor = found[0].high / math.sqrt(2)
    shape = np.full((count - 1, count - 1), 0.5) + 0.5 * np.eye(count - 1)
    law = multivariate_t(shape=shape, df=100, seed=0)
    inside = law.cdf(np.full(count - 1, factor), lower_limit=np.full(count - 1, -factor))
    assert inside == pytest.approx(0.95, abs=0.005)


@pytest.mark.parametrize("level", [0.8, 0.99])
def test_levels_other_than_95_have_their_own_quantiles(level: float) -> None:
    """One- and two-sided, of two and of five estimates, by scipy's distributions."""
    [found] = compare_with_first([0.0, 0.0], independent(2), level=level)
    assert found.high == pytest.approx(t.ppf((1 + level) / 2, 12) * math.sqrt(2))
    assert compare_with_best([0.0, 0.0], independent(2), level=level)[0].high == pytest.approx(
        t.ppf(level, 12) * math.sqrt(2)
    )
    law = multivariate_t(shape=np.full((4, 4), 0.5) + 0.5 * np.eye(4), df=100, seed=0)
    both = compare_with_first([0.0] * 5, independent(5, degrees=100), level=level)[0].high / math.sqrt(2)
    above = compare_with_best([0.0] * 5, independent(5, degrees=100), level=level)[0].high / math.sqrt(2)
    exceeded = pytest.approx(1 - level, rel=0.15 if level > 0.9 else 0.05)
    assert 1 - law.cdf(np.full(4, both), lower_limit=np.full(4, -both)) == exceeded
    assert 1 - law.cdf(np.full(4, above)) == exceeded


@pytest.mark.parametrize("degrees", [2, 3.5, 12, 100, 1000, math.inf])
def test_standard_errors_are_drawn_with_their_degrees_of_freedom(degrees: float) -> None:
    """The 90% point for estimates of which only the first varies is that of the t distribution."""
    rows = np.diag([1.0, 1e-12, 1e-12])
    found = compare_with_best([0.0] * 3, Spread(vectors=torch.from_numpy(rows), degrees=degrees), level=0.9)
    exact = t.ppf(0.9, degrees) if math.isfinite(degrees) else norm.ppf(0.9)
    assert found[0].high == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize("degrees", [4, 12])
def test_replicates_give_what_normal_rows_give(degrees: int) -> None:
    """With fewer degrees of freedom than estimates, and with more: against rows of normal variables."""
    rng = np.random.default_rng(5)
    root = np.linalg.cholesky(np.full((8, 8), 0.3) + np.diag(np.arange(1, 9)))
    found = compare_with_best([0.0] * 8, spread(root.T, degrees=degrees))
    error, rows = rng.normal(size=(20_000, 8)) @ root.T, rng.normal(size=(20_000, degrees, 8)) @ root.T
    scale = np.sqrt(np.square(rows[:, :, 1:] - rows[:, :, :1]).sum(axis=1) / degrees)
    quantile = np.quantile(((error[:, 1:] - error[:, :1]) / scale).max(axis=1), 0.95)
    nearest = np.sqrt(np.square(root[1:] - root[0]).sum(axis=1).min())
    assert found[0].high == pytest.approx(quantile * nearest, rel=0.04)


@pytest.mark.parametrize("count", [2, 4])
def test_the_largest_estimate_is_a_possible_best_at_any_level(count: int) -> None:
    estimates = [0.9, *[0.1] * (count - 1)]
    assert compare_with_best(estimates, independent(count), level=0.01)[0].is_possible
    sizes = [sum(one.is_possible for one in compare_with_best(estimates, independent(count, 0.3), level))
             for level in (0.01, 0.5, 0.9, 0.999)]  # fmt: skip
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (1, count)


@pytest.mark.parametrize("level", [0, 1, 95, math.nan])
def test_a_level_is_a_probability(level: float) -> None:
    for compare in (compare_with_first, compare_with_best):
        with raises(SettingError, f"{level:g}", hint="0.95"):
            compare([0.1, 0.2], independent(2), level=level)


def test_the_best_is_judged_by_the_one_sided_quantile() -> None:
    reach = t.ppf(0.95, 12) * math.sqrt(2)
    assert [one.is_possible for one in compare_with_best([0, reach * 0.99], independent(2))] == [True, True]
    assert [one.is_possible for one in compare_with_best([0, reach * 1.01], independent(2))] == [False, True]
    found = compare_with_best([0.0] * 6, independent(6, degrees=100))
    law = multivariate_t(shape=np.full((5, 5), 0.5) + 0.5 * np.eye(5), df=100, seed=0)
    assert law.cdf(np.full(5, found[0].high / math.sqrt(2))) == pytest.approx(0.95, abs=0.005)


def test_intervals_to_the_best_of_the_others_agree_with_the_set() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        found = compare_with_best(rng.normal(size=5).tolist(), spread(rng.normal(size=(9, 5)) * 0.2))
        assert any(one.is_possible for one in found)
        for one in found:
            assert one.low <= min(one.value, 0)
            assert one.high >= max(one.value, 0)
            assert (one.high > 0) == one.is_possible
            assert (one.verdict == "worse") == (not one.is_possible)
            assert (one.verdict == "better") == (one.is_possible and sum(each.is_possible for each in found) == 1)


def test_equal_candidates_are_all_possible_bests() -> None:
    rows = np.random.default_rng(0).normal(size=(10, 1)).repeat(4, axis=1)
    found = compare_with_best([0.7] * 4, spread(rows))
    assert found == ((0.0, 0.0, 0.0, True, "not told apart"),) * 4
    assert compare_with_first([0.7] * 4, spread(rows)) == ((0.0, 0.0, 0.0),) * 3


def test_a_twin_changes_little() -> None:
    rng = np.random.default_rng(1)
    rows, estimates = rng.normal(size=(15, 3)), [0.0, 1.0, -1.0]
    alone = compare_with_best(estimates, spread(rows))
    twins = compare_with_best([*estimates, 0.0], spread(np.c_[rows, rows[:, 0]]))
    assert [one.is_possible for one in twins[:3]] == [one.is_possible for one in alone]
    assert twins[0].is_possible == twins[3].is_possible


def test_a_clear_best_and_clear_others() -> None:
    best, *others = compare_with_best([0.9, 0.5, 0.4], independent(3, 0.01))
    assert (best.verdict, best.low) == ("better", 0.0)
    assert [one.verdict for one in others] == ["worse", "worse"]
    assert [one.high for one in others] == [0.0, 0.0]


def test_candidates_that_differ_by_a_constant_are_told_apart() -> None:
    rows = np.array([[0.8, 0.6, 0.7], [0.5, 0.3, 0.2], [0.9, 0.7, 0.9]])
    deviations = (rows - rows.mean(axis=0)) / math.sqrt(6)
    found = compare_with_best(rows.mean(axis=0).tolist(), spread(deviations))
    assert found[0].is_possible
    assert not any(math.isnan(number) for one in found for number in one[:3])
    assert [one.verdict for one in compare_with_first(rows.mean(axis=0).tolist(), spread(deviations))] == [
        "worse",
        "not told apart",
    ]


def test_the_order_of_candidates_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    rows, estimates, order = rng.normal(size=(20, 6)), rng.normal(size=6) * 2, rng.permutation(6)
    found = compare_with_best(estimates.tolist(), spread(rows))
    other = compare_with_best(estimates[order].tolist(), spread(rows[:, order]))
    for place, number in enumerate(order):
        assert other[place][:3] == pytest.approx(found[number][:3], abs=0.25)  # of intervals 10 wide


def test_the_set_is_that_of_the_model_confidence_set() -> None:
    """Hansen, Lunde and Nason's bootstrap finds the same bests, where it is clear who they are."""
    from arch.bootstrap import MCS

    rng = np.random.default_rng(3)
    levels = np.array([0.70, 0.70, 0.69, 0.55, 0.40])
    values = levels + 0.1 * rng.normal(size=(400, 1)) + 0.1 * rng.normal(size=(400, 5))
    mcs = MCS(1 - values, size=0.05, reps=500, block_size=2, seed=0)
    mcs.compute()
    draw = torch.from_numpy(values - values.mean(axis=0)) / math.sqrt(400 * 399)
    found = compare_with_best(values.mean(axis=0).tolist(), Spread(vectors=draw, degrees=399))
    assert {number for number, one in enumerate(found) if one.is_possible} == {*mcs.included}


@pytest.mark.parametrize(
    "count", [2, pytest.param(5, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.slow)]
)
def test_false_verdicts_are_as_rare_as_promised(count: int) -> None:
    """Of all studies with equal candidates at most 5% leave out a candidate, or call one better or worse."""
    rng, studies = np.random.default_rng(4), 300 if count < 20 else 60
    wrong, missed = 0, 0
    for _ in range(studies):
        values = rng.normal(size=(20, count)) + rng.normal(size=(20, 1))  # one row per class
        found = spread((values - values.mean(axis=0)) / math.sqrt(20 * 19))
        means = values.mean(axis=0).tolist()
        wrong += any(one.verdict != "not told apart" for one in compare_with_first(means, found))
        missed += not compare_with_best(means, found)[0].is_possible
    limit = 0.05 * studies + 3 * math.sqrt(studies * 0.05 * 0.95)
    assert 0 < wrong <= limit
    assert missed <= limit

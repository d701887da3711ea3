"""Error bounds: their formulas once more, their limits, and that they bound what is measured."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.datasets import load_digits

import oracles
from clusters import normal_classes, set_of
from messages import says
from nctransfer.errors import EpisodeError, SettingError
from nctransfer.evaluation.fewshot_accuracy import fewshot
from nctransfer.features.feature_set import FeatureSet
from nctransfer.neural_collapse.bound_table import bound_table
from nctransfer.neural_collapse.bounds import (
    BOUNDS,
    CAPPED,
    Bound,
    error_bounds,
    galanti2022,
    galanti2022_sharp,
    luthra2025,
    luthra2026,
    luthra2026_capped,
    not_told_apart,
    unresolved_pairs,
)
from nctransfer.neural_collapse.cdnv import cdnv, directional_cdnv
from nctransfer.neural_collapse.class_statistics import ClassStatistics


def stats_of(*classes: np.ndarray) -> ClassStatistics:
    return ClassStatistics.of(set_of(classes), "cpu")


def gaussian(C: int = 5, n: int = 30, d: int = 6, spread: float = 3.0) -> list[np.ndarray]:
    """Classes of different widths."""
    return normal_classes([n] * C, d, apart=spread, within=[0.3 + 0.2 * c for c in range(C)])


def cross(along: float, across: float) -> np.ndarray:
    """Four samples of these standard deviations along two axes, but for √2."""
    return np.array([[along, 0.0], [-along, 0.0], [0.0, across], [0.0, -across]])


def pair(along: float, across: float, apart: float = 1.0) -> ClassStatistics:
    """Two equal classes of ``Ṽ = along²/(2 apart²)`` and ``V = (along² + across²)/(2 apart²)``."""
    return stats_of(cross(along, across), cross(along, across) + np.array([apart, 0]))


def by_a(v: float, directional: float, shots: float) -> Callable[[float], float]:
    """What luthra2025 minimises over a, of two ways, as the definitions page has it."""

    def bound(a: float) -> float:
        first = 0.5 - 2 / a - 2**1.5 / (a * shots)
        noise = 2 / math.sqrt(shots) * (math.sqrt(v) + v) + v / shots
        return directional / first**2 + a / 4 * noise if first > 0 else math.inf

    return bound


def luthra2026_by_loop(classes: list[np.ndarray], ways: int, shots: float, most: float = math.inf) -> float:
    found = []
    for i, j in itertools.permutations(range(len(classes)), 2):
        squared = oracles.squared_distance(classes, i, j)
        v_i, v_j = (oracles.variance(classes[c]) for c in (i, j))
        q = sum(np.mean(np.sum((classes[c] - classes[c].mean(axis=0)) ** 2, axis=1) ** 2) for c in (i, j))
        u = (v_i + v_j) / squared
        errors = (
            4 / shots * (u**2 + u / 4),
            u / shots,
            (q / squared**2 + 2 * (shots - 1) * u**2) / shots**3,
        )
        top = 4 * oracles.directional_pair(classes, i, j) + sum(map(math.sqrt, errors)) ** 2
        bottom = 1 + (v_j - v_i) / (shots * squared)
        found.append(min(most, top / bottom**2 if bottom > 0 else math.inf))
    return (ways - 1) * float(np.mean(found))


# known values


@pytest.mark.parametrize("across", [0.0, 0.7])
def test_golden_value_of_the_definitions_page(across: float):
    stats = pair(math.sqrt(2 * 0.05528), across)
    assert directional_cdnv(stats) == pytest.approx(0.05528)
    for bound in (luthra2025, luthra2026):
        assert bound(stats, 2, math.inf) == pytest.approx(0.2211, abs=5e-5)
        assert bound(stats, 5, math.inf) == pytest.approx(4 * 0.22112, abs=1e-9)


def test_galanti2022_by_hand():
    stats = pair(0.3, 0.4)  # V = 0.125, width 2
    assert galanti2022(stats, 2, 1) == pytest.approx(16 * 2 * 0.125)
    assert galanti2022(stats, 6, 4) == pytest.approx(16 * 5 * 1.25 * 0.125)
    assert galanti2022(stats, 2, math.inf) == pytest.approx(16 * 0.125)
    of_width_4 = stats_of(np.pad(cross(0.3, 0.4), ((0, 0), (0, 2))), np.pad(cross(0.3, 0.4) + 1, ((0, 0), (0, 2))))
    assert cdnv(of_width_4) == pytest.approx(0.125 / 2)
    assert galanti2022(of_width_4, 6, 4, symmetric=True) == pytest.approx(16 * 5 * 0.5 * 0.0625)
    assert galanti2022(of_width_4, 2, math.inf, symmetric=True) == pytest.approx(16 * 0.0625 / 4)


@pytest.mark.parametrize("shots", [1, 2, 5, 10, 500, 10**9])
@pytest.mark.parametrize(
    ("along", "across"),
    [(0.3, 0.4), (1, 1), (0, 0.5), (1e-3, 30), (30, 1e-3), (100, 100), (1e-4, 1e-4), (1e-9, 0.1), (1e-6, 1e-3)],
)
def test_luthra2025_is_at_its_minimum(along: float, across: float, shots: int):
    stats = pair(along, across)
    v, directional = (along**2 + across**2) / 2, along**2 / 2
    bound = by_a(v, directional, shots)
    lowest = max(5.0, 4 + 2**2.5 / shots)  # of a
    found = minimize_scalar(
        lambda x: math.log(bound(lowest + math.exp(x))), bounds=(-60, 60), method="bounded", options={"xatol": 1e-10}
    )
    ends = [bound(5.0), bound(lowest * (1 + 1e-12)) if not directional else math.inf]
    expected = min(math.exp(found.fun), *ends)
    assert luthra2025(stats, 2, shots) == pytest.approx(expected, rel=1e-6)
    assert luthra2025(stats, 4, shots) == pytest.approx(3 * expected, rel=1e-6)


def test_luthra2025_is_least_at_5_or_where_it_can_be():
    noise = 2 * (math.sqrt(0.125) + 0.125) / 10 + 0.125 / 100  # of 100 shots, Ṽ = 0
    assert luthra2025(pair(0, 0.5), 2, 100) == pytest.approx(5 / 4 * noise)
    noise = 2 * (math.sqrt(0.125) + 0.125) + 0.125
    assert luthra2025(pair(0, 0.5), 2, 1) == pytest.approx((4 + 2**2.5) / 4 * noise)


@pytest.mark.parametrize(
    ("shots", "expected"), [(1, 29.114355), (5, 8.196054), (10, 5.666352), (50, 2.945370), (500, 1.459170)]
)
def test_luthra2025_golden_values(shots: int, expected: float):
    """By ``√(Avg V)``, as the authors' code has it."""
    v, directional = 1.672136664390564, 0.0728605240583419
    stats = pair(math.sqrt(2 * directional), math.sqrt(2 * (v - directional)))
    assert (cdnv(stats), directional_cdnv(stats)) == pytest.approx((v, directional))
    assert luthra2025(stats, 2, shots) == pytest.approx(expected, abs=5e-7)


def test_galanti2022_sharp_by_hand():
    stats = pair(0.3, 0.4)  # V = 0.125
    assert galanti2022_sharp(stats, 2, 1) == pytest.approx(4 * 4 * 0.125)
    assert galanti2022_sharp(stats, 6, 4) == pytest.approx(4 * 5 * 2.25 * 0.125)
    assert galanti2022_sharp(stats, 2, math.inf) == pytest.approx(4 * 0.125)
    for shots in (1, 2, 7, 100):
        assert 2 * galanti2022_sharp(stats, 3, shots) <= galanti2022(stats, 3, shots) * (1 + 1e-12)


@pytest.mark.parametrize("along", [1e-18, 1e-30, 1e-40, 1e-100])
def test_luthra2025_of_next_to_no_variance_along_the_line(along: float):
    for shots in (1, 2, 10):
        assert luthra2025(pair(along, 0.5), 2, shots) == pytest.approx(luthra2025(pair(0, 0.5), 2, shots), rel=1e-9)


@pytest.mark.parametrize("shots", [1, 3, 10, 12.5, 37, 1000, 10**9])
def test_luthra2026_by_a_double_loop(shots: float):
    for classes in (gaussian(), gaussian(3, 4, 2), gaussian(4, 20, 3, spread=1.0)):
        assert luthra2026(stats_of(*classes), 4, shots) == pytest.approx(luthra2026_by_loop(classes, 4, shots))
        if not unresolved_pairs(stats_of(*classes)):
            capped = luthra2026_by_loop(classes, 4, shots, most=1)
            assert luthra2026_capped(stats_of(*classes), 4, shots) == pytest.approx(capped)


def test_luthra2026_of_infinitely_many_shots():
    stats = stats_of(*gaussian())
    expected = 3 * 4 * oracles.directional_cdnv(gaussian())
    assert luthra2026(stats, 4, math.inf) == pytest.approx(expected)
    assert luthra2026(stats, 4, 10**14) == pytest.approx(expected, rel=1e-3)
    assert luthra2025(stats, 4, math.inf) == pytest.approx(expected)
    assert luthra2025(stats, 4, 10**14) == pytest.approx(expected, rel=1e-2)


# where there is no value, or an infinite one


def close(apart: float) -> ClassStatistics:
    """Three classes of 4 samples, two of them ``apart`` and ``v = 1``: resolved where ``d² > 4/3``."""
    return stats_of(cross(1, 1), cross(1, 1) + np.array([apart, 0]), cross(1, 1) + 100)


def test_a_pair_that_is_not_resolved_leaves_no_average():
    assert [unresolved_pairs(close(apart)) for apart in (1.14, 1.17)] == [1, 0]
    found = error_bounds(close(1.14), 2, 20)
    capped = found.pop("luthra2026_capped")
    assert {one.value for one in found.values()} == {None}
    assert {one.reason for one in found.values()} == {not_told_apart(1, 3)}
    assert found["luthra2025"].to_dict() == {
        "value": None,
        "vacuous": False,
        "uninformative": False,
        "reason": not_told_apart(1, 3),
    }
    assert capped.value == pytest.approx(1 / 3, abs=1e-3)  # the pair counts as 1 in both orders
    assert None not in {one.value for one in error_bounds(close(1.17), 2, 20).values()}


def test_classes_of_one_distribution_have_no_bound():
    points = normal_classes([200], 64)[0]
    stats = stats_of(*np.split(points, 10))
    assert unresolved_pairs(stats) > 20
    for shots in (1, math.inf):
        found = error_bounds(stats, 2, shots)
        assert found["luthra2026"].value is found["luthra2025"].value is None
        assert found["luthra2026_capped"].value is None or found["luthra2026_capped"].uninformative


@pytest.mark.parametrize(("wide", "is_infinite"), [(9.9, False), (10.1, True)])
def test_luthra2026_of_a_class_too_wide_for_the_shots(wide: float, is_infinite: bool):
    narrow = np.zeros((2, 2))
    scale = math.sqrt(wide)  # v = wide, d² = 1: zero where v = m
    stats = stats_of(narrow, np.array([[1, scale], [1, -scale]]))
    assert math.isinf(luthra2026(stats, 2, 10)) == is_infinite
    assert math.isfinite(luthra2026(stats, 2, 11))


@pytest.mark.parametrize("shots", [10, 100, math.inf])
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("third", [(), (cross(1, 1) + 7,)], ids=["two", "three"])
def test_bounds_of_coinciding_means_are_infinite(scale: float, third: tuple[np.ndarray, ...], shots: float):
    found = error_bounds(stats_of(cross(1, 1), scale * cross(1, 1), *third), 2, shots)
    capped = found.pop("luthra2026_capped")
    assert capped.value == pytest.approx(1 / 3 if third else 1, abs=0.1)
    assert {name: one.value for name, one in found.items()} == dict.fromkeys(BOUNDS.keys() - CAPPED, math.inf)
    assert all(one.vacuous for one in found.values())


def test_bounds_of_collapsed_classes_are_zero():
    stats = stats_of(*np.repeat(oracles.simplex(4, 5)[:, None], 3, axis=1))
    for shots in (1, 10, math.inf):
        assert {one.value for one in error_bounds(stats, 4, shots).values()} <= {0.0, None}


# what they must hold to


@pytest.mark.parametrize("classes", [gaussian(), gaussian(spread=0.3)], ids=["apart", "close"])
def test_bounds_fall_with_shots_and_grow_with_ways(classes: list[np.ndarray]):
    stats = stats_of(*classes)
    for name, bound in BOUNDS.items():
        least = 1000 if name.startswith("luthra2026") else 1
        by_ways = [bound(stats, ways, least) for ways in range(2, 6)]
        assert by_ways == pytest.approx([by_ways[0] * (ways - 1) for ways in range(2, 6)])
        assert by_ways[0] > 0
    for bound in (galanti2022, galanti2022_sharp, luthra2025):
        by_shots = [bound(stats, 3, shots) for shots in (1, 2, 3, 5, 10, 100, 10**6, math.inf)]
        assert by_shots == sorted(by_shots, reverse=True)
        assert len(set(by_shots)) == len(by_shots)


def test_bounds_know_neither_scale_nor_offset():
    classes = gaussian()
    first = error_bounds(stats_of(*classes), 3, 20)
    for scale, offset in ((1e-6, 0.0), (1e6, 0.0), (1.0, 1000.0)):
        found = error_bounds(stats_of(*(one * scale + offset for one in classes)), 3, 20)
        for name, one in found.items():
            assert one.value == pytest.approx(first[name].value, rel=1e-6)


@pytest.mark.parametrize("spread", [0.5, 3.0, 40.0])
def test_bounds_are_no_less_than_the_error_of_gaussian_classes(spread: float):
    features = set_of(gaussian(spread=spread, n=40))
    assert_bounded(features)


def test_bounds_are_no_less_than_the_error_of_digits():
    digits = load_digits()
    assert_bounded(FeatureSet.from_arrays(digits.data[:600], digits.target[:600]))


def assert_bounded(features: FeatureSet) -> None:
    stats, some = ClassStatistics.of(features, "cpu"), 0
    for row in fewshot(features, (2, 5), (1, 5, 20), episodes=300, classifiers="ncc", theory=False).rows:
        bounds = error_bounds(stats, row.ways, row.shots)
        for bound in bounds.values():
            if bound.value is not None:
                assert bound.value >= 1 - row.accuracy - row.ci95
                some += 1
    assert some == (2 * 3 * len(BOUNDS) if not unresolved_pairs(stats) else 2 * 3)


def test_bounds_of_classes_far_apart_say_something():
    bounds = error_bounds(stats_of(*gaussian(spread=400)), 2, 20)
    assert not any(one.vacuous for one in bounds.values())
    assert all(0 < one.value < 0.1 for one in bounds.values() if one.value is not None)


# results


def test_vacuous_is_above_one_and_not_clipped():
    assert [Bound(value).vacuous for value in (0.0, 1.0, math.nextafter(1, 2), 7.5, math.inf, None)] == [
        *(False, False, True, True, True, False)
    ]
    assert Bound(7.5).to_dict() == {"value": 7.5, "vacuous": True, "uninformative": True}
    stats = pair(0.6, 0.8)
    assert error_bounds(stats, 2, 1)["galanti2022"].value == pytest.approx(16 * 2 * cdnv(stats)) == 16


def test_uninformative_is_above_the_error_of_a_random_answer():
    bounds = [Bound(value, None, 0.8) for value in (0.5, 0.8, math.nextafter(0.8, 1), 1.0, math.inf, None)]
    assert [one.uninformative for one in bounds] == [False, False, True, True, True, False]
    found = error_bounds(stats_of(*gaussian()), 5, 10)
    assert {one.chance for one in found.values()} == {0.8}


def test_table_has_every_task_in_order_once():
    features = set_of(gaussian())
    table = bound_table(ClassStatistics.of(features, "cpu"), features.to_dict(), (5, 2, 5), (math.inf, 1, 10, 1))
    tasks = [(row.ways, row.shots) for row in table.rows]
    assert tasks == [(ways, shots) for ways in (2, 5) for shots in (1, 10, math.inf)]
    stats = stats_of(*gaussian())
    for row in table.rows:
        assert row.bounds == error_bounds(stats, row.ways, row.shots)


def test_dict_and_frame_agree():
    features = set_of(gaussian())
    table = bound_table(ClassStatistics.of(features, "cpu"), features.describe(), (2, 5), (1, 10))
    found = json.loads(json.dumps(table.to_dict()))
    assert found["features"]["classes"] == 5
    flat = [
        (row["ways"], row["shots"], name, one["value"], one["vacuous"], one["uninformative"], row["new_classes_term"])
        for row in found["results"]
        for name, one in row["bounds"].items()
    ]
    frame = table.to_frame()
    assert list(frame) == ["ways", "shots", "bound", "value", "vacuous", "uninformative", "new_classes_term"]
    assert list(frame.itertuples(index=False, name=None)) == flat
    assert len(flat) == 4 * len(BOUNDS)
    assert (found["images_per_class"], found["unresolved_pairs"]) == ([30, 30], 0)


@pytest.mark.parametrize(("ways", "shots"), [(1, 1), (2, 0), (0, math.inf), (2, -3), (2, 0.5)])
def test_what_is_no_task(ways: int, shots: float):
    with pytest.raises(SettingError) as error:
        error_bounds(pair(1, 1), ways, shots)
    says(error, ways, shots, hint=("2", "1"))


def test_more_ways_than_classes():
    with pytest.raises(EpisodeError) as error:
        bound_table(stats_of(*gaussian()), {}, (2, 6), (1,))
    says(error, 6, 5, hint="--ways 5")


def test_statistics_are_left_as_they_are():
    stats = stats_of(*gaussian())
    before = {name: value.clone() for name, value in vars(stats).items() if isinstance(value, torch.Tensor)}
    error_bounds(stats, 2, 10)
    for name, value in before.items():
        assert torch.equal(getattr(stats, name), value)

"""Labels needed: read off a measured curve, extrapolated beyond it, against curves of which the number is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from messages import raises
from nctransfer.errors import SettingError
from nctransfer.evaluation.curve_families import FAMILIES, draw_curves
from nctransfer.evaluation.isotonic import first_reaching, isotonic
from nctransfer.evaluation.labels_needed import HORIZON, LabelsNeeded, extrapolate, labels_needed
from nctransfer.evaluation.learning_curve import shots_grid
from terminal import shows

Law = Callable[[float], float]
SHARES = st.floats(0.05, 1)


def point(accuracy: float, level: float = 0.0, alone: float = 0.0, place: int = 0) -> Any:
    """An estimate whose error has a part that all points share and one of its own."""
    images = torch.zeros(60, dtype=torch.float64)
    images[0], images[1 + place] = level, alone
    error = math.hypot(level, alone)
    return SimpleNamespace(
        accuracy=accuracy,
        of_images=images,
        of_draws=torch.full((4,), accuracy, dtype=torch.float64),
        draws=4,
        error=error,
        error_of_draws=0.0,
        draw_half_width=0.0,
        interval=(max(0.0, accuracy - 1.96 * error), min(1.0, accuracy + 1.96 * error)),
    )


def curve_of(shots: Sequence[int], accuracies: Sequence[float], level: float = 0.01, alone: float = 0.002) -> Any:
    """A measured curve of one classifier, ``ridge``, on classes that have one image more than the last point labels."""
    points = [point(value, level, alone, place) for place, value in enumerate(accuracies)]
    return SimpleNamespace(
        estimates={(number, "ridge"): one for number, one in zip(shots, points, strict=True)},
        images=(shots[-1] + 1,) * 5,
        task=SimpleNamespace(shots=tuple(shots), classifiers=("ridge",)),
    )


def needed(target: float, accuracies: Sequence[float], shots: Sequence[int] = (1, 2, 4, 8), **errors: float) -> Any:
    return labels_needed(curve_of(shots, accuracies, **errors), "ridge", target)


# Beyond the last point


@settings(max_examples=50, deadline=None)
@given(st.lists(SHARES, min_size=4, max_size=4), SHARES, st.floats(0.001, 0.05))
def test_ends_are_in_order_and_what_is_not_reached_needs_more(values: list[float], target: float, level: float) -> None:
    found = needed(target, values, level=level)
    low, high = found.interval
    assert 1 <= low <= (found.value or low)
    assert high is None or high >= max(low, found.value or 9)


def test_a_family_that_is_above_the_last_point_does_not_reach_the_target_there() -> None:
    found = needed(0.5, [0.5, 0.5, 0.5, 0.25], level=0.03)
    assert found.value is None
    assert found.interval == (8, 9)


# A rising curve


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(SHARES, st.floats(0.1, 10)), min_size=1, max_size=12))
def test_isotonic_regression_is_that_of_scikit_learn(pairs: list[tuple[float, float]]) -> None:
    from sklearn.isotonic import isotonic_regression

    values, weights = map(list, zip(*pairs, strict=True))
    assert isotonic(values, weights) == pytest.approx(isotonic_regression(values, sample_weight=weights), abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(SHARES, min_size=2, max_size=8, unique=True), SHARES)
def test_the_first_number_that_reaches_a_target_is_found(values: list[float], target: float) -> None:
    shots, values = shots_grid(30)[: len(values)], sorted(values)
    every = range(shots[0], shots[-1] + 1)
    line = np.interp(np.log(every), np.log(shots), values)
    found = first_reaching(shots, values, target)
    if found is None:
        assert line[-1] < target
    else:
        assert line[found - 1] >= target - 1e-9
        assert found == 1 or line[found - 2] < target + 1e-9


@pytest.mark.parametrize(("most", "least"), [(1, 1), (2, 1), (2, 2), (6, 1), (19, 1), (99, 2), (1000, 1)])
def test_the_grid_is_about_even_on_a_log_scale(most: int, least: int) -> None:
    grid = shots_grid(most, least)
    assert (grid[0], grid[-1]) == (least, most)
    assert list(grid) == sorted(set(grid))
    gaps = np.diff(np.log(grid))
    assert len(gaps) == 0 or (gaps.max() < math.log(2.01) and gaps.min() > math.log(1.14))


# Read off


def test_a_number_is_read_off_with_its_interval() -> None:
    found = needed(0.7, (0.5, 0.6, 0.7, 0.8), level=0.05 / 1.96, alone=0)
    assert found == LabelsNeeded(target=0.7, classifier="ridge", value=4, interval=(3, 6), extrapolated=False)
    # the band is 5 points wide on each side, so its ends reach 70% at 2^1.5 and 2^2.5 labels


def test_a_target_below_the_first_point_takes_one_label() -> None:
    assert needed(0.4, (0.5, 0.6, 0.7, 0.8)).interval == (1, 1)
    found = needed(0.49, (0.5, 0.6, 0.7, 0.8))
    assert (found.value, found.interval) == (1, (1, 2))  # with other images, one label may not be enough


def test_a_dent_in_the_curve_is_levelled() -> None:
    assert needed(0.65, (0.5, 0.7, 0.6, 0.8)).value == 2  # the pool of both is 65%
    assert needed(0.66, (0.5, 0.7, 0.6, 0.8)).value == 5


def test_the_upper_end_of_a_number_that_was_read_off_may_be_extrapolated() -> None:
    law: Law = lambda m: 0.9 - 0.4 / m**0.5  # noqa: E731
    shots = shots_grid(19)
    found = labels_needed(curve_of(shots, [law(m) for m in shots], level=0.02), "ridge", 0.8)
    assert (found.value, found.extrapolated, found.reason) == (17, False, None)
    low, high = found.interval
    assert low < 16
    assert high is not None
    assert 20 < high < 200


def test_accuracies_of_100_percent() -> None:
    shots = shots_grid(9)
    curve = curve_of(shots, [1.0] * len(shots), level=0, alone=0)
    for one in curve.estimates.values():
        one.interval = (0.97, 1.0)
    assert labels_needed(curve, "ridge", 0.95).interval == (1, 1)
    found = labels_needed(curve, "ridge", 1.0)
    assert (found.value, found.interval, found.extrapolated) == (1, (1, None), False)


# Beyond the images at hand

LAWS: dict[str, Law] = {
    "power law": lambda m: 0.95 - 0.45 * m**-0.5,
    "fast power law": lambda m: 0.85 - 0.4 / m,
    "inverse logarithm": lambda m: 1.0 - 0.55 / math.log(m + 2),
    "logit": lambda m: 1 / (1 + 0.8 * m**-0.4),
    "shifted power law": lambda m: 0.9 - 1.2 * (m + 4) ** -0.7,
}


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("times", [1.5, 3])
def test_the_true_number_lies_in_the_extrapolated_range(name: str, times: float) -> None:
    law, shots = LAWS[name], shots_grid(29)
    number = round(times * 29)
    found = labels_needed(curve_of(shots, [law(m) for m in shots]), "ridge", law(number))
    low, high = found.interval
    assert (found.value, found.extrapolated) == (None, True)
    assert 10 <= low <= number <= (high or math.inf)


def test_the_reason_names_the_best_accuracy_and_the_images() -> None:
    shots = shots_grid(39)
    curve = curve_of(shots, [0.882 - 0.5 / m**1.5 for m in shots])
    found = labels_needed(curve, "ridge", 0.99)
    assert shows(found.reason, "not reached", "88.0%", 39, 40)
    assert (found.value, found.interval, found.extrapolated) == (None, (HORIZON * 40, None), True)
    curve.images = (50, 60)
    assert shows(labels_needed(curve, "ridge", 0.99).reason, "88.0%", "39 labelled images per class")


@pytest.mark.parametrize("accuracies", [[0.5], [0.5, 0.6, 0.7], [0.9, 0.8, 0.7, 0.6, 0.5]], ids=len)
def test_a_curve_that_is_too_short_or_falls_is_not_extrapolated(accuracies: list[float]) -> None:
    shots = shots_grid(30)[: len(accuracies)]
    curve = curve_of(shots, accuracies)
    assert extrapolate(curve, "ridge") is None
    found = labels_needed(curve, "ridge", 0.95)
    assert (found.value, found.interval, found.extrapolated) == (None, (shots[-1] + 1, None), False)
    assert found.reason


@settings(max_examples=15, deadline=None)
@given(st.lists(SHARES, min_size=5, max_size=7), st.floats(0.001, 0.05), st.tuples(SHARES, SHARES))
def test_a_higher_target_never_takes_fewer_labels(
    accuracies: list[float], level: float, targets: tuple[float, float]
) -> None:
    shots = shots_grid(30)[: len(accuracies)]
    curve = curve_of(shots, accuracies, level=level)
    for one in (labels_needed(curve, "ridge", target) for target in targets):
        low, high = one.interval
        assert 1 <= low <= (one.value or low) <= (high or math.inf)
        assert (one.value is None) == (one.reason is not None)
        assert one.value is None or not one.extrapolated
    lower, higher = (labels_needed(curve, "ridge", target) for target in sorted(targets))
    assert (lower.value or math.inf) <= (higher.value or math.inf)
    if lower.extrapolated == higher.extrapolated:  # with the same level
        assert lower.interval[0] <= higher.interval[0]
        assert (lower.interval[1] or math.inf) <= (higher.interval[1] or math.inf)


def test_the_same_curve_gives_the_same_range() -> None:
    law, shots = LAWS["power law"], shots_grid(29)
    one, two = (labels_needed(curve_of(shots, [law(m) for m in shots]), "ridge", 0.9) for _ in range(2))
    assert one == two


def test_points_with_other_numbers_of_splits() -> None:
    law, shots = LAWS["power law"], shots_grid(29)
    curve = curve_of(shots, [law(m) for m in shots], level=0.003)
    one = curve.estimates[29, "ridge"]
    one.draws = 50
    one.of_draws = 0.9 + 0.1 * torch.linspace(-1, 1, 50, dtype=torch.float64)
    low, high = labels_needed(curve, "ridge", law(60)).interval
    assert low <= 60 <= (high or 0)


@pytest.mark.parametrize("target", [0, -0.1, 1.01, 90, math.nan])
def test_a_target_that_is_no_accuracy_is_refused(target: float) -> None:
    with raises(SettingError, target, hint=["--target"]):
        needed(target, (0.5, 0.6, 0.7, 0.8))


def test_a_classifier_that_was_not_measured_is_refused() -> None:
    with raises(SettingError, "ncc", hint=["ridge"]):
        labels_needed(curve_of((1, 2), (0.5, 0.6)), "ncc", 0.9)


# Families


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_shape_falls(family: Any) -> None:
    logs = np.log(np.geomspace(1, 10_000, 50))
    for shape in family.shapes:
        assert (np.diff(shape(logs)) < 0).all()


def test_curves_go_on_from_the_last_point_and_rise() -> None:
    shots = shots_grid(19)
    accuracies = np.array([0.9 - 0.4 * m**-0.5 for m in shots])
    covariance = np.full((len(shots),) * 2, 0.02**2) + 1e-6 * np.eye(len(shots))
    curves = draw_curves(shots, accuracies, covariance, (19, 30, 60, 200))
    assert curves is not None
    assert curves.shape[1] == 4
    assert (np.diff(curves, axis=1) >= 0).all()
    assert (curves <= 1).all()
    assert curves[:, 0].mean() == pytest.approx(accuracies[-1], abs=0.003)
    assert curves[:, 0].std() == pytest.approx(0.02, abs=0.003)


def test_ranges_hold_the_truth_as_often_as_they_promise() -> None:
    """Curves of a known law whose points err together and alone; the number is read off or extrapolated."""
    law, shots, level, alone = LAWS["power law"], shots_grid(19), 0.01, 0.002
    generator = np.random.default_rng(0)
    is_inside: dict[bool, list[bool]] = {True: [], False: []}
    for _ in range(60):
        noise = level * generator.normal() + alone * generator.normal(size=len(shots))
        curve = curve_of(shots, np.array([law(m) for m in shots]) + noise, level, alone)
        for number in (8, 40):
            found = labels_needed(curve, "ridge", law(number))
            low, high = found.interval
            is_inside[found.extrapolated].append(low <= number <= (high or math.inf))
    assert np.mean(is_inside[False]) >= 0.9
    assert np.mean(is_inside[True]) >= 0.75

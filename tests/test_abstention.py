"""Thresholds of abstention: the tests behind a promise against loops with SciPy, what cannot be promised, decisions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from messages import raises, says
from nctransfer.errors import FeaturesError, SettingError
from nctransfer.heads.abstention import FIRST, REASONS, RISK, Thresholds, decide, thresholds
from nctransfer.heads.head import HeldOut


def held_out(probability: Sequence[float], right: Sequence[bool], unlikeness: Sequence[float] | None = None) -> HeldOut:
    values = range(len(right)) if unlikeness is None else unlikeness
    return HeldOut(
        probability=torch.tensor(probability, dtype=torch.float32),
        right=torch.tensor(right, dtype=torch.bool),
        unlikeness=torch.tensor(values, dtype=torch.float32),
    )


def drawn(images: int, seed: int, places: int = 7) -> HeldOut:
    """Calibrated probabilities, which are equal for many images if they have few places."""
    rng = np.random.default_rng(seed)
    probability = np.round(1 - 0.5 * rng.beta(0.3, 1.5, images), places)
    return held_out(probability, rng.random(images) < probability, rng.normal(size=images))


def by_loop(given: HeldOut, max_error: float) -> float | None:
    """The threshold that a plain walk from high to low finds."""
    probability, wrong = given.probability.tolist(), (~given.right).tolist()
    images = np.arange(1, len(probability) + 1)
    passing = binom.cdf(images[:, None] - 1, images, max_error) <= RISK  # errors, images
    fewest = [1 + int(row.argmax()) for row in passing if row.any()]
    first = min((k for k in fewest if k >= FIRST * len(probability)), default=len(probability) + 1)
    found = None
    for threshold in sorted(set(probability), reverse=True):
        answered = [bad for one, bad in zip(probability, wrong, strict=True) if one >= threshold]
        if len(answered) < first:
            continue
        if not passing[sum(answered), len(answered) - 1]:
            break
        found = threshold
    return found


@pytest.mark.parametrize("max_error", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("places", [7, 2, 1])
@pytest.mark.parametrize("seed", range(4))
def test_thresholds_are_those_of_a_plain_walk(seed: int, places: int, max_error: float) -> None:
    given = drawn(130, seed, places)
    expected = by_loop(given, max_error)
    if expected is None:
        with pytest.raises(FeaturesError):
            thresholds(given, max_error, max_lost=0.0)
        return
    found = thresholds(given, max_error, max_lost=0.0)
    answered = given.probability >= expected
    assert found.probability == expected
    assert found.answered == pytest.approx(float(answered.double().mean()))
    assert found.error == pytest.approx(float((~given.right[answered]).double().mean()))
    assert found.error <= found.error_bound <= max_error
    assert found.error_bound == max_error or found.answered == 1.0


def test_bound_is_that_of_clopper_and_pearson() -> None:
    found = thresholds(drawn(200, 0), None, 0.0)
    wrong = round(found.error * 200)
    expected = binomtest(wrong, 200).proportion_ci(1 - 2 * RISK, method="exact").high
    assert found.error_bound == pytest.approx(expected)
    assert (found.probability, found.answered, found.unlikeness) == (0.0, 1.0, math.inf)


@pytest.mark.parametrize(("images", "lost", "rank"), [(99, 0.05, 95), (100, 0.05, 96), (19, 0.05, 19), (39, 0.1, 36)])
def test_unlikeness_threshold_has_the_rank_of_conformal_prediction(images: int, lost: float, rank: int) -> None:
    order = torch.randperm(images, generator=torch.manual_seed(0)).tolist()
    found = thresholds(held_out([0.9] * images, [True] * images, order), None, lost)
    assert found.unlikeness == rank - 1
    assert found.lost == pytest.approx(1 - rank / images)
    assert found.answered == pytest.approx(rank / images)


def test_so_few_images_allow_no_threshold_of_unlikeness() -> None:
    found = thresholds(held_out([0.9] * 18, [True] * 18), None, 0.05)
    assert (found.unlikeness, found.lost) == (math.inf, 0.0)


def test_errors_of_images_that_are_unlike_every_class_do_not_count() -> None:
    right = [True] * 191 + [False] * 9
    assert thresholds(held_out([0.9] * 200, right), 0.02, max_lost=0.05).error == 0.0
    with pytest.raises(FeaturesError):
        thresholds(held_out([0.9] * 200, right), 0.02, max_lost=0.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 400), st.integers(0, 99), st.floats(0.02, 0.3), st.floats(0.01, 0.3))
def test_an_easier_promise_answers_no_fewer(images: int, seed: int, level: float, more: float) -> None:
    given = drawn(images, seed)
    try:
        answered = thresholds(given, level, 0.0).answered
    except FeaturesError:
        return
    assert thresholds(given, min(level + more, 0.9), 0.0).answered >= answered - FIRST


def test_what_cannot_be_promised_is_said_with_what_can() -> None:
    given = held_out([1 - place / 200 for place in range(60)], [True] * 60)
    with raises(FeaturesError, 60, "2%", "4.9%", hint=("--max-error", "4.9%", 160)):
        thresholds(given, 0.02, 0.0)
    assert thresholds(given, 0.049, 0.0).answered == 1.0
    more = held_out([1 - place / 500 for place in range(160)], [True] * 160)
    assert thresholds(more, 0.02, 0.0).answered == 1.0


def test_more_images_are_not_asked_for_where_they_would_not_help() -> None:
    given = held_out([0.9] * 200, [place % 4 > 0 for place in range(200)])
    with pytest.raises(FeaturesError) as caught:
        thresholds(given, 0.05, 0.0)
    says(caught, 200, "5%", hint="--max-error")
    assert "image" not in caught.value.hint


@pytest.mark.parametrize(("max_error", "max_lost"), [(0.0, 0.05), (1.0, 0.05), (-0.1, 0.0), (None, 1.0), (None, -0.01)])
def test_shares_outside_their_range_are_refused(max_error: float | None, max_lost: float) -> None:
    with pytest.raises(SettingError):
        thresholds(drawn(50, 0), max_error, max_lost)


def test_decisions() -> None:
    limits = Thresholds(probability=0.7, unlikeness=2.0, answered=1.0, error=0.0, error_bound=0.1, lost=0.0)
    top = torch.tensor([0.7, 0.69, 0.9, 0.5, math.nan, 0.9])
    found = decide(torch.stack([top, 1 - top], dim=1), torch.tensor([2.0, 0.0, 2.1, 3.0, 0.0, math.nan]), limits)
    between, unlike = REASONS.index("between two classes"), REASONS.index("unlike every class")
    assert found.reasons.tolist() == [0, between, unlike, unlike, between, unlike]
    assert found.abstained.tolist() == [False, *[True] * 5]


def test_promises_hold_in_nine_of_ten_studies() -> None:
    """On probabilities whose truth is known; each study draws new images."""
    rng, broken, promised, answered = np.random.default_rng(0), 0, 0, []
    many = np.sort(0.5 * rng.beta(0.3, 1.5, 100_000))  # the probability of an error, ascending
    error = np.cumsum(many) / np.arange(1, len(many) + 1)
    for _ in range(300):
        wrong = 0.5 * rng.beta(0.3, 1.5, 200)
        try:
            found = thresholds(held_out(1 - wrong, rng.random(200) >= wrong), 0.05, 0.0)
        except FeaturesError:
            continue
        promised += 1
        answered.append(found.answered)
        broken += error[np.searchsorted(many, 1 - found.probability) - 1] > 0.05
    assert promised > 200
    assert broken <= 0.1 * 300
    assert np.mean(answered) > 0.5

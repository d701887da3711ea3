"""Races between candidates: who drops out, who comes back, and what is left when time is spent."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import t

from nctransfer.errors import FeaturesError, ModelError, SettingError
from nctransfer.evaluation.all_ways import AllWaysResult, AllWaysTask, all_ways_accuracy
from nctransfer.evaluation.image_influence import Estimate
from nctransfer.features.feature_set import FeatureSet
from nctransfer.rank.clear_losers import clear_losers, deciding_images
from nctransfer.rank.race import Failure, Key, Race, Round, race, sizes_of_rounds

KEY: Key = (5, "ridge")
EACH = 101  # images on which each candidate depends: standard errors have as many degrees of freedom as they ever have
NOISE = 1.0  # the standard deviation of an image, in the units of the accuracies below


def result(accuracies: Mapping[Key, float], images: int, number: int) -> Any:
    """A result with a standard error of NOISE/√images, independent of the other candidates."""
    of_images = torch.zeros(6, EACH, dtype=torch.float64)
    of_images[number] = NOISE / math.sqrt(images * EACH)
    estimates = {
        key: Estimate(
            accuracy=accuracy,
            of_images=of_images.flatten(),
            of_draws=torch.full((2,), accuracy, dtype=torch.float64),
            interval=(0.0, 1.0),
        )
        for key, accuracy in accuracies.items()
    }
    return SimpleNamespace(estimates=estimates, images=(images, images))


class Measured:
    """A ``measure`` that knows the accuracies, and remembers who was measured."""

    def __init__(self, accuracies: Mapping[str, float | Mapping[Key, float]], fails: Mapping[str, int] | None = None):
        self.accuracies = {name: one if isinstance(one, Mapping) else {KEY: one} for name, one in accuracies.items()}
        self.fails = fails or {}  # from how many images on
        self.calls: list[tuple[str, int]] = []

    def __call__(self, name: str, images: int) -> Any:
        self.calls.append((name, images))
        if images >= self.fails.get(name, 10**9):
            raise FeaturesError(f"{name} is not finite", "leave it out")
        return result(self.accuracies[name], images, list(self.accuracies).index(name))

    def race(self, sizes: tuple[int, ...] = (8, 16, 32), keys: tuple[Key, ...] = (KEY,), **settings: Any) -> Race:
        return race(list(self.accuracies), sizes, self, keys=keys, **settings)


def reach(rounds: int, images: int) -> float:
    """How far the worse of two candidates may be behind."""
    return float(t.ppf(1 - 0.05 / rounds, 100)) * NOISE * math.sqrt(2 / images)


# Sizes


@pytest.mark.parametrize(
    ("sizes", "shots"),
    [([8, 8], 1), ([20] * 10, 5), ([100] * 3, 5), ([3, 50, 1000], 1), ([600, 1300], 20), ([2, 2], 1)],
)
def test_rounds_double_and_the_last_has_all_images(sizes: list[int], shots: int) -> None:
    *first, last = sizes_of_rounds(sizes, shots)
    assert last == max(sizes)
    assert all(size >= max(8, 2 * shots) for size in first)
    assert all(two == 2 * one for one, two in itertools.pairwise(first))
    assert all(sum(min(size, one) for one in sizes) < sum(sizes) / 1.5 for size in first)


def test_there_is_one_round_if_there_are_few_images() -> None:
    assert sizes_of_rounds([11] * 4, shots=1) == (11,)
    assert sizes_of_rounds([30] * 4, shots=14) == (30,)
    assert sizes_of_rounds([8] * 99 + [100], shots=1) == (100,)  # the first round would have nearly all images


# Dropping out


def test_the_worse_of_two_drops_out_in_the_round_that_can_show_it() -> None:
    for images, others in [(8, (16, 32)), (16, (32,)), (32, ())]:
        measure = Measured({"near": 0.0, "best": reach(3, images) * 1.001})
        found = measure.race()
        assert found.survivors == ("best",)
        assert [one.dropped for one in found.rounds if one.images == images] == [("near",)]
        assert found.images == {"near": images, "best": 32}
        assert [call for call in measure.calls if call[1] > images] == [("best", size) for size in others[-1:]]
        assert found.is_complete
        assert list(found.results) == ["near", "best"]
        assert found.results["near"].images == (images, images)


def test_who_is_not_told_apart_from_the_best_stays() -> None:
    found = Measured({"near": 0.0, "best": reach(3, 32) * 0.999}).race()
    assert found.survivors == ("near", "best")
    assert [one.images for one in found.rounds] == [8, 16, 32]
    assert {one.level for one in found.rounds} == {1 - 0.05 / 3}


def test_the_level_is_divided_over_the_rounds() -> None:
    behind = (reach(1, 32) + reach(3, 32)) / 2
    assert Measured({"near": 0.0, "best": behind}).race().survivors == ("near", "best")
    assert Measured({"near": 0.0, "best": behind}).race((32,)).survivors == ("best",)
    assert Measured({"near": 0.0, "best": behind}).race(error=0.15).survivors == ("best",)


def test_equal_features_stay_together() -> None:
    def measure(name: str, images: int) -> Any:
        return result({KEY: 0.5}, images, 0)

    found = race(["one", "two", "three"], (8, 16), measure, keys=[KEY])
    assert found.survivors == ("one", "two", "three")
    assert found.share_saved([16]) == 0


def test_one_candidate_runs_on_all_images_at_once_after_the_first_round() -> None:
    measure = Measured({"only": 0.3})
    found = measure.race()
    assert found.survivors == ("only",)
    assert measure.calls == [("only", 8), ("only", 32)]
    assert found.is_complete


def test_a_candidate_stays_while_it_may_be_the_best_at_any_number_of_shots() -> None:
    one, five = (1, "ridge"), (5, "ridge")
    measure = Measured({"few": {one: 9.0, five: 0.0}, "many": {one: 0.0, five: 9.0}, "none": {one: 0.0, five: 0.0}})
    found = measure.race(keys=(one, five))
    assert found.survivors == ("few", "many")
    assert found.possible == {one: ("few",), five: ("many",)}
    assert found.rounds[0].dropped == ("none",)


def test_who_was_out_at_a_number_of_shots_is_out_for_good() -> None:
    one, five = (1, "ridge"), (5, "ridge")

    def measure(name: str, images: int) -> Any:
        behind = {"first": 9.0 if images == 8 else 0.0, "second": 0.0}[name]  # a lead that vanishes
        return result({one: behind, five: 0.0}, images, ["first", "second"].index(name))

    found = race(["first", "second"], (8, 16), measure, keys=(one, five))
    assert found.possible == {one: ("first",), five: ("first", "second")}


def test_the_order_changes_nothing() -> None:
    accuracies = {"a": 0.0, "b": 0.5, "c": 0.9, "d": 1.0, "e": 0.95}
    found = Measured(accuracies).race()
    turned = Measured(dict(reversed(accuracies.items()))).race()
    assert set(found.survivors) == set(turned.survivors)
    assert found.images == turned.images


def test_a_race_repeats() -> None:
    first, second = (Measured({"a": 0.0, "b": 0.5, "c": 1.0}) for _ in range(2))
    assert first.race().possible == second.race().possible
    assert first.calls == second.calls


# Failing


def test_who_fails_at_first_leaves_and_the_others_race() -> None:
    found = Measured({"broken": 9.0, "a": 0.0, "b": 0.1}, fails={"broken": 0}).race()
    assert found.failed == {"broken": Failure(8, "broken is not finite", "leave it out")}
    assert found.rounds[0].failed == found.failed
    assert found.survivors == ("a", "b")
    assert "broken" not in found.results


def test_who_dropped_out_because_of_one_that_fails_later_comes_back() -> None:
    measure = Measured({"a": 0.0, "b": 0.1, "far": -9.0, "broken": 9.0}, fails={"broken": 16})
    told: list[Round] = []
    found = measure.race((8, 16), on_round=told.append)
    assert found.survivors == ("a", "b")
    assert found.failed == {"broken": Failure(16, "broken is not finite", "leave it out")}
    assert found.results["broken"].images == (8, 8)
    assert found.images == {"a": 16, "b": 16, "far": 8, "broken": 8}
    assert [(one.images, one.survivors) for one in told] == [(8, ("broken",)), (8, ("a", "b")), (16, ("a", "b"))]
    assert len(measure.calls) == len(set(measure.calls))  # nothing is measured twice


def test_a_later_failure_that_changes_nothing_is_not_told_twice() -> None:
    told: list[Round] = []
    found = Measured({"a": 0.0, "b": 0.1, "c": 0.0}, fails={"c": 16}).race((8, 16, 32), on_round=told.append)
    assert found.survivors == ("a", "b")
    assert [one.images for one in told] == [8, 16, 32]
    assert found.rounds[1].failed.keys() == {"c"}


def test_a_reason_is_one_line() -> None:
    def measure(name: str, images: int) -> Any:
        raise ModelError("it fails\n  in two lines")

    found = race(["a"], (8,), measure, keys=[(1, "ridge")])
    assert found.failed["a"].reason == "it fails in two lines"


def test_all_fail() -> None:
    found = Measured({"a": 0.0, "b": 0.0}, fails={"a": 0, "b": 0}).race()
    assert (found.survivors, found.results, list(found.failed)) == ((), {}, ["a", "b"])
    assert found.share_saved([32, 32]) == 0
    assert found.is_complete  # no time was lacking
    found = Measured({"a": 0.0, "b": 0.0}, fails={"a": 8, "b": 32}).race()
    assert (found.survivors, list(found.results), list(found.failed)) == ((), ["b"], ["a", "b"])


def test_other_exceptions_are_not_hidden() -> None:
    def measure(name: str, images: int) -> Any:
        raise KeyError(name)

    with pytest.raises(KeyError):
        race(["a"], (8,), measure, keys=[KEY])


# Time


def after(calls: int) -> Callable[[], bool]:
    """Time for so many measurements."""
    left = iter([True] * calls)
    return lambda: next(left, False)


def test_the_last_complete_round_counts_when_time_is_spent() -> None:
    measure = Measured({"a": 0.0, "b": 0.1, "far": -9.0})
    found = measure.race(has_time=after(4))
    assert measure.calls == [("a", 8), ("b", 8), ("far", 8), ("a", 16)]
    assert [one.images for one in found.rounds] == [8]
    assert found.survivors == ("a", "b")
    assert found.results["a"].images == (8, 8)
    assert found.images == {"a": 16, "b": 8, "far": 8}
    assert not found.is_complete
    assert found.not_run == ()


def test_those_that_ran_are_compared_when_time_is_spent_in_the_first_round() -> None:
    found = Measured({"a": 0.0, "b": 9.0, "c": 9.0, "d": 0.0}).race(has_time=after(2))
    assert found.survivors == ("b",)
    assert found.not_run == ("c", "d")
    assert not found.is_complete
    assert not Measured({"a": 0.0, "b": 0.0}).race((8,), has_time=after(1)).is_complete


def test_nothing_runs_without_time() -> None:
    found = Measured({"a": 0.0, "b": 9.0}).race(has_time=lambda: False)
    assert (found.survivors, found.not_run, found.results) == ((), ("a", "b"), {})


# What is told


def test_the_share_of_passes_that_was_saved() -> None:
    found = Measured({"far": -9.0, "off": -9.0, "a": 0.0, "b": 0.0}).race((8, 16, 32))
    assert found.share_saved([32] * 5) == pytest.approx(2 * (1 - 8 / 32) / 4)
    assert found.share_saved([4, 32]) == pytest.approx(2 * (1 - (4 + 8) / 36) / 4)
    unfinished = Measured({"far": -9.0, "off": -9.0, "a": 0.0, "b": 0.0}).race((8, 16, 32), has_time=after(5))
    assert unfinished.share_saved([32]) == found.share_saved([32])
    assert Measured({"far": -9.0, "a": 0.0}, fails={"far": 0}).race().share_saved([32]) == 0


def test_each_measurement_and_each_round_is_told() -> None:
    told: list[Any] = []
    Measured({"far": -9.0, "a": 0.0, "broken": 0.0}, fails={"broken": 0}).race(
        (8, 16),
        on_measured=lambda name, images, outcome: told.append((name, images, isinstance(outcome, Failure))),
        on_round=lambda one: told.append((one.survivors, one.dropped)),
    )
    assert told == [
        ("far", 8, False),
        ("a", 8, False),
        ("broken", 8, True),
        (("a",), ("far",)),
        ("a", 16, False),
        (("a",), ()),
    ]


# Bad input


@pytest.mark.parametrize(
    ("names", "sizes", "keys"),
    [
        (["a", "b", "a"], (8,), [KEY]),
        (["a"], (), [KEY]),
        (["a"], (16, 8), [KEY]),
        (["a"], (8, 8), [KEY]),
        (["a"], (8,), []),
    ],
)
def test_bad_input(names: list[str], sizes: tuple[int, ...], keys: list[Key]) -> None:
    with pytest.raises(SettingError):
        race(names, sizes, Measured({"a": 0.0, "b": 0.0}), keys=keys)


# Few images that decide


def candidate(accuracy: float, influence: torch.Tensor) -> Estimate:
    draws = torch.full((2,), accuracy, dtype=torch.float64)
    return Estimate(accuracy=accuracy, of_images=influence, of_draws=draws, interval=(0.0, 1.0))


@pytest.mark.parametrize("deciding", [2, 5, 20, 200])
def test_a_loser_is_clear_if_the_images_that_decide_show_it(deciding: int) -> None:
    influence = torch.zeros(400, dtype=torch.float64)
    influence[:deciding] = 0.01 / math.sqrt(deciding)
    threshold = float(t.ppf(0.95, min(100, deciding - 1))) * 0.01
    best = candidate(0.5 + threshold, torch.zeros_like(influence))
    assert clear_losers([candidate(0.5 - 1e-6, influence), best], 0.95) == (True, False)
    assert clear_losers([candidate(0.5 + 1e-6, influence), best], 0.95) == (False, False)


def test_the_fewest_images_that_decide_are_those_of_the_pair() -> None:
    """A twin that differs in one image keeps nobody else in."""
    rng = np.random.default_rng(0)
    one, other = torch.from_numpy(rng.normal(size=(2, 400)) * 0.0005)
    twin = one.clone()
    twin[0] += 0.001
    found = clear_losers([candidate(0.9, one), candidate(0.901, twin), candidate(0.8, other)], 0.95)
    assert found == (False, False, True)


def test_how_many_images_decide() -> None:
    influences = torch.from_numpy(np.random.default_rng(1).normal(size=(30, 3)))
    found = deciding_images(influences)
    for i, j in itertools.permutations(range(3), 2):
        squares = ((influences[:, i] - influences[:, j]) ** 2).tolist()
        assert float(found[i, j]) == pytest.approx(sum(squares) ** 2 / sum(one**2 for one in squares))
    assert found.diagonal().tolist() == [math.inf] * 3


def test_one_or_no_candidate_is_no_loser() -> None:
    assert clear_losers([], 0.95) == ()
    assert clear_losers([candidate(0.5, torch.zeros(4, dtype=torch.float64))], 0.95) == (False,)


# Real measurements


def test_a_race_on_features_finds_the_best_and_saves_passes() -> None:
    rng = np.random.default_rng(0)
    means, hard = rng.normal(size=(4, 1, 8)), rng.normal(size=(4, 32, 8))

    def measure(name: str, images: int) -> AllWaysResult:
        rows = (means + float(name) * hard)[:, :images].reshape(-1, 8)
        labels = np.repeat(["a", "b", "c", "d"], images)
        task = AllWaysTask(shots=(1, 3), classifiers="ncc", draws=64)
        return all_ways_accuracy(FeatureSet.from_arrays(rows, labels), task, device="cpu")

    sizes = sizes_of_rounds([32] * 4, shots=3)
    found = race(["4.0", "0.8", "0.801", "2.0"], sizes, measure, keys=[(1, "ncc"), (3, "ncc")])
    assert set(found.survivors) == {"0.8", "0.801"}
    assert found.images == {"4.0": 8, "0.8": 32, "0.801": 32, "2.0": 8}
    assert found.share_saved([32] * 4) == pytest.approx(2 * 24 / (4 * 32))
    assert found.results["0.8"].estimates[3, "ncc"].accuracy > found.results["4.0"].estimates[3, "ncc"].accuracy


# Controls


def test_controls_are_judged_but_knock_nobody_out():
    candidates = {"good": 0.5, "bad": -50.0, "pixels": 60.0, "noise": -70.0}
    found = Measured(candidates).race(controls=("pixels", "noise"))
    assert found.rounds[0].dropped == ("bad", "noise")
    assert found.survivors == ("good", "pixels")
    assert found.possible[KEY] == ("good", "pixels")
    alone = Measured({"good": 0.5, "noise": -70.0}).race(controls=("noise",))
    assert alone.survivors == ("good",)

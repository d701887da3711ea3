"""Why two classes are confused: the quantities, the accuracies, and the reason on data made for it."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import pytest

import oracles
from finite_laws import SHOTS, WORLDS, margins
from messages import logged, raises
from nctransfer.errors import FeaturesError, SettingError
from nctransfer.evaluation.margin_moments import ClassMoments, PairMargins
from nctransfer.evaluation.pair_explanation import PairExplanation, closed_form, explain
from nctransfer.features.feature_set import FeatureSet
from nctransfer.neural_collapse.bounds import luthra2025
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.report.theory_sheets import pair_sheet
from terminal import missing


def of(**classes: np.ndarray) -> FeatureSet:
    return FeatureSet.from_arrays(
        np.concatenate([*classes.values()]), np.repeat([*classes], [len(one) for one in classes.values()])
    )


def normal(n: int, scales: Any, mean: Any = 0.0, seed: int = 0) -> np.ndarray:
    """Samples whose mean is what was asked for."""
    x = np.random.default_rng(seed).normal(size=(n, len(scales)))
    return (x - x.mean(axis=0)) * scales + mean


def line(d: int, apart: float) -> np.ndarray:
    return np.eye(d)[0] * apart


def reason(a: np.ndarray, b: np.ndarray, shots: Any = (1,)) -> str:
    return explain(of(wren=a, lark=b), "wren", "lark", shots, episodes=50, device="cpu").reason


def accuracies(found: PairExplanation) -> dict[int, tuple[float, float, float]]:
    return {row.shots: (row.closed_form, row.expected, row.measured) for row in found.shots}


# quantities


@pytest.mark.parametrize("d", [4, 50], ids=["more samples than width", "fewer"])
@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_quantities_by_numpy(d: int, order: tuple[str, str]):
    rng = np.random.default_rng(0)
    rows = {"a": rng.normal(size=(20, d)) * np.linspace(0.2, 2, d), "b": rng.normal(size=(13, d)) + 1}
    rest = rng.normal(size=(9, d)) * 40
    found = explain(of(**rows, c=rest), *order, (1, 5), episodes=20, device="cpu")
    first, second = (rows[name] for name in order)
    delta = second.mean(axis=0) - first.mean(axis=0)
    squared = float(delta @ delta)
    sigmas = [oracles.covariance(one) for one in (first, second)]
    assert found.distance == pytest.approx(math.sqrt(squared))
    assert found.cdnv == pytest.approx(sum(map(np.trace, sigmas)) / (2 * squared))
    lengths = [np.linalg.norm(sigma) for sigma in sigmas]
    assert found.overlap == pytest.approx(np.trace(sigmas[0] @ sigmas[1]) / (lengths[0] * lengths[1]))
    for one, name, sigma in zip(found.directions, order, sigmas, strict=True):
        assert one.name == name
        assert one.variance == pytest.approx(np.trace(sigma))
        assert one.along == pytest.approx(delta @ sigma @ delta)
        assert one.directional == pytest.approx(delta @ sigma @ delta / squared**2)
        assert one.trace2 == pytest.approx(np.trace(sigma @ sigma))
        assert one.dimension == pytest.approx(np.trace(sigma) ** 2 / np.trace(sigma @ sigma))
    by_class = [oracles.directional_pair([first, second], *pair) for pair in ((0, 1), (1, 0))]
    limits = [0.5 * math.erfc(-1 / (2 * math.sqrt(2 * one))) for one in by_class]
    assert found.limit == pytest.approx(sum(limits) / 2)
    stats = ClassStatistics.of(of(**rows), "cpu")
    for row in found.shots:
        assert row.bound == pytest.approx(1 - luthra2025(stats, 2, row.shots))
        of_class = []
        for one, other in ((0, 1), (1, 0)):
            a, b, m = sigmas[one], sigmas[other], row.shots
            signal = squared + (np.trace(b) - np.trace(a)) / m
            noise = 4 * (delta @ a @ delta) + 4 * (delta @ b @ delta + np.trace(a @ a) + np.trace(a @ b)) / m
            noise += 2 * (np.trace(a @ a) + np.trace(b @ b)) / m**2
            for sigma, rows_of in ((a, (first, second)[one]), (b, (first, second)[other])):
                lengths = np.square(rows_of - rows_of.mean(axis=0)).sum(axis=1)
                noise += (np.square(lengths).mean() - np.trace(sigma) ** 2 - 2 * np.trace(sigma @ sigma)) / m**3
            noise += 4 * (delta * (1 - 2 * one)) @ (lengths @ (rows_of - rows_of.mean(axis=0))) / len(rows_of) / m**2
            of_class.append(0.5 * math.erfc(-signal / math.sqrt(2 * noise)))
        assert row.closed_form == pytest.approx(np.mean(of_class))
        assert 0.5 < row.closed_form < 0.999


def test_overlap_is_one_where_classes_vary_alike_and_zero_where_across():
    x = normal(40, [1, 0, 0])
    y = normal(40, [0, 1, 0], 1)
    assert explain(of(a=x, b=2 * x + 5), "a", "b", (1,), episodes=9).overlap == pytest.approx(1)
    assert explain(of(a=x, b=y), "a", "b", (1,), episodes=9).overlap == pytest.approx(0, abs=1e-12)


def test_order_of_names_turns_the_directions_only():
    rows = {"a": normal(30, [1, 2, 3]), "b": normal(40, [2, 1, 1], 1, seed=1)}
    one, other = (explain(of(**rows), *names, (1, 5), episodes=60) for names in (("a", "b"), ("b", "a")))
    assert one.directions == other.directions[::-1]
    assert one.shots == other.shots
    assert (one.distance, one.cdnv, one.limit, one.reason) == (other.distance, other.cdnv, other.limit, other.reason)


# accuracies


@pytest.mark.parametrize("shots", [1, 5])
def test_closed_form_is_near_what_normal_classes_give(shots: int):
    d, n = 40, 400
    rows = {"a": normal(n, np.linspace(0.5, 1.5, d)), "b": normal(n, np.full(d, 0.8), line(d, 4.0), seed=1)}
    found = explain(of(**rows), "a", "b", (shots,), episodes=50)
    rng = np.random.default_rng(2)
    shares = []
    for own, other in (("a", "b"), ("b", "a")):  # new samples of the same normal classes
        mine, yours = (
            (rows[name].mean(axis=0), np.linalg.cholesky(oracles.covariance(rows[name]))) for name in (own, other)
        )

        def draw(mean: np.ndarray, root: np.ndarray, size: int) -> np.ndarray:
            return mean + rng.normal(size=(size, d)) @ root.T

        query = draw(*mine, 20_000)
        near, far = (np.mean([draw(*one, 20_000) for _ in range(shots)], axis=0) for one in (mine, yours))
        shares.append(np.mean(np.square(query - near).sum(axis=1) < np.square(query - far).sum(axis=1)))
    assert found.shots[0].closed_form == pytest.approx(np.mean(shares), abs=0.015)
    assert 0.6 < found.shots[0].closed_form < 0.97


def test_measured_is_what_is_expected():
    found = explain(
        of(a=normal(30, [1, 2, 3]), b=normal(40, [2, 1, 1], 1, seed=1)), "a", "b", (1, 5, 10), episodes=3000
    )
    assert [row.shots for row in found.shots] == [1, 5, 10]
    for row in found.shots:
        assert 0 < row.ci95 < 0.01
        assert abs(row.measured - row.expected) < 1.6 * row.ci95 + 0.001
        assert 0.55 < row.measured < 0.95
        assert row.bound < row.measured


def test_bound_of_classes_far_apart_says_something():
    found = explain(of(a=normal(30, [1, 1]), b=normal(30, [1, 1], 500)), "a", "b", (1, 10), episodes=20)
    assert all(0.8 < row.bound <= row.measured == row.expected == 1 for row in found.shots)


@pytest.mark.parametrize("classes", WORLDS[:20])
def test_closed_form_has_the_mean_and_the_variance_of_the_margin(classes: list[np.ndarray]):
    a, b = classes[:2]
    moments = ClassMoments.of(of(a=a, b=b), "cpu")
    for shots in SHOTS:
        of_class = []
        for own, other in ((a, b), (b, a)):
            h = margins(own, other, shots)
            of_class.append(0.5 * math.erfc(-h.mean() / h.std() / math.sqrt(2)))
        assert closed_form(moments, PairMargins.of(moments), shots) == pytest.approx(np.mean(of_class), rel=1e-9)


# pairs that are not resolved


@pytest.mark.parametrize("n", [20, 60])
def test_two_halves_of_one_class_are_not_told_apart(n: int):
    x = np.random.default_rng(n).normal(size=(2 * n, 512)) * np.linspace(0.2, 2, 512)
    found = explain(of(a=x[::2], b=x[1::2]), "a", "b", (1, 5), episodes=200)
    assert not found.is_resolved
    assert (found.limit, found.reason) == (None, found.undefined["limit"])
    assert found.undefined.keys() == {"limit", "closed_form", "bound"}
    for row in found.shots:
        assert (row.closed_form, row.bound) == (None, None)
        assert abs(row.expected - 0.5) < 0.1
    sheet = pair_sheet(found)
    assert found.reason in sheet.title
    assert len(sheet.columns) == len(sheet.rows[0]) == 3
    assert "cdnv" not in sheet.facts
    assert json.loads(json.dumps(found.to_dict()))["shots"][0]["bound"] is None


def test_classes_that_are_told_apart_have_all_values():
    found = explain(of(a=normal(20, np.ones(50)), b=normal(20, np.ones(50), line(50, 4.0), seed=1)), "a", "b", (1,))
    assert (found.is_resolved, found.undefined) == (True, {})
    assert len(pair_sheet(found).columns) == 5


# the reason


def close(d: int) -> str:
    return reason(normal(200, np.ones(d)), normal(200, np.ones(d), line(d, 2.0), seed=1))


def apart() -> str:
    return reason(normal(30, [1, 1]), normal(30, [1, 1], [30, 0]))


def kind(said: str) -> str:
    """A reason without what it says of these classes: the same for the same reason."""
    return re.sub(r"wren|lark|\d+(\.\d+)?", "…", said)


@pytest.mark.parametrize("d", [2, 20, 100])
def test_classes_that_are_close(d: int):
    assert close(d) == close(50) != apart()


@pytest.mark.parametrize("d", [5, 20, 100])
@pytest.mark.parametrize("wide", ["wren", "lark"])
def test_a_class_that_varies_along_the_line(d: int, wide: str):
    scales = np.ones(d) + line(d, 5.0)  # 36 times the variance
    a, b = (normal(300, scales), normal(300, np.ones(d), line(d, 8.0), seed=1))
    found, turned = (reason(a, b), reason(b, a))[:: 1 if wide == "wren" else -1]
    exchanged = {"wren": "lark", "lark": "wren"}
    assert re.sub("wren|lark", lambda name: exchanged[name[0]], found) == turned != found
    assert kind(found) not in map(kind, (close(d), apart()))
    times = float(re.search(r"\d+\.\d", found)[0])
    assert times == pytest.approx(36, rel=0.5)


def test_a_class_that_varies_along_the_line_only():
    found = reason(normal(100, [3, 0, 0]), normal(100, [1, 1, 1], [4, 0, 0], seed=1))
    assert {"wren", "lark"} <= set(re.findall(r"\w+", found))
    assert not re.search(r"\d", found)  # infinitely many times as much as elsewhere


def wide(distance: float, shots: Any = (1,)) -> PairExplanation:
    """A class that is wide in many directions, but not along the line to the other."""
    wren = normal(110, np.r_[0.1, np.full(199, 3.0)])
    lark = normal(110, np.full(200, 0.1), line(200, distance), seed=1)
    return explain(of(wren=wren, lark=lark), "wren", "lark", shots, episodes=5, device="cpu")


@pytest.mark.parametrize("distance", [13.0, 15.0, 18.0, 22.0])
def test_a_wide_class_that_few_shots_estimate_badly(distance: float):
    found = wide(distance, (1, 2, 5, 10, 20, 50, 100))
    assert "wren" in found.reason
    assert "lark" not in found.reason
    enough, within, highest = map(float, re.findall(r"[\d.]+\d|\d+", found.reason))
    assert found.limit > 0.999
    assert (within, highest) == (2, pytest.approx(100 * found.limit, abs=0.05))
    closed = {shots: one[0] for shots, one in accuracies(found).items()}
    assert closed[enough] >= found.limit - 0.02
    assert all(one < found.limit - 0.02 for shots, one in closed.items() if shots < enough)


def test_a_class_so_wide_that_100_shots_are_few():
    d = 200
    found = reason(normal(300, np.r_[0.1, np.full(d - 1, 5.0)]), normal(300, np.full(d, 0.1), line(d, 6.6), seed=1))
    assert missing(found, "wren", 100) == []
    assert kind(found) != kind(wide(18.0).reason)  # for which fewer are enough


def test_the_first_shot_is_the_first_whatever_was_asked_for():
    d = 200
    a, b = normal(100, np.full(d, 3.0)), normal(100, np.full(d, 3.0), line(d, 20.0), seed=1)
    a[:, 0] /= 30
    b[:, 0] = (b[:, 0] - 20) / 30 + 20
    found = explain(of(wren=a, lark=b), "wren", "lark", (1, 20), episodes=50)
    assert found.shots[0].expected < 0.9
    assert found.shots[1].expected > 0.97
    for shots in ((1, 20), (20,), (1,), (500,)):
        assert kind(reason(a, b, shots)) == kind(wide(18.0).reason)


def test_classes_that_do_not_vary():
    found = explain(of(a=np.zeros((5, 3)), b=np.ones((6, 3))), "a", "b", (1, 2), episodes=20)
    assert (found.cdnv, found.overlap, found.limit) == (0, 0, 1)
    assert accuracies(found) == {1: pytest.approx((1, 1, 1)), 2: pytest.approx((1, 1, 1))}
    assert {row.bound for row in found.shots} == {1}
    assert [one.dimension for one in found.directions] == [0, 0]
    assert found.reason == apart()


def test_one_class_that_does_not_vary():
    found = explain(of(a=np.zeros((9, 3)), b=normal(9, [1, 1, 1], 1)), "a", "b", (1, 2), episodes=20)
    assert found.overlap == 0
    assert found.directions[0].dimension == 0
    assert 0.5 < found.limit < 1


# what cannot be explained


def test_names_that_are_not_there():
    features = of(sparrow=normal(5, [1]), swallow=normal(5, [1], 3), crow=normal(5, [1], 6))
    with raises(FeaturesError, "'sparow'", hint=["sparrow"]):
        explain(features, "sparow", "crow")
    with raises(FeaturesError, "'xyz'", hint=["crow", "sparrow", "swallow"]):
        explain(features, "crow", "xyz")


SAME_MEAN = {"a": normal(4, [1.0, 1.0], 9.0), "b": np.array([[9, 10.0], [9, 8], [11, 9], [7, 9]])}


@pytest.mark.parametrize(
    ("classes", "names", "said"),
    [
        ({"a": normal(5, [1]), "b": normal(5, [1], 3)}, "aa", ["'a'"]),
        (SAME_MEAN, "ab", ["'a'", "'b'"]),
        ({"a": normal(2, [1]), "b": normal(5, [1], 3)}, "ab", ["'a'", 2]),
        ({"a": normal(5, [1]), "b": normal(1, [1], 3)}, "ab", ["'b'", 1]),
    ],
    ids=["named twice", "one mean", "two samples", "one sample"],
)
def test_classes_that_make_no_pair(classes: dict[str, np.ndarray], names: str, said: list[object]):
    with pytest.raises((FeaturesError, SettingError)) as caught:
        explain(of(**classes), *names)
    assert missing(caught.value.message, *said) == []
    assert caught.value.hint


def test_shots_for_which_there_are_too_few_samples_are_left_out():
    rows = of(a=normal(6, [1, 1]), b=normal(30, [1, 1], 1), c=normal(2, [1, 1]))
    found = explain(rows, "a", "b", (10, 5, 1, 5, 6), episodes=20)
    assert [row.shots for row in found.shots] == [1, 5]
    none = explain(rows, "a", "b", (10,), episodes=20)
    assert none.shots == ()
    assert none.reason


@pytest.mark.parametrize(
    ("given", "said"), [({"shots": (0,)}, ["shots", 0]), ({"episodes": 1}, ["episodes", 1])], ids=["shots", "episodes"]
)
def test_what_is_no_task(given: dict[str, Any], said: list[object]):
    with raises(SettingError, *said):
        explain(of(a=normal(6, [1, 1]), b=normal(6, [1, 1], 1)), "a", "b", **given)


# results


def test_dict_and_frame_agree():
    found = explain(of(a=normal(30, [1, 2, 3]), b=normal(40, [2, 1, 1], 1)), "b", "a", (1, 5), episodes=30)
    as_dict = json.loads(json.dumps(found.to_dict()))
    assert as_dict["features"]["samples"] == 70
    assert [one["name"] for one in as_dict["directions"]] == ["b", "a"]
    frame = found.to_frame().to_dict("records")
    assert frame == [{"class_a": "b", "class_b": "a", **row} for row in as_dict["shots"]]
    assert as_dict["limit"] == found.limit
    assert as_dict["reason"] == found.reason


def test_the_seed_decides_what_is_measured():
    rows = of(a=normal(30, [1, 2, 3]), b=normal(40, [2, 1, 1], 1))
    one, again, other = (explain(rows, "a", "b", (1,), episodes=30, seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert one.shots[0].measured != other.shots[0].measured
    assert one.shots[0].closed_form == other.shots[0].closed_form


def test_shots_that_leave_no_query_are_named(caplog: pytest.LogCaptureFixture):
    features = of(a=normal(5, [1]), b=normal(5, [1], 3))
    found = explain(features, "a", "b", (1, 4, 5, 9), episodes=10)
    assert [row.shots for row in found.shots] == [1, 4]
    assert logged(caplog, 5, 9)

"""How accuracies vary over episodes, other images and other classes: against plain loops, and exact cases."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import t

from clusters import normal_classes, set_of
from messages import missing, raises
from nctransfer.episodes.leaving_out import tenths
from nctransfer.errors import EpisodeError
from nctransfer.evaluation.fewshot_accuracy import run_fewshot
from nctransfer.evaluation.fewshot_results import FewShotResult
from nctransfer.evaluation.fewshot_task import FewShotTask
from nctransfer.evaluation.spread import Spread, spread_of
from nctransfer.features.feature_set import FeatureSet
from nctransfer.intervals import INTERVALS

KEY = (3, 1, "ncc")


def gaussian(classes: int = 7, each: int = 20, draw: int = 0) -> FeatureSet:
    return set_of(normal_classes([each] * classes, 16, apart=0.5, draw=draw), np.float32)


def result(features: FeatureSet | None = None, interval: Any = "classes", **task: Any) -> FewShotResult:
    task = {"ways": 3, "queries": 10, "episodes": 200, "classifiers": "ncc"} | task
    return run_fewshot(features or gaussian(), FewShotTask(interval=interval, theory=False, **task), device="cpu")


def test_every_interval_has_words() -> None:
    assert list(INTERVALS) == ["episodes", "samples", "classes", "disjoint"]
    assert all(INTERVALS.values())


def test_over_episodes_it_is_the_standard_error_of_the_mean() -> None:
    found = result(interval="episodes")
    values = found.accuracies[KEY].numpy()
    assert found.rows[0].ci95 == pytest.approx(1.96 * values.std(ddof=1) / math.sqrt(200), rel=1e-12)


def without_class(found: FewShotResult) -> np.ndarray:
    """The mean over the episodes without each class, by a plain loop."""
    pairs = list(zip(found.accuracies[KEY].tolist(), found.drawn[KEY[0]].tolist(), strict=True))
    return np.array(
        [np.mean([value for value, drawn in pairs if code not in drawn]) for code in range(len(found.classes))]
    )


def test_over_classes_it_is_the_jackknife() -> None:
    found = result()
    means = without_class(found)
    error = math.sqrt(6 / 7 * ((means - means.mean()) ** 2).sum())
    assert found.rows[0].ci95 == pytest.approx(t.ppf(0.975, 6) * error, rel=1e-9)


def test_over_images_it_is_the_jackknife_over_tenths() -> None:
    found = result(interval="samples", ways=7)
    left_out = found.left_out[7, 1, "ncc"].numpy()
    assert left_out.shape == (10, 200)
    means = left_out.mean(axis=1)
    draw = found.accuracies[7, 1, "ncc"].numpy().var(ddof=1) / 200
    error = math.sqrt(0.9 * ((means - means.mean()) ** 2).sum() + draw)
    assert found.rows[0].ci95 == pytest.approx(t.ppf(0.975, 9) * error, rel=1e-9)


def test_equal_sets_differ_by_exactly_nothing() -> None:
    for interval in INTERVALS:
        found = [result(interval=interval) for _ in range(3)]
        assert bool((spread_of(found, KEY, interval).errors_of_differences() == 0).all())


def test_errors_of_differences_are_those_of_the_differences() -> None:
    found = [result(gaussian(draw=draw)) for draw in range(3)]
    spread = spread_of(found, KEY, "classes")
    for i in range(3):
        for j in range(3):
            alone = Spread(vectors=(spread.vectors[:, i] - spread.vectors[:, j])[:, None], degrees=6)
            assert float(spread.errors_of_differences()[i, j]) == pytest.approx(float(alone.errors()), abs=1e-15)


def test_large_classes_leave_images_out_of_more_episodes() -> None:
    few, many = (result(gaussian(4, each), "samples", ways=2, episodes=3000) for each in (16, 50))
    assert few.left_out[2, 1, "ncc"].shape == (10, 512)
    assert many.left_out[2, 1, "ncc"].shape == (10, 1600)


@pytest.mark.parametrize("queries", [5, "all"])
@pytest.mark.parametrize("with_query_set", [False, True])
def test_intervals_of_several_shots_are_those_of_each(queries: Any, with_query_set: bool) -> None:
    def widths(shots: Any) -> list[float | None]:
        task = FewShotTask(
            ways=3, shots=shots, queries=queries, episodes=50, classifiers="ncc", interval="samples", theory=False
        )
        other = gaussian(draw=1) if with_query_set else None
        return [row.ci95 for row in run_fewshot(gaussian(), task, query_set=other, device="cpu").rows]

    assert widths((1, 5)) == [*widths(1), *widths(5)]


def test_one_number_of_shots_may_have_an_interval_where_another_has_none() -> None:
    features = set_of(normal_classes([6] * 4, 16), np.float32)
    one, five = result(features, "samples", ways=2, shots=(1, 5), queries=1).rows
    assert one.ci95 == result(features, "samples", ways=2, shots=1, queries=1).rows[0].ci95
    assert five.ci95 is None


def test_few_disjoint_episodes_give_no_verdict() -> None:
    found = result(gaussian(7, 11), "disjoint", ways=3, queries=10)
    assert found.rows[0].episodes < 10
    assert found.rows[0].ci95 > 0
    with raises(EpisodeError, found.rows[0].episodes, 10):
        spread_of([found], KEY, "samples")


def test_a_class_that_is_in_every_episode_leaves_no_interval() -> None:
    found = result(gaussian(6), ways=4, episodes=2)
    assert found.rows[0].ci95 is None
    assert missing(found.rows[0].undefined["ci95"], [2]) == []
    with raises(EpisodeError, 2):
        spread_of([found], (4, 1, "ncc"), "classes")


@pytest.mark.parametrize(
    ("counts", "ways", "shots", "interval", "facts"),
    [
        ([20] * 6, 5, 1, "classes", (5, 6)),
        ([3, 3, 3], 2, 1, "classes", (2, 3)),
        ([2, 2, 2], 2, 1, "samples", (1, 2)),
        ([20, 20, 4], 2, 3, "samples", (3, 4)),
    ],
)
def test_where_there_is_no_interval(
    counts: list[int], ways: int, shots: int, interval: str, facts: tuple[int, ...]
) -> None:
    features = set_of(normal_classes(counts, 16), np.float32)
    found = result(features, interval, ways=ways, shots=shots, queries=1, episodes=20)
    assert found.rows[0].ci95 is None
    assert missing(found.rows[0].undefined["ci95"], facts) == []


@pytest.mark.parametrize("interval", ["samples", "classes"])
@pytest.mark.parametrize("queries", [5, "all"])
def test_intervals_with_queries_of_another_set(interval: str, queries: Any) -> None:
    task = FewShotTask(ways=3, queries=queries, episodes=50, classifiers="ncc", interval=interval, theory=False)
    found = run_fewshot(gaussian(), task, query_set=gaussian(draw=1), device="cpu")
    assert 0 < found.rows[0].ci95 < 0.5


def test_tenths_depend_on_sizes_and_seed_only() -> None:
    features = set_of(normal_classes([20, 7, 33], 4))
    found = tenths(features, None, 0)
    assert torch.equal(found, tenths(set_of(normal_classes([20, 7, 33], 9, draw=3)), None, 0))
    assert not torch.equal(found, tenths(features, None, 1))
    for part in found.split([20, 7, 33]):
        counts = part.bincount(minlength=10)
        assert int(counts.max() - counts.min()) <= 1
    assert int(found.bincount().max()) == 6
    assert len(tenths(features, features, 0)) == 120

"""Few-shot accuracy: known values, the interval, and what must not change it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

import oracles
from nctransfer import evaluation
from nctransfer.classifiers import CLASSIFIERS
from nctransfer.episodes import EpisodeSpec, sample
from nctransfer.errors import EpisodeError
from nctransfer.evaluation import FewShotResult, InnerProducts, fewshot
from nctransfer.features import FeatureSet


def gaussian(C: int = 6, n: int = 20, d: int = 16, spread: float = 0.5, offset: float = 0) -> FeatureSet:
    rng = np.random.default_rng(0)
    labels = np.repeat(range(C), n)
    x = rng.normal(size=(C * n, d)) + spread * rng.normal(size=(C, d))[labels] + offset
    return FeatureSet.from_arrays(x.astype(np.float32), labels)


def accuracies(result: FewShotResult) -> dict[tuple[int, int, str], float]:
    return {(row.ways, row.shots, row.classifier): row.accuracy for row in result.rows}


def intervals(result: FewShotResult) -> list[tuple[float, float]]:
    return [(row.accuracy, row.ci95) for row in result.rows]


@pytest.fixture(params=["gram", "gathered"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to inner products, whichever the set's size would choose."""
    monkeypatch.setattr(evaluation, "GRAM_BYTES", 2**30 if request.param == "gram" else 0)
    monkeypatch.setattr(evaluation, "GATHER_COST", 10**9)
    return request.param


# known values


def test_accuracy_and_interval_of_a_plain_loop(path: str):
    features, spec, shares = gaussian(), EpisodeSpec(3, 2, 7, seed=5), []
    for block in sample(features, spec, 80):
        for queries, support in zip(block.queries.tolist(), block.support.tolist(), strict=True):
            x = features.features.double().numpy()
            centres = [x[rows].mean(axis=0) for rows in support]
            nearest = [[int(np.argmin([np.linalg.norm(x[q] - c) for c in centres])) for q in rows] for rows in queries]
            shares.append(np.mean([found == own for own, row in enumerate(nearest) for found in row]))
    (row,) = fewshot(features, 3, 2, queries=7, episodes=80, classifiers=["ncc"], seed=5).rows
    assert row.accuracy == pytest.approx(np.mean(shares), abs=1e-12)
    assert row.ci95 == pytest.approx(1.96 * np.std(shares, ddof=1) / math.sqrt(80), rel=1e-9)
    assert 0.4 < row.accuracy < 0.95  # neither end, where a mistake would not be seen


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_collapsed_features_are_always_right(path: str, offset: float):
    x = np.repeat(oracles.simplex(8, 10), 20, axis=0) + offset
    result = fewshot(FeatureSet.from_arrays(x.astype(np.float32), np.repeat(range(8), 20)), (2, 5), (1, 5), episodes=50)
    assert intervals(result) == [(1.0, 0.0)] * 8


@pytest.mark.parametrize("value", [0.0, 1.0, 1234.5])
def test_features_all_the_same_are_right_by_chance(path: str, value: float):
    features = FeatureSet.from_arrays(np.full((160, 10), value), np.repeat(range(8), 20))
    result = fewshot(features, (2, 5), (1, 5), episodes=50)
    assert [row.accuracy for row in result.rows] == pytest.approx([1 / row.ways for row in result.rows], abs=1e-12)
    assert [row.ci95 for row in result.rows] == pytest.approx([0] * 8, abs=1e-12)


@pytest.mark.parametrize("delta", [0.5, 1.0, 3.0])
def test_two_normal_classes_on_a_line(delta: float):
    # Query x ~ N(0, 1), centres a ~ N(0, 1) and b ~ N(δ, 1): x is nearer a where (b − a)(a + b − 2x) > 0. The two
    # factors are normal of mean δ, variances 2 and 6, and independent.
    quantiles = norm.ppf((np.arange(1500) + 0.5) / 1500)
    x = np.concatenate([quantiles, quantiles + delta])[:, None]
    features = FeatureSet.from_arrays(x, np.repeat(["a", "b"], 1500))
    (row,) = fewshot(features, 2, 1, episodes=6000, classifiers=["ncc"]).rows
    both = norm.cdf(delta / math.sqrt(2)) * norm.cdf(delta / math.sqrt(6))
    neither = norm.cdf(-delta / math.sqrt(2)) * norm.cdf(-delta / math.sqrt(6))
    assert row.accuracy == pytest.approx(both + neither, abs=2 * row.ci95)
    assert row.ci95 < 0.01


def test_more_shots_help_and_more_ways_hurt():
    found = accuracies(fewshot(gaussian(), (2, 5), (1, 5), episodes=400))
    for name in CLASSIFIERS:
        assert found[2, 5, name] > found[2, 1, name] > found[5, 1, name]
        assert found[2, 5, name] > found[5, 5, name] > found[5, 1, name]


def test_the_interval_covers():
    features = gaussian(C=12, n=25, d=8)

    def run(episodes: int, seed: int):
        return fewshot(features, 3, 1, queries=5, episodes=episodes, classifiers=["ncc"], seed=seed).rows[0]

    truth = run(40_000, 10_000).accuracy
    rows = [run(50, seed) for seed in range(200)]
    covered = np.mean([abs(row.accuracy - truth) <= row.ci95 for row in rows])
    assert 0.90 <= covered <= 0.99


# what must not change it


@pytest.mark.parametrize("offset", [0, 1000])
def test_both_ways_to_inner_products(monkeypatch: pytest.MonkeyPatch, offset: float):
    features, spec = gaussian(offset=offset), EpisodeSpec(5, 5, 10)
    found, results = [], []
    for limit in (2**30, 0):
        monkeypatch.setattr(evaluation, "GRAM_BYTES", limit)
        inner = InnerProducts(features, [spec], 100, "cpu")
        assert inner.uses_gram == bool(limit)
        products = inner(next(inner.batches(spec, 10)))
        found.append((*products, *(classifier(*products, 5) for classifier in CLASSIFIERS.values())))
        results.append(intervals(fewshot(features, 5, (1, 5), queries=10, episodes=100)))
    for gram, gathered in zip(*found, strict=True):
        torch.testing.assert_close(gathered, gram, rtol=1e-5, atol=1e-5 * float(gram.abs().max()))
    assert np.array(results[1]) == pytest.approx(np.array(results[0]), abs=1e-12)


def test_inner_products_are_about_the_mean(path: str):
    features, spec = gaussian(offset=1000), EpisodeSpec(3, 2, 4)
    inner = InnerProducts(features, [spec], 10, "cpu")
    (batch,) = inner.batches(spec, 10)
    support, cross = inner(batch)
    x = features.features.double()
    x = x - x.mean(dim=0)
    a, f = x[batch.support.flatten(1)], x[batch.queries.flatten(1)]
    torch.testing.assert_close(support.double(), a @ a.mT, rtol=1e-4, atol=5e-3)
    torch.testing.assert_close(cross.double(), f @ a.mT, rtol=1e-4, atol=5e-3)


@pytest.mark.parametrize("limit", [1, 200_000])
def test_batches_do_not_matter(monkeypatch: pytest.MonkeyPatch, path: str, limit: int):
    features = gaussian()
    whole = fewshot(features, (2, 5), (1, 5), queries=10, episodes=60)
    monkeypatch.setattr(evaluation, "BATCH_BYTES", limit)
    sizes = []
    parts = fewshot(
        features, (2, 5), (1, 5), queries=10, episodes=60, progress=lambda stage, done, total: sizes.append(done)
    )
    assert len(sizes) > 2  # more than a batch for each number of ways
    assert np.array(intervals(parts)) == pytest.approx(np.array(intervals(whole)), abs=1e-12)


def test_several_tasks_at_once_are_those_one_by_one(path: str):
    features = gaussian()
    together = accuracies(fewshot(features, (2, 5), (1, 5), queries=10, episodes=100))
    for (ways, shots, name), accuracy in together.items():
        alone = fewshot(features, ways, shots, queries=10, episodes=100, classifiers=[name])
        assert accuracies(alone) == {(ways, shots, name): pytest.approx(accuracy, abs=1e-12)}


def test_order_of_rows_in_the_file_does_not_matter():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(90, 8)), np.repeat(list("abc"), 30)
    ids = [f"{label}/{number}.png" for label, number in zip(labels, np.tile(range(30), 3), strict=True)]
    order = rng.permutation(90)
    sets = [FeatureSet.from_arrays(x[o], labels[o], [ids[i] for i in o]) for o in (np.arange(90), order)]
    first, second = (intervals(fewshot(features, 3, (1, 5), episodes=60)) for features in sets)
    assert first == second


def test_names_of_ids_decide_the_episodes():
    # the test above could not fail if episodes did not depend on the order of ids
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(90, 8)), np.repeat(list("abc"), 30)
    sets = [FeatureSet.from_arrays(x, labels, ids) for ids in (range(90), rng.permutation(90))]
    first, second = (intervals(fewshot(features, 3, 1, episodes=60)) for features in sets)
    assert first != second


def test_the_seed_decides():
    first, again, other = (intervals(fewshot(gaussian(), 5, 1, episodes=60, seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other


# result


def test_rows_in_order_and_as_asked_for():
    result = fewshot(gaussian(), (5, 2), (5, 1), queries=4, episodes=7, classifiers=("ncc", "ridge"), seed=3)
    tasks = [(row.ways, row.shots, row.classifier) for row in result.rows]
    assert tasks == [(w, s, c) for w in (2, 5) for s in (1, 5) for c in ("ncc", "ridge")]
    assert {(row.queries, row.episodes, row.seed) for row in result.rows} == {(4, 7, 3)}
    assert all(row.seconds > 0 for row in result.rows)


def test_dict_and_frame_agree():
    result = fewshot(gaussian(), 2, (1, 5), episodes=20)
    as_dict = json.loads(json.dumps(result.to_dict()))
    assert as_dict["results"] == result.to_frame().to_dict("records")
    assert len(as_dict["results"]) == 4
    assert as_dict["results"][0]["accuracy"] == result.rows[0].accuracy
    assert (as_dict["features"]["samples"], as_dict["features"]["classes"], as_dict["features"]["dim"]) == (120, 6, 16)


def test_progress_counts_all_episodes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(evaluation, "BATCH_BYTES", 200_000)
    calls = []
    result = fewshot(gaussian(), (2, 5), (1, 5), episodes=60, progress=lambda *call: calls.append(call))
    assert intervals(result) == intervals(fewshot(gaussian(), (2, 5), (1, 5), episodes=60))
    assert {(stage, total) for stage, _, total in calls} == {("episodes", 120)}
    done = [done for _, done, _ in calls]
    assert done == sorted(set(done))
    assert 60 in done
    assert done[-1] == 120


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"classifiers": ["ncc", "rigde"]}, "no classifier 'rigde'"),
        ({"episodes": 1}, "episodes is 1"),
        ({"ways": (2, 7)}, "7 ways were asked for, and there are 6 classes"),
        ({"ways": (1, 2)}, "ways is 1"),
        ({"shots": (0, 5)}, "shots is 0"),
        ({"shots": (1, 6)}, "6 shots and 15 queries need 21 samples"),
        ({"queries": 0}, "queries is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_errors_come_before_any_episode(given: dict[str, object], message: str):
    calls = []
    with pytest.raises(EpisodeError, match=message):
        fewshot(gaussian(), **{"ways": 2, "episodes": 10, **given}, progress=lambda *call: calls.append(call))
    assert calls == []


def test_unknown_classifier_names_those_there_are():
    with pytest.raises(EpisodeError) as caught:
        fewshot(gaussian(), classifiers=["svm"])
    assert all(name in caught.value.hint for name in CLASSIFIERS)

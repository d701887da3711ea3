"""Few-shot accuracy: known values, the interval, and what must not change it."""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.stats import norm, t

import oracles
from messages import logged, raises
from nctransfer.episodes import pool as pools
from nctransfer.episodes.classifier import RIDGE_LAMBDA
from nctransfer.episodes.episode import EpisodeSpec
from nctransfer.episodes.logistic import TOLERANCE
from nctransfer.episodes.nearest import simpleshot
from nctransfer.episodes.pool import Pool
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.episodes.sampling import sample, sample_disjoint
from nctransfer.errors import EpisodeError, NCTransferError, SettingError
from nctransfer.evaluation import fewshot_accuracy
from nctransfer.evaluation.fewshot_comparison import compare_fewshot
from nctransfer.evaluation.fewshot_results import FewShotResult
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.features.feature_set import FeatureSet
from nctransfer.intervals import INTERVALS, Interval
from terminal import missing

fewshot = functools.partial(fewshot_accuracy.fewshot, theory=False)


def gaussian(
    C: int = 6, n: int = 20, d: int = 16, spread: float = 0.5, offset: float = 0, noise: int = 0, name: str = "arrays"
) -> FeatureSet:
    rng = np.random.default_rng(0)
    centres = spread * rng.normal(size=(C, d))
    labels = np.repeat([f"{c:04d}" for c in range(C)], n)
    x = np.random.default_rng(noise).normal(size=(C * n, d)) + np.repeat(centres, n, axis=0) + offset
    return FeatureSet.from_arrays(x.astype(np.float32), labels, info=FeatureInfo(name))


def uneven(*counts: int, d: int = 8) -> FeatureSet:
    rng = np.random.default_rng(0)
    labels = np.repeat(range(len(counts)), counts)
    x = rng.normal(size=(len(labels), d)) + 0.7 * rng.normal(size=(len(counts), d))[labels]
    return FeatureSet.from_arrays(x.astype(np.float32), labels)


def answers(x: np.ndarray, episodes) -> Iterator[list[list[int]]]:
    """For each episode and class which of its classes each query is taken for, by the nearest centre."""
    for number in range(len(episodes)):
        centres = [x[rows].mean(axis=0) for rows in episodes.support[number].tolist()]
        found = []
        for way, rows in enumerate(episodes.queries[number].tolist()):
            if episodes.is_query is not None:
                rows = [row for row, counts in zip(rows, episodes.is_query[number, way], strict=True) if counts]
            found.append([int(np.argmin([np.linalg.norm(x[row] - centre) for centre in centres])) for row in rows])
        yield found


def shares(x: np.ndarray, blocks) -> list[float]:
    """The share of right answers of each episode."""
    return [
        float(np.mean([taken == own for own, several in enumerate(found) for taken in several]))
        for block in blocks
        for found in answers(x, block)
    ]


def accuracies(result: FewShotResult) -> dict[tuple[int, int, str], float]:
    return {row.key: row.accuracy for row in result.rows}


def intervals(result: FewShotResult) -> list[tuple[float, float]]:
    return [(row.accuracy, row.ci95) for row in result.rows]


@pytest.fixture(params=["gram", "gathered"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to inner products, whichever the set's size would choose."""
    size = 2**30 if request.param == "gram" else 0
    monkeypatch.setattr(
        Pool, "prepare", lambda pool, *_, **__: size and setattr(pool, "_gram", pools._gram(pool._rows))
    )
    return request.param


# known values


@pytest.mark.parametrize("queries", [7, "all"])
def test_accuracy_and_interval_of_a_plain_loop(path: str, queries):
    features = gaussian() if queries == 7 else uneven(5, 9, 30, 12)
    spec = EpisodeSpec(3, 2, None if queries == "all" else 7, seed=5)
    expected = shares(features.features.double().numpy(), (block.cut(2) for block in sample(features, spec, 80)))
    result = fewshot(features, 3, 2, queries=queries, episodes=80, classifiers=["ncc"], seed=5)
    (row,) = result.rows
    assert result.accuracies[3, 2, "ncc"].tolist() == pytest.approx(expected, abs=1e-12)
    assert row.accuracy == pytest.approx(np.mean(expected), abs=1e-12)
    assert row.std == pytest.approx(np.std(expected, ddof=1), rel=1e-9)
    assert row.ci95 == pytest.approx(1.96 * np.std(expected, ddof=1) / math.sqrt(80), rel=1e-9)
    assert row.lowest_decile == pytest.approx(np.quantile(expected, 0.1), abs=1e-12)
    assert (row.interval, row.queries) == ("episodes", queries)
    assert 0.4 < row.accuracy < 0.95  # neither end, where a mistake would not be seen


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_collapsed_features_are_always_right(path: str, offset: float):
    x = np.repeat(oracles.simplex(8, 10), 20, axis=0) + offset
    features = FeatureSet.from_arrays(x.astype(np.float32 if offset == 0 else np.float64), np.repeat(range(8), 20))
    result = fewshot(features, (2, 5), (1, 5), episodes=30, classifiers="all")
    assert intervals(result) == [(1.0, 0.0)] * 4 * 9  # seven inductive classifiers, and one with two query priors
    assert {row.lowest_decile for row in result.rows} == {1.0}


@pytest.mark.parametrize("value", [0.0, 1.0, 1234.5, 0.1])
def test_features_all_the_same_are_right_by_chance(path: str, value: float):
    features = FeatureSet.from_arrays(np.full((160, 10), value), np.repeat(range(8), 20))
    result = fewshot(features, (2, 5), (1, 5), episodes=30, classifiers="all")
    rows = [row for row in result.rows if row.query_prior == "balanced"]
    assert len(rows) == 4 * 8
    assert [row.accuracy for row in rows] == pytest.approx([1 / row.ways for row in rows], abs=1e-12)
    assert [row.ci95 for row in rows] == pytest.approx([0] * len(rows), abs=1e-12)


def test_classes_of_one_distribution_are_right_by_chance():
    features = gaussian(spread=0, n=60)
    for row in fewshot(features, 5, (1, 5), episodes=600, classifiers="all").rows:
        assert row.accuracy == pytest.approx(0.2, abs=3 * row.ci95 + 0.01)  # these 60 samples, not their distribution


@pytest.mark.parametrize("delta", [0.5, 1.0, 3.0])
def test_two_normal_classes_on_a_line(delta: float):
    # Query x ~ N(0, 1), centres a ~ N(0, 1) and b ~ N(δ, 1): x is nearer a where (b − a)(a + b − 2x) > 0. The two
    # factors are normal of mean δ, variances 2 and 6, and independent.
    quantiles = norm.ppf((np.arange(1500) + 0.5) / 1500)
    x = np.concatenate([quantiles, quantiles + delta])[:, None]
    features = FeatureSet.from_arrays(x, np.repeat(["a", "b"], 1500))
    both = norm.cdf(delta / math.sqrt(2)) * norm.cdf(delta / math.sqrt(6))
    neither = norm.cdf(-delta / math.sqrt(2)) * norm.cdf(-delta / math.sqrt(6))
    # of one shot on a line all of these have their border half-way
    names = ["ridge", "ncc", "simpleshot", "logistic", "knn"]
    for row in fewshot(features, 2, 1, episodes=6000, classifiers=names).rows:
        assert row.accuracy == pytest.approx(both + neither, abs=2 * row.ci95)
        assert row.ci95 < 0.01


def test_more_shots_help_and_more_ways_hurt():
    found = accuracies(fewshot(gaussian(), (2, 5), (1, 5), episodes=400, classifiers="all"))
    for name in [name for name, one in CLASSIFIERS.items() if not one.is_transductive]:
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
    features, spec, episodes = gaussian(offset=offset), EpisodeSpec(5, 5, 10), 30
    found, results = [], []
    for limit in (2**30, 0):
        monkeypatch.setattr("nctransfer.episodes.pool.GRAM_BYTES", limit)
        pool = Pool(features.features, "cpu")
        pool.prepare([spec], episodes, 20)
        assert pool.has_gram == bool(limit)
        some = pool(next(sample(features, spec, 10)))
        found.append((some.support, some.cross, *(classifier.scores(some) for classifier in CLASSIFIERS.values())))
        results.append(intervals(fewshot(features, 5, (1, 5), queries=10, episodes=episodes, classifiers="all")))
    for gram, gathered in zip(*found, strict=True):
        torch.testing.assert_close(gathered, gram, rtol=1e-5, atol=1e-5 * float(gram.abs().max()))
    assert np.array(results[1]) == pytest.approx(np.array(results[0]), abs=1e-12)


@pytest.mark.parametrize("limit", [1, 50_000])
def test_batches_do_not_matter(monkeypatch: pytest.MonkeyPatch, path: str, limit: int):
    features = gaussian()
    whole = fewshot(features, (2, 5), (1, 5), queries=10, episodes=8, classifiers="all")
    monkeypatch.setattr("nctransfer.episodes.pool.BATCH_BYTES", limit)
    sizes = []
    parts = fewshot(
        features,
        (2, 5),
        (1, 5),
        queries=10,
        episodes=8,
        classifiers="all",
        progress=lambda stage, done, total: sizes.append(done),
    )
    assert len(sizes) > 4  # more than a batch for each number of ways
    assert np.array(intervals(parts)) == pytest.approx(np.array(intervals(whole)), abs=1e-12)


@pytest.mark.parametrize("queries", [10, "all"])
def test_several_tasks_at_once_are_those_one_by_one(path: str, queries):
    features = gaussian()
    together = accuracies(fewshot(features, (2, 5), (1, 5), queries=queries, episodes=40, classifiers="all"))
    assert len(together) == 4 * (9 if queries == 10 else 7)  # of all samples, transductive classifiers are left out
    for (ways, shots, label), accuracy in together.items():
        name, _, prior = label.partition(" (")
        alone = accuracies(fewshot(features, ways, shots, queries=queries, episodes=40, classifiers=name))
        assert alone[ways, shots, label] == pytest.approx(accuracy, abs=1e-12)
        assert len(alone) == (2 if prior else 1)


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
    frame = result.to_frame()
    assert len(frame) == 4
    for column in ("ways", "shots", "queries", "classifier", "seed", "accuracy", "ci95", "std", "lowest_decile"):
        assert [row[column] for row in as_dict["results"]] == frame[column].tolist()
    assert len(as_dict["results"]) == 4
    assert as_dict["results"][0]["accuracy"] == result.rows[0].accuracy
    assert (as_dict["features"]["samples"], as_dict["features"]["classes"], as_dict["features"]["dim"]) == (120, 6, 16)


def test_progress_counts_all_episodes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nctransfer.episodes.pool.BATCH_BYTES", 200_000)
    calls = []
    result = fewshot(gaussian(), (2, 5), (1, 5), episodes=60, progress=lambda *call: calls.append(call))
    assert intervals(result) == intervals(fewshot(gaussian(), (2, 5), (1, 5), episodes=60))
    assert len({stage for stage, _, _ in calls}) == 1
    assert {total for _, _, total in calls} == {120}
    done = [done for _, done, _ in calls]
    assert done == sorted(done)
    assert 60 in done
    assert done[-1] == 120


@pytest.mark.parametrize(
    ("given", "kind", "said", "hint"),
    [
        ({"classifiers": ["ncc", "rigde"]}, SettingError, ["'rigde'"], ["--classifier", *CLASSIFIERS]),
        ({"episodes": 1}, SettingError, ["episodes", 1, 2], []),
        ({"ways": (2, 7)}, EpisodeError, [7, 6], ["--ways", 6]),
        ({"ways": (1, 2)}, SettingError, ["ways", 1, 2], ["--ways"]),
        ({"ways": ()}, SettingError, ["ways"], []),
        ({"shots": []}, SettingError, ["shots"], []),
        ({"classifiers": []}, SettingError, ["classifiers"], []),
        ({"interval": "sampels"}, SettingError, ["'sampels'"], ["--interval", *INTERVALS]),
        ({"interval": "disjoint", "queries": "all"}, SettingError, [], ["--queries"]),
        ({"ridge_lambda": "loo", "shots": (1, 5)}, SettingError, [2], ["--ridge-lambda"]),
        ({"ridge_lambda": "gcv"}, SettingError, ["'gcv'", "'loo'", "'paper'"], ["--ridge-lambda"]),
        ({"ridge_lambda": 0}, SettingError, [0], ["--ridge-lambda"]),
        ({"ridge_lambda": math.inf}, SettingError, ["inf"], ["--ridge-lambda"]),
        ({"ridge_lambda": math.nan}, SettingError, ["nan"], ["--ridge-lambda"]),
        ({"center_on": gaussian(d=3)}, EpisodeError, [3, 16], ["--center-on"]),
        ({"query_set": gaussian(d=3, name="other")}, EpisodeError, [3, 16], ["--query-set"]),
        ({"query_set": gaussian(n=14, name="other")}, EpisodeError, [1, 15, "'0000'", 20, 14], ["--queries", 14]),
        ({"shots": (0, 5)}, SettingError, ["shots", 0, 1], ["--shots"]),
        ({"shots": (1, 6)}, EpisodeError, [6, 15, 21, "'0000'", 20], ["--queries", 14]),
        ({"queries": 0}, SettingError, ["queries", 0, 1], ["--queries"]),
        ({"seed": -1}, SettingError, ["seed", -1, 0], ["--seed"]),
    ],
)
def test_errors_come_before_any_episode(
    given: dict[str, object], kind: type[NCTransferError], said: list[object], hint: list[object]
):
    calls = []
    with raises(kind, *said, hint=hint):
        fewshot(gaussian(), **{"ways": 2, "episodes": 10, **given}, progress=lambda *call: calls.append(call))
    assert calls == []


# options


def test_ways_all_are_those_of_every_class():
    features = gaussian(C=5)
    named = fewshot(features, ("all", 2, 5), episodes=20)
    assert accuracies(named) == accuracies(fewshot(features, (2, 5), episodes=20))
    assert accuracies(fewshot(features, "all", episodes=20)) == accuracies(fewshot(features, 5, episodes=20))


@pytest.mark.parametrize("queries", [4, "all"])
def test_queries_of_another_set(path: str, queries):
    features, query_set = uneven(9, 7, 12, 5), gaussian(C=5, n=6, d=8, noise=1, name="other")
    query_set = FeatureSet.from_arrays(query_set.features, np.repeat(["1", "2", "3", "x", "y"], 6))
    both = [
        FeatureSet.from_arrays(one.features[rows], np.array(one.classes)[one.labels[rows]])
        for one, rows in ((features, features.labels >= 1), (query_set, query_set.labels <= 2))
    ]
    assert both[0].classes == both[1].classes == ("1", "2", "3")
    x = torch.cat([one.features for one in both]).double().numpy()
    spec = EpisodeSpec(2, 3, None if queries == "all" else 4)
    expected = shares(x, sample(both[0], spec, 60, both[1]))
    result = fewshot(features, 2, 3, queries=queries, episodes=60, classifiers="ncc", query_set=query_set)
    assert result.accuracies[2, 3, "ncc"].tolist() == pytest.approx(expected, abs=1e-12)
    assert result.classes == ("1", "2", "3")
    assert result.settings["query_set"]["samples"] == 30


@pytest.mark.parametrize("l2", [False, True])
@pytest.mark.parametrize("with_query_set", [False, True])
def test_the_reference_mean_comes_off_first_and_unit_length_after(path: str, l2: bool, with_query_set: bool):
    features, query_set = gaussian(offset=0.5), gaussian(noise=1, name="other") if with_query_set else None
    reference = gaussian(C=3, noise=2, offset=1)
    sets = [features, query_set] if query_set else [features]
    x = torch.cat([one.features for one in sets]).double().numpy() - reference.features.double().numpy().mean(axis=0)
    if l2:
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    result = fewshot(
        features,
        3,
        2,
        episodes=40,
        classifiers=("ncc", "simpleshot"),
        center_on=reference,
        l2_normalise=l2,
        queries=4,
        query_set=query_set,
    )
    blocks = list(sample(features, EpisodeSpec(3, 2, 4), 40, query_set))
    assert result.accuracies[3, 2, "ncc"].tolist() == pytest.approx(shares(x, blocks), abs=1e-12)
    # the reference is that of simpleshot: what is left for it is the length
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert result.accuracies[3, 2, "simpleshot"].tolist() == pytest.approx(shares(unit, blocks), abs=1e-12)
    assert result.settings["l2_normalise"] is l2
    assert result.settings["center_on"] == "arrays"


def test_without_a_reference_simpleshot_takes_the_mean_of_the_support():
    features = gaussian(offset=1)
    some = Pool(features.features, "cpu")(next(sample(features, EpisodeSpec(3, 2, 4), 40)))
    truth = torch.arange(3).repeat_interleave(4)
    right = {
        about: (simpleshot(some, about).argmax(dim=2) == truth).double().mean(dim=1) for about in ("mean", "origin")
    }
    found = fewshot(features, 3, 2, queries=4, episodes=40, classifiers="simpleshot").accuracies[3, 2, "simpleshot"]
    assert found.tolist() == right["mean"].tolist() != right["origin"].tolist()


@pytest.mark.parametrize("scale", [1e-20, 1e25])
def test_unit_length_of_very_long_and_very_short_features(scale: float):
    features = gaussian(spread=1)
    small = FeatureSet.from_arrays(features.features * scale, features.labels.tolist())
    found, expected = (fewshot(one, 3, 2, episodes=40, l2_normalise=True).rows[0].accuracy for one in (small, features))
    assert found == pytest.approx(expected, abs=0.01)
    assert expected > 0.6


def test_the_penalty_of_ridge_is_what_was_asked_for():
    features = gaussian(spread=0.3)
    found = [
        fewshot(features, 5, 5, episodes=60, classifiers="ridge", ridge_lambda=penalty).rows[0].accuracy
        for penalty in (RIDGE_LAMBDA, 1e-3, 1e4, "loo", "paper")
    ]
    assert found[0] == fewshot(features, 5, 5, episodes=60, classifiers="ridge").rows[0].accuracy
    assert len(set(found)) == 5


def test_small_classes_are_left_out_if_so_wished(caplog: pytest.LogCaptureFixture):
    features, kept = uneven(20, 4, 20, 20, 3), uneven(20, 4, 20, 20, 3).only_classes(torch.tensor([0, 2, 3]))
    with raises(EpisodeError, 2, 5, "'1'", 4, "'4'", 3, hint=["--drop-small"]):
        fewshot(features, 2, episodes=10)
    result = fewshot(features, "all", (1, 5), episodes=10, drop_small=True)
    assert result.dropped == ("1", "4")
    assert result.classes == ("0", "2", "3")
    assert accuracies(result) == accuracies(fewshot(kept, 3, (1, 5), episodes=10))
    assert logged(caplog, 2, "'1'", "'4'")
    assert fewshot(kept, 2, episodes=10, drop_small=True).settings["dropped"] == []
    assert "dropped" not in fewshot(kept, 2, episodes=10).settings


def test_classes_small_in_either_set_are_left_out():
    features, query_set = uneven(20, 2, 20, 20, 9), uneven(3, 20, 20, 20, 20)
    found = fewshot(features, "all", 5, episodes=10, drop_small=True, query_set=query_set)
    assert found.settings["dropped"] == ["0", "1"]
    kept = [one.only_classes(torch.tensor([2, 3, 4])) for one in (features, query_set)]
    assert accuracies(found) == accuracies(fewshot(kept[0], 3, 5, episodes=10, query_set=kept[1]))


def test_nothing_is_left_out_where_nothing_would_be_left():
    with raises(EpisodeError, 3, 5, "'0'", "'1'", "'2'", hint=["images"]):
        fewshot(uneven(5, 5, 5), 2, drop_small=True)


def test_logistic_regression_says_how_far_it_converged():
    for row in fewshot(gaussian(), 3, (1, 5), episodes=20, classifiers=("ncc", "logistic")).rows:
        if row.classifier == "ncc":
            assert row.reported["gradient_norm"] is None
        else:
            assert 0 < row.reported["gradient_norm"] <= TOLERANCE


# intervals


@pytest.mark.parametrize("with_query_set", [False, True])
def test_the_interval_over_disjoint_episodes(with_query_set: bool):
    features = gaussian()
    query_set = gaussian(n=40, noise=1, name="other") if with_query_set else None
    rows = features.features if query_set is None else torch.cat([features.features, query_set.features])
    expected = shares(rows.double().numpy(), sample_disjoint(features, EpisodeSpec(2, 1, 4), 10_000, query_set))
    result = fewshot(features, 2, 1, queries=4, classifiers="ncc", interval="disjoint", query_set=query_set)
    (row,) = result.rows
    count = 6 * 10 // 2 if query_set else 6 * 4 // 2  # tickets of a class: 40 // 4, or 20 // 5
    assert row.episodes == count
    assert result.accuracies[2, 1, "ncc"].tolist() == pytest.approx(expected, abs=1e-12)
    assert row.ci95 == pytest.approx(t.ppf(0.975, count - 1) * np.std(expected, ddof=1) / math.sqrt(count), rel=1e-9)


def test_disjoint_episodes_are_no_more_than_asked_for():
    calls = []
    result = fewshot(gaussian(), 2, 1, queries=4, episodes=5, interval="disjoint", progress=lambda *c: calls.append(c))
    assert {row.episodes for row in result.rows} == {5}
    fewshot(gaussian(), (2, 3), 1, queries=4, interval="disjoint", progress=lambda *c: calls.append(c))
    assert calls[-1][1:] == (20_000, 20_000)


def test_a_single_disjoint_episode_has_no_interval():
    with raises(EpisodeError, 1, hint=["--queries", "--shots", "--interval"]):
        fewshot(gaussian(), 6, 5, queries=15, interval="disjoint")


# classes and their confusions


@pytest.mark.parametrize("queries", [4, "all"])
@pytest.mark.parametrize("shots", [1, 3])
def test_class_accuracies_and_confusions_of_a_plain_loop(path: str, monkeypatch, queries, shots: int):
    monkeypatch.setattr("nctransfer.episodes.pool.BATCH_BYTES", 20_000)
    features = uneven(8, 14, 9, 11, 7)
    result = fewshot(features, 3, (1, 3), queries=queries, episodes=40, classifiers=("ridge", "ncc"))
    asked, right, together, taken_for = Counter(), Counter(), Counter(), Counter()
    spec = EpisodeSpec(3, 3, None if queries == "all" else 4)
    x = features.features.double().numpy()
    for block in sample(features, spec, 40):
        cut = block.cut(shots)
        for classes, found in zip(cut.classes.tolist(), answers(x, cut), strict=True):
            for own, several in zip(classes, found, strict=True):
                for other in classes:
                    together[own, other] += len(several)
                for taken in several:
                    asked[own] += 1
                    right[own] += classes[taken] == own
                    taken_for[own, classes[taken]] += 1
    per_class = result.class_accuracies((3, shots, "ncc"))
    assert [one.name for one in per_class] == list("01234")
    assert [one.queries for one in per_class] == [asked[code] for code in range(5)]
    assert [one.accuracy for one in per_class] == pytest.approx([right[code] / asked[code] for code in range(5)])
    pairs = result.confusions((3, shots, "ncc"))
    found = {(int(one.name), int(one.taken_for)): (one.rate, one.queries) for one in pairs}
    wrong = {pair: count for pair, count in taken_for.items() if pair[0] != pair[1]}
    assert len(found) == len(pairs) == len(wrong)
    for pair, count in wrong.items():
        assert found[pair] == (pytest.approx(count / together[pair]), together[pair])

    def wilson(one):
        # the lower rate p at which what was seen is 1.96 deviations away: (seen − p)² = 1.96² p (1 − p) / n
        square = 1.96**2 / one.queries
        roots = np.roots([1 + square, -2 * one.rate - square, one.rate**2])
        return min(roots.real)

    lower = [wilson(one) for one in pairs]
    assert lower == pytest.approx(sorted(lower, reverse=True), abs=1e-7)
    assert result.confusions((3, shots, "ncc"), 2) == pairs[:2]


def test_classes_that_no_episode_had():
    result = fewshot(gaussian(C=40), 2, episodes=3, classifiers="ncc")
    drawn = set(result.drawn[2].flatten().tolist())
    for code, one in enumerate(result.class_accuracies((2, 1, "ncc"))):
        assert (one.accuracy is None) == (code not in drawn)
        assert one.queries % 15 == 0


@pytest.mark.parametrize("classes", [1000, 1001])
def test_pairs_of_very_many_classes_are_not_counted(classes: int):
    result = fewshot(gaussian(C=classes, n=3, d=4), 20, queries=1, episodes=20, classifiers="ncc")
    task = (20, 1, "ncc")
    assert sum(one.queries for one in result.class_accuracies(task)) == 400
    [row] = result.to_dict()["results"]
    assert len(row["classes"]) == classes
    if classes == 1000:
        assert len(row["confusions"]) == len(result.confusions(task, 5)) == 5
    else:
        assert row["confusions"] is None
        with raises(EpisodeError, "1,001", hint=["--classes"]):
            result.confusions(task)


def test_a_table_of_the_episodes():
    result = fewshot(gaussian(), (3, 2), (1, 5), episodes=7, classifiers=("ncc", "ridge"))
    table = result.episodes_table()
    tasks = list(itertools.product((2, 3), (1, 5), ("ncc", "ridge")))
    assert table.num_rows == 7 * len(tasks)
    for number, row in enumerate(table.to_pylist()):
        ways, shots, name = tasks[number // 7]
        episode = number % 7
        assert row == {
            "features": "arrays",
            "ways": ways,
            "shots": shots,
            "classifier": name,
            "query_prior": "balanced",
            "episode": episode,
            "classes": [result.classes[code] for code in result.drawn[ways][episode].tolist()],
            "accuracy": result.accuracies[ways, shots, name][episode].item(),
        }


def test_a_dict_is_json_whatever_was_given():
    result = fewshot(
        gaussian(),
        np.int64(2),
        np.array([1, 5]),
        queries="all",
        episodes=20,
        seed=np.int64(1),
        ridge_lambda=0.5,
        query_set=gaussian(noise=1, name="other"),
        center_on=gaussian(),
        drop_small=True,
        classifiers="all",
    )
    text = json.dumps(result.to_dict(confusions=None), allow_nan=False)
    assert len(json.loads(text)["results"]) == 14
    json.dumps(fewshot(gaussian(), queries=np.int64(15), episodes=5).to_dict(), allow_nan=False)


# comparisons


compare = functools.partial(compare_fewshot, theory=False)


@pytest.mark.parametrize("interval", ["episodes", "samples", "classes", "disjoint"])
def test_comparisons_hold_what_each_set_has_alone(interval: Interval):
    sets = {"a": gaussian(), "b": gaussian(noise=1), "c": gaussian(spread=2, noise=2)}
    settings = {"queries": 4, "episodes": 60, "classifiers": ("ncc", "knn"), "interval": interval}
    found = compare(sets, (2, 3), (1, 2), **settings)
    alone = {name: fewshot(one, (2, 3), (1, 2), **settings) for name, one in sets.items()}
    tasks = list(itertools.product((2, 3), (1, 2), ("ncc", "knn")))
    assert [(one.ways, one.shots, one.classifier, one.name, one.first) for one in found.differences] == [
        (*task, name, "a") for task in tasks for name in ("b", "c")
    ]
    for one in found.differences:
        task = (one.ways, one.shots, one.classifier)
        values = alone[one.name].accuracies[task].numpy() - alone["a"].accuracies[task].numpy()
        assert one.difference == pytest.approx(values.mean(), abs=1e-12)
        assert one.population == {"episodes": "classes", "disjoint": "samples"}.get(interval, interval)
    assert [(one.ways, one.shots, one.classifier) for one in found.possible_bests] == tasks
    for name, result in found.results.items():
        assert accuracies(result) == accuracies(alone[name])
        assert [row.ci95 for row in result.rows] == [row.ci95 for row in alone[name].rows]


@pytest.mark.parametrize(("ways", "population"), [(3, "classes"), (4, "classes"), (5, "samples"), (6, "samples")])
def test_verdicts_are_about_other_classes_where_there_are_enough(ways: int, population: str):
    sets = {"good": gaussian(spread=2), "bad": gaussian(), "same": gaussian(spread=2)}
    found = compare(sets, ways, 2, episodes=200, classifiers="ncc")
    bad, same = found.differences
    assert bad.population == same.population == population
    assert bad.difference < bad.interval[1] < 0
    assert (same.difference, same.interval) == (0.0, (0.0, 0.0))
    assert (bad.verdict, same.verdict) == ("worse", "not told apart")
    [bests] = found.possible_bests
    assert (bests.names, bests.population) == (("good", "same"), population)


def test_no_verdict_is_taken_from_the_draw_of_episodes():
    """The interval over episodes excludes zero, but eight classes cannot show that other classes are alike."""
    found = compare({"a": gaussian(C=8), "b": gaussian(C=8, noise=1)}, 5, 1, episodes=5000, classifiers="ncc")
    values = found.results["b"].accuracies[5, 1, "ncc"] - found.results["a"].accuracies[5, 1, "ncc"]
    assert abs(float(values.mean())) > 5 * float(values.std()) / math.sqrt(len(values))
    assert [one.verdict for one in found.differences] == ["not told apart"]
    assert set(found.possible_bests[0].names) == {"a", "b"}


def test_what_has_no_interval_has_its_reason_and_its_numbers():
    few = {"a": gaussian(C=2, n=2), "b": gaussian(C=2, n=2, noise=1)}
    found = compare(few, 2, 1, queries=1, episodes=20, classifiers="ncc")
    [one], [bests] = found.differences, found.possible_bests
    assert missing(one.reason, 1, 2) == []
    assert (one.interval, one.verdict, bests.names, bests.reason) == (None, None, None, one.reason)
    assert one.difference == pytest.approx(found.results["b"].rows[0].accuracy - found.results["a"].rows[0].accuracy)
    for interval in ("samples", "classes"):
        [row] = fewshot(few["a"], 2, 1, queries=1, episodes=20, classifiers="ncc", interval=interval).rows
        assert (row.ci95, list(row.undefined)) == (None, ["ci95"])
        assert row.accuracy == found.results["a"].rows[0].accuracy


def test_only_the_samples_that_all_have_are_compared(caplog: pytest.LogCaptureFixture):
    # one more id, of letters, has the second set order its ids by letters, not by number
    x, labels, ids = gaussian(n=20).features, np.repeat(list("abcdef"), 20), [str(i) for i in range(120)]
    some = FeatureSet.from_arrays(x, labels, ids)
    more = FeatureSet.from_arrays(torch.cat([x, x[:3] + 9]), [*labels, "a", "z", "z"], [*ids, "x", "y", "z"])
    for first, second in ((some, more), (more, some)):
        found = compare({"a": first, "b": second}, 3, queries=5, episodes=60)
        assert {one.difference for one in found.differences} == {0.0}
        assert all(result.classes == tuple("abcdef") for result in found.results.values())
    assert [missing(record.getMessage(), 3, "arrays") for record in caplog.records] == [[], []]


def test_what_cannot_be_compared():
    with raises(SettingError):
        compare({"a": gaussian()})
    other = FeatureSet.from_arrays(np.zeros((120, 2)), np.repeat(list("uvwxyz"), 20))
    with raises(EpisodeError):
        compare({"a": gaussian(), "b": other})


def test_a_comparison_as_dict_frame_and_table():
    found = compare({"a": gaussian(), "b": gaussian(noise=1)}, 3, (1, 5), episodes=6, classifiers="ncc")
    as_dict = json.loads(json.dumps(found.to_dict(confusions=2), allow_nan=False))
    assert [one["name"] for one in as_dict["sets"]] == ["a", "b"]
    assert all(len(row["confusions"]) == 2 for one in as_dict["sets"] for row in one["results"])
    assert [one["difference"] for one in as_dict["differences"]] == [one.difference for one in found.differences]
    frame = found.to_frame()
    assert frame["set"].tolist() == ["a", "a", "b", "b"]
    assert frame["accuracy"].tolist() == [row.accuracy for one in found.results.values() for row in one.rows]
    table = found.episodes_table()
    assert table.column("set").to_pylist() == ["a"] * 12 + ["b"] * 12
    expected = [value for one in found.results.values() for each in one.accuracies.values() for value in each.tolist()]
    assert table.column("accuracy").to_pylist() == expected

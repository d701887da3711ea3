"""Expected accuracy: exact where it can be, unbiased where it is drawn, and what episodes measure."""

from __future__ import annotations

import functools
import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from clusters import normal_classes, set_of
from messages import says
from nctransfer.errors import EpisodeError, SettingError
from nctransfer.evaluation import fewshot_accuracy, win_probability
from nctransfer.evaluation.expected_accuracy import expect
from nctransfer.evaluation.normal_supports import Normal
from nctransfer.evaluation.queries import Queries
from nctransfer.evaluation.support_draws import draw_supports, leaves_all_out
from nctransfer.evaluation.win_probability import chance_to_win, mean_wins
from nctransfer.features.feature_set import FeatureSet

slow = pytest.mark.slow

fewshot = functools.partial(fewshot_accuracy.fewshot, theory=False, device="cpu")


def gaussian(counts: list[int], d: int = 6, spread: float = 1.0, seed: int = 0) -> list[np.ndarray]:
    """Classes of different widths."""
    return normal_classes(counts, d, apart=spread, within=np.linspace(0.7, 1.3, len(counts)).tolist(), seed=seed)


def enumerated(classes: list[np.ndarray], ways: int, shots: int, *, cosine: bool = False) -> float:
    """Over every query, own support and choice of other classes and supports; ties are wins of none."""
    centres = [
        {some: rows[list(some)].mean(axis=0) for some in itertools.combinations(range(len(rows)), shots)}
        for rows in classes
    ]

    def far(query: np.ndarray, centre: np.ndarray) -> float:
        if cosine:
            return float(-query @ centre / np.linalg.norm(centre))
        return float(np.linalg.norm(query - centre))

    of_class = []
    for own, rows in enumerate(classes):
        found = []
        for number, query in enumerate(rows):
            mine = [far(query, centre) for some, centre in centres[own].items() if number not in some]
            away = [[far(query, centre) for centre in some.values()] for some in centres]
            others = [other for other in range(len(classes)) if other != own]
            for near, chosen in itertools.product(mine, itertools.combinations(others, ways - 1)):
                # supports of the other classes are drawn each by itself
                found.append(math.prod(np.mean([near < distance for distance in away[other]]) for other in chosen))
        of_class.append(np.mean(found))
    return float(np.mean(of_class))


def surface(*args: Any, **kwargs: Any) -> dict[tuple[int, int], tuple[float, float]]:
    rows = expect(*args, device="cpu", **kwargs).rows
    return {(row.ways, row.shots): (row.accuracy, row.ci95) for row in rows}


def assert_measured(features: FeatureSet, ways: Any, shots: Any, episodes: int = 2000, queries: int = 5, **kwargs: Any):
    """Within three standard errors of episodes, both their own and that of the expectation."""
    name = kwargs.get("classifier", "ncc")
    passed = {key: value for key, value in kwargs.items() if key != "classifier"}
    found = surface(features, ways, shots, **kwargs)
    rows = fewshot(features, ways, shots, queries=queries, episodes=episodes, classifiers=name, **passed).rows
    for row in rows:
        accuracy, ci95 = found[row.ways, row.shots]
        assert abs(accuracy - row.accuracy) < 3 * math.hypot(row.ci95, ci95) / 1.96 + 1e-9
    assert len(rows) == len(found)


# the chance to win against several


@given(st.data(), st.integers(1, 7))
@settings(deadline=None, max_examples=60)
def test_chance_to_win_is_the_mean_over_choices(data: st.DataObject, count: int):
    chances = data.draw(st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=count, max_size=count))
    most = data.draw(st.integers(1, count))
    found = chance_to_win(torch.tensor(chances, dtype=torch.float64), most)
    expected = [
        np.mean([np.prod(some, axis=0) for some in itertools.combinations(np.array(chances), k)], axis=0)
        for k in range(1, most + 1)
    ]
    assert found.shape == (most + 1, 2)
    np.testing.assert_allclose(found, [[1, 1], *expected], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chance_to_win_of_very_many_classes(dtype: torch.dtype):
    most, rel = 1500, 1e-9 if dtype == torch.float64 else 1e-3
    equal = chance_to_win(torch.full((1500, 1), 0.999, dtype=dtype), most)[:, 0]
    assert bool(equal.isfinite().all())
    for k in (1, 10, 750, 1500):
        assert float(equal[k]) == pytest.approx(0.999**k, rel=rel)
    half = torch.cat([torch.ones(1499, 1, dtype=dtype), torch.zeros(1, 1, dtype=dtype)])
    for order in (half, half.flip(0)):  # the loser is drawn among k of 1,500
        assert float(chance_to_win(order, most)[750, 0]) == pytest.approx(0.5, rel=rel)


@pytest.mark.parametrize("count", [3, 40])
def test_both_recursions_are_one(count: int):
    chances = torch.rand(count, 5, dtype=torch.float64)
    found = chance_to_win(chances, count)
    torch.testing.assert_close(win_probability._normalised(chances, count), found, rtol=1e-10, atol=0)
    torch.testing.assert_close(found[count], chances.prod(dim=0), rtol=1e-10, atol=0)


def test_ties_are_the_mean_over_lots():
    chances, ties = torch.rand(6, 4, dtype=torch.float64) / 2, torch.rand(6, 4, dtype=torch.float64) / 2
    ties[:, 2] = 0
    lots = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    each = (chances[:, :, None] + ties[:, :, None] * lots).flatten(1)
    expected = torch.stack([chance_to_win(each, 6)[degree].view(4, -1).mean(dim=1) for degree in (1, 3, 6)])
    torch.testing.assert_close(mean_wins(chances, [1, 3, 6], ties), expected, rtol=0, atol=1e-8)


def test_chances_are_left_as_they_are():
    chances = torch.rand(4, 3)
    before = chances.clone()
    chance_to_win(chances, 3)
    assert torch.equal(chances, before)


# resampled, on data small enough for all there is


@pytest.mark.parametrize("offset", [0.0, 500.0])
@pytest.mark.parametrize("counts", [[5, 4, 6], [4, 9, 4, 5]])
def test_one_shot_is_exact(counts: list[int], offset: float):
    classes = gaussian(counts, d=3)
    for seed in (0, 1):
        found = surface(set_of(rows + offset for rows in classes), (2, 3), 1, seed=seed)
        for ways in (2, 3):
            assert found[ways, 1] == (pytest.approx(enumerated(classes, ways, 1), abs=1e-6), 0)


def test_one_shot_of_cosine_is_exact():
    classes = [rows + 1 for rows in gaussian([5, 4, 6], d=3, seed=3)]
    expected = enumerated(classes, 3, 1, cosine=True)
    assert surface(set_of(classes), 3, 1, classifier="cosine")[3, 1] == (pytest.approx(expected, abs=1e-6), 0)
    assert expected != pytest.approx(enumerated(classes, 3, 1), abs=0.01)


@pytest.mark.parametrize(
    ("shots", "counts"),
    [
        (2, [5, 4, 6]),
        pytest.param(3, [7, 5, 6], marks=slow),
        pytest.param(3, [4, 4, 5], marks=slow),
        pytest.param(4, [5, 6, 5, 5], marks=slow),
    ],
)
def test_more_shots_are_unbiased(shots: int, counts: list[int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nctransfer.evaluation.resampled_supports.ROUNDS", (16, 60))
    classes = gaussian(counts, d=3)
    features = set_of(classes)
    found = [surface(features, (2, 3), shots, seed=seed) for seed in range(12)]
    for ways in (2, 3):
        values = np.array([one[ways, shots][0] for one in found])
        error = values.std(ddof=1) / math.sqrt(len(values))
        assert abs(values.mean() - enumerated(classes, ways, shots)) < 3.5 * error + 1e-6
        assert error < 0.002
        # each says of itself how far off it is
        said = np.array([one[ways, shots][1] for one in found]) / 1.96
        assert 0.4 < values.std(ddof=1) / said.mean() < 2


@pytest.mark.parametrize("shots", [11, 15, 18, 19])
@pytest.mark.parametrize("method", ["resampled", "normal"])
def test_collapsed_classes_are_always_right(shots: int, method: Any):
    features = set_of(np.repeat(np.eye(6)[:, None], 20, axis=1))
    found = surface(features, (2, 5), (1, 5, shots), method=method)
    assert found == {task: (pytest.approx(1, abs=1e-9), pytest.approx(0, abs=1e-9)) for task in found}
    assert len(found) == 6


@pytest.mark.parametrize("value", [0.0, pytest.param(0.1, marks=slow), 1234.5])
@pytest.mark.parametrize("classifier", ["ncc", "cosine"])
def test_features_all_the_same_are_right_by_chance(value: float, classifier: str):
    features = set_of(np.full((6, 10, 5), value))
    for (ways, _), (accuracy, _) in surface(features, (2, 5), (1, 3), classifier=classifier).items():
        assert accuracy == pytest.approx(1 / ways, abs=0.005)


def test_ties_are_broken_by_lot():
    rng = np.random.default_rng(0)
    features = set_of(rng.integers(0, 2, size=(12, 2)).astype(float) for _ in range(4))  # four places in all
    assert_measured(set_of(rng.permuted(np.zeros((4, 12, 2)), axis=1)), 4, 1, episodes=100)
    classes = [features.features[features.labels == code].numpy() for code in range(4)]
    won, lost = enumerated(classes, 2, 1), 1 - enumerated_loss(classes)
    assert won + 0.1 < lost  # there are ties
    assert surface(features, 2, 1)[2, 1][0] == pytest.approx((won + lost) / 2, abs=0.005)


@pytest.mark.parametrize("counts", [[4, 4, 4, 4], [3, 6, 3, 4]])  # 16 samples, whose mean is exact
def test_ties_of_one_shot_are_shared_exactly(counts: list[int]):
    rng = np.random.default_rng(2)
    classes = [rng.integers(0, 3, size=(n, 2)).astype(float) for n in counts]
    found = surface(set_of(classes), (2, 3, 4), 1)
    for ways in (2, 3, 4):
        assert found[ways, 1] == (pytest.approx(shared_wins(classes, ways), abs=1e-6), 0)


def shared_wins(classes: list[np.ndarray], ways: int) -> float:
    """One shot, over every choice of classes and samples: a query as far from j + 1 centres wins with 1/(j + 1)."""
    of_class = []
    for own, rows in enumerate(classes):
        won = []
        others = itertools.combinations([other for other in range(len(classes)) if other != own], ways - 1)
        for chosen, query in itertools.product(list(others), range(len(rows))):
            away = [np.square(classes[other] - rows[query]).sum(axis=1) for other in chosen]
            for mine in np.square(np.delete(rows, query, axis=0) - rows[query]).sum(axis=1):
                each = np.array(list(itertools.product(*away)))
                won.append(np.mean((each >= mine).all(axis=1) / (1 + (each == mine).sum(axis=1))))
        of_class.append(np.mean(won))
    return float(np.mean(of_class))


def test_ties_of_more_shots_are_shared(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(2)
    classes = [rng.integers(0, 2, size=(8, 2)).astype(float) for _ in range(4)]
    expected = shared_wins(classes, 4)
    monkeypatch.setattr("nctransfer.evaluation.resampled_supports.EXACT", 0)
    accuracy, ci95 = surface(set_of(classes), 4, 1)[4, 1]
    assert abs(accuracy - expected) < 1.5 * ci95 + 1e-6
    assert_measured(set_of(classes), (2, 4), 3, queries=2)


def enumerated_loss(classes: list[np.ndarray]) -> float:
    """The chance to lose of one shot and two ways; ties are losses of none."""
    of_class = []
    for own, rows in enumerate(classes):
        found = []
        for number, query in enumerate(rows):
            for mine in np.delete(rows, number, axis=0):
                for other in (some for code, some in enumerate(classes) if code != own):
                    away = np.linalg.norm(other - query, axis=1)
                    found.append(np.mean(away < np.linalg.norm(query - mine)))
        of_class.append(np.mean(found))
    return float(np.mean(of_class))


# resampled, and what episodes measure


@pytest.mark.parametrize(
    ("counts", "ways", "shots"),
    [
        ([20] * 6, (2, 6), (1, 2, 5)),
        ([8, 30, 12, 50], (2, 4), (1, 3)),
        pytest.param([7] * 24, (2, 12, 24), 2, marks=slow),
        ([21, 24], 2, (10, 15)),
        ([13] * 3, 3, (7, 11)),
    ],
    ids=["even", "uneven", "many classes", "many shots", "one centre a deal"],
)
def test_episodes_of_gaussian_classes_agree(counts: list[int], ways: Any, shots: Any):
    assert_measured(set_of(gaussian(counts)), ways, shots, queries=2)


def test_episodes_of_as_many_shots_as_there_can_be_agree():
    assert_measured(set_of(gaussian([12, 15, 12], d=3)), 3, 11, queries=1, episodes=6000)


def test_episodes_of_digits_agree():
    digits = load_digits()
    features = FeatureSet.from_arrays(digits.data[:500], digits.target[:500])
    assert_measured(features, (2, 10), (1, 5, 20), episodes=1500, queries=15)


@pytest.mark.parametrize("classifier", ["cosine", "simpleshot"])
def test_episodes_of_other_classifiers_agree(classifier: str):
    classes = [rows + 2 for rows in gaussian([20] * 5)]
    reference = set_of(gaussian([20] * 3, seed=1))
    assert_measured(set_of(classes), (2, 5), (1, 5), classifier=classifier, center_on=reference)
    if classifier == "cosine":
        assert_measured(set_of(classes), (2, 5), (1, 5), classifier=classifier)


@pytest.mark.parametrize("center", [False, True])
def test_episodes_of_features_of_unit_length_agree(center: bool):
    classes = [rows * 3 + 4 for rows in gaussian([20] * 5, d=3, seed=3)]
    reference = set_of(gaussian([9] * 3, d=3, seed=1)) if center else None
    features = set_of(classes)
    assert_measured(features, (2, 5), (1, 5), l2_normalise=True, center_on=reference)
    raw, scaled = (surface(features, 5, 1, l2_normalise=scale)[5, 1][0] for scale in (False, True))
    assert abs(raw - scaled) > 0.02


@pytest.mark.parametrize("far", [pytest.param(1000.0, marks=slow), 1e4, pytest.param(1e6, marks=slow)])
def test_one_sample_far_away_spoils_nothing(far: float):
    classes = gaussian([20] * 5, d=8)
    classes[-1][-1] += far
    assert_measured(set_of(classes), (2, 5), (1, 5), episodes=3000)


def test_neither_offset_nor_scale_changes_anything():
    classes = gaussian([20] * 4)
    for method in ("resampled", "normal"):
        first = surface(set_of(classes), (2, 4), (1, 5), method=method)
        for scale, offset in ((1.0, 1000.0), (1e-4, 0.0), (1e4, 0.0)):
            found = surface(set_of(rows * scale + offset for rows in classes), (2, 4), (1, 5), method=method)
            for task, (accuracy, ci95) in first.items():
                assert found[task] == (pytest.approx(accuracy, abs=1e-3), pytest.approx(ci95, abs=1e-3))


# queries that are not all taken


def test_some_queries_stand_for_all(monkeypatch: pytest.MonkeyPatch):
    features = set_of(gaussian([60] * 4, d=4))
    whole = {method: expect(features, 3, 5, method=method, device="cpu").rows[0] for method in ("resampled", "normal")}
    monkeypatch.setattr("nctransfer.evaluation.resampled_supports.ROUNDS", (16, 20))
    for method, row in whole.items():
        # the normal method takes 16 times fewer
        monkeypatch.setattr("nctransfer.evaluation.expected_accuracy.PAIRS", 60 * 4 * (16 if method == "normal" else 1))
        some = [expect(features, 3, 5, method=method, seed=seed, device="cpu").rows[0] for seed in range(4)]
        assert (row.queries, {one.queries for one in some}) == (240, {60})
        assert len({one.accuracy for one in some}) == 4
        assert all(0 < abs(one.accuracy - row.accuracy) < 2 * math.hypot(one.ci95, row.ci95) for one in some)


@slow
def test_interval_of_subsampled_queries_covers(monkeypatch: pytest.MonkeyPatch):
    features = set_of(gaussian([60] * 4, d=4))
    [whole] = expect(features, 3, 1, device="cpu").rows
    [whole_normal] = expect(features, 3, 5, method="normal", device="cpu").rows
    assert (whole.queries, whole.ci95, whole_normal.ci95) == (240, 0, 0)
    assert (whole.exact, whole_normal.exact) == (True, False)
    monkeypatch.setattr("nctransfer.evaluation.resampled_supports.ROUNDS", (16, 20))
    monkeypatch.setattr("nctransfer.evaluation.expected_accuracy.PAIRS", 60 * 4)
    rows = [expect(features, 3, 1, seed=seed, device="cpu").rows[0] for seed in range(60)]
    assert {(row.queries, row.exact) for row in rows} == {(60, False)}
    errors = np.array([row.accuracy - whole.accuracy for row in rows])
    assert 0.88 <= np.mean([abs(row.accuracy - whole.accuracy) <= row.ci95 for row in rows]) <= 1
    assert np.mean([row.ci95 for row in rows]) / 2.13 == pytest.approx(errors.std(), rel=0.3)
    assert abs(errors.mean()) < 3.5 * errors.std() / math.sqrt(60)
    monkeypatch.setattr("nctransfer.evaluation.expected_accuracy.PAIRS", 60 * 4 * 16)
    few = [expect(features, 3, 5, seed=seed, method="normal", device="cpu").rows[0] for seed in range(60)]
    assert {row.queries for row in few} == {60}
    assert 0.85 <= np.mean([abs(row.accuracy - whole_normal.accuracy) <= row.ci95 for row in few]) <= 1


@slow
def test_few_queries_and_as_many_shots_as_there_can_be(monkeypatch: pytest.MonkeyPatch):
    features = set_of(gaussian([20] * 4, spread=0.5))
    [row] = fewshot(features, 3, 19, queries=1, episodes=6000, classifiers="ncc").rows
    monkeypatch.setattr("nctransfer.evaluation.expected_accuracy.PAIRS", 8 * 4)
    rows = [expect(features, 3, 19, seed=seed, device="cpu").rows[0] for seed in range(12)]
    assert all(0 <= one.accuracy <= 1 and 0 < one.ci95 < 1 for one in rows)
    values = np.array([one.accuracy for one in rows])
    assert abs(values.mean() - row.accuracy) < 4 * values.std(ddof=1) / math.sqrt(12)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("win_probability.CHUNK", 77),
        ("support_rounds.ENTRIES", 500),
        ("one_shot.ENTRIES", 100),
        ("one_shot.TOGETHER", 1),
        ("centre_scores.TABLE_BYTES", 0),
    ],
)
def test_pieces_do_not_matter(place: str, value: int, monkeypatch: pytest.MonkeyPatch):
    features = set_of(gaussian([10, 12, 10], d=160))  # as wide as the inner products of all samples are for
    for method, shots in (("resampled", (1, 4)), ("normal", 4)):
        first = surface(features, (2, 3), shots, method=method)
        with monkeypatch.context() as patch:
            patch.setattr(f"nctransfer.evaluation.{place}", value)
            parts = surface(features, (2, 3), shots, method=method)
        for task, found in first.items():
            assert parts[task] == (pytest.approx(found[0], abs=1e-5), pytest.approx(found[1], abs=1e-5))


@pytest.mark.parametrize("classifier", ["ncc", "cosine"])
def test_inner_products_of_all_samples_change_no_answer(classifier: str, monkeypatch: pytest.MonkeyPatch):
    features = set_of(rows + 1 for rows in gaussian([10, 12, 10], d=160))
    first = surface(features, (2, 3), (1, 4), classifier=classifier)
    monkeypatch.setattr("nctransfer.evaluation.centre_scores.TABLE_SHOTS", 1000)
    for task, found in surface(features, (2, 3), (1, 4), classifier=classifier).items():
        assert found == (pytest.approx(first[task][0], abs=1e-5), pytest.approx(first[task][1], abs=1e-5))


def test_one_shot_that_is_drawn_is_near_the_exact_one(monkeypatch: pytest.MonkeyPatch):
    features = set_of(gaussian([20, 30, 25, 20]))
    exact = {row.ways: row for row in expect(features, (2, 4), 1, device="cpu").rows}
    monkeypatch.setattr("nctransfer.evaluation.resampled_supports.EXACT", 94)
    errors = []
    for seed in range(6):
        for row in expect(features, (2, 4), 1, seed=seed, device="cpu").rows:
            assert (row.exact, exact[row.ways].exact, exact[row.ways].ci95) == (False, True, 0)
            assert 0 < row.ci95 < 0.0011
            errors.append((row.accuracy - exact[row.ways].accuracy) / row.ci95)
    assert np.abs(errors).max() < 2
    assert np.sqrt(np.mean(np.square(errors))) < 0.8  # about a half


def test_the_wanted_precision_is_reached():
    for row in expect(set_of(gaussian([40] * 5, d=64, spread=0.3)), (2, 5), (2, 5, 20), device="cpu").rows:
        assert 0 < row.ci95 <= 0.001
        assert not row.exact


@pytest.mark.parametrize(
    ("sizes", "shots", "supports", "groups"),
    [([20, 7], 3, 2, 5), ([20, 7], 3, 9, 2), ([9, 9, 8], 4, 5, 3), ([6, 11], 5, 6, 4), ([12] * 3, 6, 2, 1)],
)
def test_supports_are_samples_of_their_class(sizes: list[int], shots: int, supports: int, groups: int):
    found = draw_supports(sizes, shots, supports, groups, np.random.default_rng(0))
    assert found.shape == (groups, len(sizes), supports, shots)
    starts = np.cumsum(sizes) - sizes
    for code, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        assert found[:, code].min() >= start
        assert found[:, code].max() < start + size
        for group in found[:, code]:
            assert all(len(set(support)) == shots for support in group.tolist())
            held = [{start + sample for sample in range(size)} - set(support) for support in group.tolist()]
            assert leaves_all_out(size, shots, supports) == (len(set.union(*held)) == size)
            # a division uses no sample twice
            whole = group[: size // shots]
            assert size // shots == 1 or len(np.unique(whole)) == whole.size


def test_every_sample_is_drawn_as_often():
    found = draw_supports([7], 3, 4, 3000, np.random.default_rng(0))
    times = np.bincount(found.ravel(), minlength=7)
    assert np.abs(times / times.mean() - 1).max() < 0.05


def test_the_seed_decides():
    features = set_of(gaussian([20] * 4))
    first, again, other = (surface(features, 3, 5, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


# the normal form


@pytest.mark.parametrize("d", [3, pytest.param(40, marks=slow)])  # narrower and wider than the samples
@pytest.mark.parametrize("shots", [1, 4])
def test_moments_of_squared_distances(d: int, shots: int):
    classes = gaussian([12, 9], d=d, seed=3)
    features = set_of(classes)
    queries = Queries(features, torch.Generator().manual_seed(0))
    normal = Normal(queries, features.features.double(), [1])
    rng = np.random.default_rng(0)

    def simulated(w: np.ndarray, covariance: np.ndarray, factor: float) -> tuple[float, float, float]:
        noise = rng.multivariate_normal(np.zeros(d), covariance, size=200_000, method="eigh") * math.sqrt(factor)
        squares = np.square(w - noise).sum(axis=1)
        return squares.mean(), squares.var(), float(((squares - squares.mean()) ** 3).mean())

    own, other = classes
    n, m = len(own), shots
    for number in (0, 5):
        some = slice(number, number + 1)
        query = own[number]
        found = [float(part[0]) for part in normal._other(1, some, shots)]
        factor = (len(other) - m) / (m * (len(other) - 1))
        mean, variance, third = simulated(query - other.mean(axis=0), np.cov(other.T, bias=True), factor)
        assert found[:2] == [pytest.approx(mean, rel=0.01), pytest.approx(variance, rel=0.03)]
        assert found[2] == pytest.approx(third, rel=0.15)

        rest = np.delete(own, number, axis=0)  # what its own support is drawn from
        found = [float(part[0]) for part in normal._own(0, some, shots)]
        factor = (n - 1 - m) / (m * (n - 2))
        mean, variance, third = simulated(query - rest.mean(axis=0), np.cov(rest.T, bias=True), factor)
        assert found[:2] == [pytest.approx(mean, rel=0.01), pytest.approx(variance, rel=0.03)]
        assert 0 < found[2] < 6 * third  # with the covariance of the whole class


@pytest.mark.parametrize("shots", [1, 3, 10])
def test_means_and_variances_without_replacement(shots: int):
    # over all supports there are, whatever their distribution
    rng = np.random.default_rng(1)
    classes = [rng.exponential(size=(11, 2)), rng.exponential(size=(10, 2)) + 1]
    features = set_of(classes)
    queries = Queries(features, torch.Generator().manual_seed(0))
    normal = Normal(queries, features.features.double(), [1])
    own, other = classes
    for number in (0, 4):
        some = slice(number, number + 1)
        rest = np.delete(own, number, axis=0)
        for rows, moments in ((rest, normal._own(0, some, shots)), (other, normal._other(1, some, shots))):
            away = [
                np.square(own[number] - np.mean(support, axis=0)).sum()
                for support in itertools.combinations(rows, shots)
            ]
            assert float(moments[0][0]) == pytest.approx(np.mean(away), rel=1e-9)
            if shots == 10:
                assert len(away) == 1
                assert float(moments[1][0]) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("counts", [pytest.param([60] * 5, marks=slow), [40, 90, 60]], ids=["even", "uneven"])
@pytest.mark.parametrize("d", [5, pytest.param(100, marks=slow)])
def test_normal_form_is_near_episodes_at_many_shots(counts: list[int], d: int):
    features = set_of(gaussian(counts, d=d, spread=1.0 if d == 5 else 0.3))
    ways = (2, len(counts))
    found = surface(features, ways, (10, 30), method="normal")
    rows = fewshot(features, ways, (10, 30), queries=10, episodes=1500, classifiers="ncc").rows
    for row in rows:
        accuracy, ci95 = found[row.ways, row.shots]
        assert ci95 == 0
        assert abs(accuracy - row.accuracy) < 0.01 + row.ci95
        assert 0.4 < accuracy < 0.98
    for row in expect(features, ways, (10, 30), device="cpu").rows:
        assert row.accuracy == pytest.approx(found[row.ways, row.shots][0], abs=0.01)


def test_normal_form_of_one_and_two_shots_of_normal_classes():
    features = set_of(gaussian([60] * 5, d=30, spread=0.5))
    normal, resampled = (surface(features, (2, 5), (1, 2), method=method) for method in ("normal", "resampled"))
    for task, (accuracy, _) in normal.items():
        assert accuracy == pytest.approx(resampled[task][0], abs=0.02)


def test_normal_form_of_a_class_that_does_not_vary():
    classes = gaussian([30] * 3, d=4)
    classes[0][:] = classes[0].mean(axis=0)
    found = surface(set_of(classes), (2, 3), (1, 10), method="normal")
    for row in fewshot(set_of(classes), (2, 3), 10, queries=10, episodes=1500, classifiers="ncc").rows:
        assert found[row.ways, row.shots][0] == pytest.approx(row.accuracy, abs=0.01 + row.ci95)
    assert all(0 < accuracy < 1 for accuracy, _ in found.values())


def test_normal_form_of_two_samples_a_class():
    found = surface(set_of(gaussian([2] * 3, spread=30)), (2, 3), 1, method="normal")
    assert found == {(2, 1): (pytest.approx(1), 0), (3, 1): (pytest.approx(1), 0)}


def test_normal_form_never_leaves_what_can_be():
    for seed in range(5):
        for accuracy, _ in surface(
            set_of(gaussian([6] * 8, d=20, spread=0.1, seed=seed)), range(2, 9), (1, 2, 5), method="normal"
        ).values():
            assert 0 <= accuracy <= 1


# results


def test_rows_in_order_and_what_they_say():
    calls: list[tuple[str, int, int]] = []
    features = set_of(gaussian([20] * 5))
    found = expect(features, (5, 2), (5, 1), device="cpu", progress=lambda *call: calls.append(call))
    assert [(row.ways, row.shots) for row in found.rows] == [(2, 1), (5, 1), (2, 5), (5, 5)]
    assert {(row.classifier, row.method, row.queries) for row in found.rows} == {("ncc", "resampled", 100)}
    assert calls == [("shots", 1, 2), ("shots", 2, 2)]
    assert found.seconds > 0
    as_dict = json.loads(json.dumps(found.to_dict()))
    assert as_dict["results"] == found.to_frame().to_dict("records")
    assert as_dict["features"]["samples"] == 100
    assert as_dict["results"][0]["accuracy"] == found.rows[0].accuracy


def test_a_task_is_answered_once():
    rows = expect(set_of(gaussian([20] * 5)), (2, 5, 2), (1, 1), device="cpu").rows
    assert [(row.ways, row.shots) for row in rows] == [(2, 1), (5, 1)]


def test_several_tasks_at_once_are_those_one_by_one():
    features = set_of(gaussian([20] * 5))
    for (ways, shots), (accuracy, ci95) in surface(features, (2, 3, 5), (1, 5)).items():
        alone = surface(features, ways, shots)[ways, shots]
        assert alone[0] == pytest.approx(accuracy, abs=1e-9 if shots == 1 else 3 * ci95)


def test_more_shots_help_and_more_ways_hurt():
    for method in ("resampled", "normal"):
        found = surface(set_of(gaussian([30] * 5)), (2, 5), (1, 5), method=method)
        assert found[2, 5] > found[2, 1] > found[5, 1]
        assert found[2, 5] > found[5, 5] > found[5, 1]


@pytest.mark.parametrize(
    ("given", "facts", "hint"),
    [
        ({"classifier": "simpleshot"}, ["simpleshot"], "--center-on"),
        ({"classifier": "ridge"}, ["'ridge'"], ["--classifier", "ncc", "cosine", "simpleshot"]),
        ({"classifier": "x"}, ["'x'"], ["--classifier", "ncc", "cosine", "simpleshot"]),
        ({"classifier": "cosine", "method": "normal"}, ["'cosine'", "'normal'"], ["--method", "ncc"]),
        ({"ways": 6}, [6, 5], "--ways 5"),
        ({"ways": 1}, ["ways", 1], "--ways 2"),
        ({"shots": (0, 1)}, ["shots", 0], "--shots 1"),
        ({"shots": 20}, [20, 1], "shots"),
        ({"ways": ()}, ["ways"], ""),
        ({"shots": []}, ["shots"], ""),
        ({"seed": -1}, ["seed", -1], ""),
        ({"method": "gaussian"}, ["'gaussian'"], ["--method", "resampled", "normal"]),
        ({"center_on": set_of(gaussian([3, 3], d=2))}, [2, 6], "--center-on"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, dict) else None,
)
def test_errors_come_before_any_work(given: dict[str, Any], facts: list[object], hint: str | list[str]):
    calls: list[Any] = []
    with pytest.raises((EpisodeError, SettingError)) as error:
        expect(
            set_of(gaussian([20] * 5)),
            **{"ways": 2, "shots": 1, "device": "cpu", **given},
            progress=lambda *call: calls.append(call),
        )
    says(error, *facts, hint=hint)
    assert calls == []


@pytest.mark.parametrize("seed", range(3))
def test_ties_of_whole_numbers_are_seen(seed: int) -> None:
    """One-hot features have few distances: all supports of one shot and all queries, each tie shared."""
    codes = np.random.default_rng(seed).integers(0, 8, (5, 12))
    rows = np.eye(8)[codes]
    won = []
    for own, other in itertools.permutations(range(5), 2):
        for support, query in itertools.permutations(range(12), 2):
            mine = np.abs(rows[own, support] - rows[own, query]).sum()
            others = np.abs(rows[other] - rows[own, query]).sum(axis=1)
            won.append(((others > mine) + 0.5 * (others == mine)).mean())
    features = FeatureSet.from_arrays(rows.reshape(60, 8), np.repeat(list("abcde"), 12))
    [row] = expect(features, 2, 1, device="cpu").rows
    assert row.exact
    assert row.accuracy == pytest.approx(np.mean(won), abs=1e-6)

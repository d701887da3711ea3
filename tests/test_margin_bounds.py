"""The bounds by margins: their moments, certificates and validity against enumeration, and their limits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from clusters import normal_classes, set_of
from finite_laws import SHOTS, WORLDS, error, margins
from nctransfer.errors import EpisodeError
from nctransfer.evaluation import margin_moments as module
from nctransfer.evaluation.fewshot_accuracy import fewshot
from nctransfer.evaluation.margin_bounds import bound_by_margins
from nctransfer.evaluation.margin_moments import ClassMoments, PairMargins, QueryMargins
from nctransfer.features.feature_set import FeatureSet

Classes = list[np.ndarray]


def both(classes: Classes) -> tuple[ClassMoments, list[QueryMargins], PairMargins]:
    """The moments of classes, of the queries, and of the pairs."""
    moments = ClassMoments.of(set_of(classes), "cpu")
    queries = list(moments.queries())
    along, crossed = torch.zeros(2, len(classes), len(classes), dtype=torch.float64)
    for part in queries:
        along.index_add_(0, part.labels, part.along.square())
        crossed.index_add_(0, part.labels, part.within)
    return moments, queries, PairMargins.from_sums(moments, along, crossed)


def true_chances(classes: Classes, ways: int, shots: int) -> np.ndarray:
    """The chance of each query to be classified right, over all supports and all choices of other classes."""
    found = []
    for own, points in enumerate(classes):
        choices = itertools.combinations([other for other in range(len(classes)) if other != own], ways - 1)
        each = []
        for others in choices:
            wins = [margins(points, classes[other], shots) > 0 for other in others]  # (query, own centre, centre)
            # given the query and the own centre, supports of different classes are independent
            each.append(np.prod([win.mean(axis=2) for win in wins], axis=0).mean(axis=1))
        found.append(np.mean(each, axis=0))
    return np.concatenate(found)


def certificates(classes: Classes, ways: int, shots: float) -> np.ndarray:
    moments, queries, _ = both(classes)
    degrees = [ways - 1]
    return torch.cat([part.certificates(moments, degrees, shots)[0] for part in queries]).numpy()


# moments


@pytest.mark.parametrize("shots", SHOTS)
def test_moments_of_a_pair_are_those_of_all_draws(shots: int) -> None:
    for classes in WORLDS:
        moments, _, pairs = both(classes)
        mean, variance = pairs.moments(moments, shots)
        for i, j in itertools.permutations(range(len(classes)), 2):
            h = margins(classes[i], classes[j], shots)
            assert float(mean[i, j]) == pytest.approx(h.mean(), rel=1e-9, abs=1e-9 * np.abs(h).max())
            assert float(variance[i, j]) == pytest.approx(h.var(), rel=1e-8)


@pytest.mark.parametrize("shots", SHOTS)
def test_moments_of_a_query_are_those_of_all_supports(shots: int) -> None:
    for classes in WORLDS:
        moments, queries, _ = both(classes)
        mean, variance = (torch.cat(parts) for parts in zip(*(q.moments(moments, shots) for q in queries), strict=True))
        starts = np.cumsum([0, *map(len, classes)])
        for i, j in itertools.permutations(range(len(classes)), 2):
            h = margins(classes[i], classes[j], shots)
            rows = slice(starts[i], starts[i + 1])
            scale = np.abs(h).max()
            np.testing.assert_allclose(mean[rows, j], h.mean(axis=(1, 2)), rtol=1e-9, atol=1e-9 * scale)
            np.testing.assert_allclose(variance[rows, j], h.var(axis=(1, 2)), rtol=1e-8, atol=1e-9 * scale**2)


def test_the_variance_of_a_pair_is_that_within_queries_and_between_them() -> None:
    classes = normal_classes([30, 20, 25], 40, apart=0.5, within=[1.0, 2.0, 0.5])
    moments, queries, pairs = both(classes)
    [part] = queries
    for shots in (1, 3, 50, math.inf):
        mean, variance = part.moments(moments, shots)
        for i, j in itertools.permutations(range(3), 2):
            rows = part.labels == i
            total = variance[rows, j].mean() + mean[rows, j].var(correction=0)
            assert float(pairs.moments(moments, shots)[1][i, j]) == pytest.approx(float(total), rel=1e-9)


# what they promise


@pytest.mark.parametrize("shots", SHOTS)
def test_a_certificate_is_never_above_the_true_chance(shots: int) -> None:
    said_something = 0
    for classes in WORLDS:
        for ways in range(2, len(classes) + 1):
            found, true = certificates(classes, ways, shots), true_chances(classes, ways, shots)
            assert (found <= true + 1e-9).all()
            said_something += int((found > 0.5).sum())
    assert said_something > 100


@pytest.mark.parametrize("shots", SHOTS)
def test_the_association_inequality(shots: int) -> None:
    """Step 2 of the proof: all wins together are at least as likely as if they were independent."""
    strict = 0
    for classes in (one for one in WORLDS if len(one) == 3):
        for own in range(3):
            wins = [margins(classes[own], classes[c], shots) > 0 for c in range(3) if c != own]
            together = np.prod([win.mean(axis=2) for win in wins], axis=0).mean(axis=1)
            apart = np.prod([win.mean(axis=(1, 2)) for win in wins], axis=0)
            assert (together >= apart - 1e-12).all()
            strict += int((together > apart + 1e-6).sum())
    assert strict > 10


def laws(seeds: range) -> Iterator[Classes]:
    """Two or three classes of a few points: skewed, heavy-tailed, of atoms of unequal chance, of unequal width."""
    for seed in seeds:
        rng = np.random.default_rng([seed, 13])
        count, dim = 2 + seed % 2, int(rng.integers(1, 5))
        apart, each = 10.0 ** rng.uniform(-1, 1.5), 5 - count
        classes = []
        for _ in range(count):
            kind = rng.integers(5)
            if kind == 0:
                points = rng.exponential(size=(each, dim)) ** 3
            elif kind == 1:
                points = rng.standard_cauchy(size=(each, dim))
            elif kind == 2:  # a rare outlier: one point apart from all others, which are equal
                points = np.zeros((each, dim))
                points[0] = rng.normal(size=dim) * 10.0 ** rng.uniform(0, 2)
            elif kind == 3:  # on a line towards nowhere in particular
                points = rng.standard_t(2, size=(each, 1)) * rng.normal(size=dim)
            else:
                points = rng.normal(size=(each, dim))
            classes.append(apart * rng.normal(size=dim) + points * 10.0 ** rng.uniform(-1.5, 0.5))
        yield classes


def holds(seeds: range) -> int:
    """Assert that the bounds hold on these laws; how often they are below chance."""
    informative = 0
    for classes in laws(seeds):
        features = set_of(classes)
        for shots in (1, 2, 3):
            for ways in range(2, len(classes) + 1):
                exact = error(classes, ways, shots)
                bound = bound_by_margins(features, [ways], [shots], device="cpu")[ways, shots]
                assert exact <= bound.margin + 1e-9
                assert exact <= bound.margin_per_query + 1e-9
                assert bound.margin_per_query <= 1
                assert (certificates(classes, ways, shots) <= true_chances(classes, ways, shots) + 1e-9).all()
                informative += bound.margin_per_query < 1 - 1 / ways
    return informative


def test_bounds_hold() -> None:
    assert holds(range(60)) > 40


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 3000, 500))
def test_bounds_hold_on_thousands_of_laws(start: int) -> None:
    assert holds(range(start, start + 500)) > 300


def test_bounds_hold_for_infinitely_many_shots() -> None:
    """Then only the queries are random, and the bound by query counts those that are nearer to a wrong mean."""
    for classes in [*WORLDS, *laws(range(60))]:
        means = np.array([points.mean(axis=0) for points in classes])
        wrong = []
        for own, points in enumerate(classes):
            beyond = ((points[:, None] - means) ** 2).sum(axis=2)
            wrong.append((np.delete(beyond, own, axis=1) <= beyond[:, [own]]).any(axis=1).mean())
        found = bound_by_margins(set_of(classes), [len(classes)], [math.inf], device="cpu")[len(classes), math.inf]
        assert found.margin_per_query == pytest.approx(np.mean(wrong), abs=1e-12)
        assert found.margin >= np.mean(wrong) - 1e-12


def test_bounds_hold_on_measured_episodes() -> None:
    features = set_of(normal_classes([40] * 8, 32, apart=1.0, within=1.0))
    rows = fewshot(features, (2, 5, 8), (1, 5, 20), episodes=500, classifiers="ncc", theory=False, device="cpu").rows
    bounds = bound_by_margins(features, (2, 5, 8), (1, 5, 20), device="cpu")
    for row in rows:
        assert 1 - row.accuracy - row.ci95 <= min(bounds[row.ways, row.shots])
    assert bounds[5, 20].margin_per_query < 0.1 < bounds[5, 20].margin


# the computation


def by_loop(classes: Classes, shots: float) -> tuple[np.ndarray, np.ndarray]:
    """``W / (W + E²)`` of every pair, and the certificates of two ways, from covariances."""
    C = len(classes)
    mu = [points.mean(axis=0) for points in classes]
    x = [points - mean for points, mean in zip(classes, mu, strict=True)]
    sigma = [part.T @ part / len(part) for part in x]
    v = [np.trace(one) for one in sigma]
    squares = [(part**2).sum(axis=1) for part in x]
    kappa = [(part * square[:, None]).mean(axis=0) for part, square in zip(x, squares, strict=True)]
    big_q = [
        ((squares[c] ** 2).mean() - v[c] ** 2 - 2 * (sigma[c] ** 2).sum()) / shots**3
        + 2 * (sigma[c] ** 2).sum() / shots**2
        for c in range(C)
    ]
    pairs, rights = np.zeros((C, C)), []
    for i in range(C):
        wins = []
        for j in range(C):
            if i == j:
                continue
            delta = mu[j] - mu[i]
            mean = delta @ delta + (v[j] - v[i]) / shots
            spread = delta @ sigma[j] @ delta + (sigma[i] ** 2).sum() + (sigma[i] * sigma[j]).sum()
            variance = 4 * delta @ sigma[i] @ delta + 4 / shots * spread + big_q[i] + big_q[j]
            variance += 4 / shots**2 * delta @ kappa[j]
            pairs[i, j] = variance / (variance + mean**2) if mean > 0 else 1
            won = []
            for f in classes[i]:
                y, z = f - mu[j], f - mu[i]
                mean = y @ y - z @ z + (v[j] - v[i]) / shots
                variance = 4 / shots * (y @ sigma[j] @ y + z @ sigma[i] @ z) + big_q[i] + big_q[j]
                variance -= 4 / shots**2 * (y @ kappa[j] + z @ kappa[i])
                won.append(mean**2 / (variance + mean**2) if mean > 0 else 0)
            wins.append(won)
        rights.append(np.mean(wins))
    return pairs, np.array(rights)


@pytest.mark.parametrize(("count", "width"), [(12, 30), (40, 6)])  # factors of samples, and of the width
@pytest.mark.parametrize("shots", [1, 4, 100])
def test_bounds_are_those_of_covariances(count: int, width: int, shots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = normal_classes([count, count + 3, count + 1, 2], width, apart=0.6, within=[1.0, 0.3, 0.5, 0.7])
    pairs, rights = by_loop(classes, shots)
    features = set_of(classes)
    found = bound_by_margins(features, [2, 4], [shots], device="cpu")
    assert found[2, shots].margin == pytest.approx(pairs.sum() / 12, rel=1e-9)
    assert found[4, shots].margin == pytest.approx(3 * pairs.sum() / 12, rel=1e-9)
    assert found[2, shots].margin_per_query == pytest.approx(1 - rights.mean(), rel=1e-9)
    assert found[4, shots].margin_per_query > found[2, shots].margin_per_query
    monkeypatch.setattr(module, "ROWS", 7)  # blocks across classes, and within them
    for key, bound in bound_by_margins(features, [2, 4], [shots], device="cpu").items():
        assert bound == pytest.approx(found[key], rel=1e-12)


def test_a_common_offset_and_scale_change_nothing() -> None:
    classes = normal_classes([10, 12, 15], 8, apart=1.5)
    reference = bound_by_margins(set_of(classes), [2, 3], [1, 5, math.inf], device="cpu")
    for scale, offset in ((1e-6, 0.0), (1e6, 0.0), (1.0, 1e6)):
        moved = [points * scale + offset for points in classes]
        for key, bound in bound_by_margins(set_of(moved), [2, 3], [1, 5, math.inf], device="cpu").items():
            assert bound == pytest.approx(reference[key], rel=1e-6)


def test_rows_in_any_order() -> None:
    features = set_of(normal_classes([10, 12, 15], 8, apart=1.5))
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))
    mixed = replace(features, features=features.features[order], labels=features.labels[order])
    reference = bound_by_margins(features, [2], [3], device="cpu")[2, 3]
    assert bound_by_margins(mixed, [2], [3], device="cpu")[2, 3] == pytest.approx(reference, rel=1e-12)


# limits


def test_one_image_per_class_leaves_nothing_to_chance() -> None:
    found = bound_by_margins(
        set_of([np.array([[0.0, 1.0]]), np.array([[3.0, 1.0]])]), [2], [1, 7, math.inf], device="cpu"
    )
    assert set(found.values()) == {(0.0, 0.0)}


@pytest.mark.parametrize("shots", [1, 4, math.inf])
@pytest.mark.parametrize("offset", [0.0, 1000.1])
def test_identical_classes_are_always_confused(shots: float, offset: float) -> None:
    points = normal_classes([20], 5, offset=offset)[0]
    for classes in ([points, points], [points[::-1], points[::-1].copy()], [points[:1], points[:1]]):
        assert bound_by_margins(set_of(classes), [2], [shots], device="cpu")[2, shots] == (1.0, 1.0)


def test_a_wide_class_may_be_expected_to_lose() -> None:
    wide, narrow = np.array([[-3.0], [3.0]]), np.array([[1.0], [1.0]])
    moments, _, pairs = both([wide, narrow])
    assert float(pairs.moments(moments, 1)[0][0, 1]) == 1 - 9  # d² − v
    losses = pairs.losses(moments, 1)
    assert float(losses[0, 1]) == 1 > float(losses[1, 0])


def test_pairs_that_are_not_resolved_count_as_lost() -> None:
    features = set_of(normal_classes([30] * 3, 6, apart=50.0, within=0.01))
    resolved = ~torch.eye(3, dtype=torch.bool)
    sure = bound_by_margins(features, [2, 3], [5], resolved=resolved, device="cpu")
    assert sure == bound_by_margins(features, [2, 3], [5], device="cpu")
    assert max(sure[3, 5]) < 1e-4
    resolved[0, 1] = resolved[1, 0] = False
    found = bound_by_margins(features, [2, 3], [5], resolved=resolved, device="cpu")
    # two of six ordered pairs; with all classes in a task, two of three
    assert found[2, 5] == pytest.approx((1 / 3, 1 / 3), abs=1e-4)
    assert found[3, 5] == pytest.approx((2 / 3, 2 / 3), abs=1e-4)


@pytest.mark.parametrize(("ways", "shots"), [(1, 1), (4, 1), (2, 0)])
def test_tasks_that_cannot_be(ways: int, shots: int) -> None:
    with pytest.raises(EpisodeError):
        bound_by_margins(set_of(normal_classes([5] * 3)), [ways], [shots], device="cpu")


def test_more_shots_bound_better_where_classes_are_alike() -> None:
    features = FeatureSet.from_arrays(*_alike())
    found = bound_by_margins(features, [4], [1, 2, 5, 10, 100, math.inf], device="cpu")
    for bounds in zip(*found.values(), strict=True):
        assert list(bounds) == sorted(bounds, reverse=True)


def _alike() -> tuple[np.ndarray, np.ndarray]:
    points = normal_classes([50], 20)[0]
    return np.concatenate([points + 4 * np.eye(20)[c] for c in range(4)]), np.repeat(np.arange(4), 50)

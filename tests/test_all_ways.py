"""Accuracy on all classes at once: the same as that of episodes, draws that backbones share, intervals over images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nctransfer.episodes.classifier import ClassifierSettings
from nctransfer.episodes.draws import labelled, random_orders
from nctransfer.episodes.inner_products import LookedUpAgainstAll, Products
from nctransfer.episodes.pool import Pool
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.episodes.ridge import directions, ridge
from nctransfer.errors import EpisodeError, SettingError
from nctransfer.evaluation.all_ways import AllWaysTask, all_ways_accuracy
from nctransfer.evaluation.fewshot_accuracy import fewshot
from nctransfer.evaluation.image_influence import Answers, common_draws, estimate
from nctransfer.features.feature_set import FeatureSet


def clusters(rng, classes=6, each=20, width=16, spread=1.0):
    means = rng.normal(size=(classes, 1, width)) * 0.6
    rows = (means + spread * rng.normal(size=(classes, each, width))).reshape(-1, width).astype(np.float32)
    return FeatureSet.from_arrays(rows, np.repeat([f"c{i}" for i in range(classes)], each))


INDUCTIVE = {name: one for name, one in CLASSIFIERS.own.items() if not one.is_transductive}


@pytest.fixture
def features():
    return clusters(np.random.default_rng(0))


@pytest.mark.parametrize("name", [name for name in INDUCTIVE if name != "logistic"])
def test_agrees_with_episodes_of_all_classes(features, name):
    found = all_ways_accuracy(features, AllWaysTask(shots=3, classifiers=name, draws=512)).estimates[3, name]
    row = fewshot(features, "all", 3, queries="all", episodes=2000, classifiers=name, theory=False).rows[0]
    assert abs(found.accuracy - row.accuracy) < 3 * (found.draw_half_width + row.ci95)


@pytest.mark.parametrize("looked_up", ["nothing", "of labelled images", "all"])
@pytest.mark.parametrize(
    ("name", "by_centres"),
    [(name, by) for name, one in INDUCTIVE.items() for by in {False, one.by_centres}],
)
def test_products_with_all_rows_give_the_same_scores(name, by_centres, looked_up):
    classifier = CLASSIFIERS[name]
    features = clusters(np.random.default_rng(0), width=80 if looked_up == "all" else 16)
    pool = Pool(features.features, "cpu")
    if looked_up == "of labelled images":
        pool.prepare_draws([12], 10_000)
        assert pool.has_gram
    support = labelled(next(random_orders(features, 3, 0)), features.counts, 2)
    settings = ClassifierSettings(shots=2)
    for _ in range(9 if looked_up == "all" else 1):  # after some of them, the products of all rows are computed
        products = pool.against_all(support, by_centres=by_centres)
    assert isinstance(products, LookedUpAgainstAll) is (looked_up == "all" and not by_centres)
    found = classifier.scores(products, settings)
    rows = features.features.double()
    queries = rows.expand(3, -1, -1)
    exact = Products.of(rows[support.flatten(1)], queries, support.shape[1])
    scores = classifier.scores(exact, settings)
    scores = scores - scores.mean(dim=2, keepdim=True)  # what all classes share does not matter
    found = found - found.mean(dim=2, keepdim=True)
    assert torch.allclose(found.double(), scores, atol=2e-3 * float(scores.abs().max()))
    assert (found.argmax(2) == scores.argmax(2)).double().mean() > 0.99


def test_equal_scores_go_to_the_first_class():
    same = FeatureSet.from_arrays(np.ones((40, 3), np.float32), np.repeat(list("abcd"), 10))
    found = all_ways_accuracy(same, AllWaysTask(shots=3, classifiers="ncc", draws=32)).estimates[3, "ncc"]
    assert found.accuracy == 0.25


def test_ridge_by_features_is_ridge_by_inner_products():
    rng = np.random.default_rng(1)
    x, f = (torch.from_numpy(rng.normal(size=(2, size, 5))) for size in (30, 40))
    mean = x.mean(dim=1, keepdim=True)
    scores = (f - mean) @ directions(x - mean, 3, 0.7)
    assert torch.allclose(scores, ridge(Products.of(x, f, 3), 0.7), atol=1e-9)
    assert directions(x - mean, 3, "loo") is None


def test_supports_wider_than_the_features_use_them(features):
    task = AllWaysTask(shots=15, draws=64)  # 90 labelled images, 16 dimensions
    by_products = CLASSIFIERS["ridge"].function
    found = all_ways_accuracy(features, task).estimates[15, "ridge"]
    orders = next(random_orders(features, 32, 0))
    support = labelled(orders, features.counts, 15)
    rows = features.features.double()
    exact = by_products(Products.of(rows[support.flatten(1)], rows.expand(32, -1, -1), 6)).argmax(2) == features.labels
    is_query = torch.ones_like(exact).scatter_(1, support.flatten(1), value=False)
    expected = (exact & is_query).sum(1) / is_query.sum(1)
    assert torch.allclose(found.of_draws[:32], expected.double(), atol=1e-6)


def test_draws_depend_on_the_samples_alone_and_are_nested(features):
    other = clusters(np.random.default_rng(9), width=3)
    first, second = (torch.cat(list(random_orders(one, 40, 7))) for one in (features, other))
    assert torch.equal(first, second)
    assert torch.equal(first[:32], next(random_orders(features, 200, 7)))
    few, many = (labelled(first, features.counts, shots) for shots in (2, 5))
    assert torch.equal(few, many[:, :, :2])
    assert torch.equal(features.labels[few], torch.arange(6)[:, None].expand(40, 6, 2))
    assert not torch.equal(first, torch.cat(list(random_orders(features, 40, 8))))


def test_every_class_counts_equally():
    rng = np.random.default_rng(2)
    names = np.repeat(["a", "b"], [60, 6])
    rows = rng.normal(size=(66, 4)) + np.where(names == "a", 0.0, 0.8)[:, None]
    features = FeatureSet.from_arrays(rows, names)
    found = all_ways_accuracy(features, AllWaysTask(shots=5, draws=64)).estimates[5, "ridge"]
    orders = torch.cat(list(random_orders(features, found.draws, 0)))
    support = labelled(orders, features.counts, 5)
    right = ridge(Products.of(features.features[support.flatten(1)], features.features.expand(len(orders), -1, -1), 2))
    right = (right.argmax(2) == features.labels) & torch.ones(len(orders), 66, dtype=bool).scatter_(
        1, support.flatten(1), value=False
    )
    by_class = torch.stack([right[:, :60].sum(1) / 55, right[:, 60:].sum(1) / 1]).mean(0)
    assert torch.allclose(found.of_draws, by_class.double(), atol=1e-6)


def test_draws_fewer_draws_where_more_would_change_little(features):
    few = all_ways_accuracy(features, AllWaysTask(shots=5)).estimates[5, "ridge"]
    assert few.draws < 2000
    assert few.error_of_draws <= few.error / 4 or few.draw_half_width < 0.002


def test_a_small_class_widens_the_interval():
    features = clusters(np.random.default_rng(3), classes=2, each=100, spread=0.01)
    few = features.only_rows(torch.cat([torch.arange(2), torch.arange(100, 200)]))
    task = AllWaysTask(shots=1)
    equal, unequal = (all_ways_accuracy(one, task).estimates[1, "ridge"] for one in (features, few))
    assert equal.accuracy == unequal.accuracy == 1
    assert equal.interval[0] > 0.97
    assert unequal.interval[0] < 0.8  # half of the accuracy rests on two images
    assert all_ways_accuracy(features, task).warnings == ()
    [warning] = all_ways_accuracy(few, task).warnings
    assert warning.startswith("1 class ('c0') has 2 images only")


def test_intervals_of_perfect_accuracy_have_a_width():
    features = clusters(np.random.default_rng(3), spread=0.01)
    found = all_ways_accuracy(features, AllWaysTask(shots=2)).estimates[2, "ridge"]
    assert found.accuracy == 1
    assert found.error == 0
    assert 0.93 < found.interval[0] < 0.99
    assert found.interval[1] == 1


def test_equal_features_do_not_differ_and_worse_ones_do(features):
    rng = np.random.default_rng(4)
    noisy = FeatureSet.from_arrays(features.features.numpy() + rng.normal(size=(120, 16)), features.labels.tolist())
    task = AllWaysTask(shots=3)
    found = [all_ways_accuracy(one, task).estimates[3, "ridge"] for one in (features, features, noisy)]
    values, spread = common_draws(found)
    errors = spread.errors_of_differences()
    assert values[0] == values[1]
    assert errors[0, 1] == 0
    assert 0 < errors[0, 2] < 0.1
    assert values[0] - values[2] > 2 * errors[0, 2]


def test_an_image_that_spoils_its_class_when_labelled_has_influence():
    """Image 0 is as easy as the others, but draws in which it is labelled lose 30% of the queries."""
    images, shots, lost = 20, 2, 0.3
    labels = torch.arange(2).repeat_interleave(images)
    rng = np.random.default_rng(0)
    orders = torch.from_numpy((labels.numpy() + rng.random((2000, 2 * images))).argsort(axis=1))
    support = labelled(orders, torch.tensor([images, images]), shots)
    spoilt = (support == 0).flatten(1).any(1)
    right = ~(spoilt[:, None] & torch.from_numpy(rng.random((2000, 2 * images)) < lost))
    answers = Answers(labels, shots)
    answers.add(right, support)
    found = estimate(answers).of_images
    expected = torch.zeros(2 * images, dtype=torch.float64)
    expected[:images] = shots / images * lost / images
    expected[0] -= shots / images * lost
    assert torch.allclose(found, expected, atol=0.1 * shots / images * lost)
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=0.1)


def test_draws_by_chance_give_labelled_images_no_influence():
    labels, rng = torch.arange(4).repeat_interleave(15), np.random.default_rng(1)
    errors = []
    for _ in range(20):
        orders = torch.from_numpy((labels.numpy() + rng.random((64, 60))).argsort(axis=1))
        answers = Answers(labels, 3)
        by_image = rng.beta(4, 1, size=60)
        answers.add(torch.from_numpy(rng.random((64, 60)) < by_image), labelled(orders, torch.full((4,), 15), 3))
        errors.append((estimate(answers).error, np.sqrt((by_image.reshape(4, 15).var(1, ddof=1) / 15).sum()) / 4))
    mean, expected = np.mean(errors, axis=0)
    assert mean == pytest.approx(expected, rel=0.1)


@pytest.mark.slow
def test_the_standard_error_is_the_spread_over_other_images():
    accuracies, squares = [], []
    means = np.random.default_rng(5).normal(size=(8, 1, 16)) * 0.5
    for seed in range(120):
        rows = (means + np.random.default_rng([6, seed]).normal(size=(8, 25, 16))).reshape(-1, 16).astype(np.float32)
        features = FeatureSet.from_arrays(rows, np.repeat(list("abcdefgh"), 25))
        found = all_ways_accuracy(features, AllWaysTask(shots=(1, 5, 20))).estimates
        accuracies.append([one.accuracy for one in found.values()])
        squares.append([one.error**2 + one.error_of_draws**2 for one in found.values()])
    ratio = np.sqrt(np.mean(squares, axis=0)) / np.std(accuracies, axis=0)
    assert ((ratio > 0.85) & (ratio < 1.35)).all()


def test_wrong_tasks_are_refused(features):
    for wrong in ({"shots": 0}, {"classifiers": "rigde"}, {"draws": 1}, {"ridge_lambda": -1.0}):
        with pytest.raises(SettingError):
            AllWaysTask(**wrong)
    with pytest.raises(EpisodeError, match="20"):
        all_ways_accuracy(features, AllWaysTask(shots=20))
    with pytest.raises(EpisodeError, match="20"):
        all_ways_accuracy(features, AllWaysTask(shots=10**30))
    small = FeatureSet.from_arrays(np.eye(5), ["a", "a", "b", "b", "c"])
    with pytest.raises(EpisodeError) as error:
        all_ways_accuracy(small, AllWaysTask(shots=1))
    assert "--drop-small" in error.value.hint
    assert all_ways_accuracy(small, AllWaysTask(shots=1, drop_small=True)).dropped == ("c",)


def test_one_class_is_an_error_of_the_data_and_names_it():
    for labels, settings in ((["cat"] * 4, {}), (["cat"] * 4 + ["dog"], {"drop_small": True})):
        with pytest.raises(EpisodeError, match="cat") as error:
            all_ways_accuracy(FeatureSet.from_arrays(np.eye(len(labels)), labels), AllWaysTask(shots=2, **settings))
        assert "--ways" not in error.value.hint

"""The map of classes: distances against plain loops, what changes nothing, the order of similar classes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import pdist, squareform

from clusters import labelled, normal_classes, set_of
from nctransfer.errors import FeaturesError, SettingError
from nctransfer.features.feature_set import FeatureSet
from nctransfer.maps.class_map import ClassMap, map_classes
from nctransfer.maps.leaf_order import with_best_leaf_order
from nctransfer.neural_collapse.cdnv import debiased_pairs
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from oracles import squared_distance, variance


def by_loops(classes: Sequence[np.ndarray]) -> np.ndarray:
    """The distances in plain loops; a class of one image varies as much as the others."""
    rest = sum(len(rows) - 1 for rows in classes)
    pooled = sum(len(rows) * variance(rows) for rows in classes) / rest
    spread = [pooled if len(rows) == 1 else len(rows) / (len(rows) - 1) * variance(rows) for rows in classes]
    found = np.zeros((len(classes), len(classes)))
    for i, j in itertools.permutations(range(len(classes)), 2):
        noise = spread[i] / len(classes[i]) + spread[j] / len(classes[j])
        squared = squared_distance(classes, i, j) - noise
        found[i, j] = math.sqrt(max(squared, 0) / ((spread[i] + spread[j]) / 2))
    return found


COUNTS = [[4, 4, 4, 4], [2, 9, 3, 30, 5], [1, 6, 1, 3], [5, 2]]


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-4)])
def test_distances_are_those_of_plain_loops(counts: list[int], dtype: type, tolerance: float) -> None:
    classes = normal_classes(counts, 12, apart=2.0, within=[0.3, 1.0, 2.0, 0.5, 1.5][: len(counts)], offset=100.0)
    found = map_classes(set_of(classes, dtype), device="cpu")
    np.testing.assert_allclose(found.distance, by_loops(classes), rtol=tolerance, atol=tolerance)
    assert (found.distance == found.distance.T).all()
    assert (found.distance.diagonal() == 0).all()
    assert found.counts.tolist() == counts
    assert found.single == tuple(code for code, n in enumerate(counts) if n == 1)


@pytest.mark.parametrize("apart", [0.5, 3.0])
def test_distances_are_those_of_the_debiased_measure(apart: float) -> None:
    features = set_of(normal_classes([3, 8, 5, 4, 20], 10, apart=apart))
    values, resolved = debiased_pairs(ClassStatistics.of(features, "cpu"))
    found = map_classes(features, device="cpu")
    assert (found.told_apart == resolved.numpy()).all()
    assert found.told_apart.any()
    np.testing.assert_allclose(found.distance[resolved] ** -2, values[resolved].numpy(), rtol=1e-12)


def same_map(one: ClassMap, other: ClassMap, renamed: np.ndarray, tolerance: float) -> None:
    """Both maps have the same distances and the same order of neighbours, if codes of the other are renamed."""
    np.testing.assert_allclose(one.distance, other.distance[np.ix_(renamed, renamed)], rtol=tolerance)
    order = np.argsort(renamed)[other.order]
    assert order.tolist() in (one.order.tolist(), one.order[::-1].tolist())
    np.testing.assert_allclose(one.linkage[:, 2], other.linkage[:, 2], rtol=tolerance)


SEEDS = st.integers(0, 2**20)


@given(seed=SEEDS, classes=st.integers(3, 9))
def test_the_names_of_classes_change_nothing_but_names(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    rows = normal_classes(rng.integers(2, 6, size=classes).tolist(), 5, apart=20.0, seed=seed)
    places = rng.permutation(classes)
    other: list[np.ndarray] = [
        rows[code] for code in np.argsort(places)
    ]  # class c of the one is places[c] of the other
    same_map(map_classes(set_of(rows), device="cpu"), map_classes(set_of(other), device="cpu"), places, 1e-9)


@given(seed=SEEDS, size=st.floats(1e-3, 1e3))
def test_scale_rotation_and_shift_change_nothing(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    rows = normal_classes(rng.integers(2, 6, size=6).tolist(), 5, apart=20.0, seed=seed)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    shift = size * rng.normal(size=5)
    other = [size * one @ turn + shift for one in rows]
    same_map(map_classes(set_of(rows), device="cpu"), map_classes(set_of(other), device="cpu"), np.arange(6), 1e-6)


def test_the_order_of_rows_changes_nothing() -> None:
    features, labels = labelled(normal_classes([4, 3, 5], 6))
    order = np.random.default_rng(1).permutation(len(labels))
    one = map_classes(FeatureSet.from_arrays(features, labels), device="cpu")
    other = map_classes(FeatureSet.from_arrays(features[order], labels[order]), device="cpu")
    same_map(one, other, np.arange(3), 1e-12)


def orders(tree: np.ndarray, node: int) -> Iterator[list[int]]:
    """All orders of the leaves below a node that a tree allows."""
    leaves = len(tree) + 1
    if node < leaves:
        yield [node]
        return
    left, right = (list(orders(tree, int(child))) for child in tree[node - leaves, :2])
    for one, other in itertools.product(left, right):
        yield one + other
        yield other + one


def length(distance: np.ndarray, order: Sequence[int]) -> float:
    return float(sum(distance[a, b] for a, b in itertools.pairwise(order)))


@given(seed=SEEDS, classes=st.integers(2, 8), method=st.sampled_from(["average", "single"]), ties=st.booleans())
def test_the_best_order_is_the_shortest_of_all_that_the_tree_allows(
    seed: int, classes: int, method: str, ties: bool
) -> None:
    points = np.random.default_rng(seed).normal(size=(classes, 3))
    pairs = pdist(points.round() if ties else points)
    tree, distance = linkage(pairs, method), squareform(pairs)
    found = with_best_leaf_order(tree, distance)
    order = leaves_list(found).tolist()
    every = list(orders(tree, 2 * classes - 2))
    assert order in every
    assert length(distance, order) == pytest.approx(min(length(distance, one) for one in every))
    assert order[0] < order[-1]
    assert (np.sort(found[:, :2]) == np.sort(tree[:, :2])).all()
    assert (found[:, 2:] == tree[:, 2:]).all()


def test_a_tree_may_be_deep() -> None:
    points = np.cumsum(1.01 ** np.arange(1500))
    pairs = pdist(np.random.default_rng(0).permutation(points)[:, None])
    order = leaves_list(with_best_leaf_order(linkage(pairs, "single"), squareform(pairs)))
    assert length(squareform(pairs), order.tolist()) == pytest.approx(points[-1] - points[0])


def test_the_map_has_the_best_order() -> None:
    found = map_classes(set_of(normal_classes([5] * 8, 3, apart=3.0)), device="cpu")
    assert found.is_optimal
    every = [length(found.distance, one) for one in orders(found.linkage, 14)]
    assert length(found.distance, found.order.tolist()) == pytest.approx(min(every))
    assert found.order.tolist() == leaves_list(found.linkage).tolist()


def test_similar_classes_stand_beside_each_other() -> None:
    rng = np.random.default_rng(0)
    groups = 20 * rng.normal(size=(4, 8))
    classes = [groups[code % 4] + rng.normal(size=8) + 0.3 * rng.normal(size=(6, 8)) for code in range(20)]
    order = map_classes(set_of(classes), device="cpu").order
    assert sorted(order.tolist()) == list(range(20))
    assert len([group for group, _ in itertools.groupby(order % 4)]) == 4


def test_a_tree_of_too_many_classes_is_not_put_in_the_best_order() -> None:
    features = set_of(normal_classes([3] * 12, 4, apart=3.0))
    best, quick = (map_classes(features, most=most, device="cpu") for most in (12, 11))
    assert (best.is_optimal, quick.is_optimal) == (True, False)
    assert len(quick.notes) == len(best.notes) + 1
    assert sorted(quick.order.tolist()) == list(range(12))
    assert quick.order.tolist() in list(orders(quick.linkage, 22))
    along = [float(one.distance[one.order[:-1], one.order[1:]].sum()) for one in (best, quick)]
    assert along[0] < along[1]


# Few images, and images without variance


def test_classes_within_the_noise_of_their_means_are_at_no_distance() -> None:
    classes = normal_classes([3, 3], 500, apart=0.0, seed=3)
    classes.append(classes[0] + 10)
    found = map_classes(set_of(classes), device="cpu")
    assert found.distance[0, 1] < 0.5  # the plain distance would be about √(2/3 · 3/2) = 1
    assert not found.told_apart[0, 1]
    assert found.told_apart[0, 2]
    assert "1 of 3 pairs" in found.notes[0]


def test_classes_that_do_not_vary_are_infinitely_far_apart_unless_they_are_equal() -> None:
    rows = [[0.0, 0.0]] * 2 + [[1.0, 0.0]] * 2 + [[1.0, 0.0]] * 2 + [[5.0, 1.0], [5.0, 3.0]]
    found = map_classes(FeatureSet.from_arrays(rows, "aabbccdd"), device="cpu")
    assert found.distance[0, 1] == found.distance[0, 2] == np.inf
    assert found.distance[1, 2] == 0
    assert not found.told_apart[1, 2]
    assert np.isfinite(found.distance[3]).all()
    assert np.isfinite(found.linkage).all()
    assert any("2 pairs of classes are infinitely far apart" in note for note in found.notes)
    still = map_classes(FeatureSet.from_arrays(rows[:4], "aabb"), device="cpu")
    assert still.distance[0, 1] == np.inf
    assert still.linkage[0, 2] == 1


def test_a_class_of_one_image_varies_as_the_others() -> None:
    found = map_classes(FeatureSet.from_arrays([[0.0], [2.0], [8.0]], "aab"), device="cpu")
    assert found.distance[0, 1] == pytest.approx(math.sqrt((49 - 1 - 2) / 2))
    assert found.single == (1,)
    assert "'b'" in found.notes[0]


def test_debiased_distances_are_nearer_the_truth() -> None:
    """Classes of known distance with 2 to 20 images each: error, and agreement on which pairs are close."""
    rng = np.random.default_rng(7)
    dim, counts = 64, [2, 3, 5, 20] * 5
    spectrum = np.arange(1, dim + 1) ** -0.5
    means = rng.normal(size=(20, dim)) * spectrum * 0.7
    rows = [mean_ + rng.normal(size=(n, dim)) * spectrum for mean_, n in zip(means, counts, strict=True)]
    truth = np.linalg.norm(means[:, None] - means, axis=2) / np.linalg.norm(spectrum)
    plain = np.zeros((20, 20))
    for i, j in itertools.permutations(range(20), 2):
        plain[i, j] = math.sqrt(squared_distance(rows, i, j) / ((variance(rows[i]) + variance(rows[j])) / 2))
    upper = np.triu_indices(20, 1)
    debiased = map_classes(set_of(rows), device="cpu").distance
    errors = [np.abs(one - truth)[upper].mean() for one in (debiased, plain)]
    assert errors[0] < errors[1] / 2
    ranks = [
        np.corrcoef(np.argsort(np.argsort(one[upper])), np.argsort(np.argsort(truth[upper])))[0, 1]
        for one in (debiased, plain)
    ]
    assert ranks[0] > ranks[1] + 0.1


# The closest classes


def closest(found: ClassMap, most: int) -> set[int]:
    """The classes of the closest pairs in plain loops."""
    chosen: set[int] = set()
    pairs = itertools.combinations(range(len(found.classes)), 2)
    for pair in sorted(pairs, key=lambda pair: found.distance[pair]):
        if len(chosen.union(pair)) <= most:
            chosen.update(pair)
    return chosen


@pytest.mark.parametrize("most", [2, 3, 5, 8, 9, 50])
def test_the_most_interesting_classes_are_those_of_the_closest_pairs(most: int) -> None:
    found = map_classes(set_of(normal_classes([4] * 9, 4, apart=2.0, seed=5)), device="cpu")
    chosen = found.most_interesting(most)
    assert set(chosen) == closest(found, most)
    assert len(chosen) == min(most, 9)
    assert [code for code in found.order.tolist() if code in chosen] == list(chosen)


def test_a_map_of_one_class_is_refused() -> None:
    found = map_classes(set_of(normal_classes([4] * 3)), device="cpu")
    with pytest.raises(SettingError, match="1 class"):
        found.most_interesting(1)


def test_the_table_has_names_in_the_order_of_the_map() -> None:
    features = set_of(normal_classes([4] * 5, 3))
    found = map_classes(features, device="cpu")
    frame = found.to_frame()
    assert frame.index.tolist() == frame.columns.tolist() == [features.classes[code] for code in found.order]
    assert frame.loc["0003", "0001"] == found.distance[3, 1]
    assert found.features == features.describe()


# Bad input


@pytest.mark.parametrize(
    ("counts", "said"), [([5], "1 class"), ([1, 1, 1], "largest with 1 image")], ids=["one class", "single images"]
)
def test_classes_that_cannot_be_compared_are_refused(counts: list[int], said: str) -> None:
    with pytest.raises(FeaturesError, match=said) as caught:
        map_classes(set_of(normal_classes(counts)), device="cpu")
    assert caught.value.hint


def test_a_class_without_images_is_refused() -> None:
    features = set_of(normal_classes([3, 3, 3])).only_rows(torch.tensor([0, 1, 6, 7]))
    with pytest.raises(FeaturesError, match="'0001'"):
        map_classes(features, device="cpu")


def test_features_that_leave_float64_are_refused() -> None:
    with pytest.raises(FeaturesError, match="size"):
        map_classes(set_of([1e-70 * rows for rows in normal_classes([3, 3])]), device="cpu")

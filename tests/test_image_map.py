"""The map of images: axes against other programs, exact planes against direct projection, what a picture keeps."""

from __future__ import annotations

import base64
import importlib.util
import itertools
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from clusters import normal_classes, set_of
from nctransfer.errors import FeaturesError, NCTransferError, SettingError
from nctransfer.features.feature_set import FeatureSet
from nctransfer.maps.class_map import map_classes
from nctransfer.maps.class_planes import ClassPlanes
from nctransfer.maps.even_share import even_share
from nctransfer.maps.image_map import ImageMap, map_images
from nctransfer.maps.kept_neighbours import kept_neighbours
from nctransfer.maps.principal_plane import principal_plane
from nctransfer.page.blocks import ImageMapView, PageContent, Section
from nctransfer.page.page_data import page_data

CPU = torch.device("cpu")
SEEDS = st.integers(0, 2**20)


def mapped(features: FeatureSet, **settings: object) -> ImageMap:
    return map_images(features, device="cpu", **settings)  # type: ignore[arg-type]


def exact(features: FeatureSet) -> np.ndarray:
    return features.features.double().numpy()


# The principal axes


@pytest.mark.parametrize("d", [2, 7, 300])  # fewer features than images, and more
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-3)])
def test_axes_and_shares_are_those_of_other_programs(d: int, dtype: type, tolerance: float) -> None:
    features = set_of(normal_classes([20, 30, 10], d, apart=2.0, offset=1000.0), dtype)
    found, rows = mapped(features), exact(features)
    other = PCA(2, svd_solver="full").fit(rows)
    points = other.transform(rows)
    np.testing.assert_allclose(found.x, points[:, 0], atol=tolerance)
    np.testing.assert_allclose(found.y, points[:, 1], atol=tolerance)
    np.testing.assert_allclose(found.shares, other.explained_variance_ratio_, rtol=1e-6)
    assert found.kept.variance == pytest.approx(sum(other.explained_variance_ratio_), rel=1e-6)
    assert found.variance == pytest.approx(rows.var(axis=0).sum(), rel=1e-9)
    assert found.rows.tolist() == list(range(60))
    assert (found.labels == features.labels.numpy()).all()


def test_axes_are_orthogonal_unit_vectors_with_their_largest_entry_positive() -> None:
    axes = principal_plane(set_of(normal_classes([9, 9], 30)), CPU).axes.numpy()
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-12)
    assert all(axis[np.abs(axis).argmax()] > 0 for axis in axes)


@given(seed=SEEDS)
def test_rotation_and_shift_change_nothing_but_signs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes = normal_classes([6, 5, 4], 4, seed=seed)
    turn, shift = np.linalg.qr(rng.normal(size=(4, 4)))[0], 10 * rng.normal(size=4)
    one, other = mapped(set_of(classes)), mapped(set_of([rows @ turn + shift for rows in classes]))
    np.testing.assert_allclose(one.shares, other.shares, rtol=1e-6)
    for mine, theirs in ((one.x, other.x), (one.y, other.y)):
        np.testing.assert_allclose(np.abs(mine), np.abs(theirs), atol=1e-3)
    assert (one.neighbours == other.neighbours).mean() > 0.9  # equal but for ties within rounding
    np.testing.assert_allclose(one.neighbour_distance, other.neighbour_distance, atol=1e-5)


@pytest.mark.parametrize(
    ("rows", "shares"),
    [
        ([[3.0, 1.0]] * 5, (0, 0)),
        ([[1e6 + 0.0, 1.0], [1e6 + 1.0, 1.0], [1e6 + 5.0, 1.0]], (1, 0)),
        ([[1.0], [2.0], [4.0]], (1, 0)),
        ([[1.0, 2.0]], (0, 0)),
    ],
    ids=["all equal", "on a line", "one feature", "one image"],
)
def test_images_that_span_less_than_a_plane(rows: list[list[float]], shares: tuple[float, float]) -> None:
    found = mapped(FeatureSet.from_arrays(rows, "a" * len(rows)))
    assert found.shares == pytest.approx(shares)
    assert (found.y == 0).all()
    assert found.neighbours.shape == (len(rows), min(5, len(rows) - 1))
    assert np.isfinite(found.neighbour_distance).all()


# Neighbours


def test_neighbours_are_those_of_plain_loops() -> None:
    features = set_of(normal_classes([12, 9, 15], 8))
    rows = exact(features) - exact(features).mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = mapped(features, neighbours=4)
    for i in range(len(rows)):
        distance = {j: float(np.linalg.norm(rows[i] - rows[j])) for j in range(len(rows)) if j != i}
        nearest = sorted(distance, key=lambda j: distance[j])[:4]
        assert found.neighbours[i].tolist() == nearest
        np.testing.assert_allclose(found.neighbour_distance[i], [distance[j] for j in nearest], atol=1e-6)


def test_an_image_twice_is_its_own_neighbour_at_no_distance() -> None:
    classes = normal_classes([30, 30], 40)
    classes[1][4] = classes[0][7]
    found = mapped(set_of(classes, np.float32))
    assert found.neighbours[7, 0] == 34
    assert found.neighbours[34, 0] == 7
    assert found.neighbour_distance[7, 0] == 0  # cosines alone would give up to 0.0005


# Some of many images


def test_of_many_images_some_are_placed_and_neighbours_are_of_all() -> None:
    features = set_of(normal_classes([60, 20, 40], 6))
    whole, part = mapped(features), mapped(features, most=30)
    assert len(part.rows) == 30
    assert np.bincount(part.labels).tolist() == [15, 5, 10]
    assert (part.labels == features.labels.numpy()[part.rows]).all()
    for name in ("x", "y", "neighbours", "neighbour_distance"):
        np.testing.assert_allclose(getattr(part, name), getattr(whole, name)[part.rows])
    np.testing.assert_allclose(part.products, whole.products[part.rows])
    assert (part.kept, part.shares, part.variance) == (whole.kept, whole.shares, whole.variance)
    assert not set(part.neighbours.ravel().tolist()) <= set(part.rows.tolist())
    other = mapped(features, most=30, seed=1)
    assert other.rows.tolist() != part.rows.tolist()
    assert mapped(features, most=30, seed=1).rows.tolist() == other.rows.tolist()


@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any), most=st.integers(1, 120), seed=SEEDS)
def test_an_even_share_of_every_class(counts: list[int], most: int, seed: int) -> None:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    chosen = even_share(labels, most, seed)
    assert len(chosen) == min(most, sum(counts))
    assert (chosen.diff() > 0).all()
    each = labels[chosen].bincount(minlength=len(counts)).tolist()
    assert all(one <= count for one, count in zip(each, counts, strict=True))
    classes = sum(count > 0 for count in counts)
    if most >= classes:
        assert sum(one > 0 for one in each) == classes
        shares = [(one - 1) / count for one, count in zip(each, counts, strict=True) if count]
        assert max(shares) <= min(one / count for one, count in zip(each, counts, strict=True) if count)
    if most > 1:
        assert set(even_share(labels, most - 1, seed).tolist()) <= set(chosen.tolist())


def test_every_image_of_a_class_is_as_likely() -> None:
    labels = torch.tensor([0] * 4 + [1] * 12)
    times = sum(even_share(labels, 8, seed).bincount(minlength=16) for seed in range(800))
    assert torch.allclose(times / 800, torch.full((16,), 0.5, dtype=torch.float32), atol=0.08)


# Planes of classes


def directly(features: FeatureSet, codes: tuple[int, ...], points: np.ndarray) -> np.ndarray:
    """Points in the plane of classes by Gram-Schmidt in the full space."""
    rows, labels = exact(features), features.labels.numpy()
    means = [rows[labels == code].mean(axis=0) for code in codes]
    third = means[2] if len(means) == 3 else rows.mean(axis=0)
    middle = (means[0] + means[1]) / 2
    along = (means[1] - means[0]) / np.linalg.norm(means[1] - means[0])
    across = third - middle
    across = across - (across @ along) * along
    across /= np.linalg.norm(across)
    return np.stack([(points - middle) @ along, (points - middle) @ across], axis=1)


def class_means(features: FeatureSet) -> np.ndarray:
    rows, labels = exact(features), features.labels.numpy()
    return np.stack([rows[labels == code].mean(axis=0) for code in range(len(features.classes))])


@pytest.mark.parametrize("codes", [(0, 1), (3, 1), (0, 1, 2), (2, 3, 0)])
@pytest.mark.parametrize(("dtype", "offset", "tolerance"), [(np.float64, 0.0, 1e-4), (np.float32, 100.0, 1e-3)])
def test_planes_are_those_of_direct_projection(
    codes: tuple[int, ...], dtype: type, offset: float, tolerance: float
) -> None:
    features = set_of(normal_classes([8, 12, 5, 9], 20, apart=2.0, offset=offset), dtype)
    found = mapped(features)
    plane = found.plane(codes)
    assert plane.dtype == np.float32
    np.testing.assert_allclose(plane, directly(features, codes, exact(features)), atol=tolerance)
    means = found.planes.plane_of_means(codes)
    np.testing.assert_allclose(means, directly(features, codes, class_means(features)), atol=tolerance)
    first, second = means[list(codes[:2])]
    np.testing.assert_allclose(first, -second, atol=1e-9)
    assert second[0] > 0
    assert second[1] == pytest.approx(0, abs=1e-9)


@given(seed=SEEDS, codes=st.permutations(range(5)), number=st.integers(2, 3))
def test_any_plane_is_that_of_direct_projection(seed: int, codes: list[int], number: int) -> None:
    features = set_of(normal_classes([3, 4, 3, 5, 2], 7, apart=2.0, seed=seed))
    chosen = tuple(codes[:number])
    np.testing.assert_allclose(mapped(features).plane(chosen), directly(features, chosen, exact(features)), atol=1e-3)


@pytest.mark.parametrize("power", [-100, 100])
def test_planes_of_very_large_and_small_features(power: int) -> None:
    classes = normal_classes([9, 9, 9], 5)
    found = map_images(set_of(classes, np.float32), device="cpu")
    other = map_images(set_of([rows * 2.0**power for rows in classes], np.float32), device="cpu")
    for codes in ((0, 1), (2, 0, 1)):
        assert other.plane(codes) / 2.0**power == pytest.approx(found.plane(codes), rel=1e-4, abs=1e-4)
    kept, again = page_map(found), page_map(other)
    for name in ("products", "gram", "points", "means"):
        one, same = decoded(kept[name]), decoded(again[name])
        assert np.isfinite(same).all()
        assert one / np.abs(one).max() == pytest.approx(same / np.abs(same).max(), rel=1e-4, abs=1e-6)


def page_map(found: ImageMap) -> Mapping[str, Any]:
    """What a page holds of a map."""
    section = Section(
        id="map", title="Map", says="It shows images.", blocks=(ImageMapView(map=found, alt="", caption=""),)
    )
    images = len(found.labels)
    content = PageContent(
        title="",
        subtitle="",
        sections=(section,),
        classes=found.classes,
        counts=(1,) * len(found.classes),
        image_ids=tuple(map(str, range(images))),
        image_labels=found.labels,
    )
    [data] = page_data(content)["maps"]
    return data


def decoded(array: Mapping[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(array["data"]), "<f4")


def test_a_plane_through_three_means_keeps_their_distances() -> None:
    features = set_of(normal_classes([8, 12, 5], 20, apart=2.0))
    means = mapped(features).planes.plane_of_means((0, 1, 2))
    truth = class_means(features)
    for a, b in itertools.combinations(range(3), 2):
        assert np.linalg.norm(means[a] - means[b]) == pytest.approx(np.linalg.norm(truth[a] - truth[b]))
    assert means[2, 1] > 0


@pytest.mark.parametrize("counts", [[6, 6], [4, 9]])
def test_of_two_classes_the_second_axis_is_a_principal_one(counts: list[int]) -> None:
    features = set_of(normal_classes(counts, 10, apart=2.0))
    found = mapped(features)  # the mean of all images lies between both means
    plane = found.plane((0, 1)).astype(np.float64)
    means, rows = class_means(features), exact(features)
    along = (means[1] - means[0]) / np.linalg.norm(means[1] - means[0])
    middle = means.mean(axis=0)
    np.testing.assert_allclose(plane[:, 0], (rows - middle) @ along, atol=1e-4)
    axes = principal_plane(features, CPU).axes.numpy()
    across = min(axes, key=lambda axis: abs(axis @ along))
    across = across - (across @ along) * along
    np.testing.assert_allclose(plane[:, 1], (rows - middle) @ across / np.linalg.norm(across), atol=1e-4)


def test_three_means_on_a_line_have_a_plane() -> None:
    noise = normal_classes([6, 6, 6, 6], 5, apart=0.0, within=0.1)
    classes = [rows - rows.mean(axis=0) + place for rows, place in zip(noise, (0, 1, 3, np.eye(5)[2]), strict=True)]
    features = set_of(classes)
    plane = mapped(features).plane((0, 1, 2))
    assert np.isfinite(plane).all()
    line = np.ones(5) / np.sqrt(5)
    np.testing.assert_allclose(plane[:, 0], (exact(features) - 0.5) @ line, atol=1e-4)
    assert plane[:, 1].std() > 0.1


def test_features_of_one_dimension_have_planes_without_height() -> None:
    features = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0], [4.0], [5.0]], "aabbcc")
    plane = mapped(features).plane((0, 1))
    assert plane[:, 0].tolist() == pytest.approx([-6, -4, 4, 6, -2, -1])
    assert (plane[:, 1] == 0).all()


def test_classes_of_the_same_mean_have_no_plane() -> None:
    features = FeatureSet.from_arrays([[0.0, 1.0], [2.0, 1.0], [1.0, 0.0], [1.0, 2.0], [5.0, 7.0]], "aabbc")
    found = mapped(features)
    with pytest.raises(FeaturesError, match="same mean"):
        found.plane((0, 1))
    assert np.isfinite(found.plane((0, 2, 1))).all()  # the third may be that of the first


@pytest.mark.parametrize("codes", [(0,), (0, 0), (0, 1, 2, 3), (0, 1, 0), (0, 7), ()])
def test_a_plane_needs_two_or_three_classes(codes: tuple[int, ...]) -> None:
    found = mapped(set_of(normal_classes([3] * 4)))
    with pytest.raises(SettingError, match="plane"):
        found.plane(codes)


def test_of_many_classes_those_of_the_closest_pairs_have_planes() -> None:
    features = set_of(normal_classes([5] * 9, 6, apart=2.0))
    found = mapped(features, detailed=4)
    classes = map_classes(features, device="cpu")
    assert found.planes.codes.tolist() == sorted(classes.most_interesting(4))
    assert found.products.shape == (45, 4)
    codes = tuple(found.planes.codes[[2, 0, 3]].tolist())
    np.testing.assert_allclose(found.plane(codes), directly(features, codes, exact(features)), atol=1e-4)
    chosen = replace(classes, distance=classes.distance.max() - classes.distance)
    given_ = mapped(features, detailed=4, class_map=chosen)
    assert given_.planes.codes.tolist() == sorted(chosen.most_interesting(4))


def test_of_many_classes_of_one_image_the_first_have_planes() -> None:
    features = set_of(normal_classes([1] * 6))
    assert mapped(features, detailed=3).planes.codes.tolist() == [0, 1, 2]


def test_a_class_without_images_has_no_plane() -> None:
    features = set_of(normal_classes([3, 3, 3])).only_rows(torch.tensor([0, 1, 6, 7]))
    found = mapped(features)
    assert found.planes.codes.tolist() == [0, 2]
    assert np.isfinite(found.plane((0, 2))).all()


def test_float16_products_are_near_enough_for_a_picture() -> None:
    features = set_of(normal_classes([8, 12, 5, 9], 20, apart=2.0))
    planes = mapped(features).planes
    coarse: ClassPlanes = replace(planes, products=planes.products.astype(np.float16).astype(np.float32))
    size = np.abs(planes.plane((0, 1, 2))).max()
    np.testing.assert_allclose(coarse.plane((0, 1, 2)), planes.plane((0, 1, 2)), atol=size / 200)


# What a picture keeps


def kept_by_loops(nearest: np.ndarray, points: np.ndarray) -> float:
    shares = []
    for i in range(len(points)):
        others = [j for j in range(len(points)) if j != i]
        found = sorted(others, key=lambda j: float(np.linalg.norm(points[i] - points[j])))[: nearest.shape[1]]
        shares.append(len(set(found) & set(nearest[i].tolist())) / nearest.shape[1])
    return float(np.mean(shares))


def test_kept_neighbours_are_those_of_plain_loops() -> None:
    features = set_of(normal_classes([12, 9, 15], 8))
    found = mapped(features, neighbours=4)
    share = kept_by_loops(found.neighbours, np.stack([found.x, found.y], axis=1).astype(np.float64))
    assert found.kept.neighbours == pytest.approx(share)
    assert 4 / 35 < share < 1


def test_a_picture_of_points_at_random_keeps_what_chance_keeps() -> None:
    rng = np.random.default_rng(0)
    nearest = np.stack([rng.permutation([j for j in range(500) if j != i])[:5] for i in range(500)])
    assert kept_neighbours(nearest, rng.normal(size=(500, 2))) == pytest.approx(5 / 499, abs=0.004)


def test_many_images_in_one_place_are_each_others_neighbours() -> None:
    nearest = np.array([[(i + 1) % 4] for i in range(4)])
    assert 0 <= kept_neighbours(nearest, np.zeros((4, 2))) <= 1
    assert kept_neighbours(np.array([[1, 2], [0, 2], [0, 1]]), np.zeros((3, 2))) == 1


def test_one_image_keeps_no_share() -> None:
    assert np.isnan(mapped(FeatureSet.from_arrays([[1.0, 2.0]], "a")).kept.neighbours)


# UMAP


def test_without_umap_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(NCTransferError) as caught:
        mapped(set_of(normal_classes([3, 3])), umap=True)
    assert "nctransfer[umap]" in caught.value.hint


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="needs umap-learn")
@pytest.mark.parametrize("most", [1000, 60])
def test_umap_is_the_same_for_the_same_seed_and_keeps_more_neighbours(most: int) -> None:
    features = set_of(normal_classes([30, 30, 30, 30], 40, apart=1.5))
    one, again, other = (mapped(features, umap=True, most=most, seed=seed) for seed in (3, 3, 4))
    assert one.umap_x is not None
    assert one.umap_y is not None
    assert one.umap_kept is not None
    assert one.umap_x.shape == one.x.shape
    assert np.isfinite(one.umap_x).all()
    assert (one.umap_x == again.umap_x).all()
    assert (one.umap_y == again.umap_y).all()
    assert (one.umap_x != other.umap_x).any()
    assert one.umap_kept.variance is None
    assert one.umap_kept.neighbours > one.kept.neighbours


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="needs umap-learn")
@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 16])
def test_umap_places_few_images(number: int) -> None:
    found = mapped(FeatureSet.from_arrays(np.random.default_rng(0).normal(size=(number, 1)), "a" * number), umap=True)
    assert found.umap_x is not None
    assert np.isfinite(found.umap_x).all()


# Settings


@pytest.mark.parametrize("settings", [{"most": 0}, {"neighbours": 0}, {"detailed": 1}])
def test_settings_that_are_too_small_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(SettingError, match=next(iter(settings))):
        mapped(set_of(normal_classes([3, 3])), **settings)


def test_features_that_leave_float64_are_refused() -> None:
    with pytest.raises(FeaturesError, match="size"):
        mapped(set_of([1e-70 * rows for rows in normal_classes([3, 3])]))


def test_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    mapped(set_of(normal_classes([3, 4])), progress=lambda *step: told.append(step))
    assert told == [("comparing images", 7, 7)]

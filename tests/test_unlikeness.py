"""Unlikeness against plain matrices with each image really left out; what files may hold; odd training images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from clusters import normal_classes, set_of
from nctransfer.features.feature_set import FeatureSet
from nctransfer.heads.unlikeness import SHRINKAGE, Unlikeness, fit_unlikeness

CASES = {
    "more images than features": normal_classes([9, 6, 7], 5, offset=2),
    "as many images as features": normal_classes([6, 8, 7], 21, offset=1),
    "fewer images than features": normal_classes([5, 3, 5], 40, offset=1),
    "two classes of two images": normal_classes([2, 2], 9),
    "a class of one image": normal_classes([1, 6, 5], 8, offset=1),
    "far from the origin": normal_classes([9, 6, 7], 5, offset=50),
}


def by_matrices(rows: np.ndarray, labels: np.ndarray, new: np.ndarray, penalties: tuple[float, float]) -> float:
    """The unlikeness of one image, with the penalties of both scatter matrices given."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    image = new / np.linalg.norm(new)
    classes, eye = np.unique(labels), np.eye(rows.shape[1])
    means = {code: unit[labels == code].mean(axis=0) for code in classes}
    residuals = unit - np.stack([means[code] for code in labels])
    about = unit - unit.mean(axis=0)
    within = (residuals.T @ residuals + penalties[0] * eye) / max(len(unit) - len(classes), 1)
    total = (about.T @ about + penalties[1] * eye) / len(unit)
    far = image - unit.mean(axis=0)
    nearest = min((image - mean) @ np.linalg.solve(within, image - mean) for mean in means.values())
    return float(nearest - far @ np.linalg.solve(total, far))


def penalties(rows: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Those of all training images."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    within = sum(((unit[labels == code] - unit[labels == code].mean(axis=0)) ** 2).sum() for code in np.unique(labels))
    total = ((unit - unit.mean(axis=0)) ** 2).sum()
    return SHRINKAGE * within / rows.shape[1], SHRINKAGE * total / rows.shape[1]


@pytest.mark.parametrize("name", CASES)
def test_unlikeness_is_the_difference_of_two_distances(name: str) -> None:
    features = set_of(CASES[name])
    rows, labels = features.features.double().numpy(), features.labels.numpy()
    unlikeness, _ = fit_unlikeness(features, "cpu")
    new = np.random.default_rng(1).normal(rows.mean(axis=0), 2.0, size=(20, rows.shape[1]))
    expected = [by_matrices(rows, labels, one, penalties(rows, labels)) for one in new]
    spread = np.ptp(expected)
    assert unlikeness.of(torch.from_numpy(new)).numpy() == pytest.approx(expected, abs=2e-3 * spread, rel=2e-3)


@pytest.mark.parametrize("name", CASES)
def test_left_out_images_are_really_left_out(name: str) -> None:
    features = set_of(CASES[name])
    rows, labels = features.features.double().numpy(), features.labels.numpy()
    _, left_out = fit_unlikeness(features, "cpu")
    same = penalties(rows, labels)
    expected = [
        by_matrices(np.delete(rows, place, axis=0), np.delete(labels, place), rows[place], same)
        for place in range(len(rows))
    ]
    assert left_out.dtype == torch.float32
    assert left_out.numpy() == pytest.approx(expected, rel=1e-5, abs=1e-5 * np.ptp(expected))


def test_scale_and_orientation_change_nothing() -> None:
    features = set_of(normal_classes([8, 8, 8], 12, offset=1))
    rows = features.features.double()
    turn = torch.linalg.qr(torch.randn(12, 12, generator=torch.manual_seed(0), dtype=torch.float64)).Q
    moved = FeatureSet.from_arrays(1e-3 * rows @ turn, features.labels.tolist(), features.ids)
    assert fit_unlikeness(moved, "cpu")[1].numpy() == pytest.approx(
        fit_unlikeness(features, "cpu")[1].numpy(), rel=1e-5
    )


def test_images_of_another_class_are_unlike_and_new_ones_of_the_classes_like_those_left_out() -> None:
    *known, unknown = normal_classes([15] * 21, 64, apart=0.7, offset=0.5)
    new = normal_classes([15] * 21, 64, apart=0.7, offset=0.5, draw=1)[:-1]
    unlikeness, left_out = fit_unlikeness(set_of(known), "cpu")
    scores = unlikeness.of(torch.from_numpy(np.concatenate([*new, unknown])))
    assert roc_auc_score([0] * 300 + [1] * 15, scores) > 0.9
    same = unlikeness.of(torch.from_numpy(np.concatenate(known)))
    assert abs(left_out.mean() - scores[:300].mean()) < 0.2 * abs(same.mean() - scores[:300].mean())


def test_what_is_stored_gives_the_same() -> None:
    unlikeness, _ = fit_unlikeness(set_of(normal_classes([30] * 12, 600)), "cpu")
    stored = unlikeness.tensors()
    again = Unlikeness.from_tensors(stored, dim=600, classes=12)
    new = torch.randn(50, 600, generator=torch.manual_seed(0))
    assert torch.equal(again.of(new), unlikeness.of(new))
    assert stored["directions"].dtype == torch.float16
    assert len(stored["directions"]) == 256


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("centre", torch.zeros(5), "shape"),
        ("weight", torch.zeros(3, 6), "shape"),
        ("constant", torch.zeros(1), "shape"),
        ("curvatures", torch.zeros(2, 2), "shape"),
        ("directions", torch.zeros(6, 6, dtype=torch.float32), "type"),
        ("offset", torch.zeros(2, dtype=torch.int64), "type"),
        ("weight", torch.full((2, 6), torch.nan), "NaN"),
        ("curvatures", torch.full((6,), torch.inf), "infinite"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(name: str, value: torch.Tensor, reason: str) -> None:
    unlikeness, _ = fit_unlikeness(set_of(normal_classes([5, 5], 6)), "cpu")
    stored = unlikeness.tensors()
    Unlikeness.from_tensors(stored, dim=6, classes=2)
    with pytest.raises(ValueError, match=rf"{name if name != 'curvatures' else '(curvatures|directions)'}.*{reason}"):
        Unlikeness.from_tensors({**stored, name: value}, dim=6, classes=2)


def test_missing_and_unknown_tensors_are_refused() -> None:
    stored = fit_unlikeness(set_of(normal_classes([5, 5], 6)), "cpu")[0].tensors()
    for wrong in (
        {**stored, "more": stored["offset"]},
        {name: stored[name] for name in stored if name != "offset"},
        {},
    ):
        with pytest.raises(ValueError, match="expected"):
            Unlikeness.from_tensors(wrong, dim=6, classes=2)


ODD = {
    "constant features": np.ones((8, 5)),
    "zeros": np.zeros((8, 5)),
    "classes of equal images": np.repeat(np.eye(5)[:2], 4, axis=0),
    "one image differs": np.concatenate([np.repeat(np.eye(5)[:2], 4, axis=0)[:7], [[0.1, 1, 0, 0, 2]]]),
    "a feature that is constant": np.concatenate([np.random.default_rng(0).normal(size=(8, 4)), np.ones((8, 1))], 1),
    "huge": 1e30 * np.random.default_rng(0).normal(size=(8, 5)),
    "tiny": 1e-30 * np.random.default_rng(0).normal(size=(8, 5)),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_features_give_finite_values(name: str) -> None:
    features = FeatureSet.from_arrays(ODD[name].astype(np.float32), "aaaabbbb")
    unlikeness, left_out = fit_unlikeness(features, "cpu")
    Unlikeness.from_tensors(unlikeness.tensors(), dim=5, classes=2)
    assert left_out.isfinite().all()
    assert unlikeness.of(torch.cat([features.features, torch.zeros(1, 5)])).isfinite().all()


def test_an_image_with_a_copy_seems_less_unlike() -> None:
    rows = normal_classes([8, 8], 10, offset=1)
    alone = fit_unlikeness(set_of(rows), "cpu")[1]
    copied = fit_unlikeness(set_of([np.concatenate([rows[0], rows[0][:1]]), rows[1]]), "cpu")[1]
    assert float(copied.min()) < float(alone[0])

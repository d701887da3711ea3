"""Unlikeness against plain matrices with each image really left out; what files may hold; odd training images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from clusters import normal_classes, set_of
from nctransfer.features.feature_set import FeatureSet
from nctransfer.heads.class_distances import SHRINKAGE, ClassDistances
from nctransfer.heads.unlikeness import Unlikeness, fit_unlikeness

CASES = {
    "more images than features": normal_classes([9, 6, 7], 5, offset=2),
    "as many images as features": normal_classes([6, 8, 7], 21, offset=1),
    "fewer images than features": normal_classes([5, 3, 5], 40, offset=1),
    "two classes of two images": normal_classes([2, 2], 9),
    "a class of one image": normal_classes([1, 6, 5], 8, offset=1),
    "far from the origin": normal_classes([9, 6, 7], 5, offset=50),
}


class ByMatrices:
    """Plain matrices of float64. The penalties are to first order those of the others; the noise is that of all images.

    Args:
        features: n images of C classes.
        is_relative: Whether the distance to all images is subtracted from that to the nearest class.
    """

    def __init__(self, features: FeatureSet, is_relative: bool = True) -> None:
        self.rows, self.labels = features.features.double().numpy(), features.labels.numpy()
        self.unit = self.rows / np.linalg.norm(self.rows, axis=1, keepdims=True)
        self.is_relative = is_relative
        counts = np.bincount(self.labels)[self.labels]
        own = [self.distances(place, "of all")[0].get(code, 0.0) for place, code in enumerate(self.labels)]
        self.noise = float(np.mean(np.array(own) * (counts - 1) / counts))

    def scatters(self, place: int | None) -> tuple[np.ndarray, np.ndarray, dict[int, np.ndarray], np.ndarray]:
        """Within classes and of all images, the class means and the mean, without an image if it has a place."""
        kept = np.arange(len(self.unit)) != place
        unit, labels = self.unit[kept], self.labels[kept]
        means = {code: unit[labels == code].mean(axis=0) for code in np.unique(labels)}
        residuals = unit - np.stack([means[code] for code in labels])
        about = unit - unit.mean(axis=0)
        return residuals.T @ residuals, about.T @ about, means, unit.mean(axis=0)

    def distances(
        self, place: int | None, penalty: str = "to first order", new: np.ndarray | None = None
    ) -> tuple[dict[int, float], float]:
        """Of an image, to each class and to all images, without it if it has a place."""
        image = self.unit[place] if new is None else new / np.linalg.norm(new)
        *wholes, _, _ = self.scatters(None)
        *parts, means, mean = self.scatters(place)
        within, total = (inverse(whole, part, penalty) for whole, part in zip(wholes, parts, strict=True))
        images = len(self.unit) - (place is not None)
        within, total = within * max(images - len(means), 1), total * images
        near = {code: float((image - middle) @ within @ (image - middle)) for code, middle in means.items()}
        return near, float((image - mean) @ total @ (image - mean))

    def unlikeness(self, place: int | None, penalty: str = "to first order", new: np.ndarray | None = None) -> float:
        near, far = self.distances(place, penalty, new)
        counts = np.bincount(np.delete(self.labels, [] if place is None else place))
        nearest = min(distance - self.noise / counts[code] for code, distance in near.items())
        return nearest - far if self.is_relative else nearest

    def left_out(self, penalty: str = "to first order") -> np.ndarray:
        return np.array([self.unlikeness(place, penalty) for place in range(len(self.unit))])


def inverse(whole: np.ndarray, part: np.ndarray, penalty: str) -> np.ndarray:
    """The inverse of a scatter matrix of some images with a penalty, which is that of all images or of these.

    To first order, the penalty of these is put into the inverse of all images, and then the other images are removed.
    """
    eye = np.eye(len(whole))
    of_all, of_these = (SHRINKAGE * np.trace(one) / len(one) for one in (whole, part))
    if penalty == "to first order":
        known = np.linalg.inv(whole + of_all * eye)
        known = known + (of_all - of_these) * known @ known
        return np.linalg.inv(np.linalg.inv(known) - (whole - part))
    return np.linalg.inv(part + {"of all": of_all, "of the others": of_these}[penalty] * eye)


@pytest.mark.parametrize("name", CASES)
def test_unlikeness_is_the_difference_of_two_distances(name: str) -> None:
    features = set_of(CASES[name])
    expected = ByMatrices(features)
    unlikeness, _ = fit_unlikeness(features, "cpu")
    new = np.random.default_rng(1).normal(expected.rows.mean(axis=0), 2.0, size=(20, features.dim))
    values = [expected.unlikeness(None, new=one) for one in new]
    assert unlikeness.of(torch.from_numpy(new)).numpy() == pytest.approx(values, abs=2e-3 * np.ptp(values), rel=2e-3)


@pytest.mark.parametrize("name", CASES)
def test_left_out_images_are_really_left_out(name: str) -> None:
    features = set_of(CASES[name])
    _, left_out = fit_unlikeness(features, "cpu")
    values = ByMatrices(features).left_out()
    assert left_out.dtype == torch.float32
    assert left_out.numpy() == pytest.approx(values, rel=1e-5, abs=1e-5 * np.ptp(values))


def distances_left_out(features: FeatureSet, is_relative: bool) -> np.ndarray:
    return ClassDistances(features, torch.device("cpu")).left_out(is_relative).numpy()


@pytest.mark.parametrize("is_relative", [True, False])
@pytest.mark.parametrize(
    ("counts", "dim", "most"),
    [([10] * 5, 64, 0.005), ([10] * 5, 128, 0.005), ([3] * 10, 64, 0.04), ([20] * 4, 16, 0.002)],
)
def test_the_penalties_are_nearly_those_of_the_other_images(
    counts: list[int], dim: int, most: float, is_relative: bool
) -> None:
    features = set_of(normal_classes(counts, dim, apart=0.5, offset=0.4))
    by_matrices = ByMatrices(features, is_relative)
    error, expected = errors_left_out(features, by_matrices)
    before = by_matrices.left_out("of all") - expected
    assert np.abs(error).max() < most * expected.std()
    assert np.abs(before).max() > 10 * most * expected.std()
    if not is_relative:
        assert (error < 1e-9 * expected).all()  # no image seems more unlike than it is


@pytest.mark.parametrize("is_relative", [True, False])
def test_their_error_falls_with_the_square_of_the_number_of_images(is_relative: bool) -> None:
    found, before = [], []
    for each in (5, 20):
        features = set_of(normal_classes([each] * 4, 16, offset=0.4))
        by_matrices = ByMatrices(features, is_relative)
        error, expected = errors_left_out(features, by_matrices)
        found.append(np.abs(error).mean() / expected.std())
        before.append(np.abs(by_matrices.left_out("of all") - expected).mean() / expected.std())
    assert found[0] > 14 * found[1]
    assert before[0] < 8 * before[1]  # with the penalties of all images it falls with their number


def test_images_that_add_nothing_to_the_penalty_have_exact_distances() -> None:
    one, others = normal_classes([1, 6], 8, offset=1)
    features = set_of([one, np.repeat(one + 1, 3, axis=0), others])
    error, expected = errors_left_out(features, ByMatrices(features, is_relative=False))
    assert np.abs(error[:4]).max() < 1e-12 * np.ptp(expected)
    assert np.abs(error[4:]).min() > 1e-6 * np.ptp(expected)


def errors_left_out(features: FeatureSet, by_matrices: ByMatrices) -> tuple[np.ndarray, np.ndarray]:
    """How far the distances of left-out images are from those with the penalties of the others, and these."""
    expected = by_matrices.left_out("of the others")
    distances = ClassDistances(features, torch.device("cpu"))
    return distances.left_out(by_matrices.is_relative).numpy() - expected, expected


def test_classes_without_images_are_nowhere() -> None:
    both = set_of(normal_classes([6, 7, 5], 8, offset=1))
    some = both.only_rows((both.labels != 1).nonzero()[:, 0])
    without = both.only_classes(torch.tensor([0, 2]))
    new = torch.randn(9, 8, generator=torch.manual_seed(0))
    (there, left_out), (gone, expected) = fit_unlikeness(some, "cpu"), fit_unlikeness(without, "cpu")
    assert torch.equal(left_out, expected)
    assert torch.equal(there.of(new), gone.of(new))
    Unlikeness.from_tensors(there.tensors(), dim=8, classes=3)


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


@pytest.mark.parametrize(("images", "most"), [(160, 110), (500, 190)])  # far fewer than features, and about as many
def test_directions_that_are_not_stored_hardly_matter(monkeypatch: pytest.MonkeyPatch, images: int, most: int) -> None:
    spectrum = np.arange(1, 401) ** -0.7
    rng = np.random.default_rng(0)
    classes = [spectrum * (mean + rng.normal(size=(images // 4, 400))) for mean in rng.normal(size=(4, 400))]
    new = torch.from_numpy(spectrum * rng.normal(size=(300, 400)))
    every = fit_unlikeness(set_of(classes), "cpu")[0].of(new)
    monkeypatch.setattr("nctransfer.heads.unlikeness.MOST_DIRECTIONS", most)
    some = fit_unlikeness(set_of(classes), "cpu")[0]
    assert len(some.directions) == most
    error = (some.of(new) - every) / every.std()
    assert abs(float(error.mean())) < 0.1
    assert float(error.std()) < 0.1


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

"""Fine classes inside coarse ones: against scikit-learn, plain loops and exact cases."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import t
from sklearn.metrics import r2_score
from sklearn.model_selection import LeaveOneOut
from sklearn.neighbors import NearestCentroid

import nctransfer as nct
from clusters import normal_classes
from messages import raises
from nctransfer.errors import FeaturesError, SettingError
from nctransfer.neural_collapse.inside_classes import explained_share, left_out_accuracy
from nctransfer.report.fine_sheets import fine_sheets

SHAPE = {"birds": (6, 7, 8), "cats": (5, 9), "dogs": (7, 7, 6, 5), "eels": (8, 4)}  # images of each fine class


def nested(
    coarse: float = 3.0,
    fine: float = 1.0,
    d: int = 6,
    *,
    seed: int = 0,
    shape: dict[str, tuple[int, ...]] | None = None,
) -> nct.FeatureSet:
    """Fine classes about coarse ones; fine classes of two coarse classes have the same names."""
    rng, x, labels, names = np.random.default_rng(seed), [], [], []
    for name, counts in (shape or SHAPE).items():
        centre = coarse * rng.normal(size=d)
        for number, count in enumerate(counts):
            x.append(centre + fine * rng.normal(size=d) + rng.normal(size=(count, d)))
            labels += [name] * count
            names += [f"kind {number}"] * count
    return nct.FeatureSet.from_arrays(np.concatenate(x), labels, attributes={"kind": names})


def parts(features: nct.FeatureSet) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The features and fine labels of each coarse class."""
    x, kinds = features.features.double().numpy(), np.array(features.attributes["kind"])
    labels = np.array([features.classes[code] for code in features.labels.tolist()])
    return {name: (x[labels == name], kinds[labels == name]) for name in features.classes}


def left_out(x: np.ndarray, y: np.ndarray) -> float:
    """Leave-one-out accuracy of scikit-learn's nearest centroid, classes weighted equally."""
    right = np.zeros(len(y))
    for train, [test] in LeaveOneOut().split(x):
        right[test] = NearestCentroid().fit(x[train], y[train]).predict(x[[test]])[0] == y[test]
    return float(np.mean([right[y == name].mean() for name in np.unique(y)]))


@pytest.mark.parametrize("seed", [0, 1])
def test_accuracy_inside_is_that_of_scikit_learn(seed: int) -> None:
    features = nested(seed=seed)
    [layer] = nct.fine_structure(features, "kind", permutations=3).layers
    expected = {name: left_out(*part) for name, part in parts(features).items()}
    assert {one.name: one.accuracy for one in layer.classes} == pytest.approx(expected)
    assert layer.accuracy == pytest.approx(np.mean(list(expected.values())))
    assert [one.chance for one in layer.classes] == [1 / 3, 1 / 2, 1 / 4, 1 / 2]
    coarse = np.array([features.classes[code] for code in features.labels.tolist()])
    assert layer.coarse_accuracy == pytest.approx(left_out(features.features.double().numpy(), coarse))


def test_more_dimensions_than_samples_change_nothing() -> None:
    narrow = nested(d=4)
    wide = np.concatenate([narrow.features, np.zeros((len(narrow), 60))], axis=1) @ np.linalg.qr(
        np.random.default_rng(0).normal(size=(64, 64))
    )[0]  # fmt: skip
    labels = [narrow.classes[code] for code in narrow.labels.tolist()]
    turned = nct.FeatureSet.from_arrays(wide, labels, attributes=narrow.attributes)
    one, other = (nct.fine_structure(features, "kind", permutations=5).layers[0] for features in (narrow, turned))
    for name in ("accuracy", "permuted", "explained", "cdnv_inside", "cdnv_across", "coarse_accuracy"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-6)


def test_the_share_explained_is_the_adjusted_r_squared() -> None:
    for x, kinds in parts(nested()).values():
        names, codes = np.unique(kinds, return_inverse=True)
        fitted = np.array([x[codes == code].mean(axis=0) for code in range(len(names))])[codes]
        plain = r2_score(x, fitted, multioutput="variance_weighted")
        adjusted = 1 - (1 - plain) * (len(x) - 1) / (len(x) - len(names))
        assert explained_share(torch.from_numpy(x), torch.from_numpy(codes)) == pytest.approx(adjusted)


def test_labels_at_random_explain_nothing_on_average() -> None:
    rng, x = np.random.default_rng(0), torch.from_numpy(normal_classes([40], 5)[0])
    codes = np.repeat(np.arange(8), 5)
    shares = [explained_share(x, torch.from_numpy(rng.permutation(codes))) for _ in range(300)]
    assert abs(np.mean(shares)) < 3 * np.std(shares) / math.sqrt(300)


def test_cdnv_inside_and_across_are_averages_over_coarse_classes() -> None:
    features = nested()
    [layer] = nct.fine_structure(features, "kind", permutations=1).layers
    fine = {name: [x[kinds == kind] for kind in np.unique(kinds)] for name, (x, kinds) in parts(features).items()}

    def cdnv(a: np.ndarray, b: np.ndarray) -> float:
        gap = a.mean(0) - b.mean(0)
        return float((a.var(0).sum() + b.var(0).sum()) / (2 * gap @ gap))

    inside = {name: np.mean([cdnv(a, b) for a, b in itertools.combinations(rows, 2)]) for name, rows in fine.items()}
    assert {one.name: one.cdnv for one in layer.classes} == pytest.approx(inside)
    assert layer.cdnv_inside == pytest.approx(np.mean(list(inside.values())))
    across = [
        np.mean([cdnv(a, b) for a, b in itertools.product(fine[one], fine[other])])
        for one, other in itertools.combinations(fine, 2)
    ]
    assert layer.cdnv_across == pytest.approx(np.mean(across))


def test_intervals_are_over_coarse_classes() -> None:
    [layer] = nct.fine_structure(nested(), "kind", permutations=1).layers
    values = np.array([one.accuracy for one in layer.classes])
    half = t.ppf(0.975, 3) * values.std(ddof=1) / 2
    assert layer.accuracy_interval == pytest.approx((max(0, values.mean() - half), min(1, values.mean() + half)))
    inside = np.array([one.cdnv for one in layer.classes])
    logs = np.array([np.log(np.delete(inside, place).mean()) for place in range(4)])
    factor = math.exp(t.ppf(0.975, 3) * math.sqrt(3 / 4 * ((logs - logs.mean()) ** 2).sum()))
    assert layer.cdnv_inside_interval == pytest.approx((inside.mean() / factor, inside.mean() * factor))


def test_fine_classes_that_are_there_are_told_from_permuted_labels() -> None:
    shape = dict.fromkeys(("a", "b", "c"), (20, 20, 20))
    [there] = nct.fine_structure(nested(fine=2.0, shape=shape), "kind").layers
    assert (there.p_value, there.accuracy > 0.8, 0.2 < there.permuted < 0.4) == (0.01, True, True)
    [gone] = nct.fine_structure(nested(fine=0.0, shape=shape), "kind").layers
    assert gone.p_value > 0.05
    assert abs(gone.explained) < 0.02


def test_each_layer_is_measured_with_the_same_permutations() -> None:
    features = nested()
    found = nct.fine_structure({"layer_0": features, "feature": features}, "kind", permutations=4)
    first, last = found.layers
    assert (first.name, last.name) == ("layer_0", "feature")
    same = dict.fromkeys(["layer", "to_last", "to_last_low", "to_last_high"])
    assert first.to_row() | same == last.to_row() | same
    assert (first.to_last, first.to_last_interval, last.to_last) == (0, (0, 0), None)
    frame = found.to_frame()
    whole, by_class = frame[frame["class"].isna()], frame[frame["class"].notna()]
    assert whole["layer"].tolist() == ["layer_0", "feature"]
    assert whole["accuracy"].tolist() == [layer.accuracy for layer in found.layers]
    named = [(layer.name, one.name) for layer in found.layers for one in layer.classes]
    assert list(zip(by_class["layer"], by_class["class"], strict=True)) == named
    assert by_class["samples"].tolist() == [one.samples for layer in found.layers for one in layer.classes]
    assert by_class["cdnv_inside"].tolist() == [one.cdnv for layer in found.layers for one in layer.classes]


def test_layers_are_compared_with_the_last_by_coarse_class() -> None:
    features = nested(fine=1.5)
    labels = [features.classes[code] for code in features.labels.tolist()]
    noisy = features.features + 2 * torch.randn(features.features.shape, generator=torch.Generator().manual_seed(0))
    other = nct.FeatureSet.from_arrays(noisy, labels, attributes=features.attributes)
    first, _, last = nct.fine_structure({"a": other, "b": other, "c": features}, "kind", permutations=1).layers
    gaps = np.array([one.accuracy - two.accuracy for one, two in zip(first.classes, last.classes, strict=True)])
    half = t.ppf(1 - 0.025 / 2, 3) * gaps.std(ddof=1) / 2
    assert first.to_last == pytest.approx(gaps.mean())
    assert first.to_last_interval == pytest.approx((gaps.mean() - half, gaps.mean() + half))


@pytest.mark.parametrize(("interval", "is_known"), [((0.01, 0.2), True), ((-0.1, 0.3), False), (None, False)])
def test_a_layer_is_the_best_on_other_classes_only_where_that_is_known(
    interval: tuple[float, float] | None, is_known: bool
) -> None:
    found = nct.fine_structure({"a": nested(), "b": nested(fine=0.1)}, "kind", permutations=1)
    first, last = found.layers
    assert first.accuracy > last.accuracy
    [sheet, *_] = fine_sheets(replace(found, layers=(replace(first, to_last_interval=interval), last)))
    assert "told apart best in a, " in sheet.reading
    assert ("on other classes is not known" in sheet.reading) == (not is_known)


def test_what_cannot_be_measured_is_left_out_and_counted() -> None:
    features = nested(shape=SHAPE | {"foxes": (9,), "gnus": (4, 1)})
    kinds = list(features.attributes["kind"])
    kinds[0] = ""
    labels = [features.classes[code] for code in features.labels.tolist()]
    found = nct.fine_structure(
        nct.FeatureSet.from_arrays(features.features, labels, attributes={"kind": kinds}), "kind", permutations=1
    )
    assert found.left_out == ("foxes", "gnus")
    assert (found.without_label, found.fine_classes) == (1, 11)
    assert found.layers[0].classes[0].samples == sum(SHAPE["birds"]) - 1


def test_two_coarse_classes_have_no_intervals() -> None:
    found = nct.fine_structure(nested(shape={"a": (4, 4), "b": (4, 4)}), "kind", permutations=1)
    assert (found.layers[0].accuracy_interval, list(found.undefined)) == (None, ["intervals"])


def test_one_coarse_class_is_measured_alone() -> None:
    [layer] = nct.fine_structure(nested(shape={"a": (4, 4)}), "kind", permutations=1).layers
    assert (layer.cdnv_across, layer.coarse_accuracy) == (None, None)
    assert layer.cdnv_inside > 0


def test_left_out_accuracy_of_two_points_per_class() -> None:
    x = torch.tensor([[0.0], [1.0], [2.0], [3.0]], dtype=torch.float64)
    assert left_out_accuracy(x, torch.tensor([0, 0, 1, 1])) == left_out(x.numpy(), np.array([0, 0, 1, 1]))


def test_what_is_refused() -> None:
    with raises(FeaturesError, "'king'", hint="'kind'"):
        nct.fine_structure(nested(), "king")
    with raises(FeaturesError, "'kind'", hint="--label-column"):
        nct.fine_structure(nested(shape={"a": (4,), "b": (5,)}), "kind")
    with raises(SettingError, 0):
        nct.fine_structure(nested(), "kind", permutations=0)
    with raises(SettingError):
        nct.fine_structure({}, "kind")
    with raises(FeaturesError, "'layer_0'"):
        nct.fine_structure({"layer_0": nested(shape={"a": (4, 4)}), "feature": nested()}, "kind")

"""Class statistics against plain loops, whatever the batches; heads."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

import oracles
from clusters import normal_classes, set_of
from messages import says
from nctransfer.errors import FeaturesError
from nctransfer.features.feature_set import FeatureSet
from nctransfer.features.sample_content import Duplicates
from nctransfer.neural_collapse.class_statistics import ClassStatistics, ncc_accuracies
from nctransfer.neural_collapse.linear_head import LinearHead, with_head

COUNTS = (2, 3, 9, 20)


def unequal(seed: int = 0, counts: tuple[int, ...] = COUNTS, d: int = 6, offset: float = 1000) -> FeatureSet:
    """Classes of unequal size, 1000 from the origin."""
    return set_of(normal_classes(counts, d, offset=offset, seed=seed))


@pytest.fixture
def features() -> FeatureSet:
    return unequal()


def expected_fields(classes: list[np.ndarray]) -> dict[str, object]:
    M = np.array(oracles.centred_means(classes))
    return {
        "counts": [len(rows) for rows in classes],
        "centred_means": M,
        "centre": oracles.mean([oracles.mean(rows) for rows in classes]),
        "variances": [oracles.variance(rows) for rows in classes],
        "fourths": [np.mean([((row - oracles.mean(rows)) ** 2).sum() ** 2 for row in rows]) for rows in classes],
        "distances": [[np.linalg.norm(a - b) for b in M] for a in M],
        "directional": [
            [(b - a) @ oracles.covariance(rows) @ (b - a) for b in M] for a, rows in zip(M, classes, strict=True)
        ],
        "within": oracles.within(classes),
        "covariance": oracles.covariance(np.concatenate(classes)),
        "ncc_accuracies": oracles.ncc_accuracies(classes),
        "crossed": oracles.crossed(classes),
    }


@pytest.mark.parametrize("counts", [COUNTS, (7, 7, 7), (5, 4), (4, 11, 6)])
def test_every_field_is_what_the_definition_says(counts: tuple[int, ...]):
    features = unequal(counts=counts)
    stats = ClassStatistics.of(features)
    expected = expected_fields(oracles.split(features.features, features.labels.tolist()))
    others = {"duplicates": Duplicates(), "head": None, "agreement": None, "answers": None}
    assert expected.keys() | others.keys() == {field.name for field in dataclasses.fields(stats)}
    assert {name: getattr(stats, name) for name in others} == others
    assert (stats.crossed is None) == (min(counts) < 4)
    for name, value in expected.items():
        found = getattr(stats, name)
        if found is None:
            continue
        assert found.dtype == torch.float64
        np.testing.assert_allclose(found, value, rtol=1e-9, atol=1e-11, err_msg=name)


def batched(monkeypatch: pytest.MonkeyPatch, rows: int, order: str = "as it is") -> list[int]:
    """Sets come in batches of so many rows; the numbers of batches of each pass that follows."""
    batches, numbers = FeatureSet.batches, []

    def other_batches(self, _rows=1024):
        found = list(batches(self, rows))
        numbers.append(len(found))
        return iter(found if order == "as it is" else found[::-1])

    monkeypatch.setattr(FeatureSet, "batches", other_batches)
    return numbers


@pytest.mark.parametrize("order", ["as it is", "reversed"])
@pytest.mark.parametrize("rows", [1, 7, 33, 34, 35])  # a last batch of one row, all but one, none
def test_batches_do_not_matter(features: FeatureSet, monkeypatch: pytest.MonkeyPatch, rows: int, order: str):
    head = LinearHead(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), torch.zeros(4), "")
    other = unequal(1)
    whole = with_head(ClassStatistics.of(features), features, head)
    accuracies = ncc_accuracies(other, whole)
    numbers = batched(monkeypatch, rows, order)
    parts = with_head(ClassStatistics.of(features), features, head)
    assert numbers == [-(-34 // rows)] * 3  # three passes, each over these batches
    assert torch.equal(parts.answers.sum(dim=0), whole.answers.sum(dim=0))  # the halves depend on the order
    for field in dataclasses.fields(whole):
        if field.name not in ("head", "answers"):
            torch.testing.assert_close(getattr(parts, field.name), getattr(whole, field.name), rtol=1e-9, atol=1e-11)
    assert ncc_accuracies(other, parts).tolist() == accuracies.tolist()


@pytest.mark.parametrize("n", [1023, 1024, 1025, 2049])
def test_sizes_about_those_of_a_batch(n: int):
    x = np.random.default_rng(n).normal(size=(n, 3)) + 1000
    labels = np.arange(n) % 3
    stats = ClassStatistics.of(FeatureSet.from_arrays(x, labels))
    classes = [x[labels == c] for c in range(3)]
    assert stats.counts.tolist() == [len(rows) for rows in classes]
    np.testing.assert_allclose(stats.variances, [rows.var(axis=0).sum() for rows in classes], rtol=1e-9)
    np.testing.assert_allclose(stats.covariance, np.cov(x.T, ddof=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(stats.within, sum(np.cov(rows.T, ddof=0) for rows in classes) / 3, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("C", [31, 32, 33, 65])
def test_as_many_classes_as_any(C: int):
    features = unequal(C, (3,) * C, 4)
    stats = ClassStatistics.of(features)
    classes = list(features.features.numpy().reshape(C, 3, 4))
    np.testing.assert_allclose(stats.variances, [oracles.variance(rows) for rows in classes], rtol=1e-9)
    u = oracles.mean(classes[-1]) - oracles.mean(classes[0])
    assert float(stats.directional[0, -1]) == pytest.approx(u @ oracles.covariance(classes[0]) @ u, rel=1e-9)
    assert float(stats.directional[-1, 0]) == pytest.approx(u @ oracles.covariance(classes[-1]) @ u, rel=1e-9)


def test_float32_at_an_offset_keeps_its_variance():
    # in one pass and in float32 the variance of these values comes out as 0
    values = (np.random.default_rng(0).normal(size=(400, 1)) + 1000).astype(np.float32)
    found = ClassStatistics.of(FeatureSet.from_arrays(values, ["a", "b"] * 200)).variances
    classes = oracles.split(values, ["a", "b"] * 200)
    assert found.tolist() == pytest.approx([oracles.variance(rows) for rows in classes], rel=1e-9)
    assert min(found.tolist()) > 0.8


@pytest.mark.parametrize(("labels", "facts"), [("aaa", (1, 3)), ("aab", (2, 1))], ids=["classes", "samples"])
def test_too_few(labels: str, facts: tuple[int, int]):
    with pytest.raises(FeaturesError) as error:
        ClassStatistics.of(FeatureSet.from_arrays(np.eye(3), labels))
    says(error, *facts, hint="2")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_duplicates_are_counted_over_classes_and_batches(monkeypatch: pytest.MonkeyPatch, dtype: type):
    x = np.random.default_rng(0).normal(size=(40, 5)).astype(dtype)
    x[[7, 30, 31]] = x[2]
    x[39] = x[38]
    near = x[11].copy()
    near[4] = np.nextafter(near[4], np.inf)
    x[12] = near
    x[13] = x[14][::-1]
    batched(monkeypatch, 3)
    found = ClassStatistics.of(FeatureSet.from_arrays(x, ["a", "b"] * 20)).duplicates
    # of 2, 7, 30 and 31 the first is 2, as those with even numbers are of class a, which comes first
    assert (found.samples, found.across_classes) == (4, 3)


def test_rows_that_do_not_lie_one_after_another():
    x, labels = np.random.default_rng(0).normal(size=(12, 5)), np.repeat(["a", "b"], 6)
    plain = ClassStatistics.of(FeatureSet.from_arrays(x, labels))
    turned = ClassStatistics.of(FeatureSet.from_arrays(np.asfortranarray(x), labels, copy=False))
    torch.testing.assert_close(turned.within, plain.within)
    assert turned.duplicates.samples == plain.duplicates.samples == 0


# Nearest centre of another set


def test_nearest_centre_of_another_set():
    one, other = unequal(0, (9, 5, 20, 6)), unequal(1, COUNTS)
    found = ncc_accuracies(other, ClassStatistics.of(one))
    classes = [oracles.split(one.features, one.labels.tolist()), oracles.split(other.features, other.labels.tolist())]
    expected = oracles.ncc_accuracies_by(classes[1], classes[0])
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    assert 0 < float(found.mean()) < 1
    assert expected != oracles.ncc_accuracies_by(classes[1], classes[1])


# Heads


@pytest.mark.parametrize("penalty", [1e-3, 0.3])
def test_ridge_is_that_of_scikit_learn(features: FeatureSet, penalty: float):
    head = LinearHead.ridge(ClassStatistics.of(features), "these", penalty)
    x, y = features.features.numpy(), np.eye(4)[features.labels]
    # scikit-learn sums the squares where we average them
    oracle = Ridge(alpha=len(x) * penalty * x.var(axis=0).mean()).fit(x, y)
    np.testing.assert_allclose(head.weight, oracle.coef_, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(head.bias, oracle.intercept_, rtol=1e-8)
    assert head.origin == "ridge, fitted on these"


def test_ridge_by_default_is_gentle(features: FeatureSet):
    stats = ClassStatistics.of(features)
    torch.testing.assert_close(LinearHead.ridge(stats, "").weight, LinearHead.ridge(stats, "", 1e-3).weight)


def test_ridge_of_features_that_do_not_vary():
    head = LinearHead.ridge(ClassStatistics.of(FeatureSet.from_arrays(np.ones((4, 3)), list("aabb"))), "")
    assert head.weight.tolist() == [[0] * 3] * 2
    assert head.bias.tolist() == [0.5, 0.5]


HEAD = LinearHead(torch.arange(8.0).reshape(4, 2), torch.arange(4.0), "a head")


@pytest.mark.parametrize(
    ("classes", "names", "rows", "how"),
    [
        (["dog", "ant"], ["ant", "bee", "cat", "dog"], [3, 0], "name"),
        (["1", "0"], ["0", "x", "1", "y"], [2, 0], "name"),  # names go before numbers
        (["2", "0"], None, [2, 0], "number"),
        (["0", "1", "2", "3"], None, [0, 1, 2, 3], "number"),
        (["003", "1"], None, [3, 1], "number"),
        (["ant", "bee", "cat", "dog"], None, [0, 1, 2, 3], "order"),
        (["1", "2", "3", "4"], None, [0, 1, 2, 3], "order"),  # 4 is the number of no row
    ],
)
def test_rows_of_a_head(classes: list[str], names: list[str] | None, rows: list[int], how: str):
    head = HEAD.of_classes(classes, names)
    assert head.weight.tolist() == [[2 * row, 2 * row + 1] for row in rows]
    assert head.bias.tolist() == rows
    assert head.origin == f"a head, classes matched by {how}"
    assert list(head.row_numbers) == rows
    assert list(HEAD.row_numbers) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("classes", "names", "facts", "hint"),
    [
        (["ant", "bees"], ["ant", "bee", "cat", "dog"], (1, 2, "'bees'"), "bee"),
        (["zzz", "yyy"], ["ant", "bee", "cat", "dog"], (2, "'zzz'"), "line"),
        (["ant"], ["ant", "bee"], (2, 4), "--head-names"),
        (["ant", "bee"], None, (4, 2), "--head-names"),
        (["1", "4"], None, (4, 2), "--head-names"),
        (["-1", "0"], None, (4, 2), "--head-names"),
    ],
)
def test_classes_that_a_head_has_not(classes: list[str], names: list[str] | None, facts: tuple[object, ...], hint: str):
    with pytest.raises(FeaturesError) as error:
        HEAD.of_classes(classes, names)
    says(error, *facts, hint=hint)


def test_a_head_of_another_width(features: FeatureSet):
    with pytest.raises(FeaturesError) as error:
        with_head(ClassStatistics.of(features), features, HEAD)
    says(error, "(4, 2)", 6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agreement_is_a_share_of_samples_not_of_classes(features: FeatureSet, dtype: torch.dtype):
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=dtype)
    bias = -(weight @ torch.full((6,), 1000, dtype=dtype))
    stats = with_head(ClassStatistics.of(features), features, LinearHead(weight, bias, ""))
    classes = oracles.split(features.features, features.labels.tolist())
    plain = oracles.ncc_agreement(classes, weight.double().numpy(), bias.double().numpy())
    assert stats.agreement == pytest.approx(plain, rel=1e-12)
    assert 0 < plain < 1

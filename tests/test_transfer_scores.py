"""LogME and the H-score against densities of SciPy, shrinkage of scikit-learn, plain matrices, and invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import null_space
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, ortho_group
from sklearn.covariance import ledoit_wolf_shrinkage

import oracles
from clusters import normal_classes, set_of
from messages import raises
from nctransfer.errors import FeaturesError, SettingError
from nctransfer.features.feature_set import FeatureSet
from nctransfer.neural_collapse.collapse_report import collapse
from nctransfer.rank.principal_axes import PrincipalAxes
from nctransfer.rank.transfer_scores import SCORES, h_score, logme, transfer_scores

CPU = torch.device("cpu")
CASES = {
    "balanced": normal_classes([12] * 3, 4),
    "unequal classes": normal_classes([5, 9, 20], 4),
    "a class of one sample": normal_classes([1, 9, 20], 4, apart=2, seed=3),
    "float32, far from the origin": normal_classes([12] * 3, 4, offset=1000),
    "two classes, one feature": normal_classes([8, 9], 1, apart=1.5, seed=3),
    "fewer samples than features": normal_classes([20] * 3, 70, apart=0.6, seed=1),
    "fewer samples, unequal classes": normal_classes([5, 10, 8], 30, apart=1.2),
    "as many samples as features": normal_classes([8, 7, 5], 20, apart=1.2),
    "one sample more than features": normal_classes([8, 7, 6], 20, apart=1.2),
}


def case(name: str) -> FeatureSet:
    return set_of(CASES[name], np.float32 if "float32" in name else np.float64)


def matrices(features: FeatureSet) -> tuple[np.ndarray, np.ndarray]:
    """F and the indicators, each column minus its mean."""
    rows, labels = features.features.double().numpy(), features.labels.numpy()
    indicators = (labels[:, None] == np.arange(len(features.classes))).astype(float)
    return rows - rows.mean(axis=0), indicators - indicators.mean(axis=0)


def peak(y: np.ndarray, F: np.ndarray, start: np.ndarray) -> tuple[float, np.ndarray]:
    """The largest log density of ``N(0, F Fᵀ/α + I/β)`` over the logarithms of 1/α and 1/β, near a start."""

    def negative(at: np.ndarray) -> float:
        cov = math.exp(at[0]) * F @ F.T + math.exp(at[1]) * np.eye(len(y))
        return -float(multivariate_normal(cov=cov, allow_singular=True).logpdf(y))

    found = minimize(negative, start, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-11, "maxiter": 500})
    return -found.fun, found.x


@pytest.mark.parametrize("name", CASES)
def test_logme_is_the_largest_log_density(name: str) -> None:
    """In n dimensions; where features span the labels' n − 1 dimensions, at the peak that the density in these has."""
    F, Y = matrices(case(name))
    n, expected = len(F), []
    spans = np.linalg.matrix_rank(F) == n - 1
    inner = null_space(np.ones((1, n)))  # an orthonormal basis of what has mean zero, (n, n − 1)
    for y in Y.T:
        start = np.log([y.var() / F.var() / F.shape[1], y.var() / 2])
        if spans:
            start = peak(inner.T @ y, inner.T @ F, start)[1]
        expected.append(peak(y, F, start)[0] / n)
    assert logme(case(name)).value == pytest.approx(np.mean(expected), abs=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_the_shrinkage_is_that_of_scikit_learn(name: str) -> None:
    found = PrincipalAxes.of(case(name), CPU).shrinkage
    assert found == pytest.approx(ledoit_wolf_shrinkage(case(name).features.double().numpy()), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shrinkage", [None, 0.3, 1.0])
def test_the_h_score_is_what_the_definition_says(name: str, shrinkage: float | None) -> None:
    features = case(name)
    classes = oracles.split(features.features, features.labels.tolist())
    total, between = oracles.total(classes), oracles.between(classes)
    a = ledoit_wolf_shrinkage(features.features.double().numpy()) if shrinkage is None else shrinkage
    shrunk = (1 - a) * total + a * np.trace(total) / len(total) * np.eye(len(total))
    expected = np.trace(np.linalg.inv(shrunk) @ ((1 - a) * between))
    assert h_score(features, shrinkage=shrinkage).value == pytest.approx(expected, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize(("classes", "dim"), [(3, 8), (6, 4)])
def test_without_shrinkage_the_h_score_is_the_variability_collapse_index(classes: int, dim: int) -> None:
    features = set_of(normal_classes([30] * classes, dim))
    index = collapse(features).variability_collapse_index
    assert index is not None
    expected = min(classes - 1, dim) * (1 - index)
    assert h_score(features, shrinkage=0).value == pytest.approx(expected, rel=1e-9)


def test_on_noise_with_few_samples_only_the_shrunk_h_score_does_not_saturate() -> None:
    rng = np.random.default_rng(0)
    noise = FeatureSet.from_arrays(rng.normal(size=(60, 200)), np.arange(60) % 6)
    assert h_score(noise, shrinkage=0).value == pytest.approx(5)
    shrunk = h_score(noise).value
    assert shrunk is not None
    assert shrunk < 0.5


@pytest.mark.parametrize("name", CASES)
def test_both_scores_at_once_are_those_of_each(name: str) -> None:
    found = transfer_scores(case(name))
    assert tuple(found) == SCORES
    assert found["logme"] == logme(case(name))
    assert found["h_score"] == h_score(case(name))
    assert all(score.reason is None for score in found.values())


def test_better_separated_classes_have_higher_scores() -> None:
    near, far = (set_of(normal_classes([20] * 4, 10, apart=apart)) for apart in (0.6, 1.5))
    for score in (logme, h_score):
        low, high = score(near).value, score(far).value
        assert low is not None
        assert high is not None
        assert low < high


def test_classes_without_samples_do_not_count() -> None:
    features = case("unequal classes")
    chosen = features.only_rows((features.labels != 1).nonzero()[:, 0])
    without = features.only_classes(torch.tensor([0, 2]))
    assert chosen.classes != without.classes
    assert transfer_scores(chosen) == transfer_scores(without)


# Where there is no value


def test_noise_is_not_identifiable() -> None:
    rng = np.random.default_rng(1)
    noise = FeatureSet.from_arrays(rng.normal(size=(200, 20)), np.arange(200) % 10)
    score = logme(noise)
    assert score.value is None
    assert score.reason is not None
    assert score.reason.startswith("not identifiable")
    assert "of 10 classes" in score.reason
    assert transfer_scores(noise)["h_score"].value is not None


@pytest.mark.parametrize("repeats", [1, 4])
def test_features_that_are_the_labels_explain_everything(repeats: int) -> None:
    exact = FeatureSet.from_arrays(np.tile(np.eye(3), (repeats, 1)), np.tile(["a", "b", "c"], repeats))
    assert "everything" in str(logme(exact).reason)
    assert h_score(exact, shrinkage=0).value == pytest.approx(2)


@pytest.mark.parametrize(
    ("rows", "labels", "word"),
    [([[1.0], [2.0]], "aa", "one class"), ([[0.1, 1e9]] * 5, "aabbb", "equal"), ([[0.0]] * 3, "aab", "equal")],
)
def test_scores_need_two_classes_and_features_that_vary(rows: list[list[float]], labels: str, word: str) -> None:
    features = FeatureSet.from_arrays(rows, labels)
    for score in (logme(features), h_score(features), *transfer_scores(features).values()):
        assert score.value is None
        assert word in str(score.reason)


@pytest.mark.parametrize("scale", [1e-80, 1e80])
def test_features_beyond_float64_are_refused(scale: float) -> None:
    with raises(FeaturesError, "1e+60", hint="constant"):
        transfer_scores(set_of([scale * rows for rows in CASES["balanced"]]))


@pytest.mark.parametrize("shrinkage", [-0.1, 2, math.nan])
def test_a_shrinkage_is_a_share(shrinkage: float) -> None:
    with raises(SettingError, f"{shrinkage:g}", hint="leave"):
        h_score(case("balanced"), shrinkage=shrinkage)


# Invariances

some = settings(max_examples=15, deadline=None, derandomize=True)


def same(features: FeatureSet, rows: np.ndarray, rel: float = 1e-6) -> None:
    other = FeatureSet.from_arrays(rows, features.labels.tolist())
    for name, score in transfer_scores(features).items():
        assert transfer_scores(other)[name].value == pytest.approx(score.value, rel=rel), name


@some
@given(st.sampled_from(sorted(CASES)), st.floats(-50, 50))
def test_scale_changes_nothing(name: str, exponent: float) -> None:
    same(case(name), case(name).features.double().numpy() * 10**exponent)


@some
@given(st.sampled_from(sorted(CASES)), st.integers(-120, 100))
def test_powers_of_two_in_float32_change_nothing(name: str, exponent: int) -> None:
    single = set_of(CASES[name], np.float32)
    same(single, single.features.numpy() * np.float32(2.0) ** np.float32(exponent))


@some
@given(st.sampled_from(sorted(CASES)), st.floats(-1e6, 1e6))
def test_a_shift_changes_nothing(name: str, shift: float) -> None:
    same(case(name), case(name).features.double().numpy() + shift)


@some
@given(st.sampled_from(sorted(CASES)), st.integers(0, 99))
def test_a_rotation_changes_nothing(name: str, seed: int) -> None:
    rows = case(name).features.double().numpy()
    if rows.shape[1] > 1:
        same(case(name), rows @ ortho_group.rvs(rows.shape[1], random_state=seed))


@some
@given(st.sampled_from(sorted(CASES)), st.integers(0, 99))
def test_the_order_of_rows_changes_nothing(name: str, seed: int) -> None:
    features = case(name)
    order = np.random.default_rng(seed).permutation(len(features))
    other = FeatureSet.from_arrays(features.features.numpy()[order], features.labels[order].tolist())
    for score in (logme, h_score):
        assert score(other).value == pytest.approx(score(features).value, rel=1e-6)

"""Few-shot classifiers against scikit-learn, on the same episodes."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import NearestCentroid

from nctransfer.classifiers import CLASSIFIERS, ncc, ridge
from nctransfer.episodes import EpisodeSpec
from nctransfer.evaluation import InnerProducts, fewshot
from nctransfer.features import FeatureSet

TIE = 1e-4  # of the spread of the scores: closer than that, float32 may see the other class in front


def fit_ridge(x, y, alpha):
    """Scores of the classes; the higher wins."""
    model = RidgeClassifier(alpha=alpha).fit(x, y)

    def scores(f):
        found = model.decision_function(f)
        return found if found.ndim == 2 else np.stack([-found, found], axis=1)  # 2 ways: one score, of the second

    return scores, model.predict


def fit_ncc(x, y, alpha):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a standard deviation within classes, which at 1 shot is 0/0 and not used
        model = NearestCentroid().fit(x, y)

    def scores(f):
        return -((f[:, None] - model.centroids_) ** 2).sum(axis=2)

    return scores, model.predict


SKLEARN = {"ridge": fit_ridge, "ncc": fit_ncc}


def gaussian(scale: float = 1, offset: float = 0) -> FeatureSet:
    rng = np.random.default_rng(0)
    labels = np.repeat(range(6), 20)
    x = rng.normal(size=(120, 48)) + 0.4 * rng.normal(size=(6, 48))[labels]
    return FeatureSet.from_arrays((x * scale + offset).astype(np.float32), labels)


def digits() -> FeatureSet:
    return FeatureSet.from_arrays(*(part[:400] for part in load_digits(return_X_y=True)))


def disagreements(features: FeatureSet, name: str, ways: int, shots: int, episodes: int = 25) -> int:
    """Queries for which scikit-learn, in float64, predicts another class; ties are not counted, and must be few."""
    spec = EpisodeSpec(ways, shots, 10)
    inner = InnerProducts(features, [spec], episodes, "cpu")
    labels = np.repeat(range(ways), shots)
    other = ties = 0
    for batch in inner.batches(spec, episodes):
        predictions = CLASSIFIERS[name](*inner(batch), ways).argmax(dim=2).numpy()
        for found, support, queries in zip(predictions, batch.support, batch.queries, strict=True):
            x, f = (features.features[rows.flatten()].double().numpy() for rows in (support, queries))
            scores, predict = SKLEARN[name](x, labels, math.sqrt(ways * shots))
            ranked = np.sort(scores(f), axis=1)
            clear = ranked[:, -1] - ranked[:, -2] > TIE * np.ptp(ranked)
            other += int((found != predict(f))[clear].sum())
            ties += int((~clear).sum())
    assert ties <= 0.02 * episodes * ways * 10
    return other


def test_every_classifier_has_an_oracle():
    assert SKLEARN.keys() == CLASSIFIERS.keys()


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("ways", [2, 5])
@pytest.mark.parametrize("data", [gaussian, digits, lambda: gaussian(offset=1000)], ids=["normal", "digits", "offset"])
@pytest.mark.parametrize("name", SKLEARN)
def test_predictions_are_those_of_sklearn(name: str, data, ways: int, shots: int):
    assert disagreements(data(), name, ways, shots) == 0


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1e2, 1e4])
@pytest.mark.parametrize("name", SKLEARN)
def test_features_may_be_large_or_small(name: str, scale: float):
    assert disagreements(gaussian(scale), name, ways=5, shots=5) == 0


def test_ridge_does_not_fail_on_the_longest_features():
    rng = np.random.default_rng(0)
    features = FeatureSet.from_arrays(rng.normal(size=(120, 32)) * 1e30, np.repeat(range(6), 20))
    [row] = fewshot(features, 3, 1, queries=5, episodes=100, classifiers="ridge").rows
    assert 0.2 < row.accuracy < 0.5  # nothing to be learnt: chance is a third


def float64_episodes(ways: int, shots: int):
    rng = np.random.default_rng(0)
    return rng.normal(size=(3, ways * shots, 16)), rng.normal(size=(3, 7, 16)), np.repeat(range(ways), shots)


@pytest.mark.parametrize("penalty", [None, 1e-2, 1.0, 1e3])
@pytest.mark.parametrize(("ways", "shots"), [(2, 1), (2, 5), (5, 1), (5, 5)])
def test_ridge_scores_are_those_of_sklearn(ways: int, shots: int, penalty: float | None):
    X, F, labels = float64_episodes(ways, shots)
    x, f = torch.from_numpy(X), torch.from_numpy(F)
    found = ridge(x @ x.mT, f @ x.mT, ways, penalty).numpy()
    alpha = math.sqrt(ways * shots) if penalty is None else penalty
    for number in range(3):
        expected = fit_ridge(X[number], labels, alpha)[0](F[number])
        np.testing.assert_allclose(2 * found[number] - 1, expected, rtol=1e-9, atol=1e-12)  # one-hot is 0, 1; not ±1


@pytest.mark.parametrize(("ways", "shots"), [(2, 1), (2, 5), (5, 1), (5, 5)])
def test_ncc_scores_are_squared_distances_up_to_a_constant_of_the_query(ways: int, shots: int):
    X, F, labels = float64_episodes(ways, shots)
    x, f = torch.from_numpy(X), torch.from_numpy(F)
    found = ncc(x @ x.mT, f @ x.mT, ways).numpy()
    assert found.shape == (3, 7, ways)
    for number in range(3):
        expected = fit_ncc(X[number], labels, None)[0](F[number])
        constant = (F[number] ** 2).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(2 * found[number] - constant, expected, rtol=1e-9)


@pytest.mark.parametrize("name", SKLEARN)
def test_scores_go_with_their_classes(name: str):
    X, F, _ = float64_episodes(4, 3)
    order = [2, 0, 3, 1]
    x, f = torch.from_numpy(X), torch.from_numpy(F)
    y = torch.from_numpy(X.reshape(3, 4, 3, 16)[:, order].reshape(3, 12, 16).copy())
    before, after = (CLASSIFIERS[name](some @ some.mT, f @ some.mT, 4) for some in (x, y))
    torch.testing.assert_close(after, before[:, :, order], rtol=1e-9, atol=1e-12)

"""Few-shot classifiers against scikit-learn, on the same episodes."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Iterator
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from clusters import normal_classes, set_of
from messages import says
from nctransfer.episodes.classifier import RIDGE_LAMBDA
from nctransfer.episodes.episode import Episodes, EpisodeSpec
from nctransfer.episodes.inner_products import Products
from nctransfer.episodes.logistic import TOLERANCE, _fit_logistic, logistic
from nctransfer.episodes.nearest import cosine, knn, ncc, simpleshot
from nctransfer.episodes.pool import Pool
from nctransfer.episodes.proxies import numbers_tried
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.episodes.ridge import ridge
from nctransfer.episodes.sampling import sample
from nctransfer.errors import SettingError
from nctransfer.evaluation.fewshot_accuracy import fewshot
from nctransfer.features.feature_set import FeatureSet
from proxies_by_hand import number_of_proxies, proxy_scores

TIE = 1e-4  # of the spread of the scores: closer than that, float32 may see the other class in front


def both(found):
    """Scores of the classes; of 2 ways scikit-learn gives one score, of the second."""
    return found if found.ndim == 2 else np.stack([-found, found], axis=1)


def classes_of(x, y):
    return [x[y == label] for label in range(y.max() + 1)]


def fit_ridge(x, y, penalty: float | Literal["paper"] = RIDGE_LAMBDA):
    squared_length = ((x - x.mean(axis=0)) ** 2).sum(axis=1).mean()
    model = RidgeClassifier(alpha=math.sqrt(len(y)) if penalty == "paper" else penalty * squared_length).fit(x, y)
    return lambda f: both(model.decision_function(f)), model.predict


def fit_ncc(x, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a standard deviation within classes, which at 1 shot is 0/0 and not used
        model = NearestCentroid().fit(x, y)
    return lambda f: -((f[:, None] - model.centroids_) ** 2).sum(axis=2), model.predict


def fit_cosine(x, y):
    centres = np.stack([rows.mean(axis=0) for rows in classes_of(x, y)])
    return lambda f: cosine_similarity(f, centres), lambda f: cosine_similarity(f, centres).argmax(axis=1)


def fit_simpleshot(x, y, reference=None):
    reference = x.mean(axis=0) if reference is None else reference

    def unit(rows):
        return (rows - reference) / np.linalg.norm(rows - reference, axis=1, keepdims=True)

    centres = [unit(rows).mean(axis=0) for rows in classes_of(x, y)]

    def scores(f):
        return -cdist(unit(f), centres, "sqeuclidean")

    return scores, lambda f: scores(f).argmax(axis=1)


def fit_knn(x, y):
    model = KNeighborsClassifier(1).fit(x, y)

    def scores(f):
        return np.stack([-cdist(f, rows, "sqeuclidean").min(axis=1) for rows in classes_of(x, y)], axis=1)

    return scores, model.predict


def fit_logistic(x, y):
    model = LogisticRegression(C=1, tol=1e-10, max_iter=10_000).fit(x, y)
    return lambda f: both(model.decision_function(f)), model.predict


def fit_proxies(x, y):
    number = number_of_proxies(x, y, numbers_tried(len(y) // (y.max() + 1)))
    return lambda f: proxy_scores(x, y, f, number), lambda f: proxy_scores(x, y, f, number).argmax(axis=1)


SKLEARN = {
    "ridge": fit_ridge,
    "ncc": fit_ncc,
    "cosine": fit_cosine,
    "simpleshot": fit_simpleshot,
    "logistic": fit_logistic,
    "knn": fit_knn,
    "proxies": fit_proxies,
}


def gaussian(scale: float = 1, offset: float = 0, classes: int = 6) -> FeatureSet:
    return set_of(normal_classes([20] * classes, 48, apart=0.4 * scale, within=scale, offset=offset), np.float32)


def digits() -> FeatureSet:
    return FeatureSet.from_arrays(*(part[:400] for part in load_digits(return_X_y=True)))


def batches(features: FeatureSet, ways: int, shots: int, episodes: int) -> Iterator[tuple[Products, Episodes]]:
    pool = Pool(features.features, "cpu")
    for batch in sample(features, EpisodeSpec(ways, shots, 10), episodes):
        yield pool(batch), batch


def disagreements(
    features: FeatureSet, classifier, fit, ways: int, shots: int, episodes: int = 25, offset: float = 0
) -> int:
    """Queries for which scikit-learn, in float64, predicts another class; ties are not counted, and must be few."""
    labels = np.repeat(range(ways), shots)
    other = ties = 0
    for products, batch in batches(features, ways, shots, episodes):
        predictions = classifier(products).argmax(dim=2).numpy()
        for found, support, queries in zip(predictions, batch.support, batch.queries, strict=True):
            x, f = (features.features[rows.flatten()].double().numpy() for rows in (support, queries))
            scores, predict = fit(x - offset, labels)
            ranked = np.sort(scores(f - offset), axis=1)
            clear = ranked[:, -1] - ranked[:, -2] > TIE * np.ptp(ranked)
            other += int((found != predict(f - offset))[clear].sum())
            ties += int((~clear).sum())
    assert ties <= 0.02 * episodes * ways * 10
    return other


def test_every_classifier_has_an_oracle():
    assert SKLEARN.keys() == {name for name in CLASSIFIERS if not CLASSIFIERS[name].is_transductive}


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("ways", [2, 5])
@pytest.mark.parametrize("data", [gaussian, digits, lambda: gaussian(offset=1000)], ids=["normal", "digits", "offset"])
@pytest.mark.parametrize("name", ["ridge", "ncc", "simpleshot", "knn"])
def test_predictions_are_those_of_sklearn(name: str, data, ways: int, shots: int):
    assert disagreements(data(), CLASSIFIERS[name].scores, SKLEARN[name], ways, shots) == 0


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("ways", [2, 5])
@pytest.mark.parametrize(
    "data",
    [gaussian, digits, lambda: gaussian(offset=3), lambda: gaussian(offset=-30)],
    ids=["0", "digits", "3", "-30"],
)
def test_cosine_is_that_of_raw_features(data, ways: int, shots: int):
    assert disagreements(data(), cosine, fit_cosine, ways, shots) == 0


def test_cosine_of_raw_features_is_not_that_of_centred_ones():
    assert disagreements(gaussian(offset=3), cosine, fit_cosine, 5, 5, offset=3) > 20


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("ways", [2, 5, 20])
@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (0.1, 0), (10, 1000)])
def test_logistic_regression_predicts_as_sklearn(ways: int, shots: int, scale: float, offset: float):
    features = gaussian(scale, offset, classes=20)
    labels, episodes = np.repeat(range(ways), shots), 40 // ways
    [(products, batch)] = batches(features, ways, shots, episodes)
    found = logistic(products)
    same, spread = [], []
    for scores, support, queries in zip(found, batch.support, batch.queries, strict=True):
        x, f = (features.features[rows.flatten()].double().numpy() - offset for rows in (support, queries))
        expected, predict = fit_logistic(x, labels)
        same.append(scores.argmax(dim=1).numpy() == predict(f))
        # probabilities hang on differences of scores only; of 2 ways the one score is that of their difference
        mine = (scores - scores.mean(dim=1, keepdim=True)).numpy() * (2 if ways == 2 else 1)
        theirs = expected(f) - expected(f).mean(axis=1, keepdims=True)
        spread.append(np.abs(mine - theirs).max() / np.abs(theirs).max())
    assert np.mean(same) >= 0.999
    assert max(spread) < 1e-3


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("about", ["mean", "origin"])
@pytest.mark.parametrize("offset", [0, 2])
def test_simpleshot_by_hand(about: str, shots: int, offset: float):
    fit = functools.partial(fit_simpleshot, reference=None if about == "mean" else 0)
    assert disagreements(gaussian(offset=offset), functools.partial(simpleshot, about=about), fit, 5, shots) == 0


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1e2, 1e4])
@pytest.mark.parametrize("name", ["ridge", "ncc", "cosine", "simpleshot", "knn"])
def test_features_may_be_large_or_small(name: str, scale: float):
    assert disagreements(gaussian(scale), CLASSIFIERS[name].scores, SKLEARN[name], ways=5, shots=5) == 0


@pytest.mark.parametrize("name", SKLEARN)
def test_a_single_episode_of_twenty_ways(name: str):
    features = gaussian(classes=20)
    assert disagreements(features, CLASSIFIERS[name].scores, SKLEARN[name], ways=20, shots=2, episodes=1) == 0


def test_classifiers_do_not_fail_on_the_longest_features():
    rng = np.random.default_rng(0)
    features = FeatureSet.from_arrays(rng.normal(size=(120, 32)) * 1e30, np.repeat(range(6), 20))
    for row in fewshot(features, 3, (1, 5), queries=15, episodes=8, classifiers="all").rows:
        assert 0.2 < row.accuracy < 0.5  # nothing to be learnt: chance is a third


def float64_episodes(ways: int, shots: int):
    rng = np.random.default_rng(0)
    return rng.normal(size=(3, ways * shots, 16)), rng.normal(size=(3, 7, 16)), np.repeat(range(ways), shots)


def products_of(X, F, ways: int) -> Products:
    return Products.of(torch.from_numpy(X), torch.from_numpy(F), ways)


@pytest.mark.parametrize("penalty", ["paper", 1e-2, RIDGE_LAMBDA, 1e3])
@pytest.mark.parametrize(("ways", "shots"), [(2, 1), (2, 5), (5, 1), (5, 5), (20, 1)])
def test_ridge_scores_are_those_of_sklearn(ways: int, shots: int, penalty: float | Literal["paper"]):
    X, F, labels = float64_episodes(ways, shots)
    found = ridge(products_of(X, F, ways), penalty).numpy() + 1 / ways
    for number in range(3):
        expected = fit_ridge(X[number], labels, penalty)[0](F[number])
        np.testing.assert_allclose(2 * found[number] - 1, expected, rtol=1e-9, atol=1e-12)  # one-hot is 0, 1; not ±1


def test_the_penalty_of_the_paper_depends_on_the_scale_and_the_default_does_not():
    for penalty, same in ((RIDGE_LAMBDA, True), (0.01, True), ("loo", True), ("paper", False)):
        X, F, _ = float64_episodes(5, 2)
        small, large = (ridge(products_of(scale * X, scale * F, 5), penalty) for scale in (1, 30))
        assert torch.allclose(small, large, rtol=1e-9, atol=1e-12) == same


@pytest.mark.parametrize("penalty", [RIDGE_LAMBDA, 1e-12, "paper"])
def test_ridge_bears_a_support_that_is_close_together_and_far_from_the_rest(penalty: float | Literal["paper"]):
    # float32 inner products about the mean of all features keep no digit of what is left about that of the support
    rng = np.random.default_rng(0)
    X, F = (torch.from_numpy(1 + 1e-5 * rng.normal(size=(50, rows, 640))).float() for rows in (100, 30))
    assert ridge(Products.of(X, F, 5), penalty).isfinite().all()


@pytest.mark.parametrize("noise", [0.1, 1, 5])
@pytest.mark.parametrize(("ways", "shots"), [(2, 2), (2, 5), (5, 2), pytest.param(5, 5, marks=pytest.mark.slow)])
def test_ridge_chooses_by_leaving_each_sample_out(ways: int, shots: int, noise: float):
    X, F, labels = float64_episodes(ways, shots)
    X = noise * X + np.random.default_rng(1).normal(size=(3, ways, 16))[:, labels]
    found = ridge(products_of(X, F, ways), "loo").numpy()
    targets = np.eye(ways)[labels]
    for number, (x, f) in enumerate(zip(X, F, strict=True)):
        scale = np.mean(np.sum((x - x.mean(axis=0)) ** 2, axis=1))
        errors = {}
        for alpha in (10.0**e * scale for e in (-3, -2, -1, 0, 1, 2, 3)):
            errors[alpha] = 0.0
            for left_out in range(len(x)):
                rest = np.arange(len(x)) != left_out
                prediction = Ridge(alpha=alpha).fit(x[rest], targets[rest]).predict(x[left_out : left_out + 1])
                errors[alpha] += np.sum((prediction - targets[left_out]) ** 2)
        best = Ridge(alpha=min(errors, key=errors.__getitem__)).fit(x, targets)
        expected = best.predict(f).reshape(7, ways)
        np.testing.assert_allclose(found[number] + 1 / ways, expected, rtol=1e-8, atol=1e-10)


def test_a_leave_one_out_choice_needs_two_shots():
    X, F, _ = float64_episodes(3, 1)
    with pytest.raises(SettingError) as error:
        ridge(products_of(X, F, 3), "loo")
    says(error, 2, hint="--ridge-lambda")


@pytest.mark.parametrize(("ways", "shots"), [(2, 1), (2, 5), (5, 1), (5, 5)])
def test_ncc_scores_are_squared_distances_up_to_a_constant_of_the_query(ways: int, shots: int):
    X, F, labels = float64_episodes(ways, shots)
    found = ncc(products_of(X, F, ways)).numpy()
    assert found.shape == (3, 7, ways)
    for number in range(3):
        expected = fit_ncc(X[number], labels)[0](F[number])
        constant = (F[number] ** 2).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(2 * found[number] - constant, expected, rtol=1e-9)


@pytest.mark.parametrize("shots", [1, 4])
def test_scores_of_the_others_too_are_the_oracles_up_to_constants_of_the_query(shots: int):
    X, F, labels = float64_episodes(3, shots)
    products = products_of(X, F, 3)
    for number in range(3):
        x, f = X[number], F[number]
        lengths = np.linalg.norm(f, axis=1)[:, None]
        found = cosine(products)[number].numpy() / lengths
        np.testing.assert_allclose(found, fit_cosine(x, labels)[0](f), rtol=1e-9)
        found = 2 * knn(products)[number].numpy() - lengths**2
        np.testing.assert_allclose(found, fit_knn(x, labels)[0](f), rtol=1e-9)
        for about, reference in (("mean", None), ("origin", 0)):
            found = 2 * simpleshot(products, about)[number].numpy() - 1
            np.testing.assert_allclose(found, fit_simpleshot(x, labels, reference)[0](f), rtol=1e-9)


@pytest.mark.parametrize("name", SKLEARN)
def test_scores_go_with_their_classes(name: str):
    X, F, _ = float64_episodes(4, 3)
    order = [2, 0, 3, 1]
    Y = X.reshape(3, 4, 3, 16)[:, order].reshape(3, 12, 16).copy()
    before, after = (CLASSIFIERS[name].scores(products_of(some, F, 4)) for some in (X, Y))
    within = 1e-5 if name == "logistic" else 1e-9
    torch.testing.assert_close(after, before[:, :, order], rtol=within, atol=within)


@pytest.mark.parametrize("name", SKLEARN)
def test_episodes_do_not_know_of_each_other(name: str):
    X, F, _ = float64_episodes(4, 3)
    X[1] *= 100  # converges later than the others
    together = CLASSIFIERS[name].scores(products_of(X, F, 4))
    for number in range(3):
        some = slice(number, number + 1)
        alone = CLASSIFIERS[name].scores(products_of(X[some], F[some], 4))
        torch.testing.assert_close(together[some], alone, rtol=1e-4, atol=1e-5)


# what leaves nothing to learn


@pytest.mark.parametrize("penalty", [RIDGE_LAMBDA, "loo", "paper"])
@pytest.mark.parametrize("name", SKLEARN)
def test_identical_support_has_equal_scores(name: str, penalty: float | Literal["loo", "paper"]):
    X, F, _ = float64_episodes(3, 2)
    X = np.zeros_like(X) + np.round(8 * X[:, :1]) / 8  # exact, so that nothing is left of it about its mean
    classifier = functools.partial(ridge, penalty=penalty) if name == "ridge" else CLASSIFIERS[name].scores
    found = classifier(products_of(X, F, 3))
    assert found.isfinite().all()
    torch.testing.assert_close(found, found[:, :, :1].expand_as(found), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SKLEARN)
def test_features_of_no_length_have_equal_scores(name: str):
    found = CLASSIFIERS[name].scores(products_of(np.zeros((2, 6, 4)), np.zeros((2, 5, 4)), 3))
    assert found.isfinite().all()
    assert torch.equal(found, found[:, :, :1].expand_as(found))


# logistic regression


def relative_gradient(x, labels, weights, intercepts, penalty: float) -> float:
    """Of one episode, sample by sample, in the weights ``W = XᵀA`` and the intercepts."""
    x, targets = x - x.mean(axis=0), np.eye(intercepts.shape[1])[labels]

    def gradient(W, b):
        slope, slope0 = penalty * W, np.zeros_like(b)
        for row, target in zip(x, targets, strict=True):
            scores = row @ W + b[0]
            shares = np.exp(scores - scores.max())
            slope = slope + np.outer(row, shares / shares.sum() - target)
            slope0 = slope0 + shares / shares.sum() - target
        return math.sqrt((slope**2).sum() + (slope0**2).sum())

    W = x.T @ weights
    return gradient(W, intercepts) / gradient(0 * W, 0 * intercepts)


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1, 10, 1e3])
@pytest.mark.parametrize(("ways", "shots"), [(2, 1), (2, 5), (5, 1), (5, 5), (20, 2)])
def test_logistic_regression_is_converged_and_says_how_far(ways: int, shots: int, scale: float):
    X, F, labels = float64_episodes(ways, shots)
    X = scale * X
    reported: list[tuple[str, torch.Tensor]] = []
    logistic(products_of(X, scale * F, ways), report=lambda *one: reported.append(one))
    [(name, values)] = reported
    assert name == "gradient_norm"
    assert values.shape == (3,)
    assert values.max() <= TOLERANCE
    targets = torch.eye(ways, dtype=torch.float64).repeat_interleave(shots, dim=0)
    penalty = 2.0 if ways == 2 else 1.0
    fitted = _fit_logistic(products_of(X, F, ways).about_mean.support, targets, penalty)
    for number, (weights, intercepts, said) in enumerate(zip(*fitted, strict=True)):
        found = relative_gradient(X[number], labels, weights.numpy(), intercepts.numpy(), penalty)
        assert found == pytest.approx(float(said), rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("scale", [1e6, 1e12])
def test_logistic_regression_of_far_too_long_features(scale: float):
    # the loss is nothing as soon as the classes are apart: where it then stops is no matter, but it must be apart
    X, _, labels = float64_episodes(5, 3)
    found = logistic(products_of(scale * X, scale * X, 5))
    assert found.isfinite().all()
    assert (found.argmax(dim=2) == torch.from_numpy(labels)).all()


def test_logistic_regression_of_far_too_short_features():
    # the weights are then those of one step: penalty · W = Xᵀ(Y − 1/w)
    X, F, labels = float64_episodes(3, 4)
    found = logistic(products_of(1e-6 * X, 1e-6 * F, 3)).numpy()
    targets = np.eye(3)[labels] - 1 / 3
    for number in range(3):
        mean = X[number].mean(axis=0)
        expected = 1e-12 * (F[number] - mean) @ (X[number] - mean).T @ targets
        np.testing.assert_allclose(found[number], expected, rtol=1e-3, atol=1e-15)


@pytest.mark.parametrize("ways", [2, 3])
def test_logistic_regression_of_mixed_up_classes(ways: int):
    # the same samples in every class: nothing can be told apart, and the weights stay zero
    X, F, _ = float64_episodes(1, 4)
    found = logistic(products_of(np.concatenate([X] * ways, axis=1), F, ways))
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-9)

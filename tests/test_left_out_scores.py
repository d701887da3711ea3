"""Scores of images that are left out, against refits on what is left."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from nctransfer.errors import FeaturesError, SettingError
from nctransfer.features.feature_set import FeatureSet
from nctransfer.heads.centre_classifiers import ClassCentres
from nctransfer.heads.left_out_groups import left_out_groups
from nctransfer.heads.left_out_scores import HEAD_CLASSIFIERS, left_out_scores
from nctransfer.heads.logistic_regression import LogisticRegressions

CLOSED = ("ridge", "ncc", "cosine")


def gaussian(counts=(7, 4, 9), width=6, seed=0, apart=1.5):
    rng = np.random.default_rng(seed)
    means = apart * rng.normal(size=(len(counts), width)) + 1
    rows = np.concatenate([mean + rng.normal(size=(count, width)) for mean, count in zip(means, counts, strict=True)])
    labels = np.repeat([f"class {code:02}" for code in range(len(counts))], counts)
    return FeatureSet.from_arrays(rows, labels)


def refitted(name, x, y, f, penalty):
    """The scores of rows ``f`` by a classifier that is fitted to rows ``x``."""
    if name == "ridge":
        return Ridge(alpha=penalty).fit(x, np.eye(y.max() + 1)[y]).predict(f)
    centres = np.stack([x[y == code].mean(axis=0) for code in range(y.max() + 1)])
    if name == "cosine":
        return (f @ centres.T) / np.linalg.norm(f, axis=1)[:, None] / np.linalg.norm(centres, axis=1)
    return -((f[:, None] - centres) ** 2).sum(axis=2) / 2


@pytest.mark.parametrize("width", [6, 40])
@pytest.mark.parametrize("name", CLOSED)
def test_scores_are_those_of_refits_without_each_group(name, width):
    data = gaussian(width=width)
    found = left_out_scores(data, name, "cpu")
    x, y = data.features.numpy(), data.labels.numpy()
    for group in left_out_groups(data.labels):
        kept = np.setdiff1d(np.arange(len(x)), group.numpy())
        expected = refitted(name, x[kept], y[kept], x[group.numpy()], found.penalty)
        scores = found.scores[group].numpy()
        if name == "ncc":  # what is the same for all classes is left out
            scores, expected = scores - scores[:, :1], expected - expected[:, :1]
        np.testing.assert_allclose(scores, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", CLOSED)
def test_the_classifier_is_the_one_fitted_to_all_images(name):
    data = gaussian()
    found = left_out_scores(data, name, "cpu")
    x, y = data.features.numpy(), data.labels.numpy()
    new = np.random.default_rng(9).normal(size=(20, data.dim))
    scores, expected = found.linear.scores(torch.from_numpy(new)).numpy(), refitted(name, x, y, new, found.penalty)
    if name == "ncc":
        scores, expected = scores - scores[:, :1], expected - expected[:, :1]
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_regression_is_that_of_scikit_learn_with_a_penalty_relative_to_the_length_of_features(classes):
    data = gaussian(counts=(8,) * classes, apart=0.7)
    x, y, penalty = data.features.numpy(), data.labels.numpy(), 1e-2
    square = ((x - x.mean(axis=0)) ** 2).sum(axis=1).mean()
    fits = LogisticRegressions(data, torch.device("cpu"))
    groups = left_out_groups(data.labels, 1, 4)
    for group, scores in zip(groups, fits.scores_without_groups(groups, penalty), strict=True):
        kept = np.setdiff1d(np.arange(len(x)), group.numpy())
        model = LogisticRegression(C=1 / (penalty * square * len(kept)), tol=1e-9, max_iter=10_000)
        expected = model.fit(x[kept], y[kept]).predict_log_proba(x[group.numpy()])
        np.testing.assert_allclose(scores.log_softmax(dim=1), expected, atol=0.01)


def test_logistic_chooses_a_penalty_and_names_it():
    found = left_out_scores(gaussian(counts=(8, 8, 8), apart=0.7), "logistic", "cpu")
    new = torch.randn(5, 6)
    assert found.penalty is not None
    assert 1e-5 <= found.penalty <= 1e-2
    assert found.linear.scores(new).shape == (5, 3)
    assert found.scores.isfinite().all()
    assert 0.5 < float(found.right.mean()) <= 1


@pytest.mark.parametrize("name", HEAD_CLASSIFIERS)
def test_the_unit_of_features_does_not_matter(name):
    data = gaussian()
    other = FeatureSet.from_arrays(1000 * data.features, data.labels.tolist())
    one, two = (left_out_scores(some, name, "cpu") for some in (data, other))
    assert torch.equal(one.scores.argmax(dim=1), two.scores.argmax(dim=1))
    assert torch.equal(one.hits, two.hits)


def test_a_constant_beside_the_features_does_not_matter_to_ncc_and_ridge():
    data = gaussian()
    moved = FeatureSet.from_arrays(data.features + 1000, data.labels.tolist())
    for name in ("ncc", "ridge"):
        one, two = (left_out_scores(some, name, "cpu").scores for some in (data, moved))
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("size", "most"), [(1, 200), (2, 100), (1, 5), (2, 3)])
def test_groups_are_a_partition_in_which_no_class_loses_all_of_its_images(size, most):
    labels = torch.tensor([2, 3, 30, 7]).repeat_interleave(torch.tensor([2, 3, 30, 7])).unique(return_inverse=True)[1]
    groups = left_out_groups(labels, size, most)
    assert sorted(torch.cat(groups).tolist()) == list(range(len(labels)))
    assert len(groups) <= max(most, 2)
    counts = labels.bincount()
    for group in groups:
        lost = labels[group].bincount(minlength=4)
        assert bool((lost < counts).all())
        assert int(lost.max()) <= max(size, -(-30 // most))
    assert [a.tolist() for a in groups] == [b.tolist() for b in left_out_groups(labels, size, most)]
    assert [a.tolist() for a in groups] != [b.tolist() for b in left_out_groups(labels, size, most, seed=1)]


@pytest.mark.parametrize("name", [*CLOSED, "proxies"])
def test_accuracy_of_a_head_with_five_images_per_class_is_foretold(name):
    """A single image left out is far too pessimistic here: 20 points for ncc."""
    gaps, plain = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        means = np.random.default_rng(100).normal(size=(20, 128)) * 0.36
        labels = np.arange(20)
        train = FeatureSet.from_arrays(means.repeat(5, 0) + rng.normal(size=(100, 128)), labels.repeat(5).tolist())
        rows = means.repeat(100, 0) + rng.normal(size=(2000, 128))
        test = FeatureSet.from_arrays(rows, labels.repeat(100).tolist())
        found = left_out_scores(train, name, "cpu")
        truth = (found.linear.scores(test.features).argmax(dim=1) == test.labels).double().mean()
        gaps.append(float(found.hits.mean() - truth))
        if name == "ncc":
            centres = ClassCentres(train, by_cosine=False, device=torch.device("cpu"))
            one = [next(centres.scores_without_groups([torch.tensor([i])])).argmax() for i in range(len(train))]
            plain.append(float((torch.stack(one) == train.labels).double().mean() - truth))
    assert abs(np.mean(gaps)) < 0.05
    if plain:
        assert np.mean(plain) < -0.12


@pytest.mark.parametrize(("counts", "said"), [((4,), "1 class"), ((4, 1), "'class 01'")])
def test_one_class_or_a_class_of_one_image_is_refused(counts, said):
    with pytest.raises(FeaturesError, match=said):
        left_out_scores(gaussian(counts=counts), "ncc", "cpu")


def test_an_unknown_classifier_is_refused():
    with pytest.raises(SettingError, match="svm"):
        left_out_scores(gaussian(), "svm", "cpu")


@pytest.mark.parametrize("name", HEAD_CLASSIFIERS)
def test_two_images_per_class_and_constant_features_have_scores(name):
    few = gaussian(counts=(2, 2))
    flat = FeatureSet.from_arrays(np.ones((6, 3)), "aaabbb")
    for data in (few, flat):
        found = left_out_scores(data, name, "cpu")
        assert found.scores.isfinite().all()
        assert found.linear.weight.isfinite().all()
    assert left_out_scores(few, name, "cpu").step == 0


@pytest.mark.parametrize("name", CLOSED)
def test_fewer_partitions_leave_the_scores_as_they_are(name):
    data = gaussian()
    one, many = (left_out_scores(data, name, "cpu", partitions=number) for number in (1, 4))
    assert one.scores.numpy() == pytest.approx(many.scores.numpy(), rel=1e-5, abs=1e-5)
    assert set(one.right.tolist()) <= {0.0, 1.0}

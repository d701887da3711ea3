"""Features times a constant: what is free of their scale stays the same, and nothing is lost in silence."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters import normal_classes, set_of
from messages import says
from nctransfer.episodes.classifier import ClassifierSettings
from nctransfer.episodes.episode import EpisodeSpec
from nctransfer.episodes.logistic import logistic
from nctransfer.episodes.pool import Pool
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.episodes.rescaling import rescaled
from nctransfer.episodes.ridge import ridge
from nctransfer.episodes.sampling import sample
from nctransfer.errors import FeaturesError
from nctransfer.evaluation.expected_accuracy import Method, expect
from nctransfer.evaluation.fewshot_accuracy import fewshot
from nctransfer.evaluation.linear_probe import probe
from nctransfer.features.feature_set import FeatureSet
from nctransfer.neural_collapse.collapse_report import collapse

SCALE_FREE = sorted(set(CLASSIFIERS) - {"logistic"})
SMALLEST, LARGEST = 2.0**-149, float(np.finfo(np.float32).max)


@functools.cache
def clusters(dtype: str = "float32") -> FeatureSet:
    return set_of(normal_classes([12] * 5, 16, apart=0.7, within=1.0, offset=1.5), dtype)


def times(features: FeatureSet, factor: float) -> FeatureSet:
    """The features times a constant, in their own type."""
    values = (features.features.double() * factor).to(features.features.dtype)
    return FeatureSet.from_arrays(values, features.labels.tolist())


def scores(features: FeatureSet, name: str, **options: object) -> torch.Tensor:
    """Scores of ten episodes with 5 ways and 2 shots, with the settings of a task."""
    [batch] = sample(features, EpisodeSpec(5, 2, 5), 10)
    found = CLASSIFIERS[name].scores(Pool(features.features, "cpu")(batch), ClassifierSettings(shots=2, **options))
    assert found.isfinite().all()
    return found


def unlike(name: str, factor: float, **options: object) -> int:
    """Predictions that the factor changes, of queries whose two best classes are not tied."""
    before, after = scores(clusters(), name, **options), scores(times(clusters(), factor), name, **options)
    best = before.sort(dim=2).values
    is_clear = best[:, :, -1] - best[:, :, -2] > 1e-5 * (best[:, :, -1] - best[:, :, 0])
    assert is_clear.double().mean() > 0.99
    return int((before.argmax(dim=2) != after.argmax(dim=2))[is_clear].sum())


@settings(max_examples=25, deadline=None)
@given(factor=st.floats(-33, 33).map(lambda exponent: 10.0**exponent), name=st.sampled_from(SCALE_FREE))
def test_a_constant_changes_no_prediction(factor: float, name: str):
    assert unlike(name, factor) == 0


@pytest.mark.parametrize("factor", [1e-6, 1e6])
@pytest.mark.parametrize("penalty", [1e-3, 100.0, "loo"])
def test_ridge_is_free_of_the_scale_with_any_relative_penalty(penalty: object, factor: float):
    assert unlike("ridge", factor, ridge_lambda=penalty) == 0


@pytest.mark.parametrize("method", ["resampled", "normal"])
@pytest.mark.parametrize("exponent", [-100, -20, 100])
def test_a_power_of_two_changes_no_digit_of_the_expected_accuracy(exponent: int, method: Method):
    found = [
        expect(one, 2, 1, method=method).rows[0].accuracy for one in (clusters(), times(clusters(), 2.0**exponent))
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("factor", [1e-55, 1e-30])
def test_classifiers_that_depend_on_the_scale_see_the_true_one(factor: float):
    # with features this short, every penalty is so large that the weights are one step: Xᵀ(Y − 1/w) over the penalty
    features = times(clusters("float64"), factor)
    [batch] = sample(features, EpisodeSpec(5, 2, 5), 4)
    products = Pool(features.features, "cpu")(batch)
    assert products.factor > 1
    x, f = (clusters("float64").features[rows.flatten(1)] for rows in (batch.support, batch.queries))
    mean = x.mean(dim=1, keepdim=True)
    targets = torch.eye(5, dtype=torch.float64).repeat_interleave(2, dim=0) - 0.2
    step = (f - mean) @ (x - mean).mT @ targets * factor**2
    within = 1e-6 * float(step.abs().max())
    torch.testing.assert_close(ridge(products, "paper"), step / 10**0.5, rtol=0, atol=within)
    torch.testing.assert_close(logistic(products), step, rtol=0, atol=within)


@pytest.mark.parametrize("factor", [1e12, 1e30, 1e55])
def test_classifiers_that_depend_on_the_scale_learn_from_huge_features(factor: float):
    # their penalty is then nothing beside the features, so that the support itself is told apart
    features = times(clusters("float64"), factor)
    [batch] = sample(features, EpisodeSpec(5, 2, 5), 4)
    products = Pool(features.features, "cpu")(replace(batch, queries=batch.support))
    for found in (ridge(products, "paper"), logistic(products)):
        assert found.argmax(dim=2).tolist() == 4 * [[0, 0, 1, 1, 2, 2, 3, 3, 4, 4]]


# extreme features


@pytest.mark.parametrize("size", [2.0**-145, 1e-40, 1e-30, 1e-10, 1e10, 1e30, LARGEST])
def test_no_size_of_features_is_chance_level(size: float):
    features = times(clusters(), size / float(clusters().features.abs().max()))
    assert size / 1.1 <= float(features.features.abs().max()) <= LARGEST
    few = functools.partial(fewshot, features, 5, 5, queries=5, episodes=20, theory=False)
    rows = few(classifiers="all").rows + few(l2_normalise=True).rows + few(center_on=features).rows
    assert {row.classifier for row in rows if row.accuracy < 0.6} == set()
    assert expect(features, 2, 1).rows[0].accuracy > 0.6
    assert expect(features, 2, 5, method="normal").rows[0].accuracy > 0.6


def test_features_of_zero_are_chance_level():
    features = times(clusters(), 0)
    for row in fewshot(features, 5, 2, queries=5, episodes=10, classifiers="all", theory=False).rows:
        if row.query_prior == "balanced":  # of uneven queries, more or fewer are of the class that wins every tie
            assert row.accuracy == 0.2, row.classifier


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e-80, 1e80, 1e170, 1e300])
def test_features_far_outside_float32_are_refused(size: float):
    features = times(clusters("float64"), size)
    for attempt in (
        lambda: fewshot(features, 5, 2, queries=5, episodes=10),
        lambda: fewshot(features, 5, 2, queries=5, episodes=10, l2_normalise=True),
        lambda: expect(features, 2, 1),
        lambda: collapse(features),
        lambda: probe(features),
    ):
        with pytest.raises(FeaturesError) as error:
            attempt()
        says(error, "1e-60", "1e+60", hint="constant")


@pytest.mark.parametrize("size", [1e-58, 1e58])
def test_features_somewhat_outside_float32_are_as_good_as_any(size: float):
    before, after = clusters("float64"), times(clusters("float64"), size)
    assert collapse(after).metrics["cdnv"] == pytest.approx(collapse(before).metrics["cdnv"], rel=1e-9)
    for one, other in zip(*(fewshot(some, 5, 2, queries=5, episodes=10).rows for some in (before, after)), strict=True):
        assert one.accuracy == other.accuracy
        for name, bound in (one.bounds or {}).items():
            assert (other.bounds or {})[name]["value"] == pytest.approx(bound["value"], rel=1e-6)


def test_centring_that_leaves_float32_is_refused():
    features = times(clusters(), LARGEST / float(clusters().features.abs().max()))
    with pytest.raises(FeaturesError) as error:
        fewshot(features, 5, 2, queries=5, episodes=10, center_on=times(features, -1))
    says(error, "inf")


@pytest.mark.parametrize(("size", "factor"), [(2.0**32, 1), (2.0**-32, 1), (2.0**33, 2.0**-34), (0, 1)])
def test_only_extreme_features_are_rescaled(size: float, factor: float):
    rows = torch.tensor([[size, -size / 2], [0.0, size / 4]])
    found, used = rescaled(rows)
    assert used == factor
    assert torch.equal(found.double(), rows.double() * factor)
    assert (found is rows) == (factor == 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [SMALLEST, 3e-39, 1e-20, 1e20, LARGEST])
def test_rescaling_is_exact(size: float, dtype: torch.dtype):
    rows = torch.tensor([[size, -size / 3]]).to(dtype)
    found, factor = rescaled(rows)
    assert 0.5 <= float(found.abs().max()) < 1
    assert found.dtype == dtype
    assert torch.equal(found.double() / factor, rows.double())


# measures of collapse, and bounds


@pytest.mark.parametrize("factor", [2.0**-120, 1e-30, 1e30, 2.0**120])
def test_measures_are_free_of_the_scale(factor: float):
    before, after = (collapse(one).to_dict() for one in (clusters(), times(clusters(), factor)))
    assert after["undefined"] == before["undefined"]
    for name, value in before["metrics"].items():
        assert after["metrics"][name] == (value if value is None else pytest.approx(value, rel=1e-4)), name


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_bounds_are_free_of_the_scale(factor: float):
    rows = [
        fewshot(one, 5, 2, queries=5, episodes=10, classifiers="ncc").rows[0]
        for one in (clusters(), times(clusters(), factor))
    ]
    assert rows[0].bounds
    for name, bound in rows[0].bounds.items():
        assert rows[1].bounds[name]["value"] == (
            bound["value"] if bound["value"] is None else pytest.approx(bound["value"], rel=1e-4)
        )


def test_one_sample_far_from_all_others_is_refused() -> None:
    features = clusters()
    rows = features.features.clone()
    rows[7] *= 1e12
    with pytest.raises(FeaturesError) as error:
        fewshot(replace(features, features=rows), 2, 1, queries=5, episodes=20)
    says(error, 7, hint="--l2-normalise")

"""The two debiased measures alone: the numbers of the whole report, without covariances."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from clusters import normal_classes, set_of
from messages import raises
from nctransfer.errors import FeaturesError
from nctransfer.features.feature_set import FeatureSet
from nctransfer.neural_collapse.class_statistics import ClassStatistics, PairStatistics
from nctransfer.neural_collapse.collapse_report import collapse
from nctransfer.neural_collapse.debiased_measures import debiased_measures
from nctransfer.neural_collapse.moments import Moments

CASES = {
    "random": set_of(normal_classes([20] * 5, 12)),
    "float32, far from the origin": set_of(normal_classes([20] * 5, 12, offset=1000), np.float32),
    "unequal classes": set_of(normal_classes([4, 5, 10, 60], 6)),
    "small classes": set_of(normal_classes([2, 3, 10, 60], 6)),
    "a class of one sample": set_of(normal_classes([9, 1, 10], 6)),
    "pairs not resolved": set_of(normal_classes([5] * 8, 6, apart=0.5)),
    "no pair resolved": set_of(normal_classes([4] * 4, 50, apart=0)),
    "noise makes it negative": set_of(normal_classes([4] * 3, 30, apart=0.35, within=[0.01, 0.01, 1.2], seed=20)),
    "fewer samples than width": set_of(normal_classes([4, 5, 6], 40)),
    "equal means": FeatureSet.from_arrays([[1.0], [3.0], [3.0], [1.0], [2.0], [2.0], [1.0], [3.0]], "aaaabbbb"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_values_and_reasons_are_those_of_the_report(case: str) -> None:
    report, found = collapse(CASES[case]), debiased_measures(CASES[case])
    for name in ("cdnv_debiased", "directional_cdnv_debiased"):
        value = report.metrics[name]
        assert getattr(found, name) == value
        assert found.undefined.get(name) == report.undefined.get(name)
        assert (found.to_dict()[name], name in found.undefined) == (value, value is None)
        if value is not None:
            assert found.left_out == report.left_out.get(name, 0)


def test_the_cases_have_and_lack_values() -> None:
    found = {name: debiased_measures(one) for name, one in CASES.items()}
    assert {name for name, one in found.items() if one.cdnv_debiased is None} == {"no pair resolved"}
    lacking = {name for name, one in found.items() if one.directional_cdnv_debiased is None}
    assert lacking == {"small classes", "no pair resolved", "noise makes it negative"}
    assert 0 < found["pairs not resolved"].left_out < 1
    assert (found["random"].left_out, found["no pair resolved"].left_out) == (0, 1)


@pytest.mark.parametrize("case", CASES)
def test_the_statistics_of_pairs_are_those_of_classes(case: str) -> None:
    features = CASES[case].only_classes((CASES[case].counts > 1).nonzero()[:, 0])
    whole, pairs = ClassStatistics.of(features), PairStatistics.of(features)
    assert type(pairs) is PairStatistics
    for field in dataclasses.fields(PairStatistics):
        one, other = getattr(pairs, field.name), getattr(whole, field.name)
        assert (one is None and other is None) or torch.equal(one, other), field.name


def test_no_covariance_is_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    summed, of = [], Moments.of

    def watched(*arguments, **options):
        summed.append(of(*arguments, **options))
        return summed[-1]

    monkeypatch.setattr(Moments, "of", watched)
    debiased_measures(CASES["unequal classes"])
    [moments] = summed
    assert (moments.within.shape, moments.pooled.shape) == ((0, 0), (0, 0))


def test_one_class_is_too_few() -> None:
    with raises(FeaturesError, 1, hint="two samples each"):
        debiased_measures(set_of(normal_classes([9, 1], 6)))


@pytest.mark.parametrize("scale", [1e-80, 1e80])
def test_features_beyond_float64_are_refused(scale: float) -> None:
    with raises(FeaturesError, "1e+60", hint="constant"):
        debiased_measures(set_of([scale * rows for rows in normal_classes([5, 5], 3)]))

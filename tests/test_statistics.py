"""Class statistics against plain loops, whatever the batches."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import oracles
from nctransfer.errors import FeaturesError
from nctransfer.features import FeatureSet
from nctransfer.statistics import ClassStatistics

COUNTS = (2, 3, 9, 20)


@pytest.fixture
def features() -> FeatureSet:
    """Four classes of unequal size, 1000 from the origin."""
    rng = np.random.default_rng(0)
    labels = np.repeat(range(4), COUNTS)
    return FeatureSet.from_arrays(rng.normal(size=(34, 6)) + rng.normal(size=(4, 6))[labels] + 1000, labels)


def test_every_field_is_what_the_definition_says(features: FeatureSet):
    classes = oracles.split(features.features, features.labels.tolist())
    M = np.array(oracles.centred_means(classes))
    within = sum(map(oracles.covariance, classes)) / 4
    expected = {
        "counts": COUNTS,
        "centred_means": M,
        "variances": [oracles.variance(rows) for rows in classes],
        "distances": [[np.linalg.norm(a - b) for b in M] for a in M],
        "directional": [
            [(b - a) @ oracles.covariance(rows) @ (b - a) for b in M] for a, rows in zip(M, classes, strict=True)
        ],
        "projected_within": M @ within @ M.T,
        "ncc_accuracies": oracles.ncc_accuracies(classes),
    }
    stats = ClassStatistics.of(features)
    assert expected.keys() == {field.name for field in dataclasses.fields(stats)}
    for name, value in expected.items():
        found = getattr(stats, name)
        assert found.dtype == torch.float64
        np.testing.assert_allclose(found, value, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("order", ["as it is", "reversed"])
@pytest.mark.parametrize("rows", [1, 7, 33])
def test_batches_do_not_matter(features: FeatureSet, monkeypatch: pytest.MonkeyPatch, rows: int, order: str):
    whole = ClassStatistics.of(features)
    batches, sizes = FeatureSet.batches, []

    def other_batches(self):
        found = list(batches(self, rows))
        sizes.append(len(found))
        return iter(found if order == "as it is" else found[::-1])

    monkeypatch.setattr(FeatureSet, "batches", other_batches)
    parts = ClassStatistics.of(features)
    assert sizes == [-(-34 // rows)] * 2  # two passes, each over these batches
    for field in dataclasses.fields(whole):
        torch.testing.assert_close(getattr(parts, field.name), getattr(whole, field.name), rtol=1e-9, atol=1e-12)


def test_float32_at_an_offset_keeps_its_variance():
    # in one pass and in float32 the variance of these values comes out as 0
    values = (np.random.default_rng(0).normal(size=(400, 1)) + 1000).astype(np.float32)
    found = ClassStatistics.of(FeatureSet.from_arrays(values, ["a", "b"] * 200)).variances
    classes = oracles.split(values, ["a", "b"] * 200)
    assert found.tolist() == pytest.approx([oracles.variance(rows) for rows in classes], rel=1e-9)
    assert min(found.tolist()) > 0.8


@pytest.mark.parametrize(
    ("labels", "message"), [("aaa", "1 classes of at least 3"), ("aab", "2 classes of at least 1")]
)
def test_too_few(labels: str, message: str):
    with pytest.raises(FeaturesError, match=message) as caught:
        ClassStatistics.of(FeatureSet.from_arrays(np.eye(3), labels))
    assert "2 classes of 2 samples" in caught.value.hint

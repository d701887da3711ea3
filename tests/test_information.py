"""Information measures: what they count, what they do not see, and the two spectra that they come from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group

import oracles
from nctransfer.features.feature_set import FeatureSet
from nctransfer.neural_collapse import information
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.neural_collapse.collapse_report import collapse
from nctransfer.neural_collapse.comparisons import compare_sets
from nctransfer.neural_collapse.linear_head import LinearHead
from nctransfer.neural_collapse.spectra import spectra
from nctransfer.report.collapse_sheets import collapse_sheets, comparison_sheets, explanation_sheet


def around(means: np.ndarray, each: int = 4) -> FeatureSet:
    """Classes of equal samples."""
    return FeatureSet.from_arrays(np.repeat(means, each, axis=0), np.repeat(range(len(means)), each))


def head(weight: np.ndarray) -> LinearHead:
    return LinearHead(torch.from_numpy(weight), torch.zeros(len(weight)), "a test")


@pytest.mark.parametrize(("rows", "d"), [(40, 12), (12, 40), (30, 1), (50, 2)])
@pytest.mark.parametrize("offset", [0.0, 3.0, -1000.0])
def test_both_spectra_are_those_of_plain_decompositions(rows: int, d: int, offset: float) -> None:
    x = np.random.default_rng(d).normal(size=(rows, d)) + offset
    covariance, mean = torch.from_numpy(np.cov(x.T, bias=True).reshape(d, d)), torch.from_numpy(x.mean(axis=0))
    kept = covariance.clone()
    about_mean, about_zero = spectra(covariance, mean)
    expected = np.linalg.eigvalsh(x.T @ x / rows)
    scale = expected[-1]
    np.testing.assert_allclose(about_zero, expected, atol=1e-13 * scale)
    np.testing.assert_allclose(about_mean, np.linalg.eigvalsh(covariance.numpy()), atol=1e-13 * scale)
    assert torch.equal(covariance, kept)


def test_a_mean_of_zero_changes_no_spectrum() -> None:
    covariance = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    for found in spectra(covariance, torch.zeros(2, dtype=torch.float64)):
        assert found.tolist() == pytest.approx([1, 3])


def test_rankme_counts_no_more_singular_values_than_samples() -> None:
    x = np.random.default_rng(0).normal(size=(8, 500))
    found = collapse(FeatureSet.from_arrays(x, np.repeat(["a", "b"], 4))).rankme
    assert found == pytest.approx(oracles.rankme([x]), rel=1e-9)
    assert found <= 8.001
    added = 492 * -1e-7 * math.log(1e-7)  # what the 492 others would add to the entropy
    assert found * math.exp(added) - found > 1e-3


def test_rankme_of_one_feature_is_one() -> None:
    assert collapse(FeatureSet.from_arrays(np.arange(1.0, 9.0)[:, None], np.repeat(["a", "b"], 4))).rankme == 1


def test_rankme_falls_with_the_mean_and_the_entropy_of_the_covariance_does_not() -> None:
    x, labels = np.random.default_rng(0).normal(size=(100, 20)), np.repeat(range(5), 20)
    near, far = (collapse(FeatureSet.from_arrays(x + offset, labels)) for offset in (0, 20))
    assert far.rankme < 0.5 * near.rankme
    assert far.matrix_entropy == pytest.approx(near.matrix_entropy)
    assert far.effective_rank == pytest.approx(near.effective_rank)


def test_order_of_the_counts_of_dimensions() -> None:
    x = np.random.default_rng(0).normal(size=(200, 12)) * np.arange(1, 13)
    found = collapse(FeatureSet.from_arrays(x, np.repeat(range(5), 40)))
    # entropies of Rényi fall with their order; the first two differ in what they weight dimensions by
    assert found.participation_ratio < math.exp(found.matrix_entropy) < found.effective_rank < 12


def test_orthogonal_means_and_heads_share_everything() -> None:
    # the means of C classes and their negatives: centred already, and Gram matrices of two diagonal blocks
    C = 6
    means = np.eye(C)
    found = collapse(around(np.concatenate([means, -means])), head=head(np.concatenate([means, -means])))
    # H(G) = log C; entry by entry squared, the Gram matrix is two identities side by side, of the same entropy
    assert found.mutual_information_ratio == pytest.approx(1)
    assert found.entropy_difference_ratio == pytest.approx(0, abs=1e-12)


def test_the_ratios_see_how_even_a_head_is_and_not_where_it_points() -> None:
    C, d = 8, 12
    means = oracles.simplex(C, d)
    in_collapse = 1 / (C - 1) + (C - 2) * math.log(C - 2) / ((C - 1) * math.log(C - 1))
    turned = means @ ortho_group.rvs(d, random_state=0)
    swapped = means[np.roll(range(C), 1)]
    for weight in (means, turned, swapped):
        found = collapse(around(means), head=head(weight))
        assert found.mutual_information_ratio == pytest.approx(in_collapse, rel=1e-9)
        assert found.entropy_difference_ratio == pytest.approx(0, abs=1e-9)
    duals = [collapse(around(means), head=head(weight)).self_duality for weight in (means, turned, swapped)]
    assert duals[0] == pytest.approx(0, abs=1e-9)
    assert min(duals[1:]) > 1
    uneven = collapse(around(means), head=head(means * np.r_[np.ones(4), np.full(d - 4, 0.05)]))
    assert uneven.entropy_difference_ratio > 0.1


def test_two_classes_lie_on_a_line_and_share_no_ratio() -> None:
    found = collapse(around(np.eye(2)), head=head(np.eye(2)))
    for name in ("mutual_information_ratio", "entropy_difference_ratio"):
        assert found.metrics[name] is None
        assert "line" in found.undefined[name]
    one_sided = collapse(around(np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]])), head=head(np.eye(3)[:, :2]))
    assert one_sided.mutual_information_ratio is None  # no entropy on one side
    assert one_sided.entropy_difference_ratio == pytest.approx(1)


def test_more_classes_than_time_allows_have_no_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(information, "MOST_CLASSES", 4)
    found = collapse(around(oracles.simplex(5, 5)), head="ridge")
    assert "4 classes" in found.undefined["mutual_information_ratio"]
    assert found.self_duality is not None


def test_tables_warn_of_rankme_where_they_show_it() -> None:
    x = np.random.default_rng(0).normal(size=(40, 6))
    features = FeatureSet.from_arrays(x, np.repeat(range(4), 10))
    report, both = collapse(features), compare_sets({"one": features, "other": features})
    warning = "Compare rankme only between checkpoints of one training method."
    assert warning in collapse_sheets(report, every=True)[0].reading
    assert warning in comparison_sheets(both, every=True)[0].reading
    assert warning not in collapse_sheets(report)[0].reading
    assert warning not in comparison_sheets(both)[0].reading
    explained = {row[0]: row[-1] for row in explanation_sheet().rows}
    assert warning in explained["rankme"]
    assert "log d" not in explained["matrix_entropy"]  # the first sentence alone
    assert "covariance" in explained["matrix_entropy"]


def test_the_spectra_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(given)
        return spectra(*given)

    monkeypatch.setattr("nctransfer.neural_collapse.class_statistics.spectra", counted)
    stats = ClassStatistics.of(around(np.eye(3)))
    assert information.rankme(stats) > 0
    assert information.matrix_entropy(stats) == pytest.approx(math.log(2))
    assert len(stats.spectrum) == 2
    assert len(calls) == 1

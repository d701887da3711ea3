"""Collapse measures against plain loops, known values and invariances; the report around them."""

from __future__ import annotations

import itertools
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

import oracles
from clusters import labelled, normal_classes
from messages import says, those
from nctransfer.errors import FeaturesError
from nctransfer.features.feature_set import FeatureSet
from nctransfer.intervals import jackknife
from nctransfer.neural_collapse import collapse_report
from nctransfer.neural_collapse.cdnv import (
    cdnv,
    cdnv_debiased,
    debiased_pairs,
    directional_cdnv,
    directional_cdnv_debiased,
)
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.neural_collapse.collapse_report import CollapseReport, collapse
from nctransfer.neural_collapse.linear_head import LinearHead, with_head
from nctransfer.neural_collapse.measure import Undefined
from nctransfer.neural_collapse.registry import MEASURES
from nctransfer.report.collapse_sheets import collapse_sheets

OF_HEADS = {"self_duality", "mutual_information_ratio", "entropy_difference_ratio", "ncc_agreement"}


def gaussian(counts, d, *, dtype=np.float64, **options):
    """Classes of normal samples about normal means: features and labels."""
    return labelled(normal_classes(counts, d, apart=1.5, **options), dtype)


CASES = {
    "random": gaussian([20] * 5, 12),
    "float32": gaussian([20] * 5, 12, dtype=np.float32),
    "imbalanced": gaussian([2, 3, 10, 60], 6),
    "offset": gaussian([20] * 5, 12, offset=1000),
    "offset float32": gaussian([20] * 5, 12, offset=1000, dtype=np.float32),
    "more classes than width": gaussian([6] * 14, 3),
    "fewer samples than width": gaussian([3, 3, 2], 30),
    "tiny variance": gaussian([7] * 4, 8, within=1e-6),
    "wide": gaussian([15] * 4, 8, within=3),
    "two classes": gaussian([9, 4], 5),
    "one dimension": gaussian([8] * 4, 1),
}


# by inverses or ranks: half of the digits
LOOSE = {"nc1", "separation_fuzziness", "variability_collapse_index", "effective_rank", "rankme"}
# may be zero but for rounding
NEAR_ZERO = {"variability_collapse_index", "equinorm", "equiangularity", "maximal_angle", "etf_error"}


def measure(x, labels, ids=None) -> dict[str, float | None]:
    return collapse(FeatureSet.from_arrays(x, labels, ids), head="ridge").metrics


def some_head(x, labels) -> LinearHead:
    rng = np.random.default_rng(7)
    C = len(set(labels.tolist()))
    return LinearHead(
        torch.from_numpy(rng.normal(size=(C, x.shape[1]))), torch.from_numpy(rng.normal(size=C)), "nowhere"
    )


def test_every_measure_has_an_oracle():
    assert oracles.MEASURES.keys() | OF_HEADS == MEASURES.keys()
    assert not oracles.MEASURES.keys() & OF_HEADS


@pytest.mark.parametrize("case", CASES)
def test_measures_are_what_the_definitions_say(case: str):
    x, labels = CASES[case]
    features = FeatureSet.from_arrays(x, labels)
    stats, report = ClassStatistics.of(features), collapse(features)
    for name, oracle in oracles.MEASURES.items():
        expected = oracle(oracles.split(x, labels))
        if expected is None:
            with pytest.raises(Undefined) as undefined:
                MEASURES[name].function(stats)
            assert (report.metrics[name], report.undefined[name]) == (None, str(undefined.value))
            assert report.undefined[name]
            continue
        tolerance = {"rel": 1e-6 if name in LOOSE else 1e-9, "abs": 1e-12 if name in NEAR_ZERO else 0}
        assert MEASURES[name].function(stats) == pytest.approx(expected, **tolerance), name
        assert report.metrics[name] == pytest.approx(expected, **tolerance), name
        assert name not in report.undefined


def test_which_cases_are_undefined():
    undefined = {
        name: {case for case in CASES if oracle(oracles.split(*CASES[case])) is None}
        for name, oracle in oracles.MEASURES.items()
    }
    assert {name: cases for name, cases in undefined.items() if cases} == {
        "variability_collapse_index": {"fewer samples than width"},
        "vci_noise_level": {"fewer samples than width"},
        "etf_error": {"more classes than width", "one dimension"},
        "directional_cdnv_debiased": {"imbalanced", "fewer samples than width"},  # a class of fewer than four
    }


def test_by_hand():
    # v = 2, 8/3, 0; means (0, 0), (6, 2), (0, 4); mu_G = (2, 2); M = (−2, −2), (4, 0), (−2, 2)
    a, b, c = [[-1, -1], [1, 1]], [[6, 0], [6, 2], [6, 4]], [[0, 4], [0, 4]]
    x, labels = np.array([*a, *b, *c], dtype=float), list("aabbbcc")
    v, squared = (2, 8 / 3, 0), {(0, 1): 40, (0, 2): 16, (1, 2): 40}
    # Sigma_W = [[1, 1], [1, 11/3]]/3, Sigma_B = [[24, 0], [0, 8]]/3
    fuzziness = 1 / 24 + 11 / 24
    expected = {
        "cdnv": sum((v[i] + v[j]) / (2 * d) for (i, j), d in squared.items()) / 3,
        "cdnv_debiased": ((4 + 4) / (2 * (40 - 2 - 4 / 3)) + 4 / (2 * (16 - 2)) + 4 / (2 * (40 - 4 / 3))) / 3,
        # a to b: u = (6, 2)/√40, Sigma_a = [[1, 1], [1, 1]]; a to c: u = (0, 1); b to a, to c: 8/3 of the height
        "directional_cdnv": (64 / 1600 + 1 / 16 + (8 / 3) * 4 / 1600 + (8 / 3) * 4 / 1600) / 6,
        "nc1": fuzziness / 3,
        "separation_fuzziness": fuzziness,
        "variance_ratio": (14 / 9) / (32 / 3),
        # Sigma_T = [[25, 1], [1, 35/3]]/3
        "variability_collapse_index": 1 - (24 * 35 / 3 + 8 * 25) / (25 * 35 / 3 - 1) / 2,
        "vci_noise_level": 1 - 2 / 6,
        "equinorm": np.std([8**0.5, 4, 8**0.5]) / np.mean([8**0.5, 4, 8**0.5]),
        "equiangularity": np.std([-(0.5**0.5), 0, -(0.5**0.5)]),
        "maximal_angle": (2 * (0.5**0.5 - 0.5) + 0.5) / 3,
        "mean_uniformity": -(2 * math.log(math.sqrt(2 + 2**0.5)) + math.log(math.sqrt(2))) / 3,
        # MMᵀ = [[8, −8, 0], [−8, 16, −8], [0, −8, 8]], of length √640
        "etf_error": math.sqrt(1 + 1 - 2 * 32 / math.sqrt(640 * 2)),
        "participation_ratio": (110 / 3) ** 2 / (25**2 + 2 + (35 / 3) ** 2),
        "within_participation_ratio": (14 / 3) ** 2 / (1 + 2 + (11 / 3) ** 2),
        "ncc_accuracy": 1,
    }
    singular = np.linalg.svd(x - x.mean(axis=0))[1] / np.linalg.svd(x - x.mean(axis=0))[1].sum()
    expected["effective_rank"] = np.exp(scipy.stats.entropy(singular))
    expected["matrix_entropy"] = scipy.stats.entropy(singular**2)
    shares = np.linalg.svd(x)[1] / np.linalg.svd(x)[1].sum() + 1e-7
    expected["rankme"] = np.exp(-(shares * np.log(shares)).sum())
    metrics = collapse(FeatureSet.from_arrays(x, labels)).metrics
    found = {name: one(oracles.split(x, labels)) for name, one in oracles.MEASURES.items()}
    assert found.pop("directional_cdnv_debiased") is None  # fewer than four samples per class
    assert found == pytest.approx(expected)
    assert {name: metrics[name] for name in found} == pytest.approx(expected, rel=1e-12)


# a head


@pytest.mark.parametrize("case", CASES)
def test_measures_of_a_head(case: str):
    x, labels = CASES[case]
    features, head = FeatureSet.from_arrays(x, labels), some_head(x, labels)
    report = collapse(features, head=head, head_names=sorted(set(labels.tolist())))
    classes, weight = oracles.split(x, labels), head.weight.numpy()
    assert report.self_duality == pytest.approx(oracles.self_duality(classes, weight), rel=1e-9)
    assert report.ncc_agreement == pytest.approx(oracles.ncc_agreement(classes, weight, head.bias.numpy()), rel=1e-12)
    for name in ("mutual_information_ratio", "entropy_difference_ratio"):
        expected = getattr(oracles, name)(classes, weight)
        assert report.metrics[name] == (None if expected is None else pytest.approx(expected, rel=1e-9, abs=1e-12))
        assert (name in report.undefined) == (expected is None)
    assert those(report.notes, *OF_HEADS, "nowhere", "name")


def test_the_bias_of_a_head_counts():
    x, labels = CASES["random"]
    head, found = some_head(x, labels), []
    stats, features = ClassStatistics.of(FeatureSet.from_arrays(x, labels)), FeatureSet.from_arrays(x, labels)
    for bias in (head.bias, 1e6 * torch.eye(5, dtype=torch.float64)[2]):
        found.append(with_head(stats, features, LinearHead(head.weight, bias, "")).agreement)
    centres = [oracles.mean(rows) for rows in oracles.split(x, labels)]
    assert found[1] == np.mean([oracles.nearest(row, centres) == 2 for row in x]) != found[0]


def test_a_head_that_is_the_means_is_dual_to_them():
    x, labels = CASES["random"]
    features = FeatureSet.from_arrays(x, labels)
    means = ClassStatistics.of(features).centred_means
    # nearest centre as a linear classifier: mu · f − ‖mu‖²/2
    full = means + ClassStatistics.of(features).centre
    report = collapse(features, head=LinearHead(full, -full.square().sum(dim=1) / 2, "the means"))
    assert report.self_duality == pytest.approx(0, abs=1e-12)
    assert report.ncc_agreement == 1
    report = collapse(features, head=LinearHead(-full, full[:, 0], "against them"))
    assert report.self_duality == pytest.approx(2, rel=1e-12)


def test_no_head():
    report = collapse(FeatureSet.from_arrays(*CASES["random"]))
    for name in OF_HEADS:
        assert report.metrics[name] is None
        assert "--fit-head" in report.undefined[name]


def test_a_head_of_equal_rows_has_no_self_duality():
    x, labels = CASES["random"]
    head = LinearHead(torch.ones(5, 12), torch.zeros(5), "")
    report = collapse(FeatureSet.from_arrays(x, labels), head=head)
    assert report.metrics["self_duality"] is None
    assert report.undefined.keys() == OF_HEADS - {"ncc_agreement"}


# collapse itself


def shared_in_collapse(C: int) -> float:
    """The mutual-information ratio of two simplices: 1/2 for three classes, nearly 1 for many."""
    return 1 / (C - 1) + (C - 2) * math.log(C - 2) / ((C - 1) * math.log(C - 1))


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("C", [2, 3, 10])
def test_collapsed_to_a_simplex(C: int, offset: float):
    vertices = np.round(oracles.simplex(C, 12) * 2**20) / 2**20  # so that a mean of equals is exact
    features = FeatureSet.from_arrays(np.repeat(vertices, 4, axis=0) + offset, np.repeat(range(C), 4))
    report = collapse(features, head="ridge")
    found = dict(report.metrics)
    expected = {
        "ncc_accuracy": 1,
        "ncc_agreement": 1,
        "effective_rank": C - 1,
        "participation_ratio": C - 1,
        "mean_uniformity": -math.log(2 * C / (C - 1)) / 2,
        "variability_collapse_index": None,  # Sigma_T is singular
        "vci_noise_level": None if 4 * C - 1 < 12 else 1 - 12 / (4 * C - 1),
        "within_participation_ratio": None,  # nothing varies
        "matrix_entropy": math.log(C - 1),
        "rankme": oracles.rankme(oracles.split(features.features, np.repeat(range(C), 4))),
        "mutual_information_ratio": None if C == 2 else shared_in_collapse(C),
        "entropy_difference_ratio": None if C == 2 else 0,
    }
    for name, value in expected.items():
        assert found.pop(name) == (value if value is None else pytest.approx(value, rel=1e-5, abs=1e-7)), name
    assert found == pytest.approx(dict.fromkeys(found, 0), abs=1e-5)
    exact = ("cdnv", "cdnv_debiased", "directional_cdnv", "nc1", "separation_fuzziness", "variance_ratio")
    assert [found[name] for name in exact] == [0] * 6
    assert len(those(report.notes, C, *(f"'{c}'" for c in range(min(C, 3))))) == 1  # which classes do not vary


def test_collapsed_to_full_width():
    # noise of 1e-5 in all directions, so that Sigma_T has an inverse
    vertices = np.repeat(oracles.simplex(4, 4), 50, axis=0)
    x = vertices + 1e-5 * np.random.default_rng(0).normal(size=vertices.shape)
    report = collapse(FeatureSet.from_arrays(x, np.repeat(range(4), 50)))
    assert 0 < report.variability_collapse_index < 1e-8
    assert report.vci_noise_level == 1 - 4 / 199


def test_no_class_structure_is_the_noise_level():
    x = np.random.default_rng(0).normal(size=(600, 150))
    report = collapse(FeatureSet.from_arrays(x, np.repeat(range(6), 100)))
    assert report.variability_collapse_index == pytest.approx(report.vci_noise_level, abs=0.02)


def test_nearly_singular_covariance_is_no_crash():
    # one large class varies by 2e-7 across the line on which the others lie
    rng, turn = np.random.default_rng(0), ortho_group.rvs(2, random_state=0)
    for width in 10 ** np.linspace(-6.9, -5.8, 12):
        wide = np.c_[1e-3 * rng.normal(size=2000), width * rng.normal(size=2000)]
        flat = np.c_[30 * rng.normal(size=78), np.zeros(78)]
        labels = np.r_[np.zeros(2000), np.repeat(np.arange(1, 40), 2)].astype(int)
        report = collapse(FeatureSet.from_arrays(np.concatenate([wide, flat]) @ turn, labels))
        assert (report.variability_collapse_index is None) == ("variability_collapse_index" in report.undefined)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_samples_and_constant_features_are_noted(dtype: type):
    x = np.random.default_rng(0).normal(size=(12, 4)).astype(dtype) + np.repeat([0, 9, 99], [3, 4, 5])[:, None].astype(
        dtype
    )
    x[:, 1] = 0.1
    x[:3] = 0.1
    report = collapse(FeatureSet.from_arrays(x, np.repeat(["ant", "bee", "cat"], [3, 4, 5])))
    equal, constant, again = report.notes[-3:]
    assert those([equal], 1, "'ant'")
    assert those([constant], 1, 4)
    assert those([again], 2)


@pytest.mark.parametrize(("counts", "few"), [([9, 10, 2], 2), ([10, 10], 0)])
def test_small_classes_are_noted(counts: list[int], few: int):
    notes = collapse(FeatureSet.from_arrays(*gaussian(counts, 3))).notes
    assert len(those(notes, 10, "cdnv_debiased")) == len(those(notes, 10, "cdnv_debiased", few)) == (few > 0)


def test_noise_of_the_means_is_noted_and_by_how_much():
    rng = np.random.default_rng(0)
    for apart, is_noted in ((2.0, True), (9.0, False)):  # squared distances of 2 · 4 and 2 · 81; noise of 2 · 50/20
        x = rng.normal(size=(5, 20, 50)) + apart * np.eye(5, 50)[:, None]
        report = collapse(FeatureSet.from_arrays(x.reshape(100, 50), np.repeat(range(5), 20)))
        found = those(report.notes, "cdnv_debiased", "directional_cdnv_debiased", "ncc_accuracy", "nc1", "%")
        assert len(found) == is_noted
    assert report.cdnv < report.cdnv_debiased


@pytest.mark.parametrize("times", [3, 10_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_features_equal(dtype: type, times: int):
    report = collapse(FeatureSet.from_arrays(np.full((2 * times, 2), 0.1, dtype), np.repeat(["a", "b"], times)))
    for name in ("effective_rank", "participation_ratio", "within_participation_ratio"):
        assert report.metrics[name] is None, name
        assert report.undefined[name]


@pytest.mark.parametrize("order", [1, -1])
def test_two_classes_of_the_same_mean(order: int):
    rng = np.random.default_rng(0)
    same = rng.normal(size=(9, 4))
    x = np.concatenate([same, same[::order], rng.normal(size=(9, 4)) + 3, rng.normal(size=(9, 4)) - 3])
    report = collapse(FeatureSet.from_arrays(x, np.repeat(["ant", "bee", "cat", "dog"], 9)))
    assert (report.cdnv, report.directional_cdnv, report.cdnv_debiased) == (math.inf,) * 3
    assert (report.pairs[0].class_a, report.pairs[0].class_b) == ("ant", "bee")
    assert "cdnv" not in report.intervals
    assert len(those(report.notes, "CDNV", "'ant'", "'bee'")) == 1


def test_every_pair_of_the_same_mean_is_named():
    x = np.repeat([[1.0], [1.0], [5.0], [5.0]], 2, axis=0)
    notes = collapse(FeatureSet.from_arrays(x, np.repeat(["ant", "bee", "cat", "dog"], 2)), pairs=1).notes
    assert len(those(notes, "CDNV", "'ant'", "'bee'", "'cat'", "'dog'")) == 1


@pytest.mark.parametrize("C", [2, 3, 6, 7])
def test_all_class_means_coincide(C: int):
    same = np.random.default_rng(0).normal(size=(4, 6))
    report = collapse(FeatureSet.from_arrays(np.tile(same, (C, 1)), np.repeat(range(C), 4)))
    assert report.metrics["cdnv"] == math.inf
    for name in ("nc1", "equinorm", "equiangularity"):
        assert report.metrics[name] is None
    assert report.undefined.keys() == {name for name, value in report.metrics.items() if value is None}


@pytest.mark.parametrize("scale", [1, 0.1])
def test_a_class_mean_on_the_centre_has_no_direction(scale: float):
    x = scale * np.array([[1.0], [1.0], [2.0], [2.0], [3.0], [3.0]])
    report = collapse(FeatureSet.from_arrays(x, list("aabbcc")))
    assert report.metrics["equiangularity"] is None
    assert report.undefined["equiangularity"]
    assert report.equinorm == pytest.approx(1 / math.sqrt(2))


# the debiased measures


def test_unresolved_pairs_are_named_counted_and_left_out():
    # v = 2 of a and of b, unbiased: d_ab² = 3.0625 less the bias of 2 is above 0, but not above the bias
    x = np.array([[0.0], [2.0], [1.75], [3.75], [12.0], [12.0], [-1000.0], [-1000.0]])
    report = collapse(FeatureSet.from_arrays(x, list("aabbccdd")))
    (note,) = those(report.notes, "cdnv_debiased", 1, 6)
    assert "'a'/'b'" in note
    assert "'c'" not in note
    far = [(2, 11**2 - 1), (2, 9.25**2 - 1), (2, 1001**2 - 1), (2, 1002.75**2 - 1), (0, 1012**2)]
    assert report.cdnv_debiased == pytest.approx(np.mean([v / (2 * squared) for v, squared in far]), rel=1e-12)
    assert report.left_out == {"cdnv_debiased": pytest.approx(1 / 6)}
    assert report.to_dict()["left_out"] == report.left_out
    assert 0 < report.intervals["cdnv_debiased"][0] < report.cdnv_debiased < report.intervals["cdnv_debiased"][1]
    said = {row[0]: row[-1] for row in collapse_sheets(report)[0].rows}
    assert "17%" in said["cdnv_debiased"]
    assert "%" not in said["cdnv"]


def test_no_pair_resolved():
    x = np.array([[0.0], [2.0], [1.0], [3.0], [2.0], [0.5]])
    report = collapse(FeatureSet.from_arrays(x, list("aabbcc")))
    assert report.metrics["cdnv_debiased"] is None
    assert report.undefined["cdnv_debiased"]
    assert those(report.notes, "cdnv_debiased", 3, "'a'/'b'", "'a'/'c'", "'b'/'c'")


def test_debiased_variance_and_distance_are_unbiased():
    rng, n, d, sigma = np.random.default_rng(0), 5, 8, 1.5
    C, shift = 500, 5.0  # of two classes and their likes, 250 pairs
    codes = np.repeat(range(C), n)
    x = sigma * rng.normal(size=(C * n, d))
    x[:, 0] += shift * (codes % 2)
    stats = ClassStatistics.of(FeatureSet.from_arrays(x, [f"{code:03d}" for code in codes]))
    groups = x.reshape(C, n, d)
    v = groups.var(axis=1, ddof=1).sum(axis=1)
    plain = ((groups.mean(axis=1)[0::2] - groups.mean(axis=1)[1::2]) ** 2).sum(axis=1)
    sums = v[0::2] + v[1::2]
    squared = plain - sums / n
    values = debiased_pairs(stats)[0][0::2, 1::2].diagonal()
    np.testing.assert_allclose(values, sums / (2 * squared), rtol=1e-9)
    for draws, truth in ((v, d * sigma**2), (squared, shift**2)):
        error = draws.std() / math.sqrt(len(draws))
        assert abs(draws.mean() - truth) < 3 * error
    for draws, truth in ((v * (n - 1) / n, d * sigma**2), (plain, shift**2)):  # and it is no matter of course
        assert abs(draws.mean() - truth) > 5 * draws.std() / math.sqrt(len(draws))


def test_debiased_is_nearer_the_truth_than_plug_in():
    rng = np.random.default_rng(0)
    means, sigma = rng.normal(size=(8, 64)), rng.uniform(0.5, 1.2, size=8)
    v = 64 * sigma**2
    squared = ((means[:, None] - means) ** 2).sum(axis=2)
    off = ~np.eye(8, dtype=bool)
    truth = float(((v[:, None] + v)[off] / (2 * squared[off])).mean())
    labels = np.repeat(range(8), 5)
    draws = [
        ClassStatistics.of(FeatureSet.from_arrays(means[labels] + sigma[labels, None] * noise, labels))
        for noise in rng.normal(size=(40, 40, 64))
    ]
    plug_in, debiased = (np.array([one(draw) for draw in draws]) - truth for one in (cdnv, cdnv_debiased))
    assert plug_in.max() < -0.1 * truth  # biased low, always
    assert abs(debiased.mean()) < 0.03 * truth
    assert (abs(debiased) < abs(plug_in)).mean() > 0.95


def test_the_average_over_all_divisions_is_the_debiased_squared_distance():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 3)), 1 + rng.normal(size=(4, 3))

    def divisions(rows):
        for first in itertools.combinations(range(len(rows)), len(rows) // 2):
            yield rows[list(first)].mean(axis=0), np.delete(rows, first, axis=0).mean(axis=0)

    found = [
        (b_first - a_first) @ (b_second - a_second)
        for (a_first, a_second), (b_first, b_second) in itertools.product(divisions(a), divisions(b))
    ]
    noise = sum(rows.var(axis=0, ddof=1).sum() / len(rows) for rows in (a, b))
    assert np.mean(found) == pytest.approx(((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() - noise)


def test_debiased_directional_cdnv_of_normal_classes_is_near_the_truth():
    rng = np.random.default_rng(0)
    means, scales = rng.normal(size=(8, 40)), rng.uniform(0.2, 2, size=(8, 40))
    differences = means - means[:, None]
    along = ((differences * scales[:, None]) ** 2).sum(axis=2)
    off = ~np.eye(8, dtype=bool)
    truth = float((along[off] / (differences**2).sum(axis=2)[off] ** 2).mean())
    labels = np.repeat(range(8), 12)
    draws = [
        ClassStatistics.of(FeatureSet.from_arrays(means[labels] + scales[labels] * noise, labels))
        for noise in rng.normal(size=(60, 96, 40))
    ]
    plug_in, debiased = (
        np.array([one(draw) for draw in draws]) / truth - 1 for one in (directional_cdnv, directional_cdnv_debiased)
    )
    assert plug_in.mean() < -0.1
    assert abs(debiased.mean()) < 0.03
    assert np.square(debiased).mean() < np.square(plug_in).mean()


def test_a_negative_estimate_is_no_value():
    x, labels = gaussian([4, 4, 4], 3, within=2, seed=18)
    report = collapse(FeatureSet.from_arrays(x, labels))
    top, debiased = ClassStatistics.of(FeatureSet.from_arrays(x, labels)).crossed, report.cdnv_debiased
    assert float(top.sum()) < 0 < debiased
    assert report.directional_cdnv_debiased is None
    assert report.undefined["directional_cdnv_debiased"] != report.undefined.get("cdnv_debiased")
    assert "directional_cdnv_debiased" not in report.intervals


# interval


@pytest.mark.parametrize("case", ["random", "imbalanced", "more classes than width", "fewer samples than width"])
@pytest.mark.parametrize("name", ["cdnv", "directional_cdnv", "cdnv_debiased", "directional_cdnv_debiased"])
def test_jackknife_is_that_of_deleting_each_class(name: str, case: str):
    x, labels = CASES[case]
    features = FeatureSet.from_arrays(x, labels)
    report, resolved = collapse(features), debiased_pairs(ClassStatistics.of(features))[1]
    if report.metrics[name] is None:
        assert name not in report.intervals
        return
    share = 1 - int(resolved.sum()) / (len(resolved) * (len(resolved) - 1))
    assert report.left_out.get(name, 0) == pytest.approx(share if name.endswith("debiased") else 0, abs=1e-12)
    found = report.intervals[name]
    assert found == pytest.approx(oracles.jackknife(oracles.MEASURES[name], oracles.split(x, labels)), rel=1e-9)


def test_only_positive_averages_have_an_interval_on_the_logarithmic_scale():
    pairs = torch.tensor([[0.0, 1.0, 4.0], [2.0, 0.0, 1.0], [9.0, 1.0, 0.0]], dtype=torch.float64)
    low, high = jackknife(pairs, is_positive=True)
    average = float(pairs.sum()) / 6
    assert 0 < low < average < high
    assert low * high == pytest.approx(average**2)
    assert sum(jackknife(pairs)) == pytest.approx(2 * average)
    for others in (torch.zeros(4, 4), pairs - 2 * pairs.T):  # zero, and one below zero
        assert jackknife(others, is_positive=True) == jackknife(others)


def test_a_class_of_all_pairs_that_count_leaves_no_interval():
    pairs = torch.full((4, 4), torch.nan, dtype=torch.float64).fill_diagonal_(0)
    pairs[0, 1:] = pairs[1:, 0] = 2.0  # without class 0 no pair is left
    assert all(map(math.isnan, jackknife(pairs, is_positive=True)))


def test_no_interval_from_two_classes():
    assert collapse(FeatureSet.from_arrays(*CASES["two classes"])).intervals == {}


# report


def test_classes_of_one_sample_are_left_out_and_named():
    x, labels = gaussian([4, 1, 5, 1, 3], 6)
    report = collapse(FeatureSet.from_arrays(x, labels))
    assert those(report.notes, 2, "'0001'", "'0003'")
    kept = ~np.isin(labels, ["0001", "0003"])
    assert report.metrics == collapse(FeatureSet.from_arrays(x[kept], labels[kept])).metrics
    assert (report.features.samples, report.features.classes) == (12, 3)


def test_classes_are_the_widest_first():
    x, labels = CASES["imbalanced"]
    classes, names = oracles.split(x, labels), sorted(set(labels.tolist()))
    found = collapse(FeatureSet.from_arrays(x, labels)).classes
    accuracies = oracles.ncc_accuracies(classes)
    order = sorted(range(4), key=lambda c: -oracles.variance(classes[c]))
    assert [(one.name, one.samples) for one in found] == [(names[c], len(classes[c])) for c in order]
    assert [one.variance for one in found] == pytest.approx([oracles.variance(classes[c]) for c in order], rel=1e-9)
    assert [one.ncc_accuracy for one in found] == pytest.approx([accuracies[c] for c in order], rel=1e-12)


@pytest.mark.parametrize(("counts", "usable"), [([5, 1], 1), ([1, 1, 1], 0), ([6], 1)])
def test_fewer_than_two_usable_classes(counts: list[int], usable: int):
    with pytest.raises(FeaturesError) as error:
        collapse(FeatureSet.from_arrays(*gaussian(counts, 3)))
    says(error, usable, 2)
    assert error.value.hint


def test_pairs_are_those_of_highest_cdnv_first():
    x, labels = CASES["imbalanced"]
    classes = oracles.split(x, labels)
    names = sorted(set(labels.tolist()))
    pairs = collapse(FeatureSet.from_arrays(x, labels), pairs=None).pairs
    order = sorted(oracles.unordered_pairs(classes), key=lambda pair: -oracles.cdnv_pair(classes, *pair))
    assert [(pair.class_a, pair.class_b) for pair in pairs] == [(names[a], names[b]) for a, b in order]
    for pair, (a, b) in zip(pairs, order, strict=True):
        assert pair.cdnv == pytest.approx(oracles.cdnv_pair(classes, a, b), rel=1e-9)
        assert pair.directional_ab == pytest.approx(oracles.directional_pair(classes, a, b), rel=1e-9)
        assert pair.directional_ba == pytest.approx(oracles.directional_pair(classes, b, a), rel=1e-9)
        assert pair.distance == pytest.approx(math.sqrt(oracles.squared_distance(classes, a, b)), rel=1e-9)
    assert collapse(FeatureSet.from_arrays(x, labels), pairs=2).pairs == pairs[:2]


def test_dict_frame_and_attributes_agree():
    report = collapse(FeatureSet.from_arrays(*CASES["random"]))
    as_dict = json.loads(json.dumps(report.to_dict()))
    assert as_dict["metrics"] == report.metrics
    assert as_dict["intervals"]["cdnv"] == list(report.intervals["cdnv"])
    assert as_dict["pairs"][0]["cdnv"] == report.pairs[0].cdnv
    assert as_dict["features"]["samples"] == 100
    frame = report.to_frame().set_index("metric")
    assert frame["value"].dropna().to_dict() == {
        name: value for name, value in report.metrics.items() if value is not None
    }
    assert list(frame.index) == list(MEASURES)
    assert set(frame["id"]) == {"arrays"}
    assert tuple(frame.loc["cdnv", ["low", "high"]]) == report.intervals["cdnv"]
    assert frame.loc["nc1", ["low", "high"]].isna().all()
    for name in MEASURES:
        assert getattr(report, name) == report.metrics[name]
    with pytest.raises(AttributeError, match="'cdvn'"):
        _ = report.cdvn


SNIPPET = """
from nctransfer.neural_collapse.collapse_report import CollapseReport


def right(report: CollapseReport) -> float | None:
    return report.cdnv


def misspelt(report: CollapseReport) -> float | None:
    return report.cndv


def a_list(report: CollapseReport) -> list[str]:
    return report.cdnv
"""


@pytest.mark.slow
def test_a_misspelt_measure_is_a_type_error(tmp_path: Path):
    api = pytest.importorskip("mypy.api")
    snippet = tmp_path / "snippet.py"
    snippet.write_text(SNIPPET)
    folder = Path(collapse_report.__file__).parent
    sources = (  # what they import is not looked at
        folder / "collapse_report.py",
        folder / "measure_attributes.py",
        folder.parent / "notebook.py",
    )
    cache = ("--cache-dir", str(tmp_path / "cache"), "--config-file", os.devnull)
    output, _, status = api.run(["--follow-imports=skip", *cache, str(snippet), *map(str, sources)])
    errors = [line for line in output.splitlines() if line.startswith(str(snippet))]
    assert status == 1
    assert len(errors) == 2, output
    assert '"cndv"' in errors[0]
    assert "[attr-defined]" in errors[0]
    assert "[return-value]" in errors[1]


def test_reasons_are_in_the_dict():
    report = collapse(FeatureSet.from_arrays(np.ones((4, 2)), list("aabb")))
    assert isinstance(report, CollapseReport)
    assert report.to_dict()["metrics"]["nc1"] is None
    assert report.to_dict()["undefined"]["nc1"] == report.undefined["nc1"] != ""


# invariances

some = settings(max_examples=15, deadline=None, derandomize=True)
seeds = st.integers(0, 10_000)
# a divisor n − 1 is in the first and the last; leaving one out leaves its double in
NOT_OF_DUPLICATES = {"cdnv_debiased", "directional_cdnv_debiased", "ncc_accuracy", "vci_noise_level"}


def drawn(seed: int):
    """A set of a few classes, small enough for every measure to be far from its ends."""
    rng = np.random.default_rng(seed)
    return *gaussian(rng.integers(3 + seed % 2, 12, size=rng.integers(3, 7)), int(rng.integers(2, 10)), seed=seed), rng


def same(x, labels, y, names, ids=None, but=()) -> None:
    before, after = measure(x, labels), measure(y, names, ids)
    undefined = {"variability_collapse_index", "vci_noise_level", "etf_error"} | {
        "cdnv_debiased",
        "directional_cdnv_debiased",
    }
    assert {name for name, value in before.items() if value is None} <= undefined
    for name in before.keys() - but:
        value = before[name]
        assert after[name] == (None if value is None else pytest.approx(value, rel=1e-7, abs=1e-9)), name


@some
@given(seeds)
def test_rotation_changes_nothing(seed: int):
    x, labels, _ = drawn(seed)
    same(x, labels, x @ ortho_group.rvs(x.shape[1], random_state=seed), labels)


@some
@given(seeds, st.floats(-1000, 1000))
def test_shift_changes_nothing(seed: int, shift: float):
    x, labels, rng = drawn(seed)
    same(x, labels, x + shift * rng.normal(size=x.shape[1]), labels, but={"rankme"})


@some
@given(seeds, st.floats(-6, 6))
def test_scale_changes_nothing(seed: int, exponent: float):
    x, labels, _ = drawn(seed)
    same(x, labels, x * 10**exponent, labels)


@some
@given(seeds)
def test_names_of_classes_change_nothing(seed: int):
    x, labels, rng = drawn(seed)
    names, codes = np.unique(labels, return_inverse=True)
    same(x, labels, x, rng.permutation(names)[codes])


@some
@given(seeds)
def test_order_of_rows_changes_nothing(seed: int):
    x, labels, rng = drawn(seed)
    order = rng.permutation(len(x))
    same(x, labels, x[order], labels[order], order)


@some
@given(seeds, st.integers(2, 4))
def test_samples_taken_several_times(seed: int, times: int):
    x, labels, _ = drawn(seed)
    before, after = measure(x, labels), measure(np.tile(x, (times, 1)), np.tile(labels, times))
    for name in MEASURES.keys() - NOT_OF_DUPLICATES:
        value = before[name]
        assert after[name] == (value if value is None else pytest.approx(value, rel=1e-7, abs=1e-9)), name
    for name in ("cdnv_debiased", "vci_noise_level"):
        assert before[name] is None or after[name] != pytest.approx(before[name], rel=1e-3)
    assert after["ncc_accuracy"] >= before["ncc_accuracy"]


@some
@given(seeds)
def test_variance_along_the_line_is_at_most_all_of_it(seed: int):
    found = measure(*drawn(seed)[:2])
    assert found["directional_cdnv"] <= found["cdnv"]

"""Collapse measures against plain loops, known values and invariances; the report around them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

import oracles
from nctransfer.errors import FeaturesError
from nctransfer.features import FeatureSet
from nctransfer.measures import MEASURES, CollapseReport, collapse
from nctransfer.statistics import ClassStatistics


def gaussian(counts, d, *, spread=1.0, offset=0.0, dtype=np.float64, seed=0):
    """Classes of normal samples about normal means: features and labels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([f"class {c:02d}" for c in range(len(counts))], counts)
    means = np.repeat(rng.normal(size=(len(counts), d)) * 1.5, counts, axis=0)
    return (means + spread * rng.normal(size=(len(labels), d)) + offset).astype(dtype), labels


CASES = {
    "random": gaussian([20] * 5, 12),
    "float32": gaussian([20] * 5, 12, dtype=np.float32),
    "imbalanced": gaussian([2, 3, 10, 60], 6),
    "offset": gaussian([20] * 5, 12, offset=1000),
    "offset float32": gaussian([20] * 5, 12, offset=1000, dtype=np.float32),
    "more classes than width": gaussian([6] * 14, 3),
    "fewer samples than width": gaussian([3, 3, 2], 30),
    "tiny variance": gaussian([7] * 4, 8, spread=1e-7),
    "wide": gaussian([15] * 4, 8, spread=3),
    "two classes": gaussian([9, 4], 5),
    "one dimension": gaussian([8] * 4, 1),
}


def measure(x, labels) -> dict[str, float | None]:
    return collapse(FeatureSet.from_arrays(x, labels)).metrics


def test_every_measure_has_an_oracle():
    assert oracles.MEASURES.keys() == MEASURES.keys()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", MEASURES)
def test_measure_is_what_the_definition_says(name: str, case: str):
    x, labels = CASES[case]
    stats = ClassStatistics.of(FeatureSet.from_arrays(x, labels))
    expected = oracles.MEASURES[name](oracles.split(x, labels))
    tolerance = 1e-6 if name == "nc1" else 1e-9
    assert MEASURES[name].function(stats) == pytest.approx(expected, rel=tolerance, abs=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("C", [2, 3, 10])
def test_collapsed_to_a_simplex(C: int, offset: float):
    stats = ClassStatistics.of(
        FeatureSet.from_arrays(np.repeat(oracles.simplex(C, 12), 3, axis=0) + offset, np.repeat(range(C), 3))
    )
    found = {name: one.function(stats) for name, one in MEASURES.items()}
    assert found.pop("ncc_accuracy") == 1
    assert found == pytest.approx(dict.fromkeys(found, 0), abs=1e-11)
    unit = stats.centred_means / stats.centred_means.norm(dim=1, keepdim=True)
    cosines = (unit @ unit.T)[~np.eye(C, dtype=bool)]
    assert cosines.tolist() == pytest.approx([-1 / (C - 1)] * (C * (C - 1)), abs=1e-10)


@pytest.mark.parametrize("order", [1, -1])
def test_two_classes_of_the_same_mean(order: int):
    rng = np.random.default_rng(0)
    same = rng.normal(size=(9, 4))
    x = np.concatenate([same, same[::order], rng.normal(size=(9, 4)) + 3, rng.normal(size=(9, 4)) - 3])
    report = collapse(FeatureSet.from_arrays(x, np.repeat(["ant", "bee", "cat", "dog"], 9)))
    assert (report.cdnv, report.directional_cdnv, report.cdnv_debiased) == (math.inf,) * 3
    assert (report.pairs[0].class_a, report.pairs[0].class_b) == ("ant", "bee")
    assert "cdnv" not in report.intervals
    (note,) = (note for note in report.notes if "infinite" in note)
    assert "'ant'" in note
    assert "'bee'" in note


def test_every_pair_of_the_same_mean_is_named():
    x = np.repeat([[1.0], [1.0], [5.0], [5.0]], 2, axis=0)
    notes = collapse(FeatureSet.from_arrays(x, np.repeat(["ant", "bee", "cat", "dog"], 2)), pairs=1).notes
    assert all(name in "".join(notes) for name in ("'ant'", "'bee'", "'cat'", "'dog'"))


@pytest.mark.parametrize("C", [2, 3, 6, 7])
def test_all_class_means_coincide(C: int):
    same = np.random.default_rng(0).normal(size=(4, 6))
    report = collapse(FeatureSet.from_arrays(np.tile(same, (C, 1)), np.repeat(range(C), 4)))
    assert report.metrics["cdnv"] == math.inf
    for name in ("nc1", "equinorm", "equiangularity"):
        assert report.metrics[name] is None
        assert "coincide" in report.undefined[name] or "centre" in report.undefined[name]
    assert report.undefined.keys() == {name for name, value in report.metrics.items() if value is None}


@pytest.mark.parametrize("scale", [1, 0.1])
def test_a_class_mean_on_the_centre_has_no_direction(scale: float):
    x = scale * np.array([[1.0], [1.0], [2.0], [2.0], [3.0], [3.0]])
    report = collapse(FeatureSet.from_arrays(x, list("aabbcc")))
    assert report.metrics["equiangularity"] is None
    assert "centre" in report.undefined["equiangularity"]
    assert report.equinorm == pytest.approx(1 / math.sqrt(2))


# cdnv_debiased


def test_unresolved_pairs_are_named_counted_and_left_out():
    # v = 2 of a and of b, unbiased: d_ab² = 3.0625 less the bias of 2 is above 0, but not above the bias
    x = np.array([[0.0], [2.0], [1.75], [3.75], [12.0], [12.0], [-1000.0], [-1000.0]])
    report = collapse(FeatureSet.from_arrays(x, list("aabbccdd")))
    (note,) = report.notes
    assert note.startswith("1 pair ")
    assert "'a'/'b'" in note
    assert "'c'" not in note
    far = [(2, 11**2 - 1), (2, 9.25**2 - 1), (2, 1001**2 - 1), (2, 1002.75**2 - 1), (0, 1012**2)]
    assert report.cdnv_debiased == pytest.approx(np.mean([v / (2 * squared) for v, squared in far]), rel=1e-12)


def test_no_pair_resolved():
    x = np.array([[0.0], [2.0], [1.0], [3.0], [2.0], [0.5]])
    report = collapse(FeatureSet.from_arrays(x, list("aabbcc")))
    assert report.metrics["cdnv_debiased"] is None
    assert "no pair" in report.undefined["cdnv_debiased"]
    assert any(note.startswith("3 pairs ") for note in report.notes)


def test_debiased_is_nearer_the_truth_than_plug_in():
    rng = np.random.default_rng(0)
    means, sigma = rng.normal(size=(8, 64)), rng.uniform(0.5, 1.2, size=8)
    v = 64 * sigma**2
    squared = ((means[:, None] - means) ** 2).sum(axis=2)
    off = ~np.eye(8, dtype=bool)
    truth = float(((v[:, None] + v)[off] / (2 * squared[off])).mean())
    labels = np.repeat(range(8), 5)
    draws = [measure(means[labels] + sigma[labels, None] * rng.normal(size=(40, 64)), labels) for _ in range(40)]
    plug_in, debiased = (np.array([draw[name] for draw in draws]) - truth for name in ("cdnv", "cdnv_debiased"))
    assert plug_in.max() < -0.1 * truth  # biased low, always
    assert abs(debiased.mean()) < 0.03 * truth
    assert (abs(debiased) < abs(plug_in)).mean() > 0.95


# interval


@pytest.mark.parametrize("case", ["random", "imbalanced", "more classes than width", "fewer samples than width"])
@pytest.mark.parametrize("name", ["cdnv", "directional_cdnv"])
def test_jackknife_is_that_of_deleting_each_class(name: str, case: str):
    x, labels = CASES[case]
    found = collapse(FeatureSet.from_arrays(x, labels)).intervals[name]
    assert found == pytest.approx(oracles.jackknife(oracles.MEASURES[name], oracles.split(x, labels)), rel=1e-9)


def test_no_interval_from_two_classes():
    assert collapse(FeatureSet.from_arrays(*CASES["two classes"])).intervals == {}


# report


def test_classes_of_one_sample_are_left_out_and_named():
    x, labels = gaussian([4, 1, 5, 1, 3], 6)
    report = collapse(FeatureSet.from_arrays(x, labels))
    (note,) = report.notes
    assert note == "2 classes of one sample left out: 'class 01', 'class 03'"
    kept = ~np.isin(labels, ["class 01", "class 03"])
    assert report.metrics == measure(x[kept], labels[kept])
    assert (report.features["samples"], report.features["classes"]) == (12, 3)


@pytest.mark.parametrize(("counts", "usable"), [([5, 1], 1), ([1, 1, 1], 0), ([6], 1)])
def test_fewer_than_two_usable_classes(counts: list[int], usable: int):
    with pytest.raises(FeaturesError, match=f"{usable} class(es)? of 2 samples or more") as caught:
        collapse(FeatureSet.from_arrays(*gaussian(counts, 3)))
    assert caught.value.hint


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
    assert frame["value"].to_dict() == report.metrics
    assert tuple(frame.loc["cdnv", ["low", "high"]]) == report.intervals["cdnv"]
    assert frame.loc["nc1", ["low", "high"]].isna().all()
    for name in MEASURES:
        assert getattr(report, name) == report.metrics[name]
    with pytest.raises(AttributeError, match="no measure 'cdvn'"):
        _ = report.cdvn


def test_reasons_are_in_the_dict():
    report = collapse(FeatureSet.from_arrays(np.ones((4, 2)), list("aabb")))
    assert isinstance(report, CollapseReport)
    assert report.to_dict()["metrics"]["nc1"] is None
    assert report.to_dict()["undefined"]["nc1"] == report.undefined["nc1"] != ""


# invariances

some = settings(max_examples=15, deadline=None, derandomize=True)
seeds = st.integers(0, 10_000)
DUPLICATION = {"cdnv", "directional_cdnv", "nc1", "equinorm", "equiangularity"}  # no divisor n − 1 in them


def drawn(seed: int):
    """A set of a few classes, small enough for every measure to be far from its ends."""
    rng = np.random.default_rng(seed)
    return *gaussian(rng.integers(3, 12, size=rng.integers(3, 7)), int(rng.integers(2, 10)), seed=seed), rng


def same(x, labels, y, names) -> None:
    before, after = measure(x, labels), measure(y, names)
    assert None not in {before["nc1"], before["equiangularity"]}
    for name, value in before.items():
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
    same(x, labels, x + shift * rng.normal(size=x.shape[1]), labels)


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
    same(x, labels, x[order], labels[order])


@some
@given(seeds, st.integers(2, 4))
def test_samples_taken_several_times(seed: int, times: int):
    x, labels, _ = drawn(seed)
    before, after = measure(x, labels), measure(np.tile(x, (times, 1)), np.tile(labels, times))
    for name in DUPLICATION:
        assert after[name] == pytest.approx(before[name], rel=1e-7, abs=1e-9), name
    assert after["cdnv_debiased"] != pytest.approx(before["cdnv_debiased"], rel=1e-3)


@some
@given(seeds)
def test_variance_along_the_line_is_at_most_all_of_it(seed: int):
    found = measure(*drawn(seed)[:2])
    assert found["directional_cdnv"] <= found["cdnv"]

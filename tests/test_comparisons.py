"""Sets, layers and the paper's three samples side by side."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import scipy.stats

import oracles
from messages import says, those
from nctransfer.errors import FeaturesError, SettingError
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.features.feature_set import FeatureSet
from nctransfer.neural_collapse.collapse_report import collapse
from nctransfer.neural_collapse.comparisons import CollapseComparison, compare_layers, compare_samples, compare_sets
from nctransfer.neural_collapse.registry import MEASURES

CLASSES = ["ant", "bee", "cat", "dog"]
MEANS = np.random.default_rng(0).normal(size=(4, 6))


def a_set(seed: int, each: int = 15, *, spread: float = 1.0, classes: list[str] = CLASSES, d: int = 6) -> FeatureSet:
    rng = np.random.default_rng(seed)
    codes = np.repeat(range(len(classes)), each)
    x = MEANS[codes % 4][:, :d] + spread * rng.normal(size=(len(codes), d))
    return FeatureSet.from_arrays(x, [classes[code] for code in codes], info=FeatureInfo(f"set {seed}"))


def split(features: FeatureSet) -> list[np.ndarray]:
    return oracles.split(features.features, [f"{label:03d}" for label in features.labels.tolist()])


@pytest.fixture
def samples() -> CollapseComparison:
    """The new classes vary more, the training samples less."""
    return compare_samples(a_set(3, 12, spread=2, classes=["x", "y", "z"]), a_set(1, 20, spread=0.6), a_set(7))


# Sets


def test_sets_are_each_as_alone():
    sets = {"one": a_set(1), "other": a_set(2, classes=["x", "y", "z"], d=3)}
    found = compare_sets(sets, pairs=2)
    assert list(found.reports) == ["one", "other"]
    for name, features in sets.items():
        assert found.reports[name] == collapse(features, pairs=2)
    assert (found.ratios, found.fit) == ({}, {})


def test_a_set_that_cannot_be_measured():
    with pytest.raises(FeaturesError) as error:
        compare_sets({"one": a_set(1), "other": a_set(2, classes=["x"])})
    says(error, "set 2", 1, 2)


def test_as_json_and_as_frame():
    found = compare_sets({"one": a_set(1), "other": a_set(2)})
    as_json = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [one["name"] for one in as_json["sets"]] == ["one", "other"]
    assert (as_json["ratios"], as_json["fit"]) == ({}, {})
    assert as_json["sets"][1]["metrics"] == found.reports["other"].metrics
    frame = found.to_frame()
    assert list(frame.columns)[:5] == ["set", "metric", "value", "low", "high"]
    assert list(zip(frame["set"], frame["metric"], strict=True)) == [
        (name, metric) for name in found.reports for metric in MEASURES
    ]
    assert list(frame.index) == list(range(2 * len(MEASURES)))
    cdnv = frame[frame["metric"] == "cdnv"].set_index("set")
    assert cdnv["value"].to_dict() == {name: report.cdnv for name, report in found.reports.items()}
    assert tuple(cdnv.loc["other", ["low", "high"]]) == found.reports["other"].intervals["cdnv"]
    assert cdnv["id"].to_dict() == {"one": "set 1", "other": "set 2"}


# The paper's three samples


def test_samples_are_each_as_alone_but_for_the_accuracy_of_the_test(samples: CollapseComparison):
    assert list(samples.reports) == ["source-train", "source-test", "target"]
    assert samples.reports["source-train"] == collapse(a_set(1, 20, spread=0.6))
    assert samples.reports["target"] == collapse(a_set(3, 12, spread=2, classes=["x", "y", "z"]))
    found, alone = samples.reports["source-test"], collapse(a_set(7))
    assert {**found.metrics, "ncc_accuracy": 0} == {**alone.metrics, "ncc_accuracy": 0}
    assert (found.intervals, found.pairs, found.undefined) == (alone.intervals, alone.pairs, alone.undefined)
    assert samples.fit == {}


def test_accuracy_of_the_test_is_by_the_centres_of_the_training(samples: CollapseComparison):
    expected = oracles.ncc_accuracies_by(split(a_set(7)), split(a_set(1, 20, spread=0.6)))
    found = samples.reports["source-test"]
    assert found.ncc_accuracy == pytest.approx(np.mean(expected), rel=1e-12)
    assert expected != pytest.approx(oracles.ncc_accuracies(split(a_set(7))))
    of_classes = {one.name: one.ncc_accuracy for one in found.classes}
    assert of_classes == pytest.approx(dict(zip(CLASSES, expected, strict=True)))


def test_accuracy_of_classes_of_unequal_size_counts_classes_equally():
    train = a_set(1, 20)
    test = FeatureSet.from_arrays(
        np.concatenate([a_set(5).features.numpy(), a_set(6, 30).features.numpy()[:30]]),
        [*np.repeat(CLASSES, 15), *["ant"] * 30],
    )
    found = compare_samples(a_set(3), train, test).reports["source-test"].ncc_accuracy
    per_class = oracles.ncc_accuracies_by(split(test), split(train))
    assert found == pytest.approx(np.mean(per_class), rel=1e-12)
    assert found != pytest.approx(np.average(per_class, weights=[45, 15, 15, 15]))


def test_ratios(samples: CollapseComparison):
    assert list(samples.ratios) == ["source-test/source-train", "target/source-test"]
    for name, ratios in samples.ratios.items():
        over, under = (samples.reports[one].metrics for one in name.split("/"))
        assert ratios.keys() == MEASURES.keys()
        for metric, ratio in ratios.items():
            if over[metric] is None or under[metric] is None:
                assert ratio is None
            else:
                assert ratio == over[metric] / under[metric]
    assert all(samples.ratios[name]["cdnv"] > 1.5 for name in samples.ratios)
    assert samples.ratios["target/source-test"]["self_duality"] is None
    json.dumps(samples.to_dict(), allow_nan=False)


def test_ratios_to_nothing_and_to_infinity():
    same = FeatureSet.from_arrays(np.tile(a_set(1, 5, classes=["x"], d=4).features, (2, 1)), [*"aaaaabbbbb"])
    still = FeatureSet.from_arrays(np.repeat(np.eye(4), 3, axis=0), np.repeat(CLASSES, 3))
    moving = FeatureSet.from_arrays(
        still.features.numpy() + 0.1 * np.random.default_rng(0).normal(size=(12, 4)), np.repeat(CLASSES, 3)
    )
    found = compare_samples(same, still, moving)
    assert found.reports["source-train"].cdnv == 0
    assert found.ratios["source-test/source-train"]["cdnv"] is None
    assert found.ratios["target/source-test"]["cdnv"] == math.inf
    assert found.ratios["target/source-test"]["nc1"] is None  # no value for the target
    # over infinity
    found = compare_samples(moving, same, same)
    assert found.ratios["target/source-test"]["cdnv"] is None


def test_classes_of_the_source_must_be_the_same():
    with pytest.raises(FeaturesError) as error:
        compare_samples(a_set(3), a_set(1), a_set(2, classes=["ant", "bee", "cat", "emu"]))
    says(error, "source-train", "source-test", 2, "'dog'")


def test_a_class_of_one_sample_in_one_sample_of_the_source():
    labels = np.array([*np.repeat(["ant", "bee"], 5), "cat"])
    test, train = (FeatureSet.from_arrays(np.random.default_rng(i).normal(size=(11, 6)), labels) for i in (0, 9))
    with pytest.raises(FeaturesError) as error:
        compare_samples(a_set(3), a_set(1, classes=["ant", "bee", "cat"]), test)
    says(error, "source-train", "source-test", 1, "'cat'", hint="2")
    # but in both it is left out, and said so
    found = compare_samples(a_set(3), train, test)
    assert all(those(found.reports[name].notes, 1, "'cat'") for name in ("source-train", "source-test"))


def test_widths_of_the_source_must_be_the_same():
    with pytest.raises(FeaturesError) as error:
        compare_samples(a_set(3), a_set(1), a_set(2, d=3))
    says(error, "source-train", 6, "source-test", 3)


# Layers


def layers_of(scales: list[float]) -> dict[str, FeatureSet]:
    """Layers whose residuals are those of one set, times a number: their fuzziness is times its square."""
    codes = np.repeat(range(4), 15)
    noise = np.random.default_rng(0).normal(size=(60, 6))
    noise -= np.stack([noise[codes == c].mean(axis=0) for c in range(4)])[codes]
    return {
        f"layer {place}": FeatureSet.from_arrays(MEANS[codes] + scale * noise, codes)
        for place, scale in enumerate(scales)
    }


@pytest.mark.parametrize("rho", [0.5, 0.93, 1.2])
def test_law_of_separation_is_found(rho: float):
    layers = layers_of([1.5 * rho ** (depth / 2) for depth in range(7)])
    fit = compare_layers(layers).fit
    assert fit["rho"] == pytest.approx(rho, rel=1e-9)
    assert fit["r_squared"] == pytest.approx(1, rel=1e-9)


def test_fit_is_least_squares_of_the_logarithm():
    found = compare_layers(layers_of([3, 2.9, 1.1, 1.2, 0.4]))
    fuzziness = [oracles.separation_fuzziness(split(one)) for one in layers_of([3, 2.9, 1.1, 1.2, 0.4]).values()]
    line = scipy.stats.linregress(range(5), np.log(fuzziness))
    assert found.fit["rho"] == pytest.approx(math.exp(line.slope), rel=1e-6)
    assert found.fit["r_squared"] == pytest.approx(line.rvalue**2, rel=1e-6)
    assert found.fit["r_squared"] < 0.95
    json.dumps(found.to_dict(), allow_nan=False)
    assert list(found.to_frame()["set"].unique()) == [f"layer {place}" for place in range(5)]


def test_layers_without_a_value_keep_their_place():
    layers = layers_of([2 * 0.8 ** (depth / 2) for depth in range(6)])
    layers["layer 2"] = FeatureSet.from_arrays(np.ones((8, 6)), [0, 1] * 4)  # all means coincide
    layers["layer 4"] = layers_of([0])["layer 0"]  # collapsed: no logarithm
    found = compare_layers(layers)
    assert found.reports["layer 2"].separation_fuzziness is None
    assert found.fit["rho"] == pytest.approx(0.8, rel=1e-9)
    assert found.fit["r_squared"] == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("number", [1, 2])
def test_too_few_layers_for_a_law(number: int):
    assert compare_layers(layers_of([1.0] * number)).fit.keys() == {"saturated"}


def test_layers_that_are_all_the_same():
    fit = compare_layers(layers_of([1.0] * 4)).fit
    assert fit == {"saturated": "layer 0", "rho": pytest.approx(1), "r_squared": None}


def test_no_layer():
    with pytest.raises(SettingError) as error:
        compare_layers({})
    says(error, "layers")


def saturated(accuracies: list[float], n: int) -> int:
    """The first that no later one exceeds by more than chance."""
    for place, accuracy in enumerate(accuracies):
        most = accuracy + 1.96 * math.sqrt(accuracy * (1 - accuracy) / n)
        if not any(later > most for later in accuracies[place + 1 :]):
            return place
    raise AssertionError


@pytest.mark.parametrize(
    ("scales", "expected"),
    [
        ([6, 3, 1.5, 0.9, 0.88], 3),  # a little more accurate still, but not by more than chance
        ([0.5, 6, 3], 0),
        ([6, 6, 6, 0.2], 3),
        ([6, 0.9, 6, 0.88], 1),  # a dip after it does not count
        ([0.1, 0.1], 0),
    ],
)
def test_saturated(scales: list[float], expected: int):
    layers = layers_of(scales)
    accuracies = [oracles.ncc_accuracy(split(one)) for one in layers.values()]
    assert saturated(accuracies, 60) == expected
    assert compare_layers(layers).fit["saturated"] == f"layer {expected}"

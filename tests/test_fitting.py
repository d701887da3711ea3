"""Fitting a head: what it promises, how it chooses, and what it refuses."""

import dataclasses
import json

import numpy as np
import pytest
import torch

import nctransfer as nct
from nctransfer.errors import FeaturesError, SettingError
from nctransfer.features.feature_set import FeatureSet
from nctransfer.heads.left_out_scores import left_out_scores
from nctransfer.heads.mistakes import class_accuracies, confusions
from nctransfer.heads.promises import lead_over, promise_of
from nctransfer.intervals import wilson


def gaussian(counts=(20,) * 5, width=8, apart=1.0, seed=0, means_seed=100):
    means = apart * np.random.default_rng(means_seed).normal(size=(len(counts), width))
    rng = np.random.default_rng(seed)
    rows = np.concatenate([mean + rng.normal(size=(count, width)) for mean, count in zip(means, counts, strict=True)])
    return FeatureSet.from_arrays(rows, np.repeat([f"class {code:02}" for code in range(len(counts))], counts))


def accuracy(head, data):
    return float((head.linear.scores(data.features).argmax(dim=1) == data.labels).double().mean())


def test_a_head_promises_what_other_images_give():
    train, test = gaussian(), gaussian(counts=(2000,) * 5, seed=1)
    found = nct.fit(train, device="cpu")
    low, high = found.head.promise.interval
    assert low < accuracy(found.head, test) < high
    assert high - low < 0.25
    top = found.head.linear.probabilities(test.features).amax(dim=1)
    assert float(top.mean()) == pytest.approx(accuracy(found.head, test), abs=0.08)
    assert found.head.promise.calibration_error < found.head.promise.calibration_error_before


def test_classifiers_are_compared_and_the_best_is_chosen():
    found = nct.fit(gaussian(), device="cpu")
    accuracies = [one.accuracy for one in found.candidates]
    assert {one.name for one in found.candidates} == {"ridge", "ncc", "cosine", "logistic"}
    assert accuracies == sorted(accuracies, reverse=True)
    assert found.head.classifier == found.chosen.name == found.candidates[0].name
    assert found.head.penalty == found.chosen.penalty
    for one in found.candidates[1:]:
        low, high = one.lead.interval
        assert low <= one.lead.difference <= high
        assert one.lead.difference == pytest.approx(accuracies[0] - one.accuracy, abs=1e-9)
        assert (one.name in found.choice.split("do not tell it apart")[0]) == one.lead.told_apart


def test_a_classifier_that_is_far_behind_is_told_apart():
    """By cosine, classes at different distances from the origin in one direction are the same."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([place * np.ones((40, 3)) + 0.3 * rng.normal(size=(40, 3)) for place in (5, 8, 11)])
    found = nct.fit(FeatureSet.from_arrays(rows, np.repeat(list("abc"), 40)), device="cpu")
    [cosine] = [one for one in found.candidates if one.name == "cosine"]
    assert cosine.lead.told_apart
    assert cosine.lead.difference > 0.3
    assert "more accurate than" in found.choice


def test_a_classifier_that_is_given_is_not_compared():
    found = nct.fit(gaussian(), "ncc", device="cpu")
    assert [one.name for one in found.candidates] == ["ncc"]
    assert found.choice is None
    assert found.better is None


def one_direction_of_many(seed=0):
    """Two classes that differ along one direction, which has less noise than all others."""
    rows = np.random.default_rng(seed).normal(size=(200, 3)) * [1, 30, 30]
    rows[:100, 0] += 5
    return FeatureSet.from_arrays(rows, np.repeat(["a", "b"], 100))


def test_a_classifier_that_is_better_than_the_named_one_is_said():
    data = one_direction_of_many()
    chosen, named = nct.fit(data, device="cpu"), nct.fit(data, "ncc", compare=True, device="cpu")
    [ridge] = [one for one in chosen.candidates if one.name == "ridge"]
    assert (named.better.name, named.better.accuracy, named.better.penalty) == ("ridge", ridge.accuracy, ridge.penalty)
    assert named.better.lead.difference == pytest.approx(ridge.accuracy - named.chosen.accuracy)
    assert named.better.lead.interval[0] > 0
    assert named.to_dict()["better"]["name"] == "ridge"
    assert named.to_dict()["better"]["difference"] > 0
    assert f" {100 * named.better.lead.difference:.1f} points more than ncc" in named.advice
    assert named.untried == {}
    assert named.advice.startswith(f"ridge would be more accurate: {ridge.accuracy:.1%}")
    assert nct.fit(data, "ridge", compare=True, device="cpu").better is None
    assert nct.fit(gaussian(), "ncc", compare=True, device="cpu").better is None  # ridge is not told apart from it
    assert chosen.better is None


def test_a_named_classifier_is_not_compared_where_that_takes_long(monkeypatch):
    monkeypatch.setattr("nctransfer.heads.better_classifier.MOST_COMPARED", 10)
    found = nct.fit(one_direction_of_many(), "ncc", compare=True, device="cpu")
    assert found.better is None
    assert [*found.untried] == ["ridge", "cosine"]
    [warning] = [one for one in found.warnings if "not tried" in one]
    assert warning.startswith("ridge and cosine were not tried: with so many images and classes")
    assert nct.fit(one_direction_of_many(), "ncc", device="cpu").untried == {}  # it was not asked for


def test_logistic_regression_is_left_out_of_the_choice_where_it_takes_long(monkeypatch):
    monkeypatch.setattr("nctransfer.heads.fitting.MOST_WORK", 10)
    found = nct.fit(gaussian(), device="cpu")
    assert {one.name for one in found.candidates} == {"ridge", "ncc", "cosine"}
    assert any("logistic" in warning for warning in found.warnings)


def test_held_out_answers_belong_to_the_head_in_the_order_of_the_set():
    train = gaussian()
    found = nct.fit(train, "ncc", device="cpu")
    left_out = left_out_scores(train, "ncc", "cpu")
    probabilities = (left_out.scores / found.head.linear.temperature).softmax(dim=1)
    held_out = found.head.held_out
    np.testing.assert_allclose(held_out.probability, probabilities.amax(dim=1), rtol=1e-5)
    assert torch.equal(held_out.right, probabilities.argmax(dim=1) == train.labels)
    assert held_out.unlikeness.shape == (len(train),)
    assert found.head.counts == (20,) * 5


def test_if_all_are_right_less_is_promised():
    found = nct.fit(gaussian(apart=30, counts=(5, 5)), device="cpu")
    promise = found.head.promise
    assert promise.accuracy == 1
    assert promise.interval[1] == 1
    assert 0.5 < promise.interval[0] < 0.95
    assert float(found.head.held_out.probability.mean()) < 0.95
    many = nct.fit(gaussian(apart=30, counts=(100, 100)), device="cpu")
    assert promise.interval[0] < many.head.promise.interval[0] < 1


def test_the_interval_is_wider_than_that_of_independent_answers_and_narrows_with_images():
    widths = []
    for each in (10, 40, 160):
        train = gaussian(counts=(each,) * 5, apart=0.6)
        left_out = left_out_scores(train, "ncc", "cpu")
        low, high = promise_of(left_out, train.labels).interval
        naive = wilson(left_out.right.sum().double(), torch.tensor(float(len(train))))
        assert high - low > float(naive[1] - naive[0]) * 0.95
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert widths[2] < 0.4 * widths[0]


def test_a_lead_is_paired():
    """A classifier against itself leads by nothing, though its accuracy is hardly known."""
    train = gaussian(counts=(15,) * 4, apart=0.5)
    one, other = (left_out_scores(train, name, "cpu") for name in ("ncc", "ridge"))
    same = lead_over(one, one, train.labels)
    assert same.difference == 0
    assert same.interval[1] < 0.08
    low, high = promise_of(one, train.labels).interval
    lead = lead_over(one, other, train.labels)
    assert lead.interval[1] - lead.interval[0] < high - low
    back = lead_over(other, one, train.labels)
    assert back.interval == (-lead.interval[1], -lead.interval[0])


def test_hardest_classes_and_confusions_are_counted():
    predicted, labels = torch.tensor([0, 0, 1, 1, 1, 2, 2, 0, 1]), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
    found = class_accuracies(predicted, labels, ("a", "b", "c", "unused"))
    assert [(one.name, one.right, one.images) for one in found] == [("c", 2, 4), ("a", 2, 3), ("b", 2, 2)]
    low, high = (float(end) for end in wilson(torch.tensor(2.0).double(), torch.tensor(4.0).double()))
    assert found[0].interval == pytest.approx((low, high))
    pairs = [(one.given, one.predicted, one.images, one.of) for one in confusions(predicted, labels, "abc")]
    assert pairs == [("a", "b", 1, 3), ("c", "a", 1, 4), ("c", "b", 1, 4)]
    assert confusions(labels, labels, "abc") == ()


@pytest.mark.parametrize(
    ("counts", "said", "hint"),
    [((6,), "1 class", "2 classes"), ((6, 1, 6), "'class 01'", "--drop-small"), ((6, 1), "'class 01'", "--drop-small")],
)
def test_too_few_classes_or_images_are_refused(counts, said, hint):
    with pytest.raises(FeaturesError, match=said) as caught:
        nct.fit(gaussian(counts=counts), device="cpu")
    assert hint in caught.value.hint


def test_classes_of_one_image_are_left_out_and_named():
    found = nct.fit(gaussian(counts=(6, 1, 6)), "ridge", drop_small=True, device="cpu")
    assert found.head.classes == ("class 00", "class 02")
    assert found.dropped == ("class 01",)
    assert "'class 01'" in found.warnings[0]
    with pytest.raises(FeaturesError, match="1 class;"):
        nct.fit(gaussian(counts=(6, 1)), drop_small=True, device="cpu")


def test_what_weakens_the_promise_is_said():
    train = gaussian(counts=(8, 3, 8, 8), width=3)
    twice = FeatureSet.from_arrays(
        torch.cat([train.features, train.features[:2]]), [*train.labels.tolist(), *train.labels[:2].tolist()]
    )
    said = " ".join(nct.fit(twice, "ridge", device="cpu").warnings)
    assert "'1'" in said  # the class of three
    assert "same features as an earlier sample" in said
    assert "4 classes and only 3 features" in said


def test_two_images_per_class_promise_too_little_and_that_is_said():
    found = nct.fit(gaussian(counts=(2,) * 4), "ncc", device="cpu")
    assert found.chosen.accuracy == found.chosen.measured  # nothing to extrapolate from
    assert any("every class has 2 images" in warning for warning in found.warnings)
    few = nct.fit(gaussian(counts=(5,) * 20, width=128, apart=0.36), "ncc", device="cpu")
    assert few.chosen.accuracy > few.chosen.measured
    assert any("extrapolation" in warning for warning in few.warnings)


def test_probabilities_that_are_far_off_are_said():
    found = nct.fit(gaussian(), "ncc", device="cpu")
    assert not any("probabilities" in warning for warning in found.warnings)
    off = dataclasses.replace(found.head.promise, calibration_error=found.calibration_noise + 0.04)
    other = dataclasses.replace(found, head=dataclasses.replace(found.head, promise=off))
    assert any("probabilities of ncc" in warning for warning in other.warnings)


def test_an_end_of_the_penalties_is_said():
    train = gaussian(apart=0.0, counts=(30,) * 3)  # nothing to learn: the largest penalty is best
    found = nct.fit(train, "ridge", device="cpu")
    assert found.chosen.is_at_end
    assert any("penalty" in warning for warning in found.warnings)


@pytest.mark.parametrize("name", ["rigde", "svm"])
def test_an_unknown_classifier_is_refused(name):
    with pytest.raises(SettingError, match=name) as caught:
        nct.fit(gaussian(), name)
    assert "ridge" in caught.value.hint


def test_an_error_that_cannot_be_shown_is_refused_and_a_possible_one_is_kept():
    train = gaussian(apart=2.0)
    with pytest.raises(FeaturesError):
        nct.fit(train, "ncc", max_error=0.001, device="cpu")
    found = nct.fit(train, "ncc", max_error=0.2, device="cpu")
    assert found.head.max_error == 0.2
    assert found.thresholds.error_bound <= 0.2


def test_nan_is_refused_before_anything_is_fitted():
    rows = np.ones((6, 2))
    rows[3, 1] = np.nan
    with pytest.raises(FeaturesError, match="NaN"):
        nct.fit(FeatureSet.from_arrays(rows, "aaabbb"))


def test_the_result_as_json_and_as_a_table():
    found = nct.fit(gaussian(counts=(6,) * 3, apart=0.7), device="cpu")
    value = json.loads(json.dumps(found.to_dict()))
    assert set(value["candidates"][0]) >= {"name", "accuracy", "difference", "difference_interval", "told_apart"}
    assert value["promise"]["population"] == "samples"
    assert value["promise"]["interval"] == list(found.head.promise.interval)
    assert value["head"]["temperature"] == found.head.linear.temperature
    frame = found.to_frame()
    assert list(frame["name"]) == [one.name for one in found.classes]
    assert frame["right"].sum() == int(found.head.held_out.right.sum())
    assert sum(one.images for one in found.confusions) == int((~found.head.held_out.right).sum())


def test_progress_is_told():
    told = []
    nct.fit(gaussian(counts=(4, 4)), device="cpu", progress=lambda *now: told.append(now))
    assert told[0] == ("fitting", 0, 4)
    assert told[-1] == ("fitting", 4, 4)


def test_the_order_and_unit_of_rows_do_not_matter():
    train = gaussian(counts=(9, 7, 8))
    scaled = dataclasses.replace(train, features=train.features * 1000)
    one, two = (nct.fit(data, "ridge", device="cpu") for data in (train, scaled))
    assert one.head.promise.interval == pytest.approx(two.head.promise.interval, abs=1e-9)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(train)))
    ids = [train.ids[i] for i in order.tolist()]
    names = [train.classes[code] for code in train.labels[order].tolist()]
    mixed = nct.fit(FeatureSet.from_arrays(train.features[order], names, ids), "ridge", device="cpu")
    assert mixed.to_dict()["promise"] == one.to_dict()["promise"]


def test_a_head_is_shown_in_one_line():
    head = nct.fit(gaussian(), "ncc", device="cpu").head
    assert repr(head) == f"Head(ncc, 5 classes, features made elsewhere, expected accuracy {head.promise.accuracy:.1%})"

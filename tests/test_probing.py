"""The linear probe against scikit-learn's Ridge, refitted without each sample in turn."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

import nctransfer as nct
from messages import logged, says
from nctransfer.errors import DeviceError, FeaturesError
from nctransfer.evaluation.linear_probe import ProbeResult, probe
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.features.feature_set import FeatureSet
from nctransfer.features.feature_stream import FeatureStream

Matrix = NDArray[np.float64]

CLASSES = ("ant", "bee", "cat", "dog")
MEANS = np.random.default_rng(7).normal(size=(4, 60))


def a_set(
    counts: Sequence[int] = (12, 12, 12), d: int = 6, seed: int = 0, spread: float = 1.5, name: str = "train"
) -> FeatureSet:
    """Classes that overlap, so that no accuracy is 0 or 1; a count of 0 leaves a class out."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(range(len(counts)), counts)
    x = MEANS[codes, :d] + spread * rng.normal(size=(len(codes), d)) * np.linspace(0.2, 1.5, d)
    return FeatureSet.from_arrays(x, [CLASSES[code] for code in codes], info=FeatureInfo(name))


def fitted(features: FeatureSet, penalty: float, without: int | None = None) -> Ridge:
    kept = np.arange(len(features)) != without
    targets = np.eye(len(features.classes))[features.labels]
    return Ridge(penalty, solver="cholesky").fit(features.features.numpy()[kept], targets[kept])


def penalties(features: FeatureSet) -> list[float]:
    centred = features.features.numpy() - features.features.numpy().mean(axis=0)
    return [10.0**exponent * float((centred**2).sum(axis=1).mean()) for exponent in range(-3, 4)]


def left_out(features: FeatureSet, penalty: float) -> Matrix:
    """The scores of each sample by the fit on all others."""
    rows = features.features.numpy()
    return np.concatenate([fitted(features, penalty, i).predict(rows[i : i + 1]) for i in range(len(rows))])


def by_refits(features: FeatureSet) -> tuple[int, float, NDArray[np.bool_]]:
    """Number and value of the best penalty, and which samples are right when left out."""
    targets = np.eye(len(features.classes))[features.labels]
    scores = [left_out(features, penalty) for penalty in penalties(features)]
    best = int(np.argmin([((one - targets) ** 2).sum() for one in scores]))
    return best, penalties(features)[best], scores[best].argmax(axis=1) == features.labels.numpy()


def of_classes(right: NDArray[np.bool_], features: FeatureSet) -> dict[str, float]:
    return {name: float(right[features.labels.numpy() == c].mean()) for c, name in enumerate(features.classes)}


# Without a test set


@pytest.mark.parametrize(
    ("counts", "d", "spread", "expected"),
    [
        ((12, 12, 12), 6, 1.5, None),
        ((12, 12, 12), 6, 0.1, 0),  # the classes are far apart: the smallest penalty
        ((5, 19, 9), 6, 1.5, None),  # of unequal size
        ((6, 6, 6, 6), 60, 1.5, None),  # more dimensions than samples
        ((9, 9), 1, 1.5, None),
        ((10, 2, 10), 4, 1.5, None),  # a class of which one sample is left
        ((8, 8, 8, 8), 6, 40.0, None),  # hardly a class
    ],
)
def test_each_sample_left_out_as_by_refits(
    counts: tuple[int, ...], d: int, spread: float, expected: int | None
) -> None:
    features = a_set(counts, d, spread=spread)
    best, penalty, right = by_refits(features)
    found = probe(features)
    assert expected is None or best == expected
    assert found.ridge_lambda == pytest.approx(penalty, rel=1e-9)
    assert found.is_at_end == (best in (0, 6))
    assert found.accuracy == found.loo_accuracy == right.mean()
    assert found.classes == pytest.approx(of_classes(right, features))
    assert found.balanced_accuracy == pytest.approx(np.mean(list(found.classes.values())))
    assert found.test is None


def test_the_cases_are_told_apart() -> None:
    # the test above could not fail if all of them chose the same penalty, or were right everywhere
    assert len({by_refits(a_set(spread=spread))[0] for spread in (0.1, 1.5, 40)}) == 3
    assert 0.4 < probe(a_set()).accuracy < 1
    unequal = probe(a_set((5, 19, 9)))
    assert unequal.balanced_accuracy != pytest.approx(unequal.accuracy, abs=1e-3)


@pytest.mark.parametrize(("spread", "is_at_end"), [(0.01, True), (1.5, False)])
def test_a_penalty_at_the_end_of_the_choice(spread: float, is_at_end: bool) -> None:
    assert probe(a_set(spread=spread)).is_at_end == is_at_end


def test_largest_penalty_is_at_the_end_too() -> None:
    noise = FeatureSet.from_arrays(np.random.default_rng(0).normal(size=(20, 30)), [*"ab"] * 10)
    found = probe(noise)
    assert by_refits(noise)[0] == 6
    assert found.ridge_lambda == pytest.approx(penalties(noise)[6])
    assert found.is_at_end


def test_a_sample_is_not_judged_by_itself() -> None:
    # noise in many dimensions is learnt by heart: but for the samples left out
    noise = FeatureSet.from_arrays(np.random.default_rng(0).normal(size=(60, 200)), [*"ab"] * 30)
    assert probe(noise).accuracy < 0.7


@pytest.mark.parametrize("change", ["shift", "scale", "rotate", "order"])
def test_what_changes_nothing(change: str) -> None:
    features = a_set((9, 14, 11))
    x, labels = features.features.numpy(), [features.classes[code] for code in features.labels.tolist()]
    rng = np.random.default_rng(1)
    order = rng.permutation(len(x)) if change == "order" else np.arange(len(x))
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0] if change == "rotate" else np.eye(6)
    moved = (x @ rotation + 1000 * (change == "shift")) * (100 if change == "scale" else 1)
    found = probe(FeatureSet.from_arrays(moved[order], [labels[i] for i in order]))
    expected = probe(features)
    assert found.ridge_lambda == pytest.approx(expected.ridge_lambda * (1e4 if change == "scale" else 1), rel=1e-6)
    assert found.classes == expected.classes
    assert 0.3 < expected.accuracy < 1


def test_float32_is_computed_in_float64() -> None:
    features = a_set()
    x = features.features.float() + 300  # the mean, squared, would swallow the variance
    labels = [features.classes[code] for code in features.labels.tolist()]
    single = FeatureSet.from_arrays(x, labels)
    assert single.features.dtype == torch.float32
    expected = by_refits(FeatureSet.from_arrays(x.double(), labels))
    assert probe(single).ridge_lambda == pytest.approx(expected[1], rel=1e-9)
    assert probe(single).accuracy == expected[2].mean()


def test_features_that_are_all_equal() -> None:
    found = probe(FeatureSet.from_arrays(np.ones((9, 3)), [*"aaaaabbbb"]))
    assert math.isfinite(found.ridge_lambda)
    assert found.accuracy == 5 / 9  # the larger class; without one of them they are equal, and the first is taken


# With a test set


@pytest.mark.parametrize(("counts", "d", "spread"), [((12, 12, 12), 6, 1.5), ((6, 7, 8), 60, 2.5)])
def test_accuracy_on_a_test_set(counts: tuple[int, ...], d: int, spread: float) -> None:
    train, test = a_set(counts, d, spread=spread), a_set((40, 20, 5), d, seed=1, spread=spread, name="test")
    _, penalty, right = by_refits(train)
    chosen = fitted(train, penalty).predict(test.features.numpy()).argmax(axis=1)
    is_right = chosen == test.labels.numpy()
    found = probe(train, test)
    assert found.ridge_lambda == pytest.approx(penalty)
    assert found.accuracy == is_right.mean()
    assert found.classes == pytest.approx(of_classes(is_right, test))
    assert found.balanced_accuracy == pytest.approx(np.mean(list(found.classes.values())))
    assert found.loo_accuracy == right.mean()
    assert len({found.accuracy, found.balanced_accuracy, found.loo_accuracy}) == 3


def test_a_test_set_of_some_of_the_classes() -> None:
    train = a_set((12, 12, 12, 12))
    test = a_set((0, 30, 0, 10), seed=1, name="test")
    assert test.classes == ("bee", "dog")  # whose codes are 0 and 1
    chosen = fitted(train, probe(train).ridge_lambda).predict(test.features.numpy()).argmax(axis=1)
    is_right = chosen == np.repeat([1, 3], [30, 10])
    found = probe(train, test)
    assert found.accuracy == is_right.mean()
    bee, dog = is_right[:30].mean(), is_right[30:].mean()
    assert found.classes == {"ant": None, "bee": bee, "cat": None, "dog": dog}
    assert found.balanced_accuracy == pytest.approx((bee + dog) / 2)
    assert set(chosen) - {1, 3}, "a choice among all classes of the training"


def test_sets_of_ones_own_arrays() -> None:
    train, test = (FeatureSet.from_arrays(one.features, one.labels) for one in (a_set(), a_set(seed=1)))
    assert probe(train, test).accuracy == probe(a_set(), a_set(seed=1, name="test")).accuracy


def test_a_test_of_the_training_samples_is_refused() -> None:
    features = a_set()
    with pytest.raises(FeaturesError) as error:
        probe(features, features)
    says(error, "train")
    assert error.value.hint


def test_another_reading_of_the_same_file_is_refused() -> None:
    info = FeatureInfo("f", path="/f.parquet")
    train, test = (FeatureSet.from_arrays(one.features, one.labels, info=info) for one in (a_set(), a_set()))
    with pytest.raises(FeaturesError) as error:
        probe(train, test)
    says(error, "f")


@pytest.mark.parametrize(
    ("known", "names"),
    [((3, 3), ["'cat'"]), ((3, 0, 0, 3), ["'bee'", "'cat'"])],
)
def test_classes_that_the_training_has_not(known: tuple[int, ...], names: list[str]) -> None:
    with pytest.raises(FeaturesError) as error:
        probe(a_set(known), a_set((3, 3, 3), name="test"))
    says(error, "test", len(names), *names, hint="--classes")
    assert error.value.message.count("'") == 2 * len(names)


def test_of_many_unknown_classes_the_first_are_named() -> None:
    test = FeatureSet.from_arrays(np.eye(6), [*"uvwxyz"], info=FeatureInfo("test"))
    with pytest.raises(FeaturesError) as error:
        probe(a_set(), test)
    says(error, 6, "'u'", "'v'", "'w'", "…")
    assert "'x'" not in error.value.message


def test_a_test_set_of_another_width() -> None:
    with pytest.raises(FeaturesError) as error:
        probe(a_set(), a_set(d=5, name="test"))
    says(error, 5, 6)


@pytest.mark.parametrize(("labels", "left"), [("aa", 1), ("a", 0), ("aab", 1), ("abc", 0)])
def test_one_class_is_no_task(labels: str, left: int) -> None:
    with pytest.raises(FeaturesError) as error:
        probe(FeatureSet.from_arrays(np.eye(3)[: len(labels)], labels))
    says(error, "arrays", left)
    assert error.value.hint


def test_a_class_of_one_sample_is_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    x = np.concatenate([a_set().features, a_set(seed=5).features[:1]])
    labels = [*np.repeat(CLASSES[:3], 12), "all alone"]
    found = probe(FeatureSet.from_arrays(x, labels, info=FeatureInfo("train")))
    assert len(caplog.messages) == len(logged(caplog, 1, "'all alone'")) == 1
    assert found == probe(a_set())
    with pytest.raises(FeaturesError) as error:
        probe(
            FeatureSet.from_arrays(x, labels),
            FeatureSet.from_arrays(x[[0, -1]], ["ant", "all alone"], info=FeatureInfo("test")),
        )
    says(error, 1, "'all alone'")


def test_of_many_classes_of_one_sample_the_first_are_named(caplog: pytest.LogCaptureFixture) -> None:
    probe(FeatureSet.from_arrays(np.random.default_rng(0).normal(size=(11, 2)), "aabbcdefghi"))
    assert len(caplog.messages) == len(logged(caplog, 7, "'c'", "'d'", "'e'", "'f'", "'g'", "…")) == 1
    assert "'h'" not in caplog.text


@pytest.mark.parametrize("with_test", [False, True])
def test_no_such_device(with_test: bool) -> None:
    with pytest.raises(DeviceError):
        probe(a_set(), a_set(seed=1, name="test") if with_test else None, device="abacus")


# Streams


def stream(features: FeatureSet, seed: int, batch: int = 7) -> FeatureStream:
    """The same samples in any order, and between them rows that are passed over."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([features.features.numpy(), np.full((5, features.dim), 1e6)])
    labels = np.concatenate([features.labels.numpy(), np.full(5, -1)])
    order = rng.permutation(len(rows))
    parts = [rows[order[start : start + batch]] for start in range(0, len(order), batch)]
    return FeatureStream(
        labels=torch.from_numpy(labels[order]),
        classes=features.classes,
        dim=features.dim,
        info=features.info,
        read=lambda: iter(parts),
    )


@pytest.mark.parametrize("with_test", [False, True])
def test_streams_give_what_sets_in_memory_give(with_test: bool) -> None:
    train, test = a_set((9, 14, 11)), a_set((0, 20, 30), seed=1, name="test")
    expected = probe(train, test if with_test else None)
    found = probe(stream(train, 0), stream(test, 1) if with_test else None)
    assert found.ridge_lambda == pytest.approx(expected.ridge_lambda, rel=1e-12)
    assert (found.accuracy, found.balanced_accuracy, found.loo_accuracy) == pytest.approx(
        (expected.accuracy, expected.balanced_accuracy, expected.loo_accuracy), rel=1e-12
    )
    assert (found.classes, found.ci95) == (expected.classes, expected.ci95)
    assert (found.train, found.test) == (expected.train, expected.test)


# The result


@pytest.mark.parametrize("spread", [0.1, 0.7, 1.5, 40])
def test_the_interval_is_wilsons(spread: float) -> None:
    features = a_set((20, 20, 17), spread=spread)
    found = probe(features)
    expected = scipy.stats.binomtest(round(found.accuracy * 57), 57).proportion_ci(method="wilson")
    assert found.ci95 == pytest.approx((expected.low, expected.high), abs=1e-5)
    assert 0 < found.ci95[0] < found.ci95[1] < 1 or found.accuracy == 1


def test_the_interval_is_over_the_test_samples() -> None:
    test = a_set((70, 70, 70), seed=1, name="test")
    found = probe(a_set(), test)
    expected = scipy.stats.binomtest(round(found.accuracy * 210), 210).proportion_ci(method="wilson")
    assert found.ci95 == pytest.approx((expected.low, expected.high), abs=1e-5)


@pytest.mark.parametrize("with_test", [False, True])
def test_as_json_and_as_a_row(with_test: bool) -> None:
    found = probe(a_set(), a_set((0, 9, 9), seed=1, name="test") if with_test else None)
    assert isinstance(found, ProbeResult)
    as_json = json.loads(json.dumps(found.to_dict(), allow_nan=False))["probe"]
    assert as_json == {
        "train": found.train.to_dict(),
        "test": found.test.to_dict() if found.test else None,
        "accuracy": found.accuracy,
        "ci95": list(found.ci95),
        "balanced_accuracy": found.balanced_accuracy,
        "loo_accuracy": found.loo_accuracy,
        "ridge_lambda": found.ridge_lambda,
        "is_at_end": found.is_at_end,
        "classes": found.classes,
        "leaks": found.leaks.to_dict(),
    }
    assert found.train == a_set().describe()
    row = found.to_row()
    assert (row["train"], row["test"]) == ("train", "test" if with_test else None)
    assert (row["ci95_low"], row["ci95_high"]) == found.ci95
    assert all(row[name] == as_json[name] for name in row.keys() & as_json.keys() - {"train", "test"})
    assert row.keys() - as_json.keys() == {"ci95_low", "ci95_high"}


def test_it_is_public() -> None:
    assert nct.probe is probe

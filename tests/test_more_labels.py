"""What twice as many labelled images are said to give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import nctransfer as nct
from clusters import normal_classes, set_of
from nctransfer.evaluation.all_ways import AllWaysTask, all_ways_accuracy
from nctransfer.heads import more_labels as module
from nctransfer.heads.more_labels import MoreLabels, gain_of_more_labels
from nctransfer.report.fit_sheets import fit_sheets

NOISY = {"d": 30, "apart": 0.4}


def test_the_gain_is_that_of_twice_as_many_images() -> None:
    found = gain_of_more_labels(set_of(normal_classes([15] * 8, **NOISY)), "ncc")
    assert found is not None
    many = set_of(normal_classes([120] * 8, draw=1, **NOISY))
    truth = all_ways_accuracy(many, AllWaysTask(shots=(15, 30), classifiers="ncc", draws=20)).estimates
    gain = truth[30, "ncc"].accuracy - truth[15, "ncc"].accuracy
    assert gain > 0.02
    assert found.gain[0] <= gain <= found.gain[1]
    assert (found.images, found.classifier) == (15, "ncc")


def test_classes_far_apart_gain_nothing() -> None:
    found = gain_of_more_labels(set_of(normal_classes([12] * 4, d=8, apart=20.0)), "ncc")
    assert found is None or found.gain[1] < 0.01


def test_the_curve_of_logistic_regression_is_that_of_ridge() -> None:
    found = gain_of_more_labels(set_of(normal_classes([15] * 4, **NOISY)), "logistic")
    assert isinstance(found, MoreLabels)
    assert found.classifier == "ridge"


@pytest.mark.parametrize("counts", [[1, 9, 9], [3, 3, 3]])
def test_too_few_images_have_no_curve(counts: list[int]) -> None:
    assert gain_of_more_labels(set_of(normal_classes(counts)), "ncc") is None


def test_a_curve_of_very_many_images_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_IMAGES", 50)
    rows = np.random.default_rng(0).normal(size=(51, 3))
    assert gain_of_more_labels(set_of([rows[:25], rows[25:]]), "ncc") is None


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        ((0.0101, 0.0252), "rise by 1.0 to 2.5 points: the range"),
        ((0.0051, 0.0053), "rise by about 0.5 points,"),
        ((0.0, 0.0001), "not rise:"),
    ],
)
def test_the_gain_in_words(gain: tuple[float, float], words: str) -> None:
    """A range whose ends look the same is one number."""
    found = nct.fit(set_of(normal_classes([15] * 3)), "ncc", device="cpu")
    more = MoreLabels(images=15, gain=gain, classifier="ncc")
    text = " ".join(sheet.reading for sheet in fit_sheets(replace(found, more_labels=more)))
    assert f"the accuracy would {words}" in text

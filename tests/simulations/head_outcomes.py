"""Promise against outcome: heads fitted to some of the images of real data, and tested on the others.

The features are those of the stored sets in the folder ``$NCTRANSFER_FEATURES``, or else of ``tf_efficientnet_lite0``
on the data in ``../shared``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from laws import feature_set, real_sets
from scipy.optimize import minimize_scalar

from nctransfer.features.feature_set import FeatureSet
from nctransfer.heads.calibration import (
    calibration_noise,
    expected_calibration_error,
    fitted_temperature,
    log_loss,
)
from nctransfer.heads.head import Promise
from nctransfer.heads.left_out_scores import HEAD_CLASSIFIERS, LeftOut, left_out_scores
from nctransfer.heads.promises import promise_of
from nctransfer.intervals import Z
from page_tables import markdown

TITLE = "Promise against outcome on real images"
STUDIES = 3  # random choices of the images that heads are fitted to
IMAGES = {"Caltech": (5, 15, 20), "CIFAR-FS": (5, 20, 50), "Omniglot": (5, 10, 15)}  # per class; one is half of them
MOST_WORK = 3e7  # images × features × classes of logistic regression


class Cell(NamedTuple):
    """A head, what it promised, and what came of it."""

    data: str
    images: int
    classifier: str
    accuracy: float
    promised: float
    half_width: float
    inside: bool
    compatible: bool
    before: float
    error: float
    by_loss: float
    noise: float


def table(studies: int) -> str:
    """By data, images per class and classifier: accuracies, how many promises held, and calibration errors."""
    cells = [
        cell
        for data, name, rows in real_sets()
        for each in IMAGES.get(data, ())
        for number in range(studies)
        for cell in of_split(data, name, rows, each, number)
    ]
    keys = dict.fromkeys((one.data, one.images, one.classifier) for one in cells)
    lines = [line([one for one in cells if one[:3] == key], *map(str, key)) for key in keys]
    for classifier in (*HEAD_CLASSIFIERS, "auto"):
        for few, images in ((True, "5"), (False, "more")):
            some = [one for one in cells if one.classifier == classifier and (one.images == 5) == few]
            if some:
                lines.append(line(some, "all", images, classifier))
    heads = ["data", "images per class", "classifier", "heads", "accuracy", "promised", "promise holds", "compatible"]
    return markdown([*heads, "ECE before", "ECE", "ECE by log loss", "of noise alone"], lines)


def of_split(data: str, name: str, rows: np.ndarray, each: int, number: int) -> Iterator[Cell]:
    """The cells of one random choice of ``each`` images per class."""
    rng = np.random.default_rng(number)
    mixed = np.stack([some[rng.permutation(len(some))] for some in rows])
    train, test = feature_set(mixed[:, :each]), feature_set(mixed[:, each:])
    best: tuple[float, Cell] | None = None
    for classifier in HEAD_CLASSIFIERS:
        work = len(train) * min(len(train), train.dim) * len(train.classes)
        if classifier == "logistic" and work > MOST_WORK:
            continue
        found = left_out_scores(train, classifier, "cpu")
        cell = outcome(data, each, found, train, test)
        yield cell
        if best is None or float(found.hits.mean()) > best[0]:
            best = float(found.hits.mean()), cell
    assert best is not None
    yield best[1]._replace(classifier="auto")
    print(name, each, number, f"{best[1].promised:.3f} promised, {best[1].accuracy:.3f}", flush=True)


def outcome(data: str, each: int, found: LeftOut, train: FeatureSet, test: FeatureSet) -> Cell:
    """What a head promises, and what it does on the other images."""
    temperature = fitted_temperature(found.scores, train.labels)
    found = dataclasses.replace(found, linear=dataclasses.replace(found.linear, temperature=temperature))
    promise = promise_of(found, train.labels)
    scores = found.linear.scores(test.features).double()
    accuracy = float((scores.argmax(dim=1) == test.labels).double().mean())
    low, high = promise.interval
    wide_low, wide_high = outcome_interval(promise, len(test))

    def error(temperature: float) -> float:
        return expected_calibration_error((scores / temperature).softmax(dim=1), test.labels)

    return Cell(
        data,
        each,
        found.classifier,
        accuracy,
        promise.accuracy,
        (high - low) / 2,
        low <= accuracy <= high,
        wide_low <= accuracy <= wide_high,
        error(1.0),
        error(temperature),
        error(by_log_loss(found.scores, train.labels, temperature)),
        calibration_noise((scores / temperature).softmax(dim=1)),
    )


def outcome_interval(promise: Promise, images: int) -> tuple[float, float]:
    """Where the accuracy on so many images should lie in 95 of 100 cases: that on few images varies more."""
    low, high = promise.interval
    below = math.hypot(promise.accuracy - low, Z * math.sqrt(low * (1 - low) / images))
    above = math.hypot(high - promise.accuracy, Z * math.sqrt(high * (1 - high) / images))
    return max(promise.accuracy - below, 0.0), min(promise.accuracy + above, 1.0)


def by_log_loss(scores: torch.Tensor, labels: torch.Tensor, near: float) -> float:
    """The temperature with the smallest logarithmic loss."""

    def loss(log_temperature: float) -> float:
        return log_loss(scores, labels, near * float(np.exp(log_temperature)))

    return near * float(np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded").x))


def line(cells: Sequence[Cell], data: str, images: str, classifier: str) -> list[str]:
    """One row of the table."""

    def mean(values: Sequence[float], digits: int = 1) -> str:
        return f"{100 * float(np.mean(values)):.{digits}f}"

    return [
        data,
        images,
        classifier,
        str(len(cells)),
        mean([one.accuracy for one in cells]),
        f"{mean([one.promised for one in cells])} ± {mean([one.half_width for one in cells])}",
        f"{mean([one.inside for one in cells], 0)}%",
        f"{mean([one.compatible for one in cells], 0)}%",
        mean([one.before for one in cells]),
        mean([one.error for one in cells]),
        mean([one.by_loss for one in cells]),
        mean([one.noise for one in cells]),
    ]

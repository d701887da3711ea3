"""Accuracy on all classes at once: how often its interval covers what other images of these classes would give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from laws import LAWS, Law, backbones

from nctransfer.evaluation.all_ways import AllWaysTask, all_ways_accuracy
from page_tables import markdown

TITLE = "Accuracy on all classes: coverage of its 95% interval"
STUDIES = 200
CLASSIFIER = "ridge"
GAUSSIAN, _, HEAVY, _ = LAWS
SETTINGS = ((GAUSSIAN, 1.0), (GAUSSIAN, 0.5), (HEAVY, 1.0), (HEAVY, 0.5))  # a law, and the scale of its noise
CLASSES = (2, 3, 5, 20)
IMAGES = (8, 10, 16, 20)


class Interval(NamedTuple):
    """An accuracy and its interval in one study."""

    accuracy: float
    low: float
    high: float


def intervals(law: Law, scale: float, classes: int, each: int, studies: int) -> Mapping[int, Sequence[Interval]]:
    """The intervals of all studies, by shots. The classes are the same in all of them, only images are drawn."""
    shots = sorted({1, 5, each - 2})
    task = AllWaysTask(shots=shots, classifiers=CLASSIFIER)
    found: dict[int, list[Interval]] = {number: [] for number in shots}
    for study in range(studies):
        means, images = np.random.default_rng(7), np.random.default_rng([11, study])
        [features] = backbones(law, means, images, classes, each, [scale], own_means=False)
        for (number, _), one in all_ways_accuracy(features, task, device="cpu").estimates.items():
            found[number].append(Interval(one.accuracy, *one.interval))
    return found


def row(law: Law, scale: float, classes: int, each: int, studies: int) -> list[str]:
    """One row of the table."""
    cells = []
    for found in intervals(law, scale, classes, each, studies).values():
        accuracy, low, high = np.array(found).T
        truth = accuracy.mean()  # each study is unbiased
        covers = ((low <= truth) & (truth <= high)).mean()
        cells.append(f"{truth:.0%} ± {50 * (high - low).mean():.1f}: {covers:.1%}")
    line = [law.name, f"{scale:g}", str(classes), str(each), *cells]
    print("| " + " | ".join(line) + " |", flush=True)
    return line


def table(studies: int) -> str:
    """Accuracy, half-width and coverage for few images per class."""
    heads = ("law", "noise", "classes", "images per class", "1 shot", "5 shots", "all but 2 shots")
    return markdown(
        heads,
        [row(law, scale, classes, each, studies) for law, scale in SETTINGS for classes in CLASSES for each in IMAGES],
    )

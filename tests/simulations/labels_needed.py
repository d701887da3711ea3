"""Does the number of labels that a target takes lie in its interval, read off the curve or extrapolated?

The first part needs no data. The second takes features from the folder ``$NCTRANSFER_FEATURES``, in which every stored
set counts, or else those of ``tf_efficientnet_lite0`` on the data in ``../shared``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from laws import LAWS, Law, feature_set, real_sets

from nctransfer.evaluation.isotonic import first_reaching, isotonic
from nctransfer.evaluation.labels_needed import labels_needed
from nctransfer.evaluation.learning_curve import learning_curve

TITLE = "Labels needed: how often the true number lies in its interval"

STUDIES = 2  # random subsets of each set of features; of each law, fifty times as many
CLASSIFIERS = ("ridge", "ncc")
NUMBERS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 80)  # targets are what these numbers of labels reach in truth
CLASSES, IMAGES, POPULATION, MOST = 10, 20, 2000, 80  # of a law
DRAWS = 64  # at most; more would narrow the intervals a little


class Cell(NamedTuple):
    """A target: the true number of labels, and what was said of it."""

    name: str
    truth: int
    low: int
    high: float
    extrapolated: bool


def table(studies: int) -> str:
    """One row for each law and each data set, read off and extrapolated.

    Args:
        studies: Random subsets of each set of features; of each law, fifty times as many.
    """
    cells = [cell for law in LAWS for cell in _of_law(law, 50 * studies)]
    parts = [_lines("law", cells, [law.name for law in LAWS])]
    found: list[Cell] = []
    for number, (data, name, rows) in enumerate(real_sets()):
        found += _of_features(number, data, rows, studies)
        print(f"{name}: {len(found)} cells so far", flush=True)
    if found:
        parts.append(_lines("data", found, dict.fromkeys(cell.name for cell in found)))
    return "\n\n".join(parts)


def _of_law(law: Law, studies: int) -> Iterator[Cell]:
    """The classes are the same in all studies, and so is the truth: the curve of many images of them."""
    means = law.means(np.random.default_rng(1), CLASSES)
    spread = np.exp(law.spread * np.random.default_rng(2).normal(size=(CLASSES, 1, 1)))

    place = LAWS.index(law)

    def drawn(seed: int, each: int) -> np.ndarray:
        return means[:, None] + spread * law.noise(np.random.default_rng([place, seed]), CLASSES, each)

    truth = _curves(drawn(0, POPULATION), MOST)
    for study in range(studies):
        yield from _cells(law.name, truth, drawn(1 + study, IMAGES), study)


def _of_features(number: int, data: str, rows: np.ndarray, studies: int) -> Iterator[Cell]:
    """Random images of each class stand for those at hand, others for each set; all images are the population."""
    each = rows.shape[1]
    truth = _curves(rows, 9 * each // 10)
    for size in (min(20, 2 * each // 5), min(40, each // 2)):
        for study in range(studies):
            images = np.random.default_rng([number, size, study])
            chosen = np.stack([one[images.permutation(each)[:size]] for one in rows])
            yield from _cells(data, truth, chosen, study)


Truth = dict[str, tuple[list[int], tuple[float, ...]]]


def _curves(rows: np.ndarray, most: int) -> Truth:
    """The true learning curve of each classifier: shots and accuracies."""
    found = learning_curve(feature_set(rows), CLASSIFIERS, most_shots=most, draws=2 * DRAWS, device="cpu")
    shots = list(found.task.shots)
    return {
        name: (shots, isotonic([found.estimates[number, name].accuracy for number in shots])) for name in CLASSIFIERS
    }


def _cells(name: str, truth: Truth, rows: np.ndarray, seed: int) -> Iterator[Cell]:
    """Predictions from some images for targets that the true curve reaches."""
    curve = learning_curve(feature_set(rows), CLASSIFIERS, seed=seed, draws=DRAWS, device="cpu")
    for classifier, (shots, accuracies) in truth.items():
        for number in NUMBERS:
            if number > shots[-1]:
                break
            target = round(200 * float(np.interp(math.log(number), np.log(shots), accuracies))) / 200
            true = first_reaching(shots, accuracies, target)
            if true is None or true < 2:
                continue
            found = labels_needed(curve, classifier, target)
            low, high = found.interval
            yield Cell(name, true, low, math.inf if high is None else high, found.extrapolated)


def _lines(head: str, cells: list[Cell], names: Iterable[str]) -> str:
    lines = [
        f"| {head} | number | targets | covers | too high | too low | median high/low | without an upper end |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for extrapolated in (False, True):
        kind = [cell for cell in cells if cell.extrapolated == extrapolated]
        for name in [*names, "all"]:
            if of := [cell for cell in kind if name in (cell.name, "all")]:
                lines.append(f"| {name} | {'extrapolated' if extrapolated else 'read off'} | {_numbers(of)} |")
    return "\n".join(lines)


def _numbers(cells: list[Cell]) -> str:
    too_high = np.mean([cell.truth < cell.low for cell in cells])
    too_low = np.mean([cell.truth > cell.high for cell in cells])
    ratio = float(np.quantile([cell.high / cell.low for cell in cells], 0.5, method="lower"))
    endless = np.mean([math.isinf(cell.high) for cell in cells])
    width = "–" if math.isinf(ratio) else f"{ratio:.1f}"
    return f"{len(cells):,} | {1 - too_high - too_low:.1%} | {too_high:.1%} | {too_low:.1%} | {width} | {endless:.0%}"

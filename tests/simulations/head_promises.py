"""Promises of heads: how often their intervals hold the accuracy of this very head on other images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from nctransfer.devices import with_float64
from nctransfer.evaluation.ridge_regression import RidgeRegressions
from nctransfer.features.feature_set import FeatureSet
from nctransfer.heads.left_out_scores import LeftOut, left_out_scores
from nctransfer.heads.promises import lead_over, promise_of
from nctransfer.intervals import wilson
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from page_tables import markdown

TITLE = "Promises of heads: coverage of their 95% intervals"
STUDIES = 40
NAMES = ("ridge", "ncc", "cosine")
COLUMNS = (*NAMES, "auto", "one left out")
CLASSES, IMAGES, WIDTHS, LAWS = (2, 5, 20, 60), (5, 20, 50), (16, 200), ("Gaussian", "far apart", "heavy tails")
APART = {2: 2.5, 5: 3.0, 20: 3.6, 60: 4.2}  # standard deviations between two classes; with 200 features, 1.6 times
TESTED = 10_000  # images, which stand for infinitely many

Draw = Callable[[np.random.Generator, int], np.ndarray]


class Outcome(NamedTuple):
    """What was promised in one study, and what came of it."""

    accuracy: float
    low: float
    high: float
    leads_falsely: bool = False


def law(name: str, classes: int, width: int) -> Draw:
    """A law of images, ``(C, n, d)`` from a generator and n. Its classes are the same in every study."""
    rng = np.random.default_rng(7)
    apart = APART[classes] * (1 if width == WIDTHS[0] else 1.6) * (1.8 if name == "far apart" else 1)
    means = apart / np.sqrt(2 * width) * rng.normal(size=(classes, 1, width))
    heavy = name == "heavy tails"  # t with 4 degrees of freedom, in classes of unequal spread
    spread = np.exp((0.4 if heavy else 0.0) * rng.normal(size=(classes, 1, 1)))

    def draw(images: np.random.Generator, each: int) -> np.ndarray:
        noise = spread * images.normal(size=(classes, each, width))
        return means + noise * (np.sqrt(2 / images.chisquare(4, size=(classes, each, 1))) if heavy else 1)

    return draw


def as_set(rows: np.ndarray) -> FeatureSet:
    """Images ``(C, n, d)`` as a feature set."""
    names = np.repeat([f"{code:02}" for code in range(len(rows))], rows.shape[1])
    return FeatureSet.from_arrays(rows.reshape(-1, rows.shape[2]).astype(np.float32), names)


def study(train: FeatureSet, test: FeatureSet) -> dict[str, Outcome]:
    """The promises of all classifiers in one study."""
    found = {name: left_out_scores(train, name, "cpu") for name in NAMES}

    def truth(one: LeftOut) -> float:
        return float((one.linear.scores(test.features).argmax(dim=1) == test.labels).double().mean())

    truths = {name: truth(one) for name, one in found.items()}
    outcomes = {name: Outcome(truths[name], *promise_of(one, train.labels).interval) for name, one in found.items()}
    best = max(found, key=lambda name: float(found[name].hits.mean()))
    leads = [
        lead_over(found[best], found[other], train.labels).interval[0] > 0 and truths[best] <= truths[other]
        for other in NAMES
    ]
    fits = RidgeRegressions(ClassStatistics.of(train, "cpu"), with_float64("cpu"))
    errors = fits.left_out_errors(train)
    low, high = wilson(errors.right[errors.best].sum(), torch.tensor(float(len(train)), dtype=torch.float64))
    return {
        **outcomes,
        "auto": outcomes[best]._replace(leads_falsely=any(leads)),
        "one left out": Outcome(truths["ridge"], float(low), float(high)),
    }


def row(name: str, width: int, classes: int, each: int, studies: int) -> dict[str, np.ndarray]:
    """The outcomes of all studies of a row, by column: ``(studies, 4)``."""
    draw = law(name, classes, width)
    test = as_set(draw(np.random.default_rng(1), max(TESTED // classes, 100)))
    found = defaultdict(list)
    for number in range(studies):
        for column, outcome in study(as_set(draw(np.random.default_rng([5, number]), each)), test).items():
            found[column].append(outcome)
    return {column: np.array(outcomes, dtype=float) for column, outcomes in found.items()}


def covered(outcomes: np.ndarray) -> np.ndarray:
    """In which studies the interval holds the truth."""
    accuracy, low, high, _ = outcomes.T
    return (low <= accuracy) & (accuracy <= high)


def cell(outcomes: np.ndarray) -> str:
    """``83% ± 4.1: 96%``: the mean accuracy, the mean half-width in points, and the coverage."""
    accuracy, low, high, _ = outcomes.T.mean(axis=1, keepdims=True)
    return f"{accuracy[0]:.0%} ± {50 * (high - low)[0]:.1f}: {covered(outcomes).mean():.0%}"


def table(studies: int) -> str:
    """Coverage by law, width, classes and images, and by classes and images alone."""
    rows, pooled = [], defaultdict(list)
    for classes in CLASSES:
        for each in IMAGES:
            for width in WIDTHS:
                for name in LAWS:
                    found = row(name, width, classes, each, studies)
                    pooled[classes, each].append(found)
                    false = f"{found['auto'][:, 3].mean():.0%}"
                    rows.append([name, width, classes, each, *(cell(found[one]) for one in COLUMNS), false])
                    print("| " + " | ".join(map(str, rows[-1])) + " |", flush=True)
    heads = ["law", "width", "classes", "images per class", *COLUMNS, "leads falsely"]
    return markdown(["classes", "images per class", *COLUMNS], summary(pooled)) + "\n\n" + markdown(heads, rows)


def summary(pooled: dict[tuple[int, int], list[dict[str, np.ndarray]]]) -> Sequence[list[str]]:
    """The coverage over all laws and widths."""
    return [
        [str(classes), str(each), *(f"{np.mean([covered(one[name]).mean() for one in some]):.1%}" for name in COLUMNS)]
        for (classes, each), some in pooled.items()
    ]

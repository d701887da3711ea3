"""Few-shot accuracies, their differences and the set of possible bests: how often what is said of them is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from laws import LAWS, Law, backbones, halves, real_features

from nctransfer.evaluation.fewshot_comparison import run_comparison
from nctransfer.evaluation.fewshot_task import FewShotTask
from nctransfer.features.feature_set import FeatureSet

TITLE = "Few-shot verdicts"
STUDIES = 300
SHOTS, QUERIES = 5, 10
EPISODES = {"classes": 1000, "samples": 200}


class Design(NamedTuple):
    """Which studies a row of the table is about."""

    population: str
    ways: int
    classes: int
    each: int
    candidates: int = 2


DESIGNS = (
    Design("classes", 5, 8, 40),
    Design("classes", 5, 12, 40),
    Design("classes", 5, 20, 20),
    Design("classes", 5, 20, 40),
    Design("classes", 5, 50, 20),
    Design("samples", 8, 8, 40),
    Design("samples", 20, 20, 20),
    Design("samples", 20, 20, 40),
)
MANY = (
    Design("classes", 5, 20, 40, 5),
    Design("classes", 5, 20, 40, 20),
    Design("samples", 20, 20, 40, 5),
    Design("samples", 8, 8, 40, 20),
)
HALVES = {"Caltech": Design("classes", 5, 20, 15), "CIFAR-FS": Design("samples", 20, 20, 50)}
POWER = (Design("classes", 5, 20, 40), Design("samples", 20, 20, 40))
SHARED = {
    0.5: (0.97, 0.94),
    0.9: (0.97, 0.94),
    0.97: (0.97,),
}  # how noisy the better of two backbones is, by what the two share


class Study(NamedTuple):
    """What one study says of candidates that are equal in truth."""

    accuracy: float  # of the first
    half_width: float
    difference: float  # of the second to the first
    has_verdict: bool  # whether any candidate is called better or worse
    has_better: bool
    has_best: bool  # whether the set of possible bests has candidate 0, which is as good as the best
    possible: int


def study(sets: Sequence[FeatureSet], design: Design, seed: int, shots: int = SHOTS) -> Study:
    """Run one study as ``nctransfer fewshot A B …`` does."""
    task = FewShotTask(
        ways=design.ways,
        shots=shots,
        queries=QUERIES,
        episodes=EPISODES[design.population],
        classifiers="ncc",
        seed=seed,
        interval=design.population,
        theory=False,
    )
    found = run_comparison({str(number): one for number, one in enumerate(sets)}, task, device="cpu")
    row = found.results["0"].rows[0]
    verdicts = [one.verdict for one in found.differences]
    possible = found.possible_bests[0].names
    return Study(
        row.accuracy,
        row.ci95,
        found.differences[0].difference,
        any(verdict != "not told apart" for verdict in verdicts),
        "better" in verdicts,
        "0" in possible,
        len(possible),
    )


def studies(count: int, draw: Callable[[int], list[FeatureSet]], design: Design) -> list[Study]:
    """Independent studies."""
    return [study(draw(number), design, number) for number in range(count)]


def draws(
    law: Law, design: Design, scales: Sequence[float] | None = None, shared: float = 0.5
) -> Callable[[int], list[FeatureSet]]:
    """The draw of the sets of a study, by its number."""
    over_classes = design.population == "classes"
    every = [1.0] * design.candidates if scales is None else scales

    def draw(number: int) -> list[FeatureSet]:
        classes = np.random.default_rng([7, number] if over_classes else 7)
        images = np.random.default_rng([11, number])
        return backbones(law, classes, images, design.classes, design.each, every, over_classes, shared)

    return draw


def _line(*cells: str) -> str:
    line = "| " + " | ".join(cells) + " |"
    print(line, flush=True)
    return line


def _equal(name: str, design: Design, found: Sequence[Study], *, is_finite: bool = False) -> str:
    """A row about candidates that are equal in truth.

    Args:
        name: The law.
        design: The design.
        found: The studies.
        is_finite: Whether they draw from few images or classes without replacement: accuracies then vary less than over
            other images or classes, and their coverage means nothing.
    """
    values = np.array(found, float)
    accuracy, half, difference = values[:, 0], values[:, 1], values[:, 2]
    covered = np.abs(accuracy - accuracy.mean()) <= half  # each study is unbiased, so their mean is the truth
    return _line(
        design.population,
        name,
        *map(str, design[1:]),
        f"{accuracy.mean():.1%}",
        "–" if is_finite else f"{accuracy.std() * 100:.1f}",
        f"{half.mean() * 100:.1f}",
        "–" if is_finite else f"{covered.mean():.1%}",
        f"{difference.std() * 100:.1f}",
        f"{1 - values[:, 3].mean():.1%}",
        f"{values[:, 4].mean():.1%}",
        f"{values[:, 5].mean():.1%}",
        f"{values[:, 6].mean():.1f}",
    )


def _halves(name: str, design: Design, count: int) -> str:
    """A row about two halves of real images."""
    rows = real_features(name)
    found = [
        study(halves(rows, np.random.default_rng([13, number]), design.classes), design, number)
        for number in range(count)
    ]
    return _equal(f"{name}, halves", design, found, is_finite=True)


def _power(design: Design, shared: float, scale: float, count: int) -> str:
    """A row about two candidates of which the second is better."""
    values = np.array(studies(count, draws(LAWS[0], design, [1.0, scale], shared), design), float)
    difference = values[:, 2]
    return _line(
        design.population,
        f"{shared:.0%}",
        f"{difference.mean() * 100:.1f}",
        f"{difference.std() * 100:.1f}",
        f"{values[:, 4].mean():.0%}",
        f"{(values[:, 3] - values[:, 4]).mean():.1%}",
    )


def table(count: int) -> str:
    """Coverage and wrong verdicts for candidates that are equal in truth; then power."""
    heads = (
        *("population", "law", "ways", "classes", "images", "candidates", "accuracy", "its sd", "mean ±", "covers"),
        *("sd of difference", "no verdict", "false better", "best in set", "size of set"),
    )
    equal = [_line(*heads), "|" + " --- |" * len(heads)]
    equal += [
        _equal(law.name, design, studies(count, draws(law, design), design)) for design in DESIGNS for law in LAWS
    ]
    equal += [_halves(name, design, count) for name, design in HALVES.items()]
    equal += [_equal(LAWS[0].name, design, studies(count // 2, draws(LAWS[0], design), design)) for design in MANY]
    heads = ("population", "shared by backbones", "true difference", "its sd", "called better", "called worse")
    power = [_line(*heads), "|" + " --- |" * len(heads)]
    power += [
        _power(design, shared, scale, count)
        for design in POWER
        for shared, scales in SHARED.items()
        for scale in scales
    ]
    return "\n".join([*equal, "", *power])

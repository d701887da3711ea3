"""Intervals of accuracy under both query priors, of an inductive and a transductive classifier: how often they hold."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from laws import LAWS, backbones

from nctransfer.evaluation.fewshot_accuracy import run_fewshot
from nctransfer.evaluation.fewshot_task import FewShotTask

TITLE = "Query priors"
STUDIES = 150
EPISODES = {"classes": 1000, "samples": 300}
CLASSIFIERS = ("ncc", "soft-kmeans")


class Design(NamedTuple):
    """Which studies a row of the table is about."""

    population: str
    ways: int
    classes: int
    each: int
    shots: int


DESIGNS = (Design("classes", 5, 20, 40, 1), Design("samples", 8, 8, 40, 1))


def study(design: Design, number: int) -> dict[tuple[str, str], tuple[float, float]]:
    """The accuracy and the half-width of each row, by classifier and query prior."""
    over_classes = design.population == "classes"
    classes = np.random.default_rng([7, number] if over_classes else 7)
    images = np.random.default_rng([11, number])
    law = LAWS[0]
    [features] = backbones(law, classes, images, design.classes, design.each, [1.0], over_classes, 0.5)
    found = {}
    for prior in ("balanced", "dirichlet:2"):
        task = FewShotTask(
            ways=design.ways,
            shots=design.shots,
            queries=8,
            query_prior=prior,
            episodes=EPISODES[design.population],
            precision=0,
            classifiers=CLASSIFIERS if prior == "balanced" else "ncc",
            seed=number,
            interval=design.population,
            theory=False,
        )
        for row in run_fewshot(features, task, device="cpu").rows:
            found[row.classifier, row.query_prior] = row.accuracy, row.ci95
    return found


def table(studies: int = STUDIES) -> str:
    """Coverage of 95% intervals; each study is unbiased, so their mean is the truth."""
    lines = [
        "| on | ways | classes | images | shots | classifier | queries | accuracy | std | half-width | coverage |",
        "|---|---:|---:|---:|---:|---|---|---:|---:|---:|---:|",
    ]
    for design in DESIGNS:
        found = [study(design, number) for number in range(studies)]
        for key in found[0]:
            accuracy, half = np.array([one[key] for one in found]).T
            covered = float((np.abs(accuracy - accuracy.mean()) <= half).mean())
            numbers = (f"{100 * value:.1f}" for value in (accuracy.mean(), accuracy.std(), half.mean(), covered))
            lines.append(f"| {' | '.join([*map(str, design), *key, *numbers])} |")
    return "\n".join(lines)

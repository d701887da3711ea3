"""Layers in few-shot tasks: whether the selection bias that is reported is the true one, and whether choosing loses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from laws import LAWS, backbones

import nctransfer as nct

NOTHING = 1e-4  # a hundredth of a point, which a table does not show
TITLE = "The choice of a layer"
STUDIES = 60
WAYS, SHOTS, QUERIES, EPISODES, EACH = 5, 5, 10, 500, 30

CELLS: dict[str, Sequence[float]] = {  # how noisy each layer is; the last one is the default
    "all equal": (1.0,) * 6,
    "one a little better": (1.0, 1.0, 0.97, 1.0, 1.0, 1.0),
    "one clearly better": (1.2, 1.1, 0.85, 1.0, 1.1, 1.0),
    "the output is best": (1.3, 1.2, 1.1, 1.1, 1.05, 0.95),
}
CLASSES = (12, 20, 50)


class Study(NamedTuple):
    """What one study says."""

    accuracies: list[float]
    best: int
    bias: float
    low: float
    high: float
    gain: float
    verdict: str | None


def study(scales: Sequence[float], classes: int, seed: int) -> Study:
    """Draw classes and images, and run the command on them."""
    of_classes, of_images = (np.random.default_rng([seed, use]) for use in (0, 1))
    sets = backbones(LAWS[0], of_classes, of_images, classes, EACH, list(scales), own_means=True)
    layers = {f"layer_{number}": one for number, one in enumerate(sets[:-1])} | {"feature": sets[-1]}
    found = nct.fewshot_layers(
        layers,
        WAYS,
        SHOTS,
        joins=None,
        queries=QUERIES,
        episodes=EPISODES,
        precision=0,
        classifiers="ncc",
        seed=seed,
        device="cpu",
    )
    [choice] = found.choices
    names = list(layers)
    assert choice.bias is not None
    assert choice.bias_interval is not None
    return Study(
        [found.results[name].rows[0].accuracy for name in names],
        names.index(choice.best),
        choice.bias,
        *choice.bias_interval,
        choice.gain,
        choice.gain_verdict,
    )


def row(name: str, classes: int, count: int) -> str:
    """One row of the table."""
    found = [study(CELLS[name], classes, seed) for seed in range(count)]
    accuracies = np.array([one.accuracies for one in found])
    truth = accuracies.mean(axis=0)
    if len(set(CELLS[name])) == 1:
        truth[:] = truth.mean()
    bias = np.mean([one.accuracies[one.best] - truth[one.best] for one in found])
    covered = np.mean([one.low - NOTHING <= bias <= one.high + NOTHING for one in found])
    gains = np.array([one.gain for one in found])
    cells = [
        name,
        str(classes),
        f"{100 * bias:.2f}",
        f"{100 * np.mean([one.bias for one in found]):.2f}",
        f"{np.mean([one.high + NOTHING >= bias for one in found]):.0%}",
        f"{covered:.0%}",
        f"{100 * gains.mean():+.2f} ± {196 * gains.std() / np.sqrt(count):.2f}",
        f"{100 * (truth.max() - truth[-1]):.2f}",
        f"{np.mean([one.verdict == 'better' for one in found]):.0%}",
        f"{np.mean([one.verdict == 'worse' for one in found]):.0%}",
    ]
    return f"| {' | '.join(cells)} |"


def table(count: int) -> str:
    """One row for each kind of layers and number of classes."""
    heads = ["layers", "classes", "true bias", "reported", "upper end covers", "interval covers", "gain of choosing"]
    heads += ["best − output", "called better", "called worse"]
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    return "\n".join(lines + [row(name, classes, count) for name in CELLS for classes in CLASSES])

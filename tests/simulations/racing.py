"""Races between candidates: how often the best is lost, and what is saved; beside halving the field in each round."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from laws import LAWS, SHARED, Law, backbones, feature_set, real_features

from nctransfer.evaluation.all_ways import AllWaysResult, AllWaysTask, all_ways_accuracy
from nctransfer.rank.race import race, sizes_of_rounds
from page_tables import markdown

TITLE = "Races: how often the best is lost, and what is saved"
STUDIES = 40  # half as many for many candidates, and for real features
MANY = 30
CLASSIFIER = "ridge"
PROJECTED = 64  # the width of candidates from real features

Arrays = Mapping[str, np.ndarray]  # features (C, n, d) of each candidate; the first is the best, or as good


class Field(NamedTuple):
    """How noisy the candidates are.

    Attributes:
        name: What the table calls it.
        scales: From a number of candidates to their noise; 1 is the best.
    """

    name: str
    scales: Callable[[int], Sequence[float]]


EQUAL = Field("all equal", lambda count: [1.0] * count)
CLOSE = Field("one best, others 5% noisier", lambda count: [1.0] + [1.05] * (count - 1))
MIXED = Field(
    "a third equal, close, far",
    lambda count: [1.0] * (count // 3) + [1.1] * (count // 3) + list(np.linspace(1.3, 2.5, count - 2 * (count // 3))),
)


class Design(NamedTuple):
    """Which races a row of the table is about."""

    law: Law
    field: Field
    candidates: int
    classes: int
    each: int
    shots: int
    scale: float = 1.0  # of the noise of all candidates


GAUSSIAN, _, HEAVY, FAMILIES = LAWS
DESIGNS = (
    Design(GAUSSIAN, EQUAL, 10, 2, 40, 1),
    Design(GAUSSIAN, EQUAL, 10, 2, 40, 5, 0.5),
    Design(GAUSSIAN, EQUAL, 10, 5, 100, 1),
    Design(GAUSSIAN, EQUAL, 10, 10, 40, 5),
    Design(HEAVY, EQUAL, 10, 5, 100, 5, 0.5),
    Design(HEAVY, EQUAL, 10, 2, 40, 1, 0.5),
    Design(HEAVY, EQUAL, 10, 5, 40, 1, 0.5),
    Design(FAMILIES, EQUAL, 10, 20, 40, 1),
    Design(GAUSSIAN, EQUAL, 30, 5, 40, 1),
    *(Design(GAUSSIAN, CLOSE, count, 10, 100, 5) for count in (5, 10)),
    *(Design(GAUSSIAN, MIXED, count, 5, 100, 5) for count in (5, 10, 30)),
    Design(GAUSSIAN, MIXED, 10, 10, 200, 1),
    Design(HEAVY, MIXED, 10, 20, 100, 5, 0.5),
    Design(GAUSSIAN, MIXED, 30, 20, 40, 5),
)
REAL = {"Caltech": 20, "CIFAR-FS": 40, "Omniglot": 14}  # images per class that a race has
REAL_DESIGNS = (("Caltech", 1), ("CIFAR-FS", 1), ("CIFAR-FS", 5), ("Omniglot", 1))  # data, shots
WEIGHTS = SHARED / "weights"
HALF = (0.5, 0.5, 0.5)
BACKBONES: Mapping[str, Mapping[str, Any]] = {
    "tf_efficientnet_lite0": {},
    "tf_efficientnet_lite2": {"img_size": 128},
    "mobilenetv1_100": {
        "checkpoint": str(WEIGHTS / "mobilenetv1_100_tf_in1k.safetensors"),
        "mean": HALF,
        "std": HALF,
        "model_kwargs": {"pad_type": "same"},
    },
    "resnet50": {"checkpoint": str(WEIGHTS / "resnet50_keras_in1k.safetensors"), "img_size": 128},
}
IMG_SIZE = {"Caltech": 160}  # in place of 128


HEADS = (
    *("features", "candidates are", "candidates", "classes", "images", "shots", "accuracy of the best"),
    *("best lost", "saved", "left", "lost by halving", "saved by halving"),
)


class Outcome(NamedTuple):
    """How one race went, and how halving would have gone. ``lost`` is a share of the candidates that are the best."""

    lost: float
    saved: float
    left: int
    lost_by_halving: float
    saved_by_halving: float


def study(rows: Arrays, shots: int, best: Sequence[str]) -> Outcome:
    """One race as ``nctransfer rank`` runs it."""
    names = list(rows)
    classes, each, _ = rows[names[0]].shape
    sizes = sizes_of_rounds([each] * classes, shots)
    task = AllWaysTask(shots=shots, classifiers=CLASSIFIER)

    @functools.cache
    def measure(name: str, images: int) -> AllWaysResult:
        return all_ways_accuracy(feature_set(rows[name][:, :images]), task, device="cpu")

    found = race(names, sizes, measure, keys=[(shots, CLASSIFIER)])
    kept, passes = list(names), 0
    for size, before in zip(sizes, (0, *sizes), strict=False):
        passes += len(kept) * (size - before)
        accuracies = {name: measure(name, size).estimates[shots, CLASSIFIER].accuracy for name in kept}
        if size != sizes[-1]:
            kept = sorted(kept, key=lambda name: -accuracies[name])[: -(-len(kept) // 2)]
    return Outcome(
        sum(name not in found.survivors for name in best) / len(best),
        found.share_saved([each] * classes),
        len(found.survivors),
        sum(name not in kept for name in best) / len(best),
        1 - passes / (len(names) * each),
    )


def drawn(design: Design, number: int) -> Arrays:
    """The features of a study from a law: candidate 0 is the best, or as good."""
    scales = [design.scale * one for one in design.field.scales(design.candidates)]
    classes, images = np.random.default_rng(7), np.random.default_rng([17, number])
    sets = backbones(design.law, classes, images, design.classes, design.each, scales, own_means=False)
    shape = (design.classes, design.each, -1)
    return {str(place): one.features.numpy().reshape(shape) for place, one in enumerate(sets)}


def _row(cells: Sequence[object], found: Sequence[Outcome]) -> list[str]:
    values = np.array(found, float).mean(axis=0)
    shares = [f"{values[0]:.1%}", f"{values[1]:.0%}", f"{values[2]:.1f}", f"{values[3]:.0%}", f"{values[4]:.0%}"]
    line = [*map(str, cells), *shares]
    print("| " + " | ".join(line) + " |", flush=True)
    return line


def real_candidates(name: str) -> Arrays:
    """Candidates from real features, ``(C, n, 64)`` each: projections of four backbones, also with noise."""
    rng = np.random.default_rng(3)
    found = {}
    for backbone, settings in BACKBONES.items():
        size = {"img_size": IMG_SIZE.get(name, 128)} if "img_size" in settings else {}
        rows = real_features(name, backbone, **{**settings, **size})[:30]
        for noise in (0.0, 0.1, 0.3, 1.0):
            seen = rows @ rng.normal(size=(rows.shape[2], PROJECTED)).astype(np.float32)
            found[f"{backbone} {noise}"] = seen + noise * seen.std() * rng.normal(size=seen.shape).astype(np.float32)
    return found


def real_row(name: str, shots: int, studies: int) -> list[str]:
    """A row about real features: a race has some images of each class, and all images are the truth."""
    rows = real_candidates(name)
    task = AllWaysTask(shots=shots, classifiers=CLASSIFIER)
    truth = {
        one: all_ways_accuracy(feature_set(each), task, device="cpu").estimates[shots, CLASSIFIER].accuracy
        for one, each in rows.items()
    }
    best = max(truth, key=lambda one: truth[one])
    classes, images, _ = next(iter(rows.values())).shape
    found = []
    for number in range(studies):
        rng = np.random.default_rng([19, number])
        chosen = np.stack([rng.permutation(images)[: REAL[name]] for _ in range(classes)])[..., None]
        some = {one: np.take_along_axis(each, chosen, 1) for one, each in rows.items()}
        found.append(study(some, shots, [best]))
    return _row([name, "real", len(rows), classes, REAL[name], shots, f"{truth[best]:.0%}"], found)


def law_row(design: Design, studies: int) -> list[str]:
    """A row about candidates from a law."""
    task = AllWaysTask(shots=design.shots, classifiers=CLASSIFIER)
    many = feature_set(drawn(design._replace(field=EQUAL, candidates=1, each=200), 0)["0"])
    accuracy = all_ways_accuracy(many, task, device="cpu").estimates[design.shots, CLASSIFIER].accuracy
    best = [str(place) for place, scale in enumerate(design.field.scales(design.candidates)) if scale == 1]
    found = [study(drawn(design, number), design.shots, best) for number in range(studies)]
    return _row([design.law.name, design.field.name, *design[2:6], f"{accuracy:.0%}"], found)


def table(studies: int) -> str:
    """One row for each design, and for real features."""
    rows = [law_row(design, studies // 2 if design.candidates >= MANY else studies) for design in DESIGNS]
    rows += [real_row(name, shots, studies // 2) for name, shots in REAL_DESIGNS]
    return markdown(HEADS, rows)

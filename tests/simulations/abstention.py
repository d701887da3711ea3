"""Promises of abstention: how often the error among the answered is larger, how many are answered, how many are lost.

The first table needs no data. The second takes real features, and the images that a head has not seen for the truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from laws import LAWS, REAL, Law, Rng, feature_set, real_features
from racing import BACKBONES, IMG_SIZE

from nctransfer.errors import FeaturesError
from nctransfer.features.feature_set import FeatureSet
from nctransfer.heads.abstention import decide, thresholds
from nctransfer.heads.calibration import fitted_temperature
from nctransfer.heads.head import HeldOut
from nctransfer.heads.left_out_scores import left_out_scores
from nctransfer.heads.unlikeness import fit_unlikeness
from page_tables import markdown

TITLE = "Abstention: how often the promised error is exceeded"
STUDIES = 60  # of each law; of each set of real features a 25th, with each of three backbones
LEVELS = (0.02, 0.05, 0.1)
LOST = 0.05
NEW = 1000  # new images per class, from which the truth is taken
CHOSEN = ("tf_efficientnet_lite0", "mobilenetv1_100", "resnet50")
SIZES = {"Caltech": (5, 15, 20), "CIFAR-FS": (5, 20, 50), "Omniglot": (5, 10, 15)}  # images per class for a head


class Design(NamedTuple):
    """What heads are fitted on."""

    law: Law
    classes: int
    each: int
    scale: float  # of the noise
    classifier: str = "ridge"


GAUSSIAN, POWER, HEAVY, FAMILIES = LAWS
DESIGNS = (
    Design(GAUSSIAN, 10, 5, 0.4),
    Design(GAUSSIAN, 10, 20, 0.7),
    Design(GAUSSIAN, 10, 20, 0.7, "ncc"),
    Design(GAUSSIAN, 10, 100, 0.8),
    Design(GAUSSIAN, 2, 30, 1.0),
    Design(GAUSSIAN, 2, 200, 1.4),
    Design(POWER, 10, 20, 0.8),
    Design(HEAVY, 10, 20, 0.5),
    Design(HEAVY, 10, 20, 0.5, "ncc"),
    Design(HEAVY, 20, 50, 0.5),
    Design(FAMILIES, 20, 20, 0.4),
    Design(FAMILIES, 20, 50, 0.4, "cosine"),
)
HEADS = ("error", "asked", "promised", "broken", "answered", "at best", "error of these", "lost", "spread of lost")


class Outcome(NamedTuple):
    """How a head does on new images.

    Attributes:
        error: The error without abstention.
        lost: The share that is held back as unlike every class.
        answered: For each level the share that is answered; ``None`` if nothing is promised.
        errors: For each level the error of these.
        best: For each level the largest share that any threshold could answer with that error.
    """

    error: float
    lost: float
    answered: tuple[float | None, ...]
    errors: tuple[float | None, ...]
    best: tuple[float, ...]


def outcome(known: FeatureSet, new: FeatureSet, classifier: str) -> Outcome:
    """Fit a head, and see how it does on new images."""
    left_out = left_out_scores(known, classifier, "cpu")
    temperature = fitted_temperature(left_out.scores, known.labels)
    top, predicted = (left_out.scores / temperature).softmax(dim=1).max(dim=1)
    model, unlikeness = fit_unlikeness(known, "cpu")
    held_out = HeldOut(probability=top, right=predicted == known.labels, unlikeness=unlikeness)
    probabilities = (left_out.linear.scores(new.features) / temperature).softmax(dim=1)
    wrong, far = probabilities.argmax(dim=1) != new.labels, model.of(new.features)
    like = far <= thresholds(held_out, None, LOST).unlikeness
    order = probabilities[like].amax(dim=1).argsort(descending=True)
    errors = wrong[like][order].double().cumsum(dim=0) / torch.arange(1, len(order) + 1)
    shares: list[tuple[float | None, float | None]] = []
    for level in LEVELS:
        try:
            decided = decide(probabilities, far, thresholds(held_out, level, LOST))
        except FeaturesError:
            shares.append((None, None))
            continue
        kept = ~decided.abstained
        shares.append((float(kept.double().mean()), float(wrong[kept].double().mean()) if bool(kept.any()) else 0.0))
    places = [(errors <= level).nonzero()[:, 0].tolist() for level in LEVELS]
    best = tuple((found[-1] + 1) / len(like) if found else 0.0 for found in places)
    answered, those = zip(*shares, strict=True)
    return Outcome(float(wrong.double().mean()), float((~like).double().mean()), answered, those, best)


def _rows(cells: Sequence[object], found: Sequence[Outcome]) -> Iterable[list[str]]:
    lost = np.array([one.lost for one in found])
    error = np.mean([one.error for one in found])
    for place, level in enumerate(LEVELS):
        some = [
            (answered, wrong)
            for one in found
            if (answered := one.answered[place]) is not None and (wrong := one.errors[place]) is not None
        ]
        broken = sum(wrong > level for _, wrong in some)
        means = np.mean(some, axis=0) if some else (np.nan, np.nan)
        best = np.mean([one.best[place] for one in found])
        shares = [f"{error:.1%}", f"{level:.0%}", f"{len(some) / len(found):.0%}", f"{broken / len(found):.0%}"]
        shares += [f"{means[0]:.0%}", f"{best:.0%}", f"{means[1]:.1%}", f"{lost.mean():.1%}", f"{lost.std():.1%}"]
        line = [*map(str, cells), *(share.replace("nan%", "–") for share in shares)]
        print("| " + " | ".join(line) + " |", flush=True)
        yield line


def drawn(design: Design, seed: int) -> tuple[FeatureSet, FeatureSet]:
    """Images of a head, and new ones of the same classes."""
    rng: Rng = np.random.default_rng([23, seed])
    means = design.law.means(rng, design.classes)
    spread = np.exp(design.law.spread * rng.normal(size=(design.classes, 1, 1)))
    rows = means[:, None] + design.scale * spread * design.law.noise(rng, design.classes, design.each + NEW)
    rows = rows + 0.4  # as features after a ReLU do not have mean zero
    return feature_set(rows[:, : design.each]), feature_set(rows[:, design.each :])


def real_outcomes(name: str, each: int, studies: int) -> Iterable[Outcome]:
    """Heads on some images per class of real features, for each backbone; the other images are new."""
    for backbone in CHOSEN:
        settings = dict(BACKBONES[backbone])
        if "img_size" in settings:
            settings["img_size"] = IMG_SIZE.get(name, 128)
        rows = real_features(name, backbone, **settings)
        for seed in range(studies):
            rng = np.random.default_rng([29, seed])
            order = np.stack([rng.permutation(rows.shape[1]) for _ in rows])[..., None]
            mixed = np.take_along_axis(rows, order, axis=1)
            yield outcome(feature_set(mixed[:, :each]), feature_set(mixed[:, each:]), "ridge")


def table(studies: int) -> str:
    """A row for each law or set of data, number of images, and level."""
    laws: list[list[str]] = []
    for design in DESIGNS:
        found = [outcome(*drawn(design, seed), design.classifier) for seed in range(studies)]
        laws += _rows([design.law.name, design.classifier, design.classes, design.each], found)
    return "\n\n".join([markdown(["features", "head", "classes", "images", *HEADS], laws), real_table(studies)])


def real_table(studies: int) -> str:
    """A row for each set of real features, number of images, and level."""
    rows: list[list[str]] = []
    for name in REAL:
        for each in SIZES[name]:
            rows += _rows([name, each], list(real_outcomes(name, each, max(1, studies // 25))))
    return markdown(["data", "images", *HEADS], rows)

"""How many good images each kind of unlikeness holds back, where 5% are allowed: the promise of ``--max-lost``.

The first table needs no data. The second takes real features, see :func:`laws.real_sets`: other images of the known
classes for the truth, and those of all other classes for how many images of no known class are held back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from abstention import DESIGNS, LOST, NEW, drawn
from laws import feature_set, real_sets

from nctransfer.features.feature_set import FeatureSet
from nctransfer.heads.abstention import thresholds
from nctransfer.heads.head import HeldOut
from nctransfer.heads.unlikeness_kinds import UNLIKENESSES
from page_tables import markdown

TITLE = "Unlikeness: how many good images are held back where 5% may be"
STUDIES = 40
FEW = ((5, 10, 64), (5, 10, 256), (10, 3, 64), (10, 5, 64), (10, 20, 64))  # classes, images of each, dimensions
TIMES = 10  # as many studies of these, which vary more
HEADS = ("classes", "images", "dimensions", "promised", *UNLIKENESSES)
SIZES = ((5, 5), (5, 10), (10, 10))  # classes of real images, and images of each


class Draw(NamedTuple):
    """Training images, new ones of their classes, and images of other classes."""

    known: FeatureSet
    new: FeatureSet
    other: FeatureSet | None = None


def table(studies: int) -> str:
    """A row for each law or data, number of classes, of images and of dimensions; a column for each kind."""
    laws, seen = [], set()
    for design in DESIGNS:
        size = design.law.name, design.classes, design.each
        if size not in seen:  # there are other classifiers, which play no part
            seen.add(size)
            laws.append(_row(*size, (Draw(*drawn(design, seed)) for seed in range(studies))))
    for classes, each, dim in FEW:
        laws.append(_row("Gaussian", classes, each, (few(classes, each, dim, seed) for seed in range(TIMES * studies))))
    return "\n\n".join([markdown(["features", *HEADS], laws), real_table(studies)])


def real_table(studies: int) -> str:
    """A row for each set of real features and number of images."""
    rows = []
    for data, _, images in real_sets():
        for classes, each in SIZES:
            rows.append(_row(data, classes, each, (split(images, classes, each, seed) for seed in range(studies))))
    return markdown(["data", *HEADS], rows)


def few(classes: int, each: int, dim: int, seed: int) -> Draw:
    """Few images in many dimensions, and new ones of the same classes."""
    rng = np.random.default_rng([31, seed])
    means = 0.5 * rng.normal(size=(classes, 1, dim)) + 0.4
    rows = means + rng.normal(size=(classes, each + NEW // 5, dim))
    return Draw(feature_set(rows[:, :each]), feature_set(rows[:, each:]))


def split(images: np.ndarray, classes: int, each: int, seed: int) -> Draw:
    """Some images of some classes, the others of these, and all of the other classes."""
    rng = np.random.default_rng([37, seed])
    mixed = np.stack([one[rng.permutation(len(one))] for one in images[rng.permutation(len(images))]])
    known, new = mixed[:classes, :each], mixed[:classes, each:]
    return Draw(feature_set(known), feature_set(new), feature_set(mixed[classes:]))


def _row(name: str, classes: int, each: int, draws: Iterable[Draw]) -> list[str]:
    """The share that may be held back of so few images, and the mean and the standard deviation of what is."""
    lost: dict[str, list[float]] = {kind: [] for kind in UNLIKENESSES}
    found: dict[str, list[float]] = {kind: [] for kind in UNLIKENESSES}
    dim = 0
    for draw in draws:
        dim = draw.known.dim
        for kind, way in UNLIKENESSES.items():
            unlikeness, left_out = way.fit(draw.known, "cpu")
            held_out = HeldOut(probability=left_out, right=left_out > 0, unlikeness=left_out)
            limit = thresholds(held_out, None, LOST).unlikeness
            lost[kind].append(float((unlikeness.of(draw.new.features) > limit).double().mean()))
            if draw.other is not None:
                found[kind].append(float((unlikeness.of(draw.other.features) > limit).double().mean()))
    total = classes * each + 1
    promised = 1 - math.ceil(total * (1 - LOST) - 1e-9) / total
    cells = [f"{np.mean(lost[kind]):.1%} ± {np.std(lost[kind]):.1%}" for kind in UNLIKENESSES]
    if any(found.values()):
        cells = [f"{cell}: {np.mean(found[kind]):.0%}" for kind, cell in zip(UNLIKENESSES, cells, strict=True)]
    row = [name, str(classes), str(each), str(dim), f"{promised:.1%}", *cells]
    print("| " + " | ".join(row) + " |", flush=True)
    return row

"""Do the intervals of the CDNVs cover what other classes would give, and how far off are the plug-in values?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from nctransfer.features.feature_set import FeatureSet
from nctransfer.intervals import jackknife
from nctransfer.neural_collapse.cdnv import directional_cdnv, directional_cdnv_debiased
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.neural_collapse.measure import Undefined
from nctransfer.neural_collapse.registry import MEASURES

TITLE = "Collapse: coverage of the intervals of the CDNVs, and the bias of the directional CDNV"

STUDIES = 600
WIDTH = 32
NAMES = ("cdnv", "cdnv_debiased", "directional_cdnv", "directional_cdnv_debiased")
CLASSES, IMAGES = (8, 20, 50), (20, 40)
POPULATION, POPULATIONS = 600, 6  # classes whose average stands for that of all classes, and how often
Floats = np.ndarray


class Population(NamedTuple):
    """C classes: their means, the standard deviation of each feature in each class, both ``(C, d)``, and the noise."""

    means: Floats
    scales: Floats
    noise: Callable[[np.random.Generator, tuple[int, ...]], Floats]

    def images(self, generator: np.random.Generator, number: int) -> ClassStatistics:
        """The statistics of so many images per class."""
        classes, width = self.means.shape
        rows = self.means[:, None] + self.scales[:, None] * self.noise(generator, (classes, number, width))
        names = np.repeat([f"{code:04d}" for code in range(classes)], number)
        return ClassStatistics.of(FeatureSet.from_arrays(rows.reshape(-1, width), names), "cpu")

    def truth(self, name: str) -> float:
        """The value of infinitely many images per class."""
        differences = self.means - self.means[:, None]
        squared = np.square(differences).sum(axis=2)
        np.fill_diagonal(squared, 1)
        if name.startswith("directional"):
            pairs = np.square(differences * self.scales[:, None]).sum(axis=2) / np.square(squared)
        else:
            variances = np.square(self.scales).sum(axis=1)
            pairs = (variances[:, None] + variances) / (2 * squared)
        np.fill_diagonal(pairs, 0)
        return float(pairs.sum() / (len(pairs) * (len(pairs) - 1)))


def _normal(generator: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return generator.normal(size=shape)


def _student(generator: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Images whose distance to their mean is heavy-tailed: t with 5 degrees of freedom, of unit variance."""
    radius = np.sqrt(3 / generator.chisquare(5, size=(*shape[:-1], 1)))
    found: Floats = generator.normal(size=shape) * radius
    return found


def _gaussian(generator: np.random.Generator, classes: int) -> Population:
    shape = (classes, WIDTH)
    return Population(1.2 * generator.normal(size=shape), generator.uniform(0.7, 1.3, size=shape), _normal)


def _power_law(generator: np.random.Generator, classes: int) -> Population:
    spectrum, shape = np.arange(1, WIDTH + 1) ** -0.5, (classes, WIDTH)
    scales = spectrum * generator.lognormal(0, 0.4, size=shape)
    return Population(1.2 * spectrum * generator.normal(size=shape), scales, _normal)


def _heavy_tailed(generator: np.random.Generator, classes: int) -> Population:
    """The size of a class is t-distributed too, so that a few classes decide the average."""
    sizes = np.sqrt(3 / generator.chisquare(5, size=(classes, 1)))
    spectrum = np.arange(1, WIDTH + 1) ** -0.25
    return Population(1.5 * generator.normal(size=(classes, WIDTH)) * spectrum, sizes * spectrum, _student)


def _hierarchy(generator: np.random.Generator, classes: int) -> Population:
    """Classes of ten kinds, which are the same in every study; classes of one kind are close to each other."""
    kinds = 1.2 * np.random.default_rng(0).normal(size=(10, WIDTH))
    means = kinds[generator.integers(10, size=classes)] + 0.8 * generator.normal(size=(classes, WIDTH))
    return Population(means, generator.uniform(0.7, 1.3, size=(classes, WIDTH)), _normal)


KINDS = {"Gaussian": _gaussian, "power law": _power_law, "heavy tails": _heavy_tailed, "hierarchy": _hierarchy}


def table(studies: int) -> str:
    """Coverage of the intervals on the linear → the logarithmic scale, then the bias of the directional CDNV.

    A plug-in interval should cover what other classes would give with as many images. A debiased one should cover what
    they would give with infinitely many.

    Args:
        studies: Draws of classes and images for each row.
    """
    lines = [
        f"| classes | C | images per class | {' | '.join(f'`{name}`' for name in NAMES)} | pairs left out |",
        "|---|" + "---|" * (len(NAMES) + 3),
        *(line for kind in KINDS for images in IMAGES for line in _coverage(kind, images, studies)),
        "",
        "| images per class | directional_cdnv | directional_cdnv_debiased | truth |",
        "|---|---|---|---|",
        *_bias(max(2, studies // 10)),
    ]
    return "\n".join(lines)


def _coverage(kind: str, images: int, studies: int) -> Iterator[str]:
    """Rows with the coverage on the linear and on the logarithmic scale."""
    draw, generator = KINDS[kind], np.random.default_rng([images, len(kind)])
    targets: dict[str, list[float]] = {name: [] for name in NAMES}
    for _ in range(POPULATIONS):
        population = draw(generator, POPULATION)
        stats = population.images(generator, images)
        for name in NAMES:
            is_debiased = name.endswith("debiased")
            targets[name].append(population.truth(name) if is_debiased else MEASURES[name].function(stats))
    target = {name: float(np.mean(values)) for name, values in targets.items()}
    for classes in CLASSES:
        hits, left_out = {name: [0, 0] for name in NAMES}, 0.0
        for _ in range(studies):
            stats = draw(generator, classes).images(generator, images)
            for name in NAMES:
                pairs = _pairs(name, stats)
                for scale in (0, 1):
                    low, high = jackknife(pairs, bool(scale))
                    hits[name][scale] += low <= target[name] <= high
            left_out += float(pairs.isnan().double().mean()) / studies
        cells = [f"{hits[name][0] / studies:.1%} → {hits[name][1] / studies:.1%}" for name in NAMES]
        yield f"| {kind} | {classes} | {images} | {' | '.join(cells)} | {left_out:.1%} |"


def _pairs(name: str, stats: ClassStatistics) -> torch.Tensor:
    measure = MEASURES[name]
    assert measure.pairs is not None
    pairs = measure.pairs(stats)
    return torch.full_like(stats.distances, math.nan) if pairs is None else pairs


def _bias(studies: int) -> Iterator[str]:
    """Twenty classes as close as those of real images are: CDNV 2.4, directional CDNV 0.08."""
    generator = np.random.default_rng(0)
    width, shape = 256, (20, 256)
    spectrum = np.arange(1, width + 1) ** -0.5
    scales = spectrum * generator.lognormal(0, 0.3, size=shape)
    classes = Population(0.5 * spectrum * generator.normal(size=shape), scales, _normal)
    for images in (10, 20, 40, 100, 300):
        found: list[tuple[float, float]] = []
        for _ in range(studies):
            stats = classes.images(generator, images)
            try:
                found.append((directional_cdnv(stats), directional_cdnv_debiased(stats)))
            except Undefined:
                continue
        plug_in, debiased = np.mean(found, axis=0)
        yield f"| {images} | {plug_in:.4f} | {debiased:.4f} | {classes.truth('directional'):.4f} |"

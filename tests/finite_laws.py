"""Laws of a handful of points, for which every support and every query can be enumerated.

Each class is a few points, each equally likely, so that every probability and every moment is exact.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from nctransfer.features.feature_set import FeatureSet
from nctransfer.neural_collapse.class_statistics import ClassStatistics

SHOTS = (1, 2, 3)


def centres(points: np.ndarray, shots: int) -> np.ndarray:
    """The mean of every support, drawn with replacement: ``(r^m, d)``."""
    return np.array([points[list(rows)].mean(axis=0) for rows in itertools.product(range(len(points)), repeat=shots)])


def margins(own: np.ndarray, other: np.ndarray, shots: int) -> np.ndarray:
    """``h = ‖f − p_j‖² − ‖f − p_i‖²`` of every query f, own centre p_i and other centre p_j, all equally likely."""

    def squared(points: np.ndarray) -> np.ndarray:
        found: np.ndarray = ((own[:, None] - points) ** 2).sum(axis=2)
        return found

    return squared(centres(other, shots))[:, None, :] - squared(centres(own, shots))[:, :, None]


class Pair(NamedTuple):
    """What the proofs use of an ordered pair of classes."""

    v_i: float
    v_j: float
    squared: float  # d_ij²
    along_i: float  # ΔᵀΣ_iΔ
    along_j: float
    crossed: float  # tr Σ_iΣ_j
    traces: tuple[float, float]  # tr Σ²
    fourths: tuple[float, float]  # q
    skew_j: float  # Δᵀ E[x‖x‖²]

    @classmethod
    def of(cls, own: np.ndarray, other: np.ndarray) -> Pair:
        delta = other.mean(axis=0) - own.mean(axis=0)
        x, y = own - own.mean(axis=0), other - other.mean(axis=0)
        a, b = x.T @ x / len(x), y.T @ y / len(y)
        lengths = [(part**2).sum(axis=1) for part in (x, y)]
        return cls(
            np.trace(a),
            np.trace(b),
            delta @ delta,
            delta @ a @ delta,
            delta @ b @ delta,
            (a * b).sum(),
            ((a * a).sum(), (b * b).sum()),
            ((lengths[0] ** 2).mean(), (lengths[1] ** 2).mean()),
            delta @ (y * lengths[1][:, None]).mean(axis=0),
        )

    @property
    def cdnv(self) -> float:
        return (self.v_i + self.v_j) / (2 * self.squared)

    def mean(self, m: int) -> float:
        return self.squared + (self.v_j - self.v_i) / m

    def first_two(self, m: int) -> float:
        """Var(R1 + R2)."""
        return 4 / m * (self.traces[0] + self.crossed + self.along_j)

    def third(self, m: int) -> float:
        """Var R3."""
        pairs = zip(self.fourths, (self.v_i, self.v_j), self.traces, strict=True)
        return sum((q - v**2 + 2 * (m - 1) * trace) / m**3 for q, v, trace in pairs)

    def variance(self, m: int) -> float:
        """Var h: with twice the covariance of R2 and R3, the other parts are uncorrelated."""
        return 4 * self.along_i + self.first_two(m) + self.third(m) + 4 * self.skew_j / m**2

    def luthra2026(self, m: int) -> float:
        """The bound of the paper on the chance that i loses to j."""
        u = 2 * self.cdnv
        first, second = 4 / m * (u**2 + u / 4), u / m
        third = (sum(self.fourths) / self.squared**2 + 2 * (m - 1) * u**2) / m**3
        assert self.first_two(m) <= (math.sqrt(first) + math.sqrt(second)) ** 2 * self.squared**2 * (1 + 1e-12)
        assert self.third(m) <= third * self.squared**2 * (1 + 1e-12)
        if self.mean(m) <= 0:
            return math.inf
        spread = 4 * self.along_i / self.squared**2 + sum(map(math.sqrt, (first, second, third))) ** 2
        return spread / (self.mean(m) / self.squared) ** 2


def worlds() -> Iterator[list[np.ndarray]]:
    """Three classes of three points, or two of four, in one to three dimensions: near and far, some with outliers."""
    for seed in range(60):
        generator = np.random.default_rng(seed)
        count, each = ((3, 3), (2, 4))[seed % 2]
        dim = 1 + seed % 3
        apart = 10.0 ** generator.uniform(-0.5, 1.5)
        classes = []
        for _ in range(count):
            points = generator.standard_t(1.5, size=(each, dim)) if seed % 4 else generator.normal(size=(each, dim))
            classes.append(apart * generator.normal(size=dim) + points * generator.uniform(0.2, 2))
        yield classes


WORLDS = list(worlds())


def statistics(classes: list[np.ndarray]) -> ClassStatistics:
    labels = [name for name, points in zip("abc", classes, strict=False) for _ in points]
    return ClassStatistics.of(FeatureSet.from_arrays(np.concatenate(classes), labels))


def ordered(classes: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(itertools.permutations(classes, 2))


def error(classes: list[np.ndarray], ways: int, shots: int) -> float:
    """The chance that a query loses to one of the other classes, over all tasks, supports and queries."""
    found = []
    for own in range(len(classes)):
        for others in itertools.combinations([c for c in range(len(classes)) if c != own], ways - 1):
            of_each = [margins(classes[own], classes[other], shots) <= 0 for other in others]
            loses = of_each[0][:, :, :, None]
            if ways == 3:
                loses = loses | of_each[1][:, :, None, :]
            found.append(loses.mean())
    return float(np.mean(found))

"""The proofs of ``docs/theory.md``, step by step on small distributions whose error can be counted exactly.

A class is a handful of points, each equally likely. Then every support and every query can be enumerated, and each
probability and moment is exact.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from nctransfer.evaluation.win_probability import chance_to_win
from nctransfer.features.feature_set import FeatureSet
from nctransfer.neural_collapse.bounds import galanti2022, luthra2025, luthra2026
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.neural_collapse.registry import MEASURES

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "theory.md").read_text(encoding="utf-8")
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


def test_the_worlds_are_easy_and_hard() -> None:
    errors = [error(classes, 2, 1) for classes in WORLDS]
    assert min(errors) < 0.01
    assert max(errors) > 0.4


@pytest.mark.parametrize("shots", SHOTS)
def test_the_moments_of_the_margin_are_exact(shots: int) -> None:
    for classes in WORLDS:
        for own, other in ordered(classes):
            pair, h = Pair.of(own, other), margins(own, other, shots)
            assert h.mean() == pytest.approx(pair.mean(shots), rel=1e-9, abs=1e-9 * np.abs(h).max())
            assert h.var() == pytest.approx(pair.variance(shots), rel=1e-8)


@pytest.mark.parametrize("shots", SHOTS)
def test_galanti2022_step_by_step(shots: int) -> None:
    s = 1 / math.sqrt(shots)
    for classes in WORLDS:
        bounds = []
        for own, other in ordered(classes):
            pair = Pair.of(own, other)
            g = np.linalg.norm(own - own.mean(axis=0), axis=1)[:, None, None]
            e_i, e_j = (np.linalg.norm(centres(points, shots) - points.mean(axis=0), axis=1) for points in (own, other))
            reach = 2 * g + e_i[None, :, None] + e_j[None, None, :]
            loses = margins(own, other, shots) <= 0
            assert (reach[loses] >= math.sqrt(pair.squared) * (1 - 1e-9)).all()
            bounds.append(((2 + s) * math.sqrt(pair.v_i) + s * math.sqrt(pair.v_j)) ** 2 / pair.squared)
            assert loses.mean() <= bounds[-1]
        average = np.mean([Pair.of(*pair).cdnv for pair in ordered(classes)])
        chain = [error(classes, 2, shots), np.mean(bounds), 4 * (1 + s) ** 2 * average, 8 * (1 + s**2) * average]
        assert chain == sorted(chain)
        assert 2 * chain[-1] == pytest.approx(galanti2022(statistics(classes), 2, shots))


@pytest.mark.parametrize("shots", [1, 2])
def test_galanti2022_of_equal_variance_in_all_directions(shots: int) -> None:
    dim = 3
    cross = np.concatenate([np.eye(dim), -np.eye(dim)])
    for distance in (0.5, 1.5, 2.5, 4.0, 20.0):
        for scale in (0.3, 1.0):
            far = cross * scale + distance * np.eye(dim)[0]
            stats = statistics([cross, far])
            bound = galanti2022(stats, 2, shots, symmetric=True)
            assert bound == pytest.approx(16 * (1 / dim + 1 / shots) * Pair.of(cross, far).cdnv)
            assert error([cross, far], 2, shots) <= bound


@pytest.mark.parametrize("shots", SHOTS)
def test_luthra2025_step_by_step(shots: int) -> None:
    for classes in WORLDS:
        noise, losses = [], {a: [] for a in (5.0, 6.5, 10.0, 40.0)}
        for own, other in ordered(classes):
            pair, h = Pair.of(own, other), margins(own, other, shots)
            delta = other.mean(axis=0) - own.mean(axis=0)
            along = ((own - own.mean(axis=0)) @ delta / pair.squared)[:, None, None]
            n = 0.5 - along - h / (2 * pair.squared)  # i loses where along + n ≥ ½
            noise.append(np.maximum(n, 0).mean())
            for a, found in losses.items():
                found.append((along >= 0.5 - 2 / a).mean() + (n >= 2 / a).mean())
                assert (h <= 0).mean() <= found[-1] + 1e-12
                assert (along >= 0.5 - 2 / a).mean() <= pair.along_i / pair.squared**2 / (0.5 - 2 / a) ** 2
        stats = statistics(classes)
        v = np.mean([Pair.of(*pair).cdnv for pair in ordered(classes)])
        bracket = 2 / math.sqrt(shots) * (math.sqrt(v) + v) + v / shots
        assert np.mean(noise) <= bracket / 2
        for a, found in losses.items():
            directional = np.mean([p.along_i / p.squared**2 for p in (Pair.of(*two) for two in ordered(classes))])
            assert np.mean(found) <= directional / (0.5 - 2 / a) ** 2 + a / 4 * bracket
        assert error(classes, 2, shots) <= luthra2025(stats, 2, shots)


@pytest.mark.parametrize("shots", SHOTS)
def test_luthra2026_holds_for_any_number_of_shots(shots: int) -> None:
    said_something = 0
    for classes in WORLDS:
        pairs = [(Pair.of(own, other), margins(own, other, shots)) for own, other in ordered(classes)]
        for pair, h in pairs:
            bound = pair.luthra2026(shots)
            assert (h <= 0).mean() <= bound
            said_something += bound < 1
    assert said_something > 10


def test_luthra2026_is_the_expression_of_the_library() -> None:
    for classes in WORLDS:
        expected = np.mean([Pair.of(own, other).luthra2026(10) for own, other in ordered(classes)])
        assert luthra2026(statistics(classes), 2, 10) == pytest.approx(expected, rel=1e-6)


def test_bounds_of_three_ways() -> None:
    for classes in WORLDS:
        if len(classes) == 3:
            stats, exact = statistics(classes), error(classes, 3, 2)
            assert exact <= 2 * error(classes, 2, 2) + 1e-12
            assert exact <= min(galanti2022(stats, 3, 2), luthra2025(stats, 3, 2))


def test_the_recursion_is_the_average_over_all_choices() -> None:
    chances = np.random.default_rng(0).uniform(size=(7, 5))
    found = chance_to_win(torch.from_numpy(chances), 7).numpy()
    for k in range(8):
        choices = [chances[list(rows)].prod(axis=0) for rows in itertools.combinations(range(7), k)]
        np.testing.assert_allclose(found[k], np.mean(choices, axis=0), rtol=1e-12)


def test_the_page_defines_every_measure_and_bound() -> None:
    missing = [name for name in (*MEASURES, "galanti2022", "luthra2025", "luthra2026") if f"`{name}`" not in PAGE]
    assert missing == []

"""The proofs of ``docs/theory.md``, step by step on small distributions whose error can be counted exactly.

A class is a handful of points, each equally likely. Then every support and every query can be enumerated, and each
probability and moment is exact.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from finite_laws import SHOTS, WORLDS, Pair, centres, error, margins, ordered, statistics
from nctransfer.evaluation.margin_bounds import MarginBound
from nctransfer.evaluation.win_probability import chance_to_win
from nctransfer.neural_collapse.bounds import (
    BOUNDS,
    galanti2022,
    galanti2022_sharp,
    luthra2025,
    luthra2026,
    new_classes_term,
)
from nctransfer.neural_collapse.registry import MEASURES

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "theory.md").read_text(encoding="utf-8")


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
        assert chain[2] == pytest.approx(galanti2022_sharp(statistics(classes), 2, shots))
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


@pytest.mark.parametrize("ways", [2, 3])
@pytest.mark.parametrize("classes", [6, 9, 20, 61])
@pytest.mark.parametrize("hard", [0.02, 0.1, 0.3, 0.6])
def test_the_term_for_new_classes_holds_in_95_percent(ways: int, classes: int, hard: float) -> None:
    """Every class is hard with one probability, and a task fails if it has a hard class: all cases, by their number."""
    expected = 1 - (1 - hard) ** ways
    missed = 0.0
    for number in range(classes + 1):
        error = 1 - math.comb(classes - number, ways) / math.comb(classes, ways)
        if expected > error + new_classes_term(classes, ways):
            missed += math.comb(classes, number) * hard**number * (1 - hard) ** (classes - number)
    assert missed <= 0.05


def test_the_page_defines_every_measure_and_bound() -> None:
    missing = [name for name in (*MEASURES, *BOUNDS, *MarginBound._fields) if f"`{name}`" not in PAGE]
    assert missing == []

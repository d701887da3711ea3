"""Rank correlations over few candidates: how often their intervals contain that of the population.

    python tests/simulations/rank_correlation.py

Beside the package's intervals stand those by Fisher's transformation with the variance of Bonett and Wright (2000).
Laws: bivariate normal; Student's t with 3 degrees of freedom, of the same correlation; and families, where three
candidates each share half of the variance of both values.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import spearmanr

from nctransfer.rank.rank_correlation import rank_correlation

STUDIES = 1000
COUNTS = (4, 6, 10, 20, 30)
CORRELATIONS = (0.0, 0.3, 0.6, 0.9)
LAWS = ("normal", "t3", "families")


def draw(law: str, count: int, rho: float, rng: np.random.Generator) -> np.ndarray:
    """One study: ``(count, 2)``."""
    root = np.linalg.cholesky([[1, rho], [rho, 1]])
    values = rng.standard_normal((count, 2)) @ root.T
    if law == "t3":
        return values / np.sqrt(rng.chisquare(3, (count, 1)) / 3)
    if law == "families":
        shared = (rng.standard_normal((count // 3 + 1, 2)) @ root.T).repeat(3, axis=0)[:count]
        return (values + shared) / math.sqrt(2)
    return values


def of_bonett_and_wright(value: float, count: int) -> tuple[float, float]:
    """The interval by Fisher's transformation."""
    if abs(value) > 1 - 1e-12:
        return value, value
    half = 1.96 * math.sqrt((1 + value**2 / 2) / (count - 3))
    return math.tanh(math.atanh(value) - half), math.tanh(math.atanh(value) + half)


def truth(law: str, rho: float) -> float:
    """Spearman's rank correlation of the population."""
    if law != "t3":
        return 6 / math.pi * math.asin(rho / 2)
    return float(spearmanr(draw(law, 1_000_000, rho, np.random.default_rng(1))).statistic)


def main() -> None:
    """Simulate and print: the coverage and the mean width of both intervals."""
    print("law       true  candidates  covers  width  Fisher covers  width")
    for law in LAWS:
        for rho in CORRELATIONS:
            exact = truth(law, rho)
            for count in COUNTS:
                rng, rows = np.random.default_rng(0), []
                for _ in range(STUDIES):
                    x, y = draw(law, count, rho, rng).T
                    found = rank_correlation("score", x.tolist(), y.tolist())
                    ends = [found.interval, of_bonett_and_wright(found.value, count)]
                    rows.append([number for low, high in ends for number in (low <= exact <= high, high - low)])
                shares = np.mean(rows, axis=0)
                ours, fisher = (f"{100 * shares[k]:.1f}% {shares[k + 1]:6.2f}" for k in (0, 2))
                print(f"{law:9} {exact:5.2f}  {count:10}  {ours:>13}  {fisher:>20}", flush=True)


if __name__ == "__main__":
    main()

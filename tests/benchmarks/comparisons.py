"""Comparisons with the best: CPU seconds of the quantiles, and how far Monte Carlo lets them vary.

    python tests/benchmarks/comparisons.py

The anchor draws the standard errors from as many normal rows as there are degrees of freedom, up to 100, with the same
number of draws; the package draws the factor of their products. The last column is the standard deviation of the
quantile of the first estimate over four seeds, relative to the quantile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import torch

from nctransfer.evaluation import multiple_comparisons
from nctransfer.evaluation.spread import Spread

CASES = ((5, 9), (10, 100), (30, 9), (30, 100), (30, 5_000))
LEVELS = (0.95, 0.99)


def seconds(quantiles: Callable[[Spread, float], object], spread: Spread, level: float) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    quantiles(spread, level)
    return time.process_time() - start


def by_rows(spread: Spread, level: float) -> torch.Tensor:
    """The quantiles with every replicate drawn as it is."""
    values, axes = torch.linalg.eigh(spread.vectors.T @ spread.vectors)
    root = axes * values.clamp(min=0).sqrt() @ axes.T
    count, rows = len(root), int(min(spread.degrees, 100))
    draws = max(multiple_comparisons.DRAWS, round(multiple_comparisons.TAIL / (1 - level)))
    itself, found = torch.eye(count, dtype=torch.bool), []
    generator = np.random.default_rng(0)
    size = max(1, 2_000_000 // (count * max(count, rows)))
    for start in range(0, draws, size):
        here = min(size, draws - start)
        changes = torch.from_numpy(generator.standard_normal((here, count))) @ root
        replicates = torch.from_numpy(generator.standard_normal((here, rows, count))) @ root
        products = replicates.mT @ replicates / rows
        squares = products.diagonal(dim1=1, dim2=2)
        scale = (squares[:, :, None] + squares[:, None] - 2 * products).clamp(min=0).sqrt()
        t = ((changes[:, None] - changes[:, :, None]) / scale).masked_fill(itself, 0)
        found.append(t.amax(dim=2))
    return torch.cat(found).quantile(level, dim=0)


def variation(spread: Spread, level: float) -> float:
    """How much the quantile of the first estimate varies with the seed."""
    draw, found = np.random.default_rng, []
    for seed in range(4):
        with patch("numpy.random.default_rng", return_value=draw(seed)):
            found.append(float(multiple_comparisons._quantiles(spread, level)[0]))
    return float(np.std(found, ddof=1) / np.mean(found))


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    print("estimates  degrees  level  rows s  here s  ratio  varies by")
    for count, degrees in CASES:
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(500, 1)) + 0.5 * rng.normal(size=(500, count))
        spread = Spread(vectors=torch.from_numpy(rows), degrees=degrees)
        for level in LEVELS:
            before, now = seconds(by_rows, spread, level), seconds(multiple_comparisons._quantiles, spread, level)
            varies = variation(spread, level)
            print(f"{count:9}  {degrees:7}  {level:5}  {before:6.2f}  {now:6.2f}  {before / now:5.1f}  {varies:9.2%}")


if __name__ == "__main__":
    main()

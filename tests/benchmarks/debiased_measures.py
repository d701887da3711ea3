"""The debiased measures alone against the whole collapse report: CPU seconds and their ratio, on generated features.

    python tests/benchmarks/debiased_measures.py

Both run in turn, in one process and with one thread; the ratio is the median over the rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from nctransfer.features.feature_set import FeatureSet
from nctransfer.neural_collapse.collapse_report import collapse
from nctransfer.neural_collapse.debiased_measures import debiased_measures

SIZES = ((5_000, 1_000, 20), (10_000, 768, 100))
ROUNDS = 7


def seconds(measure: Callable[[FeatureSet], object], features: FeatureSet) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    measure(features)
    return time.process_time() - start


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    print("samples  width  classes  collapse s  debiased alone s  ratio")
    for samples, dim, classes in SIZES:
        rng = np.random.default_rng(0)
        labels = np.arange(samples) % classes
        means = rng.standard_normal((classes, dim), dtype=np.float32)
        rows = means[labels] + 2 * rng.standard_normal((samples, dim), dtype=np.float32)
        features = FeatureSet.from_arrays(rows, labels)
        collapse(features)
        pairs = [(seconds(collapse, features), seconds(debiased_measures, features)) for _ in range(ROUNDS)]
        whole, alone = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(one / other for one, other in pairs)
        print(f"{samples:7,}  {dim:5,}  {classes:7}  {whole:10.3f}  {alone:16.3f}  {ratio:5.1f}", flush=True)


if __name__ == "__main__":
    main()

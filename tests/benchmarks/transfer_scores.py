"""LogME and the H-score against the collapse report and a singular value decomposition: CPU seconds and ratios.

    python tests/benchmarks/transfer_scores.py

All run in turn, in one process and with one thread; times are medians over the rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch

from nctransfer.features.feature_set import FeatureSet
from nctransfer.neural_collapse.collapse_report import collapse
from nctransfer.rank.transfer_scores import h_score, logme, transfer_scores

SIZES = ((5_000, 1_000, 20), (2_000, 1_280, 20), (500, 2_048, 20))
ROUNDS = 3


def decompose(features: FeatureSet) -> object:
    """What a LogME by its formula needs first."""
    rows = features.features.double()
    return torch.linalg.svd(rows - rows.mean(dim=0), full_matrices=False)


CALLS: Mapping[str, Callable[[FeatureSet], object]] = {
    "both": transfer_scores,
    "logme": logme,
    "h_score": h_score,
    "collapse": collapse,
    "svd": decompose,
}


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    print("samples  width  " + "  ".join(f"{name:>10}" for name in CALLS) + "  svd / both  collapse / both")
    for samples, dim, classes in SIZES:
        rng = np.random.default_rng(0)
        labels = np.arange(samples) % classes
        means = rng.standard_normal((classes, dim), dtype=np.float32)
        features = FeatureSet.from_arrays(means[labels] + 2 * rng.standard_normal((samples, dim), "float32"), labels)
        times: dict[str, list[float]] = {name: [] for name in CALLS}
        for _ in range(ROUNDS):
            for name, call in CALLS.items():
                start = time.process_time()
                call(features)
                times[name].append(time.process_time() - start)
        found = {name: statistics.median(values) for name, values in times.items()}
        ratios = f"{found['svd'] / found['both']:10.1f}  {found['collapse'] / found['both']:15.1f}"
        print(f"{samples:7,}  {dim:5,}  " + "  ".join(f"{one:10.3f}" for one in found.values()) + "  " + ratios)


if __name__ == "__main__":
    main()

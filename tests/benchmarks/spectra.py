"""The spectra about the mean and about zero from one decomposition, against one and two of PyTorch: CPU seconds.

    python tests/benchmarks/spectra.py

All run in turn, in one process and with one thread; times are medians over the rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

from nctransfer.neural_collapse.spectra import spectra

WIDTHS = (384, 768, 1280, 2048)
ROUNDS = 5

Way = Callable[[torch.Tensor, torch.Tensor], object]
WAYS: Mapping[str, Way] = {
    "one": lambda covariance, mean: torch.linalg.eigvalsh(covariance),
    "two": lambda covariance, mean: (
        torch.linalg.eigvalsh(covariance),
        torch.linalg.eigvalsh(torch.addr(covariance, mean, mean)),
    ),
    "both": spectra,
}


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    print("width  " + "  ".join(f"{name:>6}" for name in WAYS) + "  both / one  both / two")
    for dim in WIDTHS:
        rows = torch.randn(2 * dim, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1
        covariance, mean = rows.T.cov(correction=0), rows.mean(dim=0)
        times: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(ROUNDS):
            for name, way in WAYS.items():
                start = time.process_time()
                way(covariance, mean)
                times[name].append(time.process_time() - start)
        found = {name: statistics.median(values) for name, values in times.items()}
        ratios = f"{found['both'] / found['one']:10.2f}  {found['both'] / found['two']:10.2f}"
        print(f"{dim:5,}  " + "  ".join(f"{one:6.3f}" for one in found.values()) + "  " + ratios)


if __name__ == "__main__":
    main()

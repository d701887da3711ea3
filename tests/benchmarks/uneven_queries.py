"""Episodes a CPU second by query prior, and of soft k-means; and the same of another checkout, by turns.

    python tests/benchmarks/uneven_queries.py [--against SRC] [--rounds 3]

5-way, 15 queries per class, 2,000 episodes of 5,000 images of 50 classes, width 640, one thread; each run is a process
of its own that measures its CPU seconds, the start left out. The anchor is `ncc` with balanced queries at 1 shot.
--against names the `src` folder of another checkout: the runs with balanced queries and inductive classifiers are then
made by both, by turns, and the ratio of the medians is printed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

TITLE = "Uneven queries"
RUN = """
import json, resource, sys
import torch
import nctransfer as nct
torch.set_num_threads(1)
g = torch.Generator().manual_seed(0)
labels = torch.arange(5000) % 50
means = 0.15 * torch.randn(50, 640, generator=g)
features = nct.FeatureSet.from_arrays(torch.randn(5000, 640, generator=g) + means[labels], labels.tolist())
given = json.loads(sys.argv[1])
nct.fewshot(features, 5, 1, episodes=20, precision=0, theory=False)
start = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
nct.fewshot(features, 5, episodes=2000, precision=0, theory=False, **given)
print(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - start)
"""
CASES = [
    {"shots": shots, "classifiers": name, **({} if prior == "balanced" else {"query_prior": prior})}
    for shots in (1, 5)
    for name in ("ncc", "ridge", "soft-kmeans")
    for prior in ("balanced", "dirichlet:2", "empirical")
    if name != "soft-kmeans" or prior == "balanced"
]


def seconds(case: dict, src: Path) -> float:
    """CPU seconds of one run."""
    environment = os.environ | {"PYTHONPATH": str(src), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RUN, json.dumps(case)]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--against", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    own, anchor = Path(__file__).parents[2] / "src", 0.0
    print(
        "| shots | classifier | queries | CPU s | of the anchor | of the other checkout |\n|---|---|---|---:|---:|---:|"
    )
    for case in CASES:
        prior = case.get("query_prior", "balanced")
        compared = given.against is not None and prior == "balanced" and case["classifiers"] != "soft-kmeans"
        found: dict[Path, list[float]] = {own: [], **({given.against: []} if compared else {})}
        for _ in range(given.rounds):
            for src, values in found.items():
                values.append(seconds(case, src))
        median = statistics.median(found[own])
        anchor = anchor or median
        ratio = f"{median / statistics.median(found[given.against]):.2f}" if compared else "–"
        about = f"| {case['shots']} | {case['classifiers']} | {prior} "
        print(f"{about}| {median:.2f} | {median / anchor:.2f} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()

"""How time and memory grow with four times the images and four times the classes, for each measurement.

Each runs in a process of its own on Gaussian classes of width 512, streamed from Parquet where the command streams.
Seconds are those of the call alone, after the libraries are loaded; memory is what the call adds to them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from peak_memory import peak

TITLE = "Growth with images and classes"
DIM = 512
SIZES = ((2_000, 25), (8_000, 25), (8_000, 100))  # n and C; 4n; 4n and 4C


def generate(samples: int, classes: int) -> Any:
    """Gaussian classes, near enough to each other that accuracies are not all 1."""
    import nctransfer as nct

    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(samples) % classes
    means = 0.15 * torch.randn(classes, DIM, generator=generator)
    vectors = torch.randn(samples, DIM, generator=generator) + means[labels]
    return nct.FeatureSet.from_arrays(vectors, labels.tolist())


def calls() -> dict[str, Callable[[Any], object]]:
    """The measurements, by the command that prints them."""
    import nctransfer as nct
    from nctransfer.evaluation.linear_probe import probe
    from nctransfer.neural_collapse.bounds import error_bounds
    from nctransfer.neural_collapse.class_statistics import ClassStatistics

    return {
        "`collapse`": nct.collapse,
        "`fewshot`": lambda features: nct.fewshot(features, 5, (1, 5)),
        "`fewshot --ways all`": lambda features: nct.fewshot(features, "all", (1, 5)),
        "`fewshot --interval samples`": lambda features: nct.fewshot(features, 5, 5, interval="samples"),
        "`fewshot --probe`": probe,
        "`expect`": lambda features: nct.expect(features, (2, 5, 10), (1, 5, 20)),
        "`bounds`": lambda features: error_bounds(ClassStatistics.of(features), 5, 5),
    }


def measure(name: str, samples: int, classes: int) -> None:
    """In a process of its own: the seconds of a call, and what it adds to the memory."""
    call, features = calls()[name], generate(samples, classes)
    call(generate(480, 20))  # what is loaded or built once
    before, start = peak(), time.perf_counter()
    call(features)
    print(json.dumps([time.perf_counter() - start, peak() - before]))


def table() -> str:
    """One row a measurement."""
    from page_tables import markdown

    rows = []
    for name in calls():
        found = []
        for size in SIZES:
            command = [sys.executable, __file__, name, *map(str, size)]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append(json.loads(run.stdout))
        (small, _), (more, _), (most, memory) = found
        rows.append([name, f"{small:.2f}", f"{more / small:.1f}", f"{most / more:.1f}", f"{memory:,.0f}"])
    (n, few), (_, _), (many, classes) = SIZES
    columns = [
        "command",
        f"seconds for {n:,} images, {few} classes",
        "times for 4 times the images",
        f"times more for 4 times the classes ({classes})",
        f"MiB at {many:,} images, {classes} classes",
    ]
    return markdown(columns, rows)


if __name__ == "__main__":
    measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

"""Time and peak memory of the collapse report on features that are streamed from Parquet, against the floor.

The floor is what cannot be avoided: reading and decoding the vectors twice, and n·d·C + n·d² multiply-adds in
float64 at the rate of a plain matrix product. Memory is what the report adds to a process that has imported torch.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from peak_memory import peak
from pyarrow import parquet

TITLE = "Collapse, on features that are streamed from Parquet"
SIZES = ((12_500, 768, 250), (50_000, 768, 250), (50_000, 768, 1000), (50_000, 1280, 100), (200_000, 768, 1000))


def generate(path: Path, samples: int, dim: int, classes: int) -> None:
    """Gaussian classes in random order, written a row group at a time."""
    generator = np.random.default_rng(0)
    means = generator.standard_normal((classes, dim), dtype=np.float32)
    schema = pa.schema({"label": pa.int32(), "feature": pa.list_(pa.float32(), dim)})
    with parquet.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for start in range(0, samples, 10_000):
            rows = min(10_000, samples - start)
            labels = generator.integers(0, classes, rows).astype(np.int32)
            values = means[labels] + 2 * generator.standard_normal((rows, dim), dtype=np.float32)
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), dim)
            writer.write_table(pa.table({"label": labels, "feature": vectors}, schema=schema))


def measure(path: str) -> None:
    """In a process of its own: seconds of the report, and what it adds to the memory."""
    from nctransfer.features.files import stream_features
    from nctransfer.neural_collapse.collapse_report import collapse

    torch.zeros(8, 8).double() @ torch.zeros(8, 8).double()
    before, start = peak(), time.perf_counter()
    collapse(stream_features(path))
    print(time.perf_counter() - start, peak() - before)


def floor(path: Path, samples: int, dim: int, classes: int) -> tuple[float, float]:
    """Seconds of reading the vectors twice, and of the multiply-adds."""
    start = time.perf_counter()
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(1024, columns=["feature"]):
            batch.column(0).flatten().to_numpy()
    reading = 2 * (time.perf_counter() - start)
    a, b = torch.randn(4096, dim, dtype=torch.float64), torch.randn(dim, max(dim, classes), dtype=torch.float64)
    a @ b
    start = time.perf_counter()
    for _ in range(5):
        a @ b
    rate = 5 * a.shape[0] * b.numel() / (time.perf_counter() - start)
    return reading, samples * dim * (classes + dim) / rate


def row(samples: int, dim: int, classes: int) -> list[object]:
    """One size: the report in a process of its own, and the floor."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "features.parquet")
        generate(path, samples, dim, classes)
        reading, computing = floor(path, samples, dim, classes)
        command = [sys.executable, __file__, "--measure", str(path)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, memory = map(float, run.stdout.split())
    times = seconds / (reading + computing)
    floors = f"{reading:.1f} + {computing:.1f}"
    return [f"{samples:,}", f"{dim:,}", f"{classes:,}", f"{seconds:.1f}", floors, f"{times:.2f}", f"{memory:,.0f}"]


def table(sizes: Iterable[tuple[int, int, int]] = SIZES) -> str:
    """One row a size."""
    from page_tables import markdown  # not where the report alone is measured

    columns = ["samples", "width", "classes", "seconds", "floor: reading + multiplying", "times the floor", "MiB"]
    return markdown(columns, [row(*size) for size in sizes])


if __name__ == "__main__":
    measure(sys.argv[2])

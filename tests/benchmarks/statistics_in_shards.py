"""What the collapse costs in pieces: each pass beside one reading of the file, and four workers beside one.

All times are seconds of the processor in one thread, so that other work on the machine matters little. Every run is
repeated, and the fastest counts. The rows are Gaussian classes in a Parquet file with groups of 4,096 rows.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

TITLE = "Statistics in pieces"
DIM, WORKERS = 768, 4
SIZES = ((40_000, 100), (40_000, 1_000))
GROUP = 4_096


def write_features(path: Path, samples: int, classes: int, dim: int = DIM) -> None:
    """Gaussian classes, in no order, a group of rows at a time."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

    rng = np.random.default_rng(0)
    means = rng.normal(size=(classes, dim)).astype(np.float32)
    schema = pa.schema([("feature", pa.list_(pa.float32(), dim)), ("label", pa.string()), ("id", pa.string())])
    with parquet.ParquetWriter(path, schema, compression="none", use_dictionary=["label"]) as writer:
        for start in range(0, samples, GROUP):
            rows = min(GROUP, samples - start)
            labels = (np.arange(start, start + rows) * 7919) % classes
            values = rng.standard_normal((rows, dim), np.float32) + means[labels]
            column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), dim)
            names = [[f"{label:05}" for label in labels], [f"{row:09}" for row in range(start, start + rows)]]
            writer.write_table(pa.table([column, *map(pa.array, names)], schema=schema))


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Of the processor, and what the work gives."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def passes(path: Path, note: Callable[[str, float], None]) -> None:
    """One reading of a file, and each of the two passes."""
    import torch

    from nctransfer.features.feature_stream import FeatureStream
    from nctransfer.features.files import stream_features
    from nctransfer.neural_collapse.halves import first_halves
    from nctransfer.neural_collapse.moments import Means, Moments

    features = stream_features(path)
    assert isinstance(features, FeatureStream)
    is_first = first_halves(features)
    note("reading", seconds(lambda: sum(len(rows) for rows, _ in features.batches()))[0])
    spent, means = seconds(lambda: Means.of(features, torch.device("cpu"), is_first))
    note("first pass", spent)
    note("second pass", seconds(lambda: Moments.of(features, means, is_first))[0])


def whole_and_shares(path: Path, saved: Path, note: Callable[[str, float], None]) -> None:
    """The report of one process, and that of several workers, one after the other."""
    import nctransfer as nct
    from nctransfer.features.files import stream_features

    spent, report = seconds(lambda: nct.collapse(stream_features(path), device="cpu"))
    note("one process", spent)
    times = [0.0] * WORKERS
    for _ in range(2):
        for k in range(WORKERS):
            spent, _ = seconds(
                lambda k=k: nct.collapse_shard(stream_features(path), f"{k + 1}/{WORKERS}", saved, device="cpu")
            )
            times[k] += spent
    spent, merged = seconds(lambda: nct.merge_collapse(saved))
    assert abs(merged.cdnv / report.cdnv - 1) < 1e-9
    note("merging", spent)
    note("all workers", sum(times))
    note("the slowest worker", max(times))
    note("MB saved", sum(one.stat().st_size for one in saved.iterdir()) / 1e6)


def measure(samples: int, classes: int, repeats: int = 2) -> dict[str, float]:
    """Seconds of each step, the least of some repetitions; all steps take turns."""
    best: dict[str, float] = {}

    def note(name: str, value: float) -> None:
        best[name] = min(best.get(name, value), value)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.parquet"
        write_features(path, samples, classes)
        for repeat in range(repeats):
            passes(path, note)
            whole_and_shares(path, Path(folder) / f"statistics {repeat}", note)
    return best


def in_words() -> str:
    """The table, one row a size."""
    from page_tables import markdown

    rows = []
    for samples, classes in SIZES:
        found = measure(samples, classes)
        million = 1e6 / samples
        rows.append(
            [
                f"{samples:,} × {DIM}, {classes:,} classes",
                f"{found['reading'] * million:,.1f}",
                *(
                    f"{found[name] * million:,.0f} ({found[name] / found['reading']:.0f}×)"
                    for name in ("first pass", "second pass")
                ),
                f"{found['one process']:.1f}",
                f"{found['all workers']:.1f} + {found['merging']:.1f}",
                f"{(found['all workers'] + found['merging']) / found['one process']:.2f}",
                f"{found['the slowest worker']:.1f}",
                f"{found['MB saved']:,.0f}",
            ]
        )
    columns = [
        "samples",
        "s per million rows: reading",
        "first pass (× reading)",
        "second pass (× reading)",
        "one process, s",
        f"{WORKERS} workers + merge, s",
        "ratio",
        "the slowest worker, s",
        "MB saved",
    ]
    return markdown(columns, rows)


def main() -> None:
    """Print the table."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    print(in_words())


if __name__ == "__main__":
    main()

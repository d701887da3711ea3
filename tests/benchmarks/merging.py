"""How fast ``cache merge`` takes over the caches of workers, beside copying and checking the same files by hand.

    python tests/benchmarks/merging.py [--rows 20000] [--dim 1280] [--workers 4]

Megabytes of rows per second, of the wall clock and of processor time. The ways run in turns, twice.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from page_tables import markdown  # noqa: E402 - it lies in the folder above


def fill(root: Path, rows: int, dim: int, first: int) -> None:
    """A cache with parts of 64 MiB."""
    from nctransfer.backbones.feature_key import FeatureKey
    from nctransfer.sources.source import content_digest
    from nctransfer.store.cache_folder import FeatureStore
    from nctransfer.store.listings import Listed

    key = FeatureKey(model="toy", weights="0" * 32, transform={"input_size": [3, 8, 8]})
    generator = np.random.default_rng(first)
    stored = FeatureStore(root).open(key, "toy-00000000", {})
    each = max(1, 2**26 // (4 * dim))
    images = [
        Listed(f"{number:08d}.jpg", "cat", "", 1, 1, content_digest(b"%d" % number))
        for number in range(first, first + rows)
    ]
    with stored.writer() as writer:
        for start in range(0, rows, each):
            some = images[start : start + each]
            writer.append(some, {"feature": generator.standard_normal((len(some), dim), np.float32)})
    stored.store.save_listing("toy-00000000", images)


def timed(work: Callable[[], object]) -> np.ndarray:
    """Wall-clock and CPU seconds, of this process and of those that it starts."""

    def cpu() -> float:
        kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))

    start, before = time.perf_counter(), cpu()
    work()
    return np.array([time.perf_counter() - start, cpu() - before])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--workers", type=int, default=4)
    given = parser.parse_args()
    from nctransfer.store.cache_folder import FeatureStore
    from nctransfer.store.merging import merge

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        caches = [folder / f"worker-{number}" for number in range(given.workers)]
        for number, cache in enumerate(caches):
            fill(cache, given.rows // given.workers, given.dim, number * given.rows)
        size = sum(path.stat().st_size for cache in caches for path in cache.rglob("*") if path.is_file()) / 2**20

        def copied() -> None:
            for cache in caches:
                shutil.rmtree(folder / "copy", ignore_errors=True)
                script = (
                    'cp -r "$1" "$2" && find "$2" -type f -exec sha256sum {} + && find "$2" -type f -exec sync {} +'
                )
                command = ["bash", "-c", script, "_", str(cache), str(folder / "copy")]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

        def merged() -> None:
            shutil.rmtree(folder / "here", ignore_errors=True)
            merge(FeatureStore(folder / "here"), caches)

        ways = {
            "cp, sha256sum and sync": copied,
            "cache merge": merged,
            "cache merge again": lambda: merge(FeatureStore(folder / "here"), caches),
        }
        for work in ways.values():  # all files are in memory then, and all libraries loaded
            work()
        found = {way: min((timed(work) for _ in range(2)), key=lambda one: one[0]) for way, work in ways.items()}
    base = found["cp, sha256sum and sync"]
    rows = [
        [way, *(f"{size / one:,.0f}" for one in seconds), *(f"{ratio:.2f}" for ratio in seconds / base)]
        for way, seconds in found.items()
    ]
    print(f"{size:,.0f} MiB in {given.workers} caches\n")
    print(markdown(["way", "MiB/s", "MiB per CPU second", "time beside cp", "CPU beside cp"], rows))


if __name__ == "__main__":
    main()

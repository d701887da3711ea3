"""Images per second with 1, 2 and 4 workers that divide the images by ``extract --shard``, on one machine.

    python tests/benchmarks/workers.py DATA [--max-per-class 15] [--model tf_efficientnet_lite0] [--workers 1,2,4]

Every worker is a process ``nctransfer extract --shard I/N``, all of them fill one empty cache at once, and each has its
share of the cores. Rates are of the time from the first start to the last end, and without what each worker needs to
start. The anchor is one process without ``--shard``, which runs first and last.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from page_tables import markdown  # noqa: E402 - it lies in the folder above

CORES = len(os.sched_getaffinity(0))


def measure(options: list[str], workers: int, whole: bool = False) -> tuple[int, float, float, float]:
    """The images, the seconds of all, the longest seconds in the backbone and around it, and CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as cache:
        threads = str(max(1, CORES // workers))
        environment = {**os.environ, "NCTRANSFER_CACHE": cache, "OMP_NUM_THREADS": threads}
        start = time.perf_counter()
        running = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "nctransfer", "extract", *options),
                    *("--format", "json", "--quiet", "--workers", threads),
                    *(() if whole else ("--shard", f"{index}/{workers}")),
                ],
                env=environment,
                stdout=subprocess.PIPE,
            )
            for index in range(1, workers + 1)
        ]
        try:
            reports = [json.loads(process.communicate()[0]) for process in running]
        finally:
            for process in running:
                process.kill()
        seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = sum(one["extracted"] for one in reports), seconds, max(one["seconds"] for one in reports), cpu
    print(workers, "workers:", found, file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Print the table."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the workers end too
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--max-per-class", default="15")
    parser.add_argument("--workers", default="1,2,4")
    given = parser.parse_args()
    options = ["--data", given.data, "--model", given.model, "--max-per-class", given.max_per_class]
    whole = [measure(options, 1, whole=True)]
    found = {workers: measure(options, workers) for workers in map(int, given.workers.split(","))}
    whole.append(measure(options, 1, whole=True))
    images, seconds, busy, cpu = (sum(column) / 2 for column in zip(*whole, strict=True))
    rows = [["one process, without --shard", images, seconds, busy, cpu]]
    rows += [[f"{workers} with --shard", *numbers] for workers, numbers in found.items()]
    table = [
        [
            name,
            *(f"{n:.0f}", f"{n / wall:.1f}", f"{wall / n / (seconds / images):.2f}"),
            *(f"{n / run:.1f}", f"{run / n / (busy / images):.2f}", f"{used:.1f}", f"{wall - run:.1f}"),
        ]
        for name, n, wall, run, used in rows
    ]
    heads = ["workers", "images", "images/s", "time of one process", "images/s once started", "time of one process"]
    print(markdown([*heads, "CPU s", "start, s"], table))


if __name__ == "__main__":
    main()

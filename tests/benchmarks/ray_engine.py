"""Images per second of one process and of workers of Ray on the same cores; what Ray takes to start, and its memory.

    python tests/benchmarks/ray_engine.py FOLDER_OR_ARCHIVE [ROUNDS]

Each round runs all ways, one after the other, so that a busy machine slows all of them down.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from ray_nodes import command_of, descendants

WAYS = {"local": (), "1 worker": ("1",), "2 workers": ("2",), "4 workers": ("4",)}
PER_CLASS = 10


def memory_of(pid: int) -> float:
    """The memory of a process in MB, of which shared pages count in part."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def cpu_of(pid: int) -> float:
    """The CPU seconds that a process has used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(data: str, actors: tuple[str, ...]) -> dict[str, float]:
    """One extraction: images per second, seconds in all, and the most memory of a worker and of the rest of Ray."""
    with tempfile.TemporaryDirectory() as cache:
        words = [sys.executable, "-m", "nctransfer", "extract", "--data", data, "--max-per-class", str(PER_CLASS)]
        words += ["--cache-dir", cache, "--format", "json", "--quiet"]
        words += ["--engine", "ray", "--actors", *actors] if actors else []
        start, most, rest = time.perf_counter(), 0.0, 0.0
        cpu: dict[int, float] = {}
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ}) as run:
            while run.poll() is None:
                time.sleep(0.5)
                used = {pid: memory_of(pid) for pid in descendants(run.pid)}
                cpu |= {pid: seconds for pid in [run.pid, *used] if (seconds := cpu_of(pid))}
                workers = [size for pid, size in used.items() if command_of(pid).startswith("ray::RayWorker")]
                most, rest = max(most, *workers, 0.0), max(rest, sum(used.values()) - sum(workers))
            assert run.stdout is not None
            result = json.loads(run.stdout.read())
        seconds = time.perf_counter() - start
    return {
        "images": result["extracted"],
        "speed": result["images_per_second"],
        "seconds": seconds,
        "start": seconds - result["seconds"],
        "worker": most,
        "rest": rest,
        "cpu": sum(cpu.values()),
    }


def main() -> None:
    data, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
    for _ in range(rounds):
        found = {way: measured(data, actors) for way, actors in WAYS.items()}
        for way, one in found.items():
            ratio = one["speed"] / found["local"]["speed"]
            print(
                f"{way:10} {one['images']:5.0f} images, {one['speed']:6.1f} per second ({ratio:.2f} of local), "
                f"{one['seconds']:5.1f} s in all, {one['start']:4.1f} s besides, "
                f"{one['worker']:5.0f} MB per worker, {one['rest']:5.0f} MB of Ray besides, "
                f"{one['cpu']:5.1f} s of CPU",
                flush=True,
            )


if __name__ == "__main__":
    main()

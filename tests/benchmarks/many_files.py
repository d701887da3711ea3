"""A folder of a million images: what listing it and ``data`` cost, and how that grows with four times the files.

The files are small PNG images in 1,000 class folders, hard links to 400 different ones, so they are in the system's
file cache. Beside each command stands what cannot be avoided, done alone: ``os.walk`` with the size and time of each
file; and reading each file, Pillow's header and a digest, in one thread. Each runs in a process of its own.

    python tests/benchmarks/many_files.py [FILES …]
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from peak_memory import peak
from PIL import Image

SIZES = (62_500, 250_000, 1_000_000)
CLASSES, DIFFERENT = 1_000, 400


def make(root: Path, files: int) -> None:
    """A folder of class folders."""
    rng = np.random.default_rng(0)
    originals = root / ".originals"
    originals.mkdir()
    for number in range(DIFFERENT):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(originals / f"{number}.png")
    for label in range(CLASSES):
        folder = root / f"class {label:04d}"
        folder.mkdir()
        for number in range(label, files, CLASSES):
            os.link(originals / f"{number % DIFFERENT}.png", folder / f"image {number:07d}.png")


def walk(root: str) -> None:
    """The size and the time of each file."""
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in files:
            os.stat(f"{folder}/{name}")  # noqa: PTH116


def read(root: str) -> None:
    """The header and the digest of each file."""
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in files:
            content = Path(folder, name).read_bytes()
            hashlib.blake2b(content, digest_size=16).digest()
            with Image.open(io.BytesIO(content)) as image:
                assert image.size


def listing(root: str) -> None:
    """The images of the folder as a source."""
    from nctransfer.sources.opening import open_source

    open_source(root).list()


def data(root: str) -> None:
    """``data --fast``."""
    from nctransfer.sources.inventory import inspect
    from nctransfer.sources.opening import open_source

    inspect(open_source(root), headers_only=True).to_dict()


CALLS: dict[str, Callable[[str], None]] = {
    "`os.walk` and `os.stat` alone": walk,
    "listing the folder": listing,
    "reading, header and digest alone": read,
    "`data --fast`": data,
}


def measure(name: str, root: str) -> None:
    """In a process of its own: seconds, seconds of CPU, and the peak of memory in MiB."""
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    CALLS[name](root)
    after, seconds = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - start
    print(json.dumps([seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, peak()]))


def report(sizes: tuple[int, ...]) -> str:
    """One row for each command and number of files."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from page_tables import markdown

    rows = []
    for files in sizes:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), files)
            walk(folder)  # so that all of it is in the system's cache
            for name in CALLS:
                command = [sys.executable, __file__, name, folder]
                run = subprocess.run(command, capture_output=True, text=True, check=True)
                seconds, cpu, memory = json.loads(run.stdout)
                rows.append([name, f"{files:,}", f"{seconds:.1f}", f"{cpu:.1f}", f"{memory:,.0f}"])
    table: str = markdown(
        ["", "files", "seconds", "seconds of CPU", "peak in MiB"], sorted(rows, key=lambda row: row[0])
    )
    return table


def main() -> None:
    """Print the table."""
    print(report(tuple(map(int, sys.argv[1:])) or SIZES))


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in CALLS:
        measure(sys.argv[1], sys.argv[2])
    else:
        main()

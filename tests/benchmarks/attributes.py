"""What attributes of images cost: reading a manifest and a listing with none, with one and with four of them.

A manifest names hard links to a hundred files. Each measurement runs in a process of its own, all in turns, and its
seconds are those of the CPU, with the libraries; the anchor is the measurement without attributes.

    python tests/benchmarks/attributes.py [IMAGES]
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from peak_memory import peak

TITLE = "Attributes of images"
IMAGES, ROUNDS = 100_000, 3
COLUMNS = {"site": 12, "camera": 300, "night": 2, "place": 9_000}  # different values


def make(root: Path, images: int) -> None:
    """Manifests with none, one and four attributes of the same images."""
    for folder in range(100):
        (root / f"{folder:02d}").mkdir()
        (root / f"{folder:02d}" / "first").write_bytes(b"no image")
    names = [f"{row % 100:02d}/{row:06d}.png" for row in range(images)]
    for name in names:
        os.link(root / name[:2] / "first", root / name)
    for many in (0, 1, 4):
        chosen = list(COLUMNS)[:many]
        with (root / f"{many}.csv").open("w") as file:
            print("path", "label", *chosen, sep=",", file=file)
            for row, name in enumerate(names):
                print(
                    name, name[:2], *(f"{column}{row * 7 % COLUMNS[column]}" for column in chosen), sep=",", file=file
                )


def measure(what: str, path: str) -> list[float]:
    """Seconds of CPU, the peak of memory in MiB, and the size of the listing in KiB."""
    from nctransfer.sources.manifest import Manifest
    from nctransfer.store.listing_files import change_listing, load_listing
    from nctransfer.store.listings import Listing

    file = Path(path).with_suffix(".parquet")
    if what == "list":
        change_listing(file, lambda _: Listing.unread(Manifest(path).list()))
    else:
        assert len(load_listing(file))
    used = resource.getrusage(resource.RUSAGE_SELF)
    return [used.ru_utime + used.ru_stime, peak(), file.stat().st_size / 2**10]


def table(images: int = IMAGES) -> str:
    """One row for each measurement and number of attributes."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from page_tables import markdown

    found: dict[tuple[str, int], list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), images)
        for _ in range(ROUNDS):
            for what in ("list", "load"):
                for many in (0, 1, 4):
                    command = [sys.executable, __file__, what, f"{folder}/{many}.csv"]
                    run = subprocess.run(command, capture_output=True, text=True, check=True)
                    found.setdefault((what, many), []).append(json.loads(run.stdout))
    rows = []
    for (what, many), runs in found.items():
        seconds, memory, size = map(min, zip(*runs, strict=True))
        anchor = min(run[0] for run in found[what, 0])
        name = {"list": "reading the manifest, writing the listing", "load": "reading the listing"}[what]
        rows.append([name, str(many), f"{seconds:.2f}", f"{seconds / anchor:.2f}", f"{memory:,.0f}", f"{size:,.0f}"])
    columns = ["", "attributes", "seconds of CPU", "times those without", "peak in MiB", "listing in KiB"]
    return str(markdown(columns, rows))


def main() -> None:
    """Print the table."""
    print(table(*map(int, sys.argv[1:])))


if __name__ == "__main__":
    if sys.argv[1:2] in (["list"], ["load"]):
        print(json.dumps(measure(*sys.argv[1:])))
    else:
        main()

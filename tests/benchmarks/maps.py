"""Maps of images and classes: CPU seconds beside what cannot be avoided, and memory, on generated features.

    python tests/benchmarks/maps.py [--sizes 2000x1280 …]

The nearest images need the products of all images with each other, so a map of images is compared with these products
alone, in the same blocks. The order of classes is compared with that of SciPy: in time, and in the sum of the distances
of neighbours, which both of them make as small as they can. Everything runs with one thread.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from peak_memory import peak
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import pdist, squareform

import nctransfer as nct
from nctransfer.label_audit.nearest_images import ENTRIES, unit_rows
from nctransfer.maps.leaf_order import with_best_leaf_order
from nctransfer.maps.principal_plane import principal_plane

SIZES = ("2000x1280", "10000x1280", "20000x1280", "20000x2048")
CLASSES = 100
TREES = (60, 100, 300, 1000, 2000)
MOST_OF_SCIPY = 1000


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def products(rows: torch.Tensor) -> None:
    """All products of rows, in the blocks in which they are looked through for the nearest."""
    size = max(1, ENTRIES // len(rows))
    for start in range(0, len(rows), size):
        rows[start : start + size] @ rows.T


def measure(images: int, dim: int) -> None:
    """In a process of its own: the seconds of each step, and the memory beyond that of the features."""
    generator = torch.Generator().manual_seed(0)
    labels = (torch.arange(images) % CLASSES).sort().values
    rows = torch.randn(images, dim, generator=generator)
    rows += 0.5 * torch.randn(CLASSES, dim, generator=generator)[labels]
    features = nct.FeatureSet.from_arrays(rows, labels.tolist(), copy=False)
    cpu = torch.device("cpu")
    nct.map_images(nct.FeatureSet.from_arrays(rows[:200], labels[:200].tolist()), device="cpu")  # loads the libraries
    before = peak()
    whole = seconds(lambda: nct.map_images(features, device="cpu"))
    memory = peak() - before
    units = unit_rows(features, cpu)
    floor = seconds(lambda: products(units))
    axes = seconds(lambda: principal_plane(features, cpu))
    classes = seconds(lambda: nct.map_classes(features, device="cpu"))
    print(json.dumps([whole, floor, axes, classes, memory]))


def trees() -> Iterator[tuple[str, np.ndarray]]:
    """Distances of C classes ``(C, C)``: in 20 groups, and without any structure."""
    for classes in TREES:
        rng = np.random.default_rng(0)
        noise = rng.normal(size=(classes, 50))
        groups = 2 * rng.normal(size=(20, 50))[np.arange(classes) % 20]
        for name, points in (("groups", groups + noise), ("no structure", noise)):
            yield f"{classes:5,}  {name:12}", squareform(pdist(points))


def length(tree: np.ndarray, distance: np.ndarray) -> float:
    """The sum of the distances of neighbouring leaves."""
    order = leaves_list(tree)
    return float(distance[order[:-1], order[1:]].sum())


def compare_orders() -> None:
    """Print the time and the result beside those of SciPy."""
    print("\nclasses  kind          best order s  SciPy s  length: SciPy / best  any order / best")
    for name, distance in trees():
        pairs = squareform(distance)
        tree = linkage(pairs, "average")
        start = time.process_time()
        best = with_best_leaf_order(tree, distance)
        between = time.process_time()
        shortest = length(best, distance)
        row = f"{name}  {between - start:12.3f}"
        if len(distance) <= MOST_OF_SCIPY:
            other = optimal_leaf_ordering(tree, pairs)
            row += f"  {time.process_time() - between:7.3f}  {length(other, distance) / shortest:20.3f}"
        else:
            row += f"  {'':7}  {'':20}"
        print(f"{row}  {length(tree, distance) / shortest:16.3f}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", nargs="*", default=SIZES, help="images x width")
    parser.add_argument("--one", nargs=2, type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.one:
        measure(*given.one)
        return
    print("images x width  map s  products s  ratio  axes alone s  classes s  memory beyond features MiB  features MiB")
    for size in given.sizes:
        images, dim = map(int, size.split("x"))
        command = [sys.executable, __file__, "--one", str(images), str(dim)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        whole, floor, axes, classes, memory = json.loads(run.stdout)
        print(
            f"{size:>14}  {whole:5.1f}  {floor:10.1f}  {whole / floor:5.2f}  {axes:12.2f}  {classes:9.2f}  "
            f"{memory:26.0f}  {images * dim * 4 / 2**20:12.0f}",
            flush=True,
        )
    compare_orders()


if __name__ == "__main__":
    main()

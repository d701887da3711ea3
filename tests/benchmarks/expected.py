"""Expected accuracy against measured episodes, over ways and shots: seconds, intervals, growth, and agreement.

    python tests/benchmarks/expected.py [FEATURES …] [--ways 2,5,10,20] [--shots 1,2,5,10,20,50]

Without FEATURES, prints the table that docs/performance.md shows. With them, prints for each set what episodes (so many
that their interval is below 0.1 points) measure of ``ncc``, and how far the resampled and the normal form lie from it,
in points; and the CPU seconds of each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from peak_memory import peak

TITLE = "Expected accuracy and episodes"
WAYS, SHOTS = (2, 5, 10, 20), (1, 2, 5, 10, 20, 50)
SURFACE = (20, 300, 1280)  # classes, images per class, width
GROWTH = ((20, 100, 512), (20, 400, 512), (80, 100, 512))  # n and C; 4n; 4n and 4C
LARGE = (100, 500, 1280)
GOAL = 0.001  # half-width of the 95% interval
PILOT, MORE, MOST = 250, 1_250, 120_000  # episodes


def generate(classes: int, images: int, dim: int) -> Any:
    """Gaussian classes with one covariance, whose spectrum falls as a power law."""
    import numpy as np

    import nctransfer as nct

    generator = np.random.default_rng(0)
    scales = np.arange(1, dim + 1) ** -0.5
    means = 0.5 * generator.normal(size=(classes, 1, dim)) * scales
    rows = (means + generator.normal(size=(classes, images, dim)) * scales).astype("float32")
    return nct.FeatureSet.from_arrays(rows.reshape(-1, dim), np.repeat(range(classes), images))


def episodes_seconds(features: Any, ways: int, shots: int) -> tuple[float, float]:
    """CPU seconds of a task's episodes that bring the interval to the goal, and of what comes before any episode."""
    import nctransfer as nct

    found, spent = None, []
    for episodes in (PILOT, MORE):
        start = time.process_time()
        found = nct.fewshot(features, ways, shots, episodes=episodes, precision=0, classifiers="ncc", theory=False)
        spent.append(time.process_time() - start)
    assert found is not None
    each = (spent[1] - spent[0]) / (MORE - PILOT)
    return each * (1.96 * found.rows[0].std / GOAL) ** 2, max(0.0, spent[0] - PILOT * each)


def measure(*size: int) -> None:
    """In a process of its own: seconds of the surface, CPU seconds, widest interval, and what it adds to memory."""
    import nctransfer as nct

    nct.expect(generate(3, 60, 64), 2, SHOTS)  # what is loaded once
    features = generate(*size)
    before, start, cpu = peak(), time.perf_counter(), time.process_time()
    rows = nct.expect(features, WAYS, SHOTS).rows
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, time.process_time() - cpu, max(row.ci95 for row in rows), peak() - before]))


def in_process(size: tuple[int, int, int]) -> list[float]:
    """:func:`measure` of a set of this size."""
    command = [sys.executable, __file__, "--measure", *map(str, size)]
    found: list[float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def table(with_large: bool = True) -> str:
    """The surface with CPU seconds and those of episodes; the growth; and a large set."""
    import nctransfer as nct
    from page_tables import markdown

    features = generate(*SURFACE)
    rows, total, fixed = [], [0.0, 0.0], []
    for shots in SHOTS:
        start = time.process_time()
        found = nct.expect(features, WAYS, shots).rows
        own = time.process_time() - start
        each = [episodes_seconds(features, ways, shots) for ways in WAYS]
        other = sum(seconds for seconds, _ in each)
        fixed += [before for _, before in each]
        total = [total[0] + own, total[1] + other]
        cells = [f"{row.accuracy:.2%} " + ("exact" if row.exact else f"± {row.ci95:.2%}") for row in found]
        rows.append([str(shots), *cells, f"{own:.1f}", f"{other:.0f}"])
    wall, cpu, _, memory = in_process(SURFACE)
    surface = markdown(["shots", *(f"{ways}-way" for ways in WAYS), "CPU s", "CPU s of episodes to ± 0.10"], rows)
    total[1] += min(fixed)
    summary = (
        f"All at once: {wall:.1f} s, {cpu:.1f} CPU seconds, {memory:,.0f} MiB. Episodes: {total[1]:.0f} CPU seconds, "
        f"{total[1] / cpu:.0f} times as many."
    )
    sizes = (*GROWTH, LARGE) if with_large else GROWTH
    grown = [[f"{c:,}", f"{c * n:,}", f"{d:,}", *_shown(in_process((c, n, d)))] for c, n, d in sizes]
    heads = ["classes", "images", "width", "s", "CPU s", "widest ±, points", "MiB added"]
    return "\n\n".join([surface, summary, markdown(heads, grown)])


def _shown(found: list[float]) -> list[str]:
    seconds, cpu, widest, memory = found
    return [f"{seconds:.1f}", f"{cpu:.1f}", f"{100 * widest:.3f}", f"{memory:,.0f}"]


def compare(name: str, ways: list[int], shots: list[int]) -> None:
    """How far both forms lie from what episodes measure on stored features."""
    import nctransfer as nct

    features = nct.load_features(name)
    ways = [size for size in ways if size <= len(features.classes)]
    shots = [number for number in shots if number < int(features.counts.min())]
    found, spent = {}, {}
    for method in ("resampled", "normal"):
        start = time.process_time()
        rows = nct.expect(features, ways, shots, method=method).rows
        spent[method] = round(time.process_time() - start, 2)
        found[method] = {(row.ways, row.shots): row for row in rows}
    start, worst = time.process_time(), {"resampled": 0.0, "normal": 0.0}
    print(f"{name}: {len(features):,} samples, {len(features.classes)} classes")
    print(f"{'ways':>4} {'shots':>5} {'measured':>15} {'resampled':>17} {'normal':>10}")
    for task in found["resampled"]:
        queries = min(15, int(features.counts.min()) - task[1])
        settings = {"queries": queries, "classifiers": "ncc", "theory": False, "precision": 0.1, "episodes": MOST}
        [row] = nct.fewshot(features, *task, **settings).rows
        off = {method: 100 * (rows[task].accuracy - row.accuracy) for method, rows in found.items()}
        worst = {method: max(worst[method], abs(off[method])) for method in worst}
        measured, own = (f"± {100 * one.ci95:.2f}" for one in (row, found["resampled"][task]))
        print(
            f"{row.ways:>4} {row.shots:>5} {100 * row.accuracy:>8.2f} {measured} {off['resampled']:>+10.2f} {own} "
            f"{off['normal']:>+10.2f}",
            flush=True,
        )
    print(f"worst: {worst}; CPU seconds: {spent}, measured {time.process_time() - start:.1f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("features", nargs="*")
    parser.add_argument("--ways", default=",".join(map(str, WAYS)))
    parser.add_argument("--shots", default=",".join(map(str, SHOTS)))
    parser.add_argument("--measure", nargs=3, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--without-large", action="store_true", help=f"leave out {LARGE[0] * LARGE[1]:,} images")
    given = parser.parse_args()
    ways, shots = ([int(word) for word in text.split(",")] for text in (given.ways, given.shots))
    if given.measure:
        measure(*given.measure)
    for name in given.features:
        compare(name, ways, shots)
    if not (given.measure or given.features):
        sys.path.insert(0, str(Path(__file__).parents[1]))
        print(table(not given.without_large))


if __name__ == "__main__":
    main()

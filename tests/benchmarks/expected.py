"""Expected accuracy against measured episodes, over ways and shots, on stored features.

    python tests/benchmarks/expected.py FEATURES [FEATURES …] [--ways 2,5,10,20] [--shots 1,2,5,10,20,50]

Prints, for each set, what episodes (so many that their interval is below 0.1 points) measure of ``ncc``,
and how far the resampled and the normal form lie from it, in points; and the seconds of each.
"""

import argparse
import time

import nctransfer as nct
from nctransfer.evaluation.fewshot_results import FewShotRow

PILOT, MOST = 1_000, 120_000  # episodes


def measure(features: nct.FeatureSet, ways: int, shots: int, queries: int) -> FewShotRow:
    """Accuracy of ``ncc``, by so many episodes that its 95% interval is below 0.1 points."""
    episodes = PILOT
    while True:
        settings = {"queries": queries, "episodes": episodes, "classifiers": "ncc", "theory": False, "seed": episodes}
        [row] = nct.fewshot(features, ways, shots, **settings).rows
        if row.ci95 < 0.001 or episodes == MOST:
            return row
        episodes = min(MOST, int(1.1 * (1.96 * row.std / 0.001) ** 2) + 2)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("features", nargs="+")
    parser.add_argument("--ways", default="2,5,10,20")
    parser.add_argument("--shots", default="1,2,5,10,20,50")
    parser.add_argument("--queries", type=int, default=15)
    given = parser.parse_args()
    ways, shots = ([int(word) for word in text.split(",")] for text in (given.ways, given.shots))
    worst = {"resampled": 0.0, "normal": 0.0}
    for name in given.features:
        features = nct.load_features(name)
        start = time.perf_counter()
        rows = [measure(features, size, number, given.queries) for size in ways for number in shots]
        seconds = {"measured": time.perf_counter() - start}
        found = {}
        for method in ("resampled", "normal"):
            result = nct.expect(features, ways, shots, method=method)
            seconds[method] = result.seconds
            found[method] = {(row.ways, row.shots): row for row in result.rows}
        print(f"{name}: {len(features):,} samples, {len(features.classes)} classes; seconds {seconds}")
        print(f"{'ways':>4} {'shots':>5} {'measured':>15} {'resampled':>10} {'normal':>10}")
        for row in rows:
            off = {m: 100 * (found[m][row.ways, row.shots].accuracy - row.accuracy) for m in found}
            worst = {m: max(worst[m], abs(off[m])) for m in worst}
            print(
                f"{row.ways:>4} {row.shots:>5} {100 * row.accuracy:>8.2f} ± {100 * row.ci95:.2f} "
                f"{off['resampled']:>+10.2f} {off['normal']:>+10.2f}",
                flush=True,
            )
    print(f"worst: {worst}")


if __name__ == "__main__":
    main()

"""Where each error bound becomes informative: the fewest shots at which it is below the error of a random answer.

    python tests/benchmarks/informative.py FEATURES [FEATURES …] [--ways 2,5]

Prints a Markdown table with one row for each set and number of ways. Shots are tried on a grid up to 10,000 and then
without end (∞); a dash means that the bound is not informative even there, and "no bound" that the images do not tell
some classes apart. Supports are drawn with replacement from the images of a class, so there may be more shots than
images. The last columns are the bound ``margin_per_query`` of the
error and the measured error of ``ncc``, both with 5 shots.
"""

import argparse
import functools
import math

import nctransfer as nct
from nctransfer.evaluation.margin_bounds import margin_bounds_or_reasons
from nctransfer.neural_collapse.bound_table import bound_table
from nctransfer.neural_collapse.class_statistics import ClassStatistics

SHOTS = (1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 70, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, math.inf)
FEW = 5


def main() -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("features", nargs="+")
    parser.add_argument("--ways", default="2,5")
    parser.add_argument("--episodes", type=int, default=10_000)
    given = parser.parse_args()
    ways = [int(word) for word in given.ways.split(",")]
    header: list[str] = []
    for name in given.features:
        features = nct.load_features(name)
        stats = ClassStatistics.of(features)
        margins = functools.partial(margin_bounds_or_reasons, features, stats)
        table = bound_table(stats, features.describe(), ways, SHOTS, margins)
        settings = {"episodes": given.episodes, "classifiers": "ncc", "theory": False}
        measured = {row.ways: 1 - row.accuracy for row in nct.fewshot(features, ways, FEW, **settings).rows}
        if not header:
            header = ["features", "ways", *table.rows[0].bounds, f"bound at {FEW} shots", f"error at {FEW} shots"]
            print("| " + " | ".join(header) + " |\n|---" + "|---:" * (len(header) - 1) + "|")
        for size in ways:
            rows = [row for row in table.rows if row.ways == size]
            cells = [f"{name}, {'–'.join(map(str, dict.fromkeys(table.images_per_class)))} images per class", str(size)]
            for bound in rows[0].bounds:
                found = [row.bounds[bound] for row in rows]
                pairs = zip(rows, found, strict=True)
                first = next((row.shots for row, one in pairs if one.value is not None and not one.uninformative), None)
                if found[0].value is None:
                    cells.append("no bound")
                else:
                    cells.append("–" if first is None else "∞" if math.isinf(first) else f"{first:,}")
            few = next(row.bounds["margin_per_query"].value for row in rows if row.shots == FEW)
            cells += ["–" if few is None else f"{100 * few:.1f}", f"{100 * measured[size]:.1f}"]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()

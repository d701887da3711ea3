"""Information measures beside CDNV and few-shot accuracy on real features: do they order backbones, or checkpoints?

    python tests/benchmarks/information.py FEATURES [FEATURES …] [--columns feature,layer_3] [--complexity FILE …]

FEATURES are stored sets, named MODEL/DATA as `nctransfer cache list` shows them, or files. Sets of one data source
make one table, with a row for each set; the head is a ridge regression on the set itself. FILE of --complexity is what
`nctransfer check --complexity --format json` gives for one of these sets, whose row then has the geometric complexity
as well. Below each table stands the rank correlation of each measure with accuracy, with its interval over other
backbones, and at the end the mean of these correlations over the data sources, each of them in the direction in which
the measure is said to go along with accuracy, and what is lost by taking the backbone that it puts first.
"""

import argparse
import itertools
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

import nctransfer as nct
from nctransfer.rank.rank_correlation import rank_correlation

MEASURES = {  # and whether higher values are said to be better
    "cdnv_debiased": False,
    "directional_cdnv_debiased": False,
    "ncc_accuracy": True,
    "matrix_entropy": True,
    "effective_rank": True,
    "rankme": True,
    "mutual_information_ratio": True,
    "entropy_difference_ratio": False,
    "self_duality": False,
}
COMPLEXITY = {"complexity": False, "coarse": False, "relative": False, "relative_coarse": False}
EPISODES = 2000


def measure(name: str, shots: int, column: str = "feature") -> dict[str, float | str | None]:
    """The measures of one column of a set, and its 5-way accuracy by class means."""
    features = nct.load_features(name, feature_column=column, partial=True)
    report = nct.collapse(features, head="ridge", device="cpu")
    few = nct.fewshot(features, 5, shots, episodes=EPISODES, classifiers="ncc", precision=0, theory=False, device="cpu")
    found = {one: report.metrics[one] for one in MEASURES}
    accuracy = next(row.accuracy for row in few.rows if row.classifier == "ncc")
    model = " ".join([report.features.model, *([column] if column != "feature" else [])])
    return {"set": name, "model": model, "data": report.features.data, "accuracy": accuracy, **found}


def add_complexity(rows: list[dict[str, float | str | None]], paths: list[Path]) -> None:
    """Add the geometric complexity of each file to the row of the same model and data."""
    for path in paths:
        content = json.loads(path.read_text())["complexity"]
        for row in rows:
            if row["model"] == content["model"] and Path(row["data"]).name == Path(content["data"]).name:
                row |= {name: content[name]["value"] for name in COMPLEXITY}


def print_table(data: str, rows: list[dict[str, float | str | None]], names: list[str]) -> dict[str, float]:
    """Print one data source as Markdown; returns the rank correlation of each measure, in its direction."""
    directions, found = MEASURES | COMPLEXITY, {}
    print(
        f"\n**{data}**\n\n| backbone | accuracy | " + " | ".join(names) + " |\n|---" + "|---:" * (len(names) + 1) + "|"
    )
    for row in sorted(rows, key=lambda row: -row["accuracy"]):
        cells = ["–" if row.get(name) is None else f"{row[name]:.4g}" for name in names]
        print(f"| {row['model']} | {100 * row['accuracy']:.1f}% | " + " | ".join(cells) + " |")
    cells = []
    for name in names:
        one = rank_correlation(name, [row.get(name) for row in rows], [row["accuracy"] for row in rows])
        if one.value is None:
            cells.append("–")
            continue
        found[name] = one.value if directions[name] else -one.value
        cells.append(f"{one.value:+.1f} ({one.interval[0]:+.1f} to {one.interval[1]:+.1f})")
    print("| *rank correlation* |  | " + " | ".join(cells) + " |")
    return found


def loss(name: str, rows: list[dict[str, float | str | None]]) -> float:
    """By how much the backbone that a measure puts first is less accurate than the best."""
    sign = 1 if (MEASURES | COMPLEXITY)[name] else -1
    chosen = max((row for row in rows if row.get(name) is not None), key=lambda row: sign * row[name])
    return max(row["accuracy"] for row in rows) - chosen["accuracy"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("features", nargs="*")
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--columns", default="feature", help="for example feature,layer_3; each is a candidate")
    parser.add_argument("--complexity", type=Path, nargs="*", default=[])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--read", type=Path)
    given = parser.parse_args()
    rows = json.loads(given.read.read_text()) if given.read else []
    for name, column in itertools.product(given.features, given.columns.split(",")):
        rows.append(measure(name, given.shots, column))
        if given.output:
            given.output.write_text(json.dumps(rows))
    add_complexity(rows, given.complexity)
    names = [*MEASURES, *(COMPLEXITY if given.complexity else [])]
    by_data = defaultdict(list)
    for row in rows:
        by_data[row["data"]].append(row)
    correlations = [print_table(Path(data).name, some, names) for data, some in by_data.items()]
    means = {name: np.mean([one[name] for one in correlations if name in one] or [np.nan]) for name in names}
    print("\n| measure | mean rank correlation, in its direction | points lost by its choice, mean | worst |")
    print("|---|---:|---:|---:|")
    for name, value in sorted(means.items(), key=lambda item: -item[1]):
        lost = [100 * loss(name, some) for some in by_data.values()]
        print(f"| {name} | {value:+.2f} | {np.mean(lost):.1f} | {max(lost):.1f} |")


if __name__ == "__main__":
    main()

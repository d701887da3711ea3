"""The penalty of ridge: accuracy against λ₀ on real features, and what a constant loses against the best of each cell.

    python tests/benchmarks/ridge_lambda.py FEATURES [FEATURES …] [--ways 5,20] [--shots 1,2,5,10,20,50]

FEATURES are stored sets, named MODEL/DATA as `nctransfer cache list` shows them, or files. A cell is a set with a
number of ways and of shots; all penalties of a cell see the same episodes. A number of shots that leaves fewer than ten
queries in a class is left out. Prints three Markdown tables, in percent and points: for each data set and number of
shots, the mean accuracy over its backbones for several λ₀; the loss of each constant λ₀, and of other rules, against
the best λ₀ of each cell (mean, worst, and where); and for each cell the accuracy of the chosen constant, of the best,
of ``loo`` and of ``paper``. Between the λ₀ of the grid, accuracy is interpolated in log λ₀. The accuracies are written
to --output, from which --read makes the tables again.
"""

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np

import nctransfer as nct
from nctransfer.episodes.classifier import RIDGE_LAMBDA
from nctransfer.episodes.episode import EpisodeSpec
from nctransfer.episodes.pool import Pool
from nctransfer.episodes.ridge import ridge
from nctransfer.episodes.sampling import sample

GRID = [round(10 ** (exponent / 3), 6) for exponent in range(-9, 10)]  # 0.001 to 1,000
SHOWN = sorted({0.01, 0.1, RIDGE_LAMBDA, 1.0, 10.0, 100.0})
QUERIES = 10, 15  # at least and at most, per class
RULES = {  # what λ₀ is multiplied by, for N support samples of s per class
    "λ₀": lambda ways, shots: 1.0,
    "λ₀ · √(shots)": lambda ways, shots: math.sqrt(shots),
    "λ₀ · √(ways · shots)": lambda ways, shots: math.sqrt(ways * shots),
    "λ₀ · ways · shots": lambda ways, shots: ways * shots,
    "λ₀ / √(shots)": lambda ways, shots: 1 / math.sqrt(shots),
}

Cell = tuple[str, str, int, int]  # data, backbone, ways, shots


def measure(name: str, ways: list[int], shots: list[int], episodes: int) -> dict[Cell, dict[str, float]]:
    """The accuracies of one feature set: of each cell by penalty."""
    features = nct.load_features(name)
    fewest = int(features.counts.min())
    fitting = [number for number in shots if number + QUERIES[0] <= fewest]
    queries = min(QUERIES[1], fewest - max(fitting))
    *_, model, data = [part for part in Path(name).parts if part not in {"rows", "/"}]
    pool, found = Pool(features.features), {}
    for size in ways:
        spec = EpisodeSpec(size, max(fitting), queries)
        pool.prepare([spec], episodes, 0)
        right: dict[tuple[int, str], list[float]] = defaultdict(list)
        truth = np.arange(size).repeat(queries)
        for batch in sample(features, spec, episodes, most=min(pool.batch(spec, queries), 256)):
            products = pool(batch)
            for number in fitting:
                some = products.cut(number)
                for penalty in [*GRID, "paper", *(["loo"] if number > 1 else [])]:
                    chosen = ridge(some, penalty).argmax(dim=2).numpy()
                    right[number, str(penalty)] += (chosen == truth).mean(axis=1).tolist()
        for (number, penalty), values in right.items():
            found.setdefault((data, model, size, number), {})[penalty] = float(np.mean(values))
    return found


def along(cell: dict[str, float], penalty: float) -> float:
    """The accuracy at any λ₀, on the line between those of the grid in log λ₀."""
    return float(np.interp(math.log(penalty), np.log(GRID), [cell[str(one)] for one in GRID]))


def short(name: str) -> str:
    """A name without the digest at its end."""
    return name.rpartition("-")[0] or name


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table whose first column is text."""
    print("| " + " | ".join(header) + " |\n|---" + "|---:" * (len(header) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def print_means(cells: dict[Cell, dict[str, float]]) -> None:
    """Mean accuracy over backbones, by data set, ways and shots, and the worst loss of the chosen constant."""
    groups: dict[tuple[str, int, int], list[dict[str, float]]] = defaultdict(list)
    for (data, _, ways, shots), cell in cells.items():
        groups[data, ways, shots].append(cell)
    rows = []
    for (data, ways, shots), some in sorted(groups.items()):
        best = [max(cell[str(one)] for one in GRID) for cell in some]
        chosen = [along(cell, RIDGE_LAMBDA) for cell in some]
        values = [np.mean([along(cell, one) for cell in some]) for one in SHOWN]
        values += [np.mean(best), *(np.mean([cell.get(name, math.nan) for cell in some]) for name in ("loo", "paper"))]
        shown = ["–" if math.isnan(value) else f"{100 * value:.1f}" for value in values]
        worst = 100 * max(a - b for a, b in zip(best, chosen, strict=True))
        rows.append([f"{short(data)} ({len(some)})", str(ways), str(shots), *shown, f"{worst:.2f}"])
    heads = [*(f"λ₀ = {one:g}" for one in SHOWN), "best", "loo", "paper", f"worst loss of {RIDGE_LAMBDA:g}"]
    print_table(["data (backbones)", "ways", "shots", *heads], rows)


def print_losses(cells: dict[Cell, dict[str, float]]) -> None:
    """What each rule and constant loses against the best constant of each cell."""
    best = {key: max(cell[str(one)] for one in GRID) for key, cell in cells.items()}
    rows = []
    for rule, factor in RULES.items():
        losses = {}
        for one in sorted({*GRID, *(SHOWN if rule == "λ₀" else [])}):
            found = {key: 100 * (best[key] - along(cell, one * factor(*key[2:]))) for key, cell in cells.items()}
            losses[one] = float(np.mean(list(found.values()))), max(found.values()), max(found, key=found.__getitem__)
        by_mean, by_worst = (min(losses, key=lambda one, at=at: losses[one][at]) for at in (0, 1))
        near = [one for one in losses if 0.05 <= one <= 20] if rule == "λ₀" else []
        for one in sorted({*near, by_mean, by_worst}):
            mean, worst, where = losses[one]
            rows.append([f"{rule} = {one:.3g}", f"{mean:.2f}", f"{worst:.2f}", label(where)])
    for name in ("loo", "paper"):
        found = {key: 100 * (best[key] - cell[name]) for key, cell in cells.items() if name in cell}
        where = max(found, key=found.__getitem__)
        rows.append([name, f"{np.mean(list(found.values())):.2f}", f"{found[where]:.2f}", label(where)])
    print_table(["rule", "mean loss", "worst loss", "where"], rows)


def print_cells(cells: dict[Cell, dict[str, float]]) -> None:
    """The accuracies of each cell."""
    rows = []
    for key, cell in sorted(cells.items()):
        at = max(GRID, key=lambda one, cell=cell: cell[str(one)])
        others = [100 * cell[name] if name in cell else math.nan for name in ("loo", "paper")]
        values = [100 * along(cell, RIDGE_LAMBDA), 100 * cell[str(at)], *others]
        rows.append([label(key), *("–" if math.isnan(one) else f"{one:.2f}" for one in values), f"{at:.2g}"])
    print_table(["cell", f"λ₀ = {RIDGE_LAMBDA:g}", "best", "loo", "paper", "best λ₀"], rows)


def label(key: Cell) -> str:
    """``caltech60.tar, tf_efficientnet_lite0.in1k, 5-way 1-shot``."""
    data, model, ways, shots = key
    return f"{short(data)}, {short(model)}, {ways}-way {shots}-shot"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("features", nargs="*")
    parser.add_argument("--ways", default="5,20")
    parser.add_argument("--shots", default="1,2,5,10,20,50")
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--read", type=Path, nargs="*", default=[])
    given = parser.parse_args()
    ways, shots = ([int(word) for word in words.split(",")] for words in (given.ways, given.shots))
    cells: dict[Cell, dict[str, float]] = {}
    for path in given.read:
        cells.update({tuple(key): cell for key, cell in json.loads(path.read_text())})
    for name in given.features:
        cells.update(measure(name, ways, shots, given.episodes))
        if given.output:
            given.output.write_text(json.dumps([[list(key), cell] for key, cell in cells.items()]))
    print_means(cells)
    print_losses(cells)
    print_cells(cells)


if __name__ == "__main__":
    main()

"""The constants of soft k-means: accuracy against D and the pseudo-queries on real features, with both query priors.

    python tests/benchmarks/soft_kmeans.py FEATURES [FEATURES …] [--shots 1,5] [--episodes 300] [--ways 5]

FEATURES are stored sets, named MODEL/DATA as `nctransfer cache list` shows them, or files. A cell is a set with a
number of shots and a query prior, balanced or dirichlet:2; all constants of a cell see the same episodes, and both
priors have the same classes and supports. Prints three Markdown tables, in percent and points: what each pair of
constants loses against the best pair of each cell (mean and worst, and where); and by data set, shots and prior the
mean over backbones of `ncc`, `ridge`, of soft k-means with the chosen constants and with the best pair, and of a
variant that is told that queries are balanced: its shares are scaled until they add up to the same number for each
class. A third table has, for each data set, the pair that loses least on the other data sets, and what it gives on this
one. The accuracies are written to --output, from which --read makes the tables again.
"""

import argparse
import itertools
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

import nctransfer as nct
from nctransfer.episodes.episode import Episodes, EpisodeSpec
from nctransfer.episodes.inner_products import Products, one_hot
from nctransfer.episodes.nearest import ncc
from nctransfer.episodes.pool import Pool
from nctransfer.episodes.ridge import ridge
from nctransfer.episodes.sampling import sample
from nctransfer.episodes.soft_kmeans import DIMENSIONS, PSEUDO_QUERIES, STEPS, soft_kmeans
from nctransfer.episodes.uneven_queries import PackedQueries

TITLE = "Constants of soft k-means"
GRID = list(itertools.product((10.0, 20.0, 30.0, 40.0, 60.0, 100.0), (1.0, 2.0, 4.0, 8.0)))  # D, pseudo-queries
PRIORS = "balanced", "dirichlet:2"

Cell = tuple[str, str, int, str]  # data, backbone, shots, prior


def told_balanced(products: Products, dimensions: float = DIMENSIONS, rounds: int = 20) -> torch.Tensor:
    """Soft k-means whose shares add up to the same number for each class (Sinkhorn's algorithm)."""
    gram = torch.cat(
        [
            torch.cat([products.support, products.cross.mT], dim=2),
            torch.cat([products.cross, products.queries], dim=2),
        ],
        dim=1,
    ).double()
    labels = one_hot(products).expand(len(gram), -1, -1)
    size, ways = labels.shape[1:]
    counted = torch.ones_like(products.squares) if products.is_query is None else products.is_query
    counted = counted.double()[:, :, None]
    shares = gram.new_zeros(*products.squares.shape, ways)
    for step in range(STEPS + 1):
        weights = torch.cat([labels, shares], dim=1)
        weights = weights / weights.sum(dim=1, keepdim=True)
        crossed = gram @ weights
        distances = gram.diagonal(dim1=1, dim2=2)[:, :, None] - 2 * crossed + (weights * crossed).sum(1, keepdim=True)
        distances = distances[:, size:]
        spread = (shares * distances).sum(2) if step else distances.amin(2) * counted[:, :, 0]
        scale = counted.sum((1, 2)) / spread.sum(1)
        shares = (-dimensions / 2 * scale[:, None, None] * distances).softmax(dim=2) * counted
        for _ in range(rounds):
            shares = shares / shares.sum(1, keepdim=True).clamp(min=1e-300) * counted.sum(1, keepdim=True) / ways
            shares = shares / shares.sum(2, keepdim=True).clamp(min=1e-300) * counted
    return shares


def packed_products(batch: Episodes, pool: Pool) -> tuple[Products, torch.Tensor, torch.Tensor]:
    """The inner products of episodes, and of each query its class and whether it counts, ``(E, Q)``."""
    if batch.is_query is None:
        truth = torch.arange(batch.queries.shape[1]).repeat_interleave(batch.queries.shape[2]).expand(len(batch), -1)
        return pool(batch), truth, torch.ones_like(truth, dtype=torch.bool)
    packed = PackedQueries.of(batch)
    return pool(packed.episodes), packed.places // batch.queries.shape[2], packed.episodes.is_query[:, 0]


def share_right(scores: torch.Tensor, truth: torch.Tensor, counts: torch.Tensor) -> float:
    """The mean accuracy over episodes, in percent."""
    right = (scores.argmax(dim=2) == truth) & counts
    return 100 * float((right.sum(dim=1) / counts.sum(dim=1)).mean())


def accuracies(batch: Episodes, pool: Pool) -> dict[str, float]:
    """The mean accuracy of every rule on some episodes, in percent."""
    products, *about = packed_products(batch, pool)
    rules = {"ncc": ncc, "ridge": ridge, "told balanced": told_balanced}
    found = {name: share_right(rule(products), *about) for name, rule in rules.items()}
    return found | {str(one): share_right(soft_kmeans(products, *one), *about) for one in GRID}


def measure(name: str, ways: int, shots: list[int], episodes: int) -> dict[Cell, dict[str, float]]:
    """The accuracies of one feature set."""
    features = nct.load_features(name, partial=True)
    *_, model, data = [part for part in Path(name).parts if part not in {"rows", "/"}]
    pool, found = Pool(features.features), {}
    queries = min(15, int(features.counts.min()) - max(shots))
    for number, prior in itertools.product(shots, PRIORS):
        spec = EpisodeSpec(ways, number, queries, query_prior=prior)
        pool.prepare([spec], 10_000, 0)
        [batch] = sample(features, spec, episodes, most=episodes)
        found[data, model, number, prior] = accuracies(batch.cut(number), pool)
    return found


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table whose first column is text."""
    print("| " + " | ".join(header) + " |\n|---" + "|---:" * (len(header) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def short(name: str) -> str:
    """A name without the digest at its end."""
    return name.rpartition("-")[0] or name


def print_losses(cells: dict[Cell, dict[str, float]]) -> None:
    """What each pair of constants loses against the best pair of each cell, by prior."""
    rows = []
    for one in GRID:
        row, worst = [f"{one[0]:g}", f"{one[1]:g}"], (0.0, "")
        losses = defaultdict(list)
        for (data, model, shots, prior), cell in cells.items():
            lost = loss(cell, one)
            losses[prior, shots].append(lost)
            worst = max(worst, (lost, f"{short(data)}, {short(model)}, {shots}-shot, {prior}"))
        row += [f"{np.mean(losses[key]):.2f}" for key in sorted(losses)]
        rows.append(
            [*row, f"{np.mean([np.mean(values) for values in losses.values()]):.2f}", f"{worst[0]:.2f}", worst[1]]
        )
    heads = [f"{prior}, {shots}-shot" for prior, shots in sorted({(key[3], key[2]) for key in cells})]
    print_table(["D", "a", *heads, "mean loss", "worst", "where"], rows)


def print_means(cells: dict[Cell, dict[str, float]]) -> None:
    """Means over backbones."""
    groups = defaultdict(list)
    for (data, _, shots, prior), cell in cells.items():
        groups[data, shots, prior].append(cell)
    chosen, rows = str((DIMENSIONS, PSEUDO_QUERIES)), []
    for (data, shots, prior), some in sorted(groups.items()):
        values = [np.mean([cell[name] for cell in some]) for name in ("ncc", "ridge", chosen)]
        values += [np.mean([max(cell[str(one)] for one in GRID) for cell in some])]
        values += [np.mean([cell["told balanced"] for cell in some])]
        rows.append([f"{short(data)} ({len(some)})", str(shots), prior, *(f"{value:.1f}" for value in values)])
    print_table(["data (backbones)", "shots", "prior", "ncc", "ridge", "soft-kmeans", "best", "told balanced"], rows)


def loss(cell: dict[str, float], one: tuple[float, float]) -> float:
    """What a pair of constants loses against the best pair of a cell."""
    return max(cell[str(other)] for other in GRID) - cell[str(one)]


def print_left_out(cells: dict[Cell, dict[str, float]]) -> None:
    """For each data set the pair that loses least on the others, and what it gives on this one."""
    rows = []
    fixed, most = (DIMENSIONS, PSEUDO_QUERIES), PSEUDO_QUERIES
    for data in sorted({key[0] for key in cells}):
        others = [cell for key, cell in cells.items() if key[0] != data]
        allowed = [one for one in GRID if one[1] <= most]  # more added queries assume more balance
        pair = min(allowed, key=lambda one: np.mean([loss(cell, one) for cell in others]))
        for shots, prior in sorted({key[2:] for key in cells}):
            some = [cell for key, cell in cells.items() if key[0] == data and key[2:] == (shots, prior)]
            means = [np.mean([cell[name] for cell in some]) for name in ("ncc", "ridge", str(fixed), str(pair))]
            wins = [sum(cell[str(one)] > cell["ridge"] for cell in some) for one in (fixed, pair)]
            rows.append(
                [
                    short(data),
                    f"D = {pair[0]:g}, a = {pair[1]:g}",
                    str(shots),
                    prior,
                    *(f"{mean:.1f}" for mean in means),
                ]
                + [f"{number} of {len(some)}" for number in wins]
            )
    heads = ["data", "pair", "shots", "prior", "ncc", "ridge", "soft-kmeans", "left out", "beats ridge", "left out"]
    print_table(heads, rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("features", nargs="*")
    parser.add_argument("--ways", type=int, default=5)
    parser.add_argument("--shots", default="1,5")
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--read", type=Path, nargs="*", default=[])
    given = parser.parse_args()
    cells: dict[Cell, dict[str, float]] = {}
    for path in given.read:
        cells.update({tuple(key): cell for key, cell in json.loads(path.read_text())})
    for name in given.features:
        cells.update(measure(name, given.ways, [int(word) for word in given.shots.split(",")], given.episodes))
        if given.output:
            given.output.write_text(json.dumps([[list(key), cell] for key, cell in cells.items()]))
    print_losses(cells)
    print_means(cells)
    print_left_out(cells)


if __name__ == "__main__":
    main()

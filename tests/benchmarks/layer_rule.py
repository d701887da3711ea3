"""The rule by which a layer is chosen inside a support: its constants chosen on some data sets, measured on another.

    python tests/benchmarks/layer_rule.py FEATURES [FEATURES …] [--shots 2,5,10] [--episodes 500] [--output FILE]
    python tests/benchmarks/layer_rule.py --read FILE [FILE …]

FEATURES are stored sets with layers, named MODEL/DATA as `nctransfer cache list` shows them. A rule compares what each
candidate and the output get wrong of the left-out examples: their squared residuals, or the number of wrong labels. The
output is left only for a candidate that is better by z standard errors; of several, the one with the best lower end or
with the best mean is taken. The rule of the package is (residuals, z = 1, lower end). All rules of a set see the same
episodes. Prints two Markdown tables, in points: the gain of each rule over the output by data set and shots, its mean
over backbones and its worst; and for each data set the rule with the highest mean gain on the other data sets, with its
gain on this one. The accuracies are written to --output, from which --read makes the tables again.
"""

import argparse
import itertools
import json
import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

import nctransfer as nct
from nctransfer.episodes.episode import Episodes, EpisodeSpec
from nctransfer.episodes.inner_products import Products
from nctransfer.episodes.joining import joined
from nctransfer.episodes.leaving_one_out import left_out_scores, squared_residuals
from nctransfer.episodes.pool import Pool
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.episodes.sampling import sample
from nctransfer.evaluation.fewshot_task import FewShotTask
from nctransfer.evaluation.layer_candidates import layer_candidates, weights_of, without_copies
from nctransfer.evaluation.layer_episodes import choose
from nctransfer.evaluation.tally import is_right, share_right

WAYS, QUERIES, BATCH = 5, 10, 250
NAMES = ("ridge", "ncc")
SETTINGS = FewShotTask(ways=WAYS, classifiers=NAMES).classifier_settings()
Rule = tuple[str, float, str]
RULES: list[Rule] = [
    (what, errors, take)
    for what in ("residuals", "wrong labels")
    for errors in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
    for take in (("lower end", "mean") if errors else ("mean",))
]
OURS: Rule = ("residuals", 1.0, "lower end")
OUTPUT, BEST = "output", "best in hindsight"

Cell = tuple[str, str, int, str]  # data, backbone, shots, classifier


def chosen_by(rule: Rule, costs: torch.Tensor, default: int) -> torch.Tensor:
    """The candidate that each episode chooses, ``(E,)``.

    Args:
        rule: Which costs these are, the standard errors, and how one of several is taken.
        costs: What each candidate gets wrong of each left-out example, ``(K, E, N)``.
        default: The number of the output.
    """
    _, errors, take = rule
    advantage = costs[default] - costs
    mean = advantage.mean(dim=2)
    low = mean - errors * advantage.std(dim=2) / math.sqrt(costs.shape[2])
    low[default] = 0
    valued = low if take == "lower end" else mean.where(low > 0, 0)
    most, place = valued.max(dim=0)
    return place.where(most > 0, default)


class Layers:
    """The layers of a backbone, as candidates of episodes."""

    def __init__(self, name: str, most: int) -> None:
        stored = nct.FeatureStore().find(name)
        columns = sorted(stored.snapshot().manifest.columns, key=lambda name: (name == "feature", len(name), name))
        own, _ = without_copies({column: stored.read(column=column, partial=True) for column in columns})
        self.features = own["feature"]
        self.spec = EpisodeSpec(WAYS, most, QUERIES)
        self.pools = {column: Pool(one.features, "cpu") for column, one in own.items()}
        for pool in self.pools.values():
            pool.prepare([self.spec], 10_000, 0)
        self.candidates = layer_candidates(list(own))
        self.default = [one.name for one in self.candidates].index("feature")

    def products(self, batch: Episodes, shots: int) -> Iterable[Products]:
        """The inner products of each candidate."""
        cut = {name: pool(batch).cut(shots) for name, pool in self.pools.items()}
        for one in self.candidates:
            if not one.is_join:
                yield cut[one.name]
                continue
            weights = weights_of([float(self.pools[name].squares.double().mean()) for name in one.layers])
            yield joined([cut[name] for name in one.layers], weights, self.pools[one.layers[-1]].factor)


def wrong_labels(scores: torch.Tensor) -> torch.Tensor:
    """1 for each left-out example that gets a wrong label, ``(E, N)``; scores as in ``left_out_scores``."""
    return (scores.argmax(dim=3) != torch.arange(scores.shape[1])[:, None]).double().flatten(1)


def measure(name: str, several: list[int], episodes: int) -> dict[Cell, dict[str, float]]:
    """The mean accuracies of one stored set by each rule, in percent."""
    layers = Layers(name, max(several))
    *_, model, data = Path(name).parts
    sums: dict[Cell, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    hits: dict[Cell, torch.Tensor] = {}
    for batch in sample(layers.features, layers.spec, episodes, most=BATCH):
        for shots in several:
            part, every = batch.cut(shots), list(layers.products(batch, shots))
            for classifier in NAMES:
                right, costs = outcome(part, every, classifier)
                cell = (data.rpartition("-")[0], model.rpartition("-")[0], shots, classifier)
                hits[cell] = hits.get(cell, 0) + right.sum(dim=1)
                assert torch.equal(
                    chosen_by(OURS, costs["residuals"], layers.default), choose(costs["residuals"], layers.default)
                )
                for rule in RULES:
                    chosen = chosen_by(rule, costs[rule[0]], layers.default)
                    sums[cell][str(rule)] += 100 * float(right.gather(0, chosen[None]).sum()) / episodes
    for cell, values in hits.items():
        sums[cell] |= {
            OUTPUT: 100 * float(values[layers.default]) / episodes,
            BEST: 100 * float(values.max()) / episodes,
        }
    return {cell: dict(values) for cell, values in sums.items()}


def outcome(batch: Episodes, every: list[Products], classifier: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The accuracy of each candidate, ``(K, E)``, and what it gets wrong of left-out examples, ``(K, E, N)``."""
    entry = CLASSIFIERS[classifier]
    right, costs = [], defaultdict(list)
    for products in every:
        right.append(share_right(batch, is_right(batch, entry.scores(products, SETTINGS).argmax(dim=2))))
        scores = left_out_scores(entry, products, SETTINGS)
        costs["residuals"].append(squared_residuals(scores))
        costs["wrong labels"].append(wrong_labels(scores))
    return torch.stack(right), {name: torch.stack(values) for name, values in costs.items()}


def gains(cells: Mapping[Cell, Mapping[str, float]], rule: object, **where: object) -> list[float]:
    """The gains of a rule over the output in the cells that are asked for."""
    fields = ("data", "model", "shots", "classifier")
    wanted = {fields.index(field): value for field, value in where.items()}
    return [
        values[str(rule)] - values[OUTPUT]
        for key, values in cells.items()
        if all(key[place] == value for place, value in wanted.items())
    ]


def print_table(header: list[str], rows: Iterable[list[str]]) -> None:
    """Print a Markdown table whose first column is text."""
    print("| " + " | ".join(header) + " |\n|---" + "|---:" * (len(header) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def shown(rule: Rule) -> str:
    return f"{rule[0]}, z = {rule[1]:g}, {rule[2]}"


def print_rules(cells: Mapping[Cell, Mapping[str, float]]) -> None:
    """The gain of every rule by data set and shots."""
    sets = sorted({key[0] for key in cells})
    several = sorted({key[2] for key in cells})
    groups = list(itertools.product(sets, several))
    rows = []
    for rule in [*RULES, BEST]:
        means = [f"{np.mean(gains(cells, rule, data=data, shots=shots)):+.2f}" for data, shots in groups]
        name = rule if isinstance(rule, str) else shown(rule)
        every = gains(cells, rule)
        rows.append([name, *means, f"{np.mean(every):+.2f}", f"{min(every):+.2f}"])
    print_table(["rule", *(f"{data}, {shots} shots" for data, shots in groups), "mean", "worst"], rows)


def print_left_out(cells: Mapping[Cell, Mapping[str, float]]) -> None:
    """For each data set the rule that gains most on the others, and what it gains on this one."""
    rows = []
    several = sorted({key[2] for key in cells})
    for data in sorted({key[0] for key in cells}):
        others = {key: values for key, values in cells.items() if key[0] != data}
        rule = max(RULES, key=lambda rule: float(np.mean(gains(others, rule))))
        for classifier in NAMES:
            some = [gains(cells, one, data=data, classifier=classifier) for one in (OURS, rule)]
            row = [data, shown(rule), classifier]
            for shots in several:
                two = [
                    np.mean(gains(cells, one, data=data, classifier=classifier, shots=shots)) for one in (OURS, rule)
                ]
                row.append(f"{two[0]:+.2f} → {two[1]:+.2f}")
            rows.append([*row, " → ".join(f"{min(values):+.2f}" for values in some)])
    print("ours → the rule of the other data sets\n")
    print_table(["data", "rule of the others", "classifier", *(f"{shots} shots" for shots in several), "worst"], rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("features", nargs="*")
    parser.add_argument("--shots", default="2,5,10")
    parser.add_argument("--episodes", type=int, default=500)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--read", type=Path, nargs="*", default=[])
    given = parser.parse_args()
    logging.getLogger("nctransfer").setLevel(logging.ERROR)
    cells: dict[Cell, dict[str, float]] = {}
    for path in given.read:
        cells.update({tuple(key): values for key, values in json.loads(path.read_text())})
    for name in given.features:
        cells.update(measure(name, [int(word) for word in given.shots.split(",")], given.episodes))
        if given.output:
            given.output.write_text(json.dumps([[list(key), values] for key, values in cells.items()]))
    print_rules(cells)
    print_left_out(cells)


if __name__ == "__main__":
    main()

"""Layers in few-shot tasks: a choice inside the support, the best in hindsight, and how often guides are right.

    python tests/benchmarks/layers.py FEATURES [FEATURES …] [--shots 1,2,5,10] [--episodes 2000] [--output FILE]
    python tests/benchmarks/layers.py --read FILE

FEATURES are stored sets with layers, named MODEL/DATA as `nctransfer cache list` shows them. Prints two Markdown tables
for each classifier, in percent and points: for each set and number of shots the accuracy of the pooled output, of the
layer chosen inside each support, and of the best candidate in hindsight with its selection bias; and for NC1 and other
guides how often the layer that they name may be the most accurate single layer, and what following them loses. The
results are written to --output, from which --read makes the tables again.
"""

import argparse
import json
import logging
from collections import defaultdict
from pathlib import Path
from typing import Any

import nctransfer as nct
from nctransfer.evaluation.layer_results import FewShotLayers

QUERIES, FEWEST = 10, 20
CLASSIFIERS = ("ridge", "ncc")


def measure(name: str, shots: list[int], episodes: int) -> dict[str, Any]:
    """The choices of one stored set."""
    stored = nct.FeatureStore().find(name)
    last, *own = sorted(stored.snapshot().manifest.columns, key=lambda name: (name != "feature", len(name), name))
    columns = [*own, last]
    layers = {column: stored.read(column=column, partial=True) for column in columns}
    found: FewShotLayers = nct.fewshot_layers(
        layers,
        5,
        shots,
        queries=QUERIES,
        episodes=episodes,
        classifiers=CLASSIFIERS,
        device="cpu",
    )
    model, data = stored.id.split("/")
    choices = [one.to_dict() for one in found.choices]
    return {"model": short(model), "data": short(data), "copies": dict(found.copies), "choices": choices}


def short(name: str) -> str:
    """A name without the digest at its end, or what says nothing."""
    return name.rpartition("-")[0].removesuffix(".tar").removesuffix(".in1k")


def points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.2f}"


def print_choices(results: list[dict[str, Any]], classifier: str) -> None:
    """A row for each set and number of shots."""
    print(f"\n{classifier}\n")
    print(
        "| data | backbone | shots | `feature` | chosen | gain | best in hindsight | its accuracy | bias | NC1 names |"
    )
    print("|---|---|---:|---:|---:|---:|---|---:|---:|---|")
    for result in sorted(results, key=lambda one: one["data"]):
        for one in result["choices"]:
            if one["classifier"] != classifier:
                continue
            nc1 = next(guide for guide in one["guides"] if guide["measure"] == "nc1")
            is_chosen = "chosen" not in one["undefined"]
            sign = {"better": " ▲", "worse": " ▼"}.get(one["gain_verdict"], "")
            cells = [
                result["data"],
                result["model"],
                str(one["shots"]),
                f"{100 * one['default_accuracy']:.2f}",
                f"{100 * one['chosen_accuracy']:.2f}" if is_chosen else "–",
                points(one["gain"]) + sign if is_chosen else "–",
                one["best"],
                f"{100 * one['best_accuracy']:.2f}",
                f"{100 * one['bias']:.2f}",
                f"{nc1['layer']} (−{100 * nc1['loss']:.2f})",
            ]
            print(f"| {' | '.join(cells)} |")


def print_guides(results: list[dict[str, Any]], classifier: str) -> None:
    """How often each guide is right, by data and in all."""
    right: dict[tuple[str, str], list[bool]] = defaultdict(list)
    losses: dict[tuple[str, str], list[float]] = defaultdict(list)
    for result in results:
        for one in result["choices"]:
            if one["classifier"] == classifier:
                every = [*one["guides"], always_last(one)]
                for guide in every:
                    for data in (result["data"], "all"):
                        right[guide["measure"], data].append(bool(guide["is_possible_best"]))
                        losses[guide["measure"], data].append(100 * guide["loss"])
    groups = list(dict.fromkeys(data for _, data in right))
    groups.append(groups.pop(groups.index("all")))
    print(f"\nGuides, {classifier}: right of tasks, mean loss, worst loss\n")
    print(f"| guide | {' | '.join(groups)} |\n|---|{'---|' * len(groups)}")
    for measure in dict.fromkeys(measure for measure, _ in right):
        cells = []
        for data in groups:
            lost, is_right = losses[measure, data], right[measure, data]
            words = f"{sum(is_right)} of {len(is_right)}"
            cells.append(f"{words}, −{sum(lost) / len(lost):.2f}, −{max(lost):.2f}" if lost else "–")
        print(f"| {measure} | {' | '.join(cells)} |")


def always_last(choice: dict[str, Any]) -> dict[str, Any]:
    """The rule that takes the pooled output always, as a guide."""
    single = [one for one in choice["guides"] if one["loss"] is not None]
    most = single[0]["accuracy"] + single[0]["loss"]
    loss = most - choice["default_accuracy"]
    possible = choice["default"] in choice["possible_layers"]
    return {"measure": "always the output", "loss": loss, "is_possible_best": possible}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("features", nargs="*")
    parser.add_argument("--shots", default="1,2,5,10")
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--read", type=Path)
    given = parser.parse_args()
    logging.getLogger("nctransfer").setLevel(logging.ERROR)
    if given.read is not None:
        results = json.loads(given.read.read_text())
    else:
        shots = [int(number) for number in given.shots.split(",")]
        results = [measure(name, shots, given.episodes) for name in given.features]
        if given.output is not None:
            given.output.write_text(json.dumps(results))
    for classifier in CLASSIFIERS:
        print_choices(results, classifier)
        print_guides(results, classifier)


if __name__ == "__main__":
    main()

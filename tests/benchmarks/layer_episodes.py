"""All layers of a backbone on the same episodes, against one run of ``nctransfer.fewshot`` for each candidate.

    python tests/benchmarks/layer_episodes.py [--episodes 2000] [--repeats 5]

The features are random, of the widths of ResNet-50: 20 classes of 100 samples. Both ways are timed in turn, in seconds
of the processor with one thread, and the smallest of the repeats counts. Accuracies are the same. The choice inside the
support, the guides and the selection bias are part of the first way only. Prints a Markdown table.
"""

import argparse
import functools
import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import nctransfer as nct
from nctransfer.evaluation.layer_candidates import layer_sets

WIDTHS = {"layer_0": 64, "layer_1": 256, "layer_2": 512, "layer_3": 1024, "feature": 2048}
CLASSES, EACH = 20, 100


def made() -> dict[str, nct.FeatureSet]:
    """Layers of random features."""
    rng = np.random.default_rng(0)
    labels = np.repeat([f"{code:02}" for code in range(CLASSES)], EACH)
    found = {}
    for name, width in WIDTHS.items():
        centres = np.repeat(rng.normal(size=(CLASSES, width)), EACH, axis=0)
        noisy = centres + 3 * rng.normal(size=centres.shape)
        found[name] = nct.FeatureSet.from_arrays(noisy.astype("float32"), labels)
    return found


def together(layers: dict[str, nct.FeatureSet], shots: int, settings: dict[str, Any]) -> None:
    nct.fewshot_layers(layers, 5, shots, **settings)


def apart(layers: dict[str, nct.FeatureSet], shots: int, settings: dict[str, Any]) -> None:
    for one in layer_sets(layers).values():
        nct.fewshot(one, 5, shots, theory=False, **settings)


def seconds(run: Callable[[], None]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    logging.getLogger("nctransfer").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    layers = made()
    print("| shots | classifier | all layers, with a choice (s) | one run per candidate (s) | ratio |")
    print("|---:|---|---:|---:|---:|")
    for shots in (1, 5, 10):
        for classifier in ("ridge", "ncc"):
            settings: dict[str, Any] = {"precision": 0, "classifiers": classifier, "device": "cpu"}
            settings["episodes"] = given.episodes
            ways = [functools.partial(way, layers, shots, settings) for way in (together, apart)]
            times = [[seconds(way) for way in ways] for _ in range(given.repeats)]
            ours, theirs = (min(values) for values in zip(*times, strict=True))
            print(f"| {shots} | {classifier} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} |", flush=True)


if __name__ == "__main__":
    main()

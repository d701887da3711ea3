"""What ranking costs beside extraction: the statistics of 30 candidates, and of many classes, beside what they contain.

    python tests/benchmarks/rank.py [ROW]       with a row: its draws, seconds, CPU seconds and peak memory as JSON

Features are Gaussian, with variances that fall along the dimensions and class means that are as far apart as those of
ImageNet networks on CIFAR-FS; some images of each class are near its mean only by half, so that accuracy levels off, at
about 50, 80 and 84% with 1, 5 and 20 labelled images per class. Candidates share four fifths of the images' noise. Each
row runs in a process of its own.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from peak_memory import peak
from sklearn.linear_model import RidgeClassifier

import nctransfer as nct
from nctransfer.episodes.draws import labelled, random_orders
from nctransfer.evaluation.all_ways import AllWaysTask, all_ways_accuracy

TITLE = "Ranking"
DIM, SHOTS = 1_000, (1, 5, 20)
FITS = 8  # of scikit-learn; more would take long


def generate(number: int = 15, of: int = 30, classes: int = 20, each: int = 250) -> nct.FeatureSet:
    """The features of one of several candidates, the later the better."""
    shared, own = (torch.Generator().manual_seed(seed) for seed in (0, 1 + number))
    labels = torch.arange(classes * each) // each
    means = torch.randn(classes, DIM, generator=shared)[labels]
    noise = torch.randn(len(labels), DIM, generator=shared), torch.randn(len(labels), DIM, generator=own)
    typical = 1 - 1.4 * torch.rand(len(labels), 1, generator=shared) ** 3
    distance = (0.15 + 0.85 * number / (of - 1)) ** 0.5
    rows = distance * typical * means + 0.7**0.5 * noise[0] + 0.3**0.5 * noise[1]
    return nct.FeatureSet.from_arrays(rows * (1 + torch.arange(DIM) / 12) ** -0.6, labels.tolist())


def ranked(candidates: int, targets: tuple[float, ...] = (), classes: int = 20, each: int = 250) -> str:
    """Rank them, and say how many draws were drawn."""
    sets = {str(number): generate(29 - number, classes=classes, each=each) for number in range(candidates)}
    found, seconds, cpu = timed(lambda: nct.rank_features(sets, SHOTS, targets=targets, device="cpu"))
    draws = [place.draws for one in found.candidates for place in one.places.values()]
    return json.dumps([f"{min(draws):,} to {max(draws):,}", seconds, cpu, peak()])


def one_accuracy() -> str:
    """Only the accuracy of one candidate at 5 shots."""
    features = generate()
    found, seconds, cpu = timed(lambda: all_ways_accuracy(features, AllWaysTask(shots=5), device="cpu"))
    return json.dumps([found.estimates[5, "ridge"].draws, seconds, cpu, peak()])


def episodes() -> str:
    """The same by few-shot episodes of all classes."""
    features = generate()
    settings = {"queries": "all", "theory": False, "device": "cpu"}
    found, seconds, cpu = timed(lambda: nct.fewshot(features, "all", 5, **settings))
    return json.dumps([f"{found.rows[0].episodes:,}", seconds, cpu, peak()])


def by_sklearn() -> str:
    """The same by scikit-learn, over some of the draws."""
    features = generate()
    support = labelled(next(random_orders(features, FITS, 0)), features.counts, 5).flatten(1).numpy()
    rows, labels = features.features.numpy(), features.labels.numpy()

    def fit() -> None:
        for chosen in support:
            x = rows[chosen]
            penalty = 0.4 * (x - x.mean(axis=0)).__pow__(2).sum(axis=1).mean()
            RidgeClassifier(penalty).fit(x, labels[chosen]).predict(rows)

    _, seconds, cpu = timed(fit)
    return json.dumps([FITS, seconds, cpu, peak()])


def timed(call):
    """What a call returns, and its seconds of the wall and of the processor."""
    start, before = time.perf_counter(), time.process_time()
    found = call()
    return found, time.perf_counter() - start, time.process_time() - before


RUNS = {
    "rank 30 candidates, 20 classes × 250, 1, 5, 20-shot": lambda: ranked(30),
    "rank 1 candidate, the same": lambda: ranked(1),
    "its accuracy, 5-shot": one_accuracy,
    "the same by nctransfer fewshot": episodes,
    "the same by scikit-learn's RidgeClassifier": by_sklearn,
    "rank 1 candidate, 100 classes × 100, 1, 5, 20-shot": lambda: ranked(1, classes=100, each=100),
    "the same with labels for 90%": lambda: ranked(1, (0.9,), classes=100, each=100),
}


def table() -> str:
    """CPU seconds, draws and peak memory of each run."""
    from page_tables import markdown

    rows = []
    for number, name in enumerate(RUNS):
        command = [sys.executable, __file__, str(number)]
        passive = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}  # as the command sets it
        run = subprocess.run(command, capture_output=True, text=True, check=True, env=passive)
        draws, _, cpu, memory = json.loads(run.stdout)
        rows.append([name, draws, f"{cpu:.1f}", f"{memory:,.0f}"])
    return markdown(["what", "draws per number of shots", "CPU seconds", "peak MiB"], rows)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(list(RUNS.values())[int(sys.argv[1])]())
    else:
        sys.path.insert(0, str(Path(__file__).parents[1]))
        print(table())

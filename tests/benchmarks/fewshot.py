"""Few-shot episodes a second: ours, easyfsl and loops over scikit-learn, on the same features and the same episodes.

    python tests/benchmarks/fewshot.py [SAMPLES …]          by default 2000 10000 images of 100 classes, width 1280

5-way, 15 queries, in CPU seconds of one thread: ours over 10,000 episodes, what is made once included; the others over
a few hundred of these episodes. Then tasks of all classes in processes of their own: seconds, episodes that were drawn
and peak memory. ``pip install easyfsl==1.5.0 --no-deps`` first; without it, its column is empty.
"""

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import NearestCentroid

import nctransfer as nct
from nctransfer.episodes.episode import EpisodeSpec
from nctransfer.episodes.sampling import sample

TITLE = "Few-shot episodes"
EPISODES, DIM, CLASSES = 10_000, 1280, 100
SAMPLES = (2_000, 10_000)
ALL_WAYS = ((81, 60), (81, 240), (162, 60))  # classes, and images of each


def generate(samples: int, dim: int, classes: int) -> nct.FeatureSet:
    """Gaussian classes, near enough to each other that accuracies are not all 1."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(samples) % classes
    means = 0.15 * torch.randn(classes, dim, generator=generator)
    return nct.FeatureSet.from_arrays(torch.randn(samples, dim, generator=generator) + means[labels], labels.tolist())


def loop(features: nct.FeatureSet, shots: int, episodes: int, predict: Callable) -> tuple[float, float]:
    """Episodes per CPU second of a loop, and its accuracy."""
    matrix, labels = features.features, torch.arange(5).repeat_interleave(shots)
    truth = torch.arange(5).repeat_interleave(15).numpy()
    drawn = [
        (support.flatten(), queries.flatten())
        for batch in sample(features, EpisodeSpec(5, shots, 15), episodes)
        for support, queries in zip(batch.support, batch.queries, strict=True)
    ]
    start, right = time.process_time(), 0.0
    for support, queries in drawn:
        right += float((predict(matrix[support], labels, matrix[queries]) == truth).mean())
    return episodes / (time.process_time() - start), right / episodes


def of_sklearn(make: Callable) -> Callable:
    """Fit and predict."""
    return lambda x, y, f: make().fit(x.numpy(), y.numpy()).predict(f.numpy())


def of_easyfsl() -> Callable | None:
    """Prototypical networks over features, as easyfsl has them."""
    try:
        from easyfsl.methods import PrototypicalNetworks
    except ImportError:
        return None
    model = PrototypicalNetworks(backbone=torch.nn.Identity()).eval()

    def predict(x: torch.Tensor, y: torch.Tensor, f: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            model.process_support_set(x, y)
            return model(f).argmax(dim=1).numpy()

    return predict


def rivals(shots: int) -> dict[str, list[tuple[Callable | None, int]]]:
    """What users would run instead of each classifier, and for how many episodes: easyfsl, then scikit-learn."""
    return {
        "ncc": [(of_easyfsl(), 300), (of_sklearn(NearestCentroid), 300)],
        "ridge": [(None, 0), (of_sklearn(lambda: RidgeClassifier((5 * shots) ** 0.5)), 300)],
        "logistic": [(None, 0), (of_sklearn(lambda: LogisticRegression(max_iter=1000)), 100)],
        "cosine": [(None, 0), (None, 0)],
        "simpleshot": [(None, 0), (None, 0)],
        "knn": [(None, 0), (None, 0)],
    }


def five_way(samples: int) -> Iterator[list[str]]:
    """One row for each number of shots and classifier: episodes per CPU second, and how many times the others'."""
    features = generate(samples, DIM, CLASSES)
    for shots in (1, 5):
        for name, others in rivals(shots).items():
            start = time.process_time()
            settings = {"episodes": EPISODES, "precision": 0, "theory": False, "ridge_lambda": "paper", "device": "cpu"}
            nct.fewshot(features, 5, shots, classifiers=name, **settings)
            rate = EPISODES / (time.process_time() - start)
            times = [f"{rate / loop(features, shots, count, made)[0]:.1f}" if made else "" for made, count in others]
            yield [f"{samples:,}", str(shots), name, f"{rate:,.0f}", *times]


def all_ways(classes: int, each: int, classifiers: list[str]) -> None:
    """In a process of its own: seconds of the wall and the processor, episodes and peak memory of a task."""
    import resource

    features = generate(classes * each, DIM, classes)
    start, before = time.perf_counter(), time.process_time()
    found = nct.fewshot(features, "all", (1, 5), classifiers=classifiers, device="cpu")
    seconds, cpu = time.perf_counter() - start, time.process_time() - before
    drawn = {row.shots: row.episodes for row in found.rows}
    print(json.dumps([seconds, cpu, drawn[1], drawn[5], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def table() -> str:
    """Episodes of 5 ways beside what users would run instead; then tasks of all classes."""
    from page_tables import markdown

    warnings.simplefilter("ignore")  # NearestCentroid divides by zero where a class has one sample
    torch.set_num_threads(1)
    columns = ["images", "shots", "classifier", "episodes per CPU second", "times easyfsl", "times scikit-learn"]
    five = markdown(columns, [row for samples in SAMPLES for row in five_way(samples)])
    rows = []
    for classes, each in ALL_WAYS:
        command = [sys.executable, __file__, "all", str(classes), str(each), "ridge,ncc"]
        passive = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}  # as the command sets it
        run = subprocess.run(command, capture_output=True, text=True, check=True, env=passive)
        seconds, cpu, one, several, peak = json.loads(run.stdout)
        drawn = f"{one:,}, {several:,}"
        rows.append([classes, each, drawn, f"{seconds:.1f}", f"{cpu:.1f}", f"{peak:,.0f}"])
    columns = ["classes", "images of each", "episodes at 1, 5 shots", "seconds", "CPU seconds", "peak MiB"]
    return f"{five}\n\n{markdown(columns, rows)}"


if __name__ == "__main__":
    if sys.argv[1:2] == ["all"]:
        all_ways(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].split(","))
    else:
        sys.path.insert(0, __file__.rsplit("/", 2)[0])
        SAMPLES = tuple(map(int, sys.argv[1:])) or SAMPLES
        print(table())

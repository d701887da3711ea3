"""Few-shot episodes a second: ours, easyfsl and loops over scikit-learn, on the same features and the same episodes.

    python tests/benchmarks/fewshot.py [SAMPLES] [WIDTH] [CLASSES]          by default 10000 1280 100

5-way, 15 queries. Ours is timed over 10,000 episodes, as the whole call (inner products of the set included) and as
the episodes alone; the others over a few hundred of these episodes. ``pip install easyfsl==1.5.0 --no-deps`` first;
without it, its row is left out.
"""

import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import NearestCentroid

import nctransfer as nct
from nctransfer.episodes.episode import EpisodeSpec
from nctransfer.episodes.sampling import sample

EPISODES = 10_000


def generate(samples: int, dim: int, classes: int) -> nct.FeatureSet:
    """Gaussian classes, near enough to each other that accuracies are not all 1."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(samples) % classes
    means = 0.15 * torch.randn(classes, dim, generator=generator)
    return nct.FeatureSet.from_arrays(torch.randn(samples, dim, generator=generator) + means[labels], labels.tolist())


def loop(features: nct.FeatureSet, shots: int, episodes: int, predict: Callable) -> tuple[float, float]:
    """Episodes a second of a loop, and its accuracy."""
    matrix, labels = features.features, torch.arange(5).repeat_interleave(shots)
    truth = torch.arange(5).repeat_interleave(15).numpy()
    drawn = [
        (support.flatten(), queries.flatten())
        for batch in sample(features, EpisodeSpec(5, shots, 15), episodes)
        for support, queries in zip(batch.support, batch.queries, strict=True)
    ]
    start, right = time.perf_counter(), 0.0
    for support, queries in drawn:
        right += float((predict(matrix[support], labels, matrix[queries]) == truth).mean())
    return episodes / (time.perf_counter() - start), right / episodes


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


def main() -> None:
    """Measure and print."""
    warnings.simplefilter("ignore")  # NearestCentroid divides by zero where a class has one sample
    samples, dim, classes = (int(word) for word in (sys.argv[1:] + ["10000", "1280", "100"][len(sys.argv) - 1 :]))
    features = generate(samples, dim, classes)
    print(f"{samples:,} x {dim:,}, {classes:,} classes, {torch.get_num_threads()} threads", flush=True)
    for shots in (1, 5):
        others: dict[str, list[tuple[str, Callable | None, int]]] = {
            "ridge": [("scikit-learn", of_sklearn(lambda shots=shots: RidgeClassifier((5 * shots) ** 0.5)), 300)],
            "ncc": [("scikit-learn", of_sklearn(NearestCentroid), 300), ("easyfsl", of_easyfsl(), 300)],
            "logistic": [("scikit-learn", of_sklearn(lambda: LogisticRegression(max_iter=1000)), 100)],
            "cosine": [],
            "simpleshot": [],
            "knn": [],
        }
        for name, rivals in others.items():
            start = time.perf_counter()
            settings = {"episodes": EPISODES, "theory": False, "ridge_lambda": "paper"}  # as scikit-learn's above
            [row] = nct.fewshot(features, 5, shots, classifiers=name, **settings).rows
            whole, alone = EPISODES / (time.perf_counter() - start), EPISODES / row.seconds
            print(f"{shots}-shot {name}: {whole:,.0f} a second ({alone:,.0f} without what is made once)", end="")
            for rival, predict, count in rivals:
                if predict is not None:
                    rate, accuracy = loop(features, shots, count, predict)
                    print(f"; {rival} {rate:,.0f}: {whole / rate:.0f}x ({alone / rate:.0f}x)", end="")
                    print(f", accuracy {row.accuracy:.3f} / {accuracy:.3f}", end="")
            print(flush=True)


if __name__ == "__main__":
    main()

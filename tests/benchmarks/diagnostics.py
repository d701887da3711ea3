"""Time of the collapse report and of few-shot episodes on generated features of real size.

python tests/benchmarks/diagnostics.py [samples] [width] [classes]
"""

import resource
import sys
import time
import warnings

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import NearestCentroid

import nctransfer as nct
from nctransfer import evaluation
from nctransfer.episodes import EpisodeSpec, sample


def generate(samples: int, dim: int, classes: int) -> nct.FeatureSet:
    """Gaussian classes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(samples) % classes
    means = torch.randn(classes, dim, generator=generator)
    features = torch.randn(samples, dim, generator=generator) * 2 + means[labels]
    return nct.FeatureSet.from_arrays(features, labels.tolist())


def peak() -> float:
    """Peak memory of the process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def floor(samples: int, dim: int, classes: int) -> float:
    """Seconds of the multiply-adds that the definitions need: n·d·C for the projections, n·C² for their moments."""
    a, b = torch.randn(8192, dim, dtype=torch.float64), torch.randn(dim, classes, dtype=torch.float64)
    a @ b
    start = time.perf_counter()
    for _ in range(5):
        a @ b
    rate = 5 * 8192 * dim * classes / (time.perf_counter() - start)
    return (samples * dim * classes + samples * classes * classes) / rate


def oracle(features: nct.FeatureSet, shots: int, episodes: int) -> dict[str, float]:
    """Episodes a second of a loop over scikit-learn, on the same episodes."""
    spec = EpisodeSpec(5, shots, 15)
    matrix = features.features.numpy()
    rates = {}
    for name, make in (("ridge", lambda: RidgeClassifier((5 * shots) ** 0.5)), ("ncc", NearestCentroid)):
        start, done = time.perf_counter(), 0
        for batch in sample(features, spec, episodes):
            for support, queries in zip(batch.support.numpy(), batch.queries.numpy(), strict=True):
                fitted = make().fit(matrix[support.reshape(-1)], np.repeat(np.arange(5), shots))
                fitted.predict(matrix[queries.reshape(-1)])
                done += 1
        rates[name] = done / (time.perf_counter() - start)
    return rates


def main() -> None:
    """Collapse first, then episodes by both ways, then scikit-learn."""
    warnings.simplefilter("ignore")  # NearestCentroid divides by zero where a class has one sample
    samples, dim, classes = (int(word) for word in (sys.argv[1:] + ["50000", "1280", "100"][len(sys.argv) - 1 :]))
    features = generate(samples, dim, classes)
    before = peak()
    least = floor(samples, dim, classes)
    for _ in range(3):
        start = time.perf_counter()
        nct.collapse(features)
        seconds = time.perf_counter() - start
        print(f"collapse {samples:,} x {dim:,} in {classes:,} classes: {seconds:.2f} s, ", end="")
        print(f"{seconds / least:.1f} x the floor of {least:.2f} s, {peak() - before:.0f} MiB above the features")
    chosen = [10_000, samples] if samples > 10_000 else [samples]
    for size in chosen:
        some = generate(size, dim, classes)
        for shots in (1, 5):
            reference = oracle(some, shots, 200)
            for name, limit in (("lookup", evaluation.GRAM_BYTES), ("gather", 0)):
                if name == "lookup" and size * size * 4 > limit:
                    continue
                kept, evaluation.GRAM_BYTES = evaluation.GRAM_BYTES, limit
                cost, evaluation.GATHER_COST = evaluation.GATHER_COST, 10**9 if limit else 0
                start = time.perf_counter()
                result = nct.fewshot(some, 5, shots, episodes=10_000)
                total = time.perf_counter() - start
                evaluation.GRAM_BYTES, evaluation.GATHER_COST = kept, cost
                rates = {row.classifier: row.episodes / row.seconds for row in result.rows}
                text = ", ".join(f"{k} {v:,.0f}/s ({v / reference[k]:.0f} x sklearn)" for k, v in rates.items())
                print(f"5-way {shots}-shot, {size:,} samples, {name}: {text}; all of it {total:.2f} s")


if __name__ == "__main__":
    main()

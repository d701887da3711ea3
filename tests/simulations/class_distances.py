"""How far apart are classes of a few images each? The plain distance and the debiased one, against the truth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from scipy.stats import spearmanr

from nctransfer.features.feature_set import FeatureSet
from nctransfer.maps.class_map import map_classes
from nctransfer.neural_collapse.cdnv import cdnv_pairs
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from page_tables import markdown

TITLE = "Class map: distances of classes of few images"

STUDIES = 40
WIDTH, CLASSES, CLOSEST = 256, 40, 20
COUNTS = ((2,), (3,), (5,), (10,), (30,), (2, 5, 30))  # images per class, taken in turn
SPECTRA = {"Gaussian": 0.0, "spectrum 1/k": 1.0}


def table(studies: int) -> str:
    """One row for each law and number of images.

    Args:
        studies: Sets of features for each row.
    """
    rows = []
    for law, power in SPECTRA.items():
        for counts in COUNTS:
            seen: dict[str, list[float]] = defaultdict(list)
            for study in range(studies):
                for name, value in _study(np.random.default_rng([study, len(counts), counts[0]]), power, counts):
                    seen[name].append(value)
            found = {name: float(np.mean(values)) for name, values in seen.items()}
            rows.append(
                [
                    law,
                    " or ".join(map(str, counts)),
                    *(f"{found[f'{kind} ratio']:.2f}" for kind in ("plain", "debiased")),
                    *(f"{found[f'{kind} error']:.2f}" for kind in ("plain", "debiased")),
                    *(f"{found[f'{kind} order']:.2f}" for kind in ("plain", "debiased")),
                    *(f"{found[f'{kind} closest']:.0%}" for kind in ("plain", "debiased")),
                    f"{found['not told apart']:.0%}",
                ]
            )
    both = [f"{what}: {kind}" for what in ("mean", "error", "order", "closest") for kind in ("plain", "debiased")]
    return markdown(["law", "images per class", *both, "not told apart"], rows)


def _study(generator: np.random.Generator, power: float, counts: tuple[int, ...]) -> Iterator[tuple[str, float]]:
    """One set of features: what the two distances of each pair are worth.

    Half of the classes lie near another one. The true distances are from 0.2 to about 1.5 within-class standard
    deviations, as those of real backbones are.
    """
    scales = np.arange(1, WIDTH + 1) ** (-power / 2)
    scales /= np.linalg.norm(scales)
    means = generator.normal(size=(CLASSES, WIDTH)) * scales * 0.7
    means[::2] = means[1::2] + generator.uniform(0.2, 0.6, size=(CLASSES // 2, 1)) * (means[::2] - means[1::2])
    codes = np.repeat(range(CLASSES), np.resize(counts, CLASSES))
    rows = means[codes] + scales * generator.normal(size=(len(codes), WIDTH))
    features = FeatureSet.from_arrays(rows, [f"{code:02d}" for code in codes])
    found = map_classes(features, device="cpu")
    upper = np.triu_indices(CLASSES, 1)
    truth = np.linalg.norm(means[upper[0]] - means[upper[1]], axis=1)
    distances = {
        "plain": cdnv_pairs(ClassStatistics.of(features, "cpu")).numpy()[upper] ** -0.5,
        "debiased": found.distance[upper],
    }
    nearest = set(truth.argsort()[:CLOSEST].tolist())
    for kind, values in distances.items():
        yield f"{kind} ratio", float(values.mean() / truth.mean())
        yield f"{kind} error", float(np.sqrt(((values - truth) ** 2).mean()))
        yield f"{kind} order", float(spearmanr(values, truth).statistic)
        yield f"{kind} closest", len(nearest & set(values.argsort(kind="stable")[:CLOSEST].tolist())) / CLOSEST
    yield "not told apart", float(1 - found.told_apart[upper].mean())

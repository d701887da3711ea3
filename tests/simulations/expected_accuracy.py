"""Does the ± of `expect` cover the mean accuracy over all episodes?"""

from __future__ import annotations

import numpy as np

from nctransfer.evaluation.expected_accuracy import expect
from nctransfer.features.feature_set import FeatureSet

TITLE = "Expected accuracy: how often its ± covers the mean over all episodes"

STUDIES = 300
CLASSES, WIDTH = 5, 16
WAYS = (2, 5)
WORLDS = ((20, (2, 5, 10)), (60, (2, 10)))  # images per class, and shots


def table(studies: int) -> str:
    """One row for each number of images, ways and shots.

    The mean over all episodes is that of the other studies, whose own error is smaller by the root of their number.

    Args:
        studies: Seeds of the computation.
    """
    lines = [
        "| images per class | shots | ways | mean over all episodes | mean ± | covers |",
        "|---|---|---|---|---|---|",
    ]
    for images, shots in WORLDS:
        features = _features(images)
        runs = [expect(features, WAYS, shots, seed=seed, device="cpu").rows for seed in range(studies)]
        for place, row in enumerate(runs[0]):
            values = np.array([run[place].accuracy for run in runs])
            halves = np.array([run[place].ci95 for run in runs])
            others = (values.sum() - values) / (studies - 1)
            covered = float((abs(values - others) <= halves).mean())
            lines.append(
                f"| {images} | {row.shots} | {row.ways} | {values.mean():.2%} | {halves.mean() * 100:.3f} points "
                f"| {covered:.1%} |"
            )
    return "\n".join(lines)


def _features(images: int) -> FeatureSet:
    """Normal classes with a spectrum that falls as a power law."""
    generator = np.random.default_rng(0)
    scales = np.arange(1, WIDTH + 1) ** -0.5
    means = 0.9 * generator.normal(size=(CLASSES, 1, WIDTH)) * scales
    rows = means + generator.normal(size=(CLASSES, images, WIDTH)) * scales
    return FeatureSet.from_arrays(rows.reshape(-1, WIDTH), np.repeat(range(CLASSES), images))

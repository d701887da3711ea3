"""Of the labels that an audit flags, are as many wrong as it expects, and how many wrong labels does it find?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from laws import LAWS, WIDTH, Law, Rng

from nctransfer.features.feature_set import FeatureSet
from nctransfer.label_audit.label_errors import label_errors
from page_tables import markdown

TITLE = "Label audit: expected and actual numbers of wrong labels among the flagged"

STUDIES = 30
CLASSES, IMAGES = 10, 50
LEVELS = ((0.5, 0.9), (0.9, 1.01))


def _scattered(distance: float) -> Callable[[Rng, int], np.ndarray]:
    return lambda rng, classes: distance * rng.normal(size=(classes, WIDTH))


WORLDS = (
    Law("Gaussian, apart", _scattered(0.8), LAWS[0].noise),
    Law("Gaussian, overlapping", _scattered(0.25), LAWS[0].noise),
    LAWS[2],
    LAWS[3],
)
NOISE = (
    ("none", 0.0),
    *(("random", share) for share in (0.02, 0.05, 0.1)),
    *(("similar", share) for share in (0.02, 0.05, 0.1)),
    *(("one class", share) for share in (0.1, 0.3)),
)


def table(studies: int) -> str:
    """One row for each law and each kind of noise: all counts are means over studies.

    Args:
        studies: Sets of features and labels.
    """
    rows = []
    for law in WORLDS:
        for kind, share in NOISE:
            seen = np.array([_study(np.random.default_rng(study), law, kind, share) for study in range(studies)])
            right, true, found, total, *counts = seen.mean(axis=0)
            low, high = counts[:3], counts[3:]
            rows.append(
                [
                    law.name,
                    f"{right:.0%}",
                    kind if kind == "none" else f"{kind}, {share:.0%}",
                    f"{true:.1%}",
                    f"{found:.1%}",
                    *(f"{value:.1f}" for value in (*low, *high)),
                    f"{(low[2] + high[2]) / total:.0%}" if total else "–",
                ]
            )
    return markdown(
        ["law", "accuracy", "wrong labels", "true rate", "estimated"]
        + [f"{level}: {what}" for level in ("50 to 90%", "from 90%") for what in ("flagged", "expected", "wrong")]
        + ["found"],
        rows,
    )


def _study(rng: Rng, law: Law, kind: str, share: float) -> list[float]:
    """The accuracy of suggestions, the true and the estimated rate, how many are wrong, and the counts by level."""
    means = law.means(rng, CLASSES)
    scales = np.exp(law.spread * rng.normal(size=(CLASSES, 1, 1)))
    rows = (means[:, None] + scales * law.noise(rng, CLASSES, IMAGES)).reshape(-1, WIDTH)
    labels = np.repeat(np.arange(CLASSES), IMAGES)
    given = _flipped(rng, labels, means, kind, share)
    found = label_errors([FeatureSet.from_arrays(rows, [f"{code:02d}" for code in given])], device="cpu")
    order = np.array([int(name) for name in found.ids])
    wrong, expected = (given != labels)[order], found.expected_precision.numpy()
    best = np.where(found.margin.numpy() > 0, found.suggested.numpy(), found.labels.numpy())
    counts = []
    for low, high in LEVELS:
        flagged = (expected >= low) & (expected < high)
        counts += [flagged.sum(), expected[flagged].sum(), (flagged & wrong).sum()]
    return [float((best == labels[order]).mean()), wrong.mean(), found.noise_rate, wrong.sum(), *counts]


def _flipped(rng: Rng, labels: np.ndarray, means: np.ndarray, kind: str, share: float) -> np.ndarray:
    """The labels, some of them wrong."""
    given = labels.copy()
    pool = labels == rng.integers(CLASSES) if kind == "one class" else np.full(len(labels), True)
    rows = rng.choice(pool.nonzero()[0], round(share * pool.sum()), replace=False)
    if kind == "random":
        given[rows] = (labels[rows] + rng.integers(1, CLASSES, len(rows))) % CLASSES
    else:
        distances = ((means[:, None] - means) ** 2).sum(axis=2)
        near = distances.argsort(axis=1)[:, 1:3]  # the two most similar classes
        given[rows] = near[labels[rows], rng.integers(2, size=len(rows))]
    return given

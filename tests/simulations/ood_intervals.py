"""Intervals of AUROC and FPR95: how often they contain the truth, and how often the best score is called worse.

The first table draws scores from normal distributions, of which both numbers are known. The others draw features, and
run all of ``detect_ood``: in the second the classes stay and the images are drawn anew, in the third the classes are
drawn anew too. There the truth is the mean over the studies, which is right because every image is left out honestly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
import torch
from laws import LAWS, Law, Rng, feature_set

from nctransfer.ood.detecting import detect_ood
from nctransfer.ood.detection import Part, detection
from nctransfer.ood.ood_result import OodResult
from page_tables import markdown

TITLE = "Out-of-distribution: how often the intervals of AUROC and FPR95 contain the truth"
STUDIES = 60  # of features; of scores fifty times as many
SIZES = ((20, 20), (50, 50), (200, 30), (30, 200), (300, 300))
SHIFTS = (0.5, 1.5, 3.0, 4.5)
NORMAL = NormalDist()
SCORES = ("relative-mahalanobis", "knn", "neco")
GAUSSIAN, _, HEAVY, FAMILIES = LAWS


def of_scores(studies: int) -> str:
    """Normal scores: a row for each number of images and each distance."""
    rows = []
    for n, m in SIZES:
        for shift in SHIFTS:
            auroc, fpr = NORMAL.cdf(shift / math.sqrt(2)), NORMAL.cdf(NORMAL.inv_cdf(0.95) - shift)
            generator = torch.Generator().manual_seed(0)
            covered = np.zeros(2)
            for _ in range(studies):
                part = Part(torch.randn(n, generator=generator), torch.randn(m, generator=generator) + shift)
                found = detection([part])
                ends = found.auroc_interval, found.fpr_interval
                covered += [low <= true <= high for true, (low, high) in zip((auroc, fpr), ends, strict=True)]
            shares = [f"{share:.1%}" for share in (auroc, covered[0] / studies, fpr, covered[1] / studies)]
            rows.append([str(n), str(m), *shares])
            print("| " + " | ".join(rows[-1]) + " |", flush=True)
    return markdown(["known", "others", "AUROC", "covered", "FPR95", "covered"], rows)


def images_anew(law: Law, known: int, others: int, each: int) -> Callable[[Rng], OodResult]:
    """Studies of the same classes with other images."""
    fixed = np.random.default_rng(7)
    means = law.means(fixed, known + others)
    spread = np.exp(law.spread * fixed.normal(size=(known + others, 1, 1)))

    def study(rng: Rng) -> OodResult:
        rows = means[:, None] + 0.7 * spread * law.noise(rng, known + others, each) + 0.4
        sets = feature_set(rows[:known]), {"others": feature_set(rows[known:])}
        return detect_ood(*sets, SCORES, device="cpu", seed=int(rng.integers(1 << 30)))

    return study


def classes_anew(law: Law, classes: int, each: int) -> Callable[[Rng], OodResult]:
    """Studies of other classes."""

    def study(rng: Rng) -> OodResult:
        spread = np.exp(law.spread * rng.normal(size=(classes, 1, 1)))
        rows = law.means(rng, classes)[:, None] + 0.7 * spread * law.noise(rng, classes, each) + 0.4
        return detect_ood(feature_set(rows), None, SCORES, device="cpu", seed=int(rng.integers(1 << 30)))

    return study


DESIGNS: Sequence[tuple[str, Law, str, Callable[[Rng], OodResult]]] = (
    ("images", GAUSSIAN, "10 × 20 known, 5 × 20 others", images_anew(GAUSSIAN, 10, 5, 20)),
    ("images", GAUSSIAN, "5 × 50 known, 5 × 50 others", images_anew(GAUSSIAN, 5, 5, 50)),
    ("images", HEAVY, "10 × 20 known, 5 × 20 others", images_anew(HEAVY, 10, 5, 20)),
    ("classes", GAUSSIAN, "10 × 20", classes_anew(GAUSSIAN, 10, 20)),
    ("classes", GAUSSIAN, "30 × 10", classes_anew(GAUSSIAN, 30, 10)),
    ("classes", FAMILIES, "30 × 10", classes_anew(FAMILIES, 30, 10)),
)


def of_features(studies: int) -> str:
    """Whole studies: a row for each design and score."""
    rows = []
    for anew, law, size, study in DESIGNS:
        results = [study(np.random.default_rng([31, seed])) for seed in range(studies)]
        values = np.array([[(row.auroc, row.fpr95) for row in one.rows] for one in results])  # (studies, scores, 2)
        truth = values.mean(axis=0)
        best = int(truth[:, 0].argmax())
        lost = np.mean([not one.rows[best].is_possible_best for one in results])
        for place, name in enumerate(SCORES):
            ends = [(one.rows[place].auroc_interval, one.rows[place].fpr95_interval) for one in results]
            shares = []
            for which in range(2):
                covered = np.mean([low <= truth[place, which] <= high for low, high in (one[which] for one in ends)])
                shares += [f"{truth[place, which]:.1%}", f"{covered:.0%}"]
            called = f"{lost:.0%}" if place == best else ""
            rows.append([anew, law.name, size, name, *shares, called])
            print("| " + " | ".join(rows[-1]) + " |", flush=True)
    heads = ["anew", "law", "images", "score", "AUROC", "covered", "FPR95", "covered", "best called worse"]
    return markdown(heads, rows)


def table(studies: int) -> str:
    """Both tables."""
    return "\n\n".join([of_scores(50 * studies), of_features(studies)])

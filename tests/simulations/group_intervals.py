"""Intervals over other groups, and of the worst group: how often they cover the truth."""

from __future__ import annotations

import numpy as np

from nctransfer.evaluation.across_episodes import fewshot_across_groups
from nctransfer.evaluation.group_episodes import fewshot_by_group
from nctransfer.features.feature_set import FeatureSet
from page_tables import markdown

TITLE = "Groups: coverage of 95% intervals"
STUDIES = 100
CLASSES, WIDTH = 8, 16
GROUPS = (3, 5, 10, 20)
SHIFTS = (0.3, 1.0)  # the standard deviation of what a site adds to all of its images
MEANS = 0.7 * np.random.default_rng(7).normal(size=(CLASSES, WIDTH))


def images(sites: np.ndarray, scales: np.ndarray, each: int, rng: np.random.Generator) -> FeatureSet:
    """Images of all classes at each site: ``each`` for each class and site."""
    count = len(sites)
    labels = np.repeat(np.arange(CLASSES), count * each)
    at = np.tile(np.repeat(np.arange(count), each), CLASSES)
    noise = rng.normal(size=(len(labels), WIDTH)) * scales[at][:, None]
    names = [f"{site:02d}" for site in at.tolist()]
    return FeatureSet.from_arrays(MEANS[labels] + sites[at] + noise, labels, attributes={"site": names}, copy=False)


def drawn(count: int, shift: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sites: what each adds to its images, and the scale of their noise."""
    return shift * rng.normal(size=(count, WIDTH)), np.exp(0.2 * rng.normal(size=count))


def new_sites(count: int, shift: float, studies: int) -> list[str]:
    """One row of the first table: each study draws other sites, with their images."""
    found = []
    for study in range(studies):
        rng = np.random.default_rng([13, count, study])
        features = images(*drawn(count, shift, rng), 6, rng)
        result = fewshot_across_groups(
            features, "site", 5, 1, queries=5, episodes=512, precision=0, classifiers="ncc", device="cpu"
        )
        row = result.rows[0]
        same = row.shifts["same"]
        assert row.over_groups is not None
        assert same.interval is not None
        found.append((row.accuracy, *row.over_groups, same.value, *same.interval, row.ci95 or 0))
    accuracy, low, high, value, below, above, over_episodes = np.array(found).T
    covers = ((low <= accuracy.mean()) & (accuracy.mean() <= high)).mean()
    shift_covers = ((below <= value.mean()) & (value.mean() <= above)).mean()
    custom = (np.abs(accuracy - accuracy.mean()) <= over_episodes).mean()
    cells = [str(count), f"{shift:g}", f"{accuracy.mean():.1%}", f"{100 * accuracy.std():.1f}"]
    cells += [f"{50 * (high - low).mean():.1f}", f"{covers:.1%}", f"{custom:.1%}"]
    return [*cells, f"{100 * value.mean():+.1f}", f"{50 * (above - below).mean():.1f}", f"{shift_covers:.1%}"]


def worst_of(count: int, spread: float, studies: int) -> list[str]:
    """One row of the second table: the sites are the same in all studies, and only images are drawn."""
    rng = np.random.default_rng(5)
    sites, _ = drawn(count, 0.3 * spread, rng)
    scales = np.exp(0.3 * spread * rng.normal(size=count))
    found, of_groups, own = [], [], []
    for study in range(studies):
        features = images(sites, scales, 8, np.random.default_rng([17, count, study]))
        result = fewshot_by_group(
            features, "site", "all", 3, queries=12, episodes=256, classifiers="ncc", interval="samples", device="cpu"
        )
        row = result.rows[0]
        worst = row.worst
        assert worst is not None
        picked = next(one for one in row.groups if one.name == worst.name)
        own.append((picked.accuracy, picked.ci95))
        of_groups.append([one.accuracy for one in row.groups])
        found.append((*worst.interval, worst.gap, *worst.gap_interval, worst.possible))
    truth = np.mean(of_groups, axis=0)
    lowest, gap, names = truth.min(), truth.max() - truth.min(), [f"{site:02d}" for site in range(count)]
    covers = np.mean([low <= lowest <= high for low, high, *_ in found])
    naive = np.mean([abs(accuracy - lowest) <= half for accuracy, half in own])
    gaps = np.mean([low <= gap <= high for _, _, _, low, high, _ in found])
    has = np.mean([names[int(truth.argmin())] in one[-1] for one in found])
    size = np.mean([len(one[-1]) for one in found])
    seen = np.mean([one[2] for one in found])
    cells = [str(count), f"{spread:g}", f"{lowest:.1%}", f"{covers:.1%}", f"{naive:.1%}"]
    return [*cells, f"{100 * gap:.1f}", f"{100 * seen:.1f}", f"{gaps:.1%}", f"{has:.1%}", f"{size:.1f}"]


def table(studies: int) -> str:
    """Both tables."""
    heads = ("sites", "shift of sites", "accuracy", "its sd", "mean ±", "covers", "± episodes covers")
    heads += ("shift to the same site", "mean ±", "covers")
    rows = []
    for shift in SHIFTS:
        for count in GROUPS:
            rows.append(new_sites(count, shift, studies))
            print(rows[-1], flush=True)
    first = markdown(heads, rows)
    heads = ("groups", "spread", "worst", "covers", "own ± of the worst covers", "gap", "mean gap seen", "gap covers")
    rows = []
    for spread in (0.0, 1.0):
        for count in (3, 10):
            rows.append(worst_of(count, spread, max(20, studies // 2)))
            print(rows[-1], flush=True)
    return first + "\n\n" + markdown((*heads, "worst in set", "size of set"), rows)

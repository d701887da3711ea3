"""Normal samples about normal class means: the features that most tests of measures and episodes are about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nctransfer.features.feature_info import FeatureInfo
from nctransfer.features.feature_set import FeatureSet


def normal_classes(
    counts: Sequence[int],
    d: int = 6,
    *,
    apart: float = 1.0,
    within: float | Sequence[float] = 1.0,
    offset: float = 0.0,
    seed: int = 0,
    draw: int = 0,
) -> list[np.ndarray]:
    """One ``(n, d)`` float64 array per class.

    Args:
        counts: The number of samples per class.
        d: The number of features.
        apart: Standard deviation of the class means.
        within: Standard deviation of the samples about their mean: one for all classes, or one per class.
        offset: Added to every feature.
        seed: Decides the class means.
        draw: Decides the samples: another draw gives new samples of the same classes.
    """
    means = apart * np.random.default_rng(seed).normal(size=(len(counts), d)) + offset
    rng = np.random.default_rng([seed, draw + 1])
    return [
        mean + scale * rng.normal(size=(n, d))
        for mean, scale, n in zip(means, np.broadcast_to(within, len(counts)), counts, strict=True)
    ]


def labelled(classes: Iterable[np.ndarray], dtype: Any = np.float64) -> tuple[np.ndarray, np.ndarray]:
    """The samples of all classes, and their labels, whose order is that of the classes."""
    each = list(classes)
    labels = np.repeat([f"{code:04}" for code in range(len(each))], [len(rows) for rows in each])
    return np.concatenate(each).astype(dtype), labels


def set_of(classes: Iterable[np.ndarray], dtype: Any = np.float64, name: str = "arrays") -> FeatureSet:
    """Classes as a set of features."""
    return FeatureSet.from_arrays(*labelled(classes, dtype), info=FeatureInfo(name))

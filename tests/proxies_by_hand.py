"""Several proxies per class as a plain loop in float64: scikit-learn's k-means, and every sample left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.cluster import KMeans

TIE = 1e-5  # two neighbours often lower the sum of squared distances by the same
TEMPERATURES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2)


def starts_of(x: np.ndarray, number: int) -> list[int]:
    """The medoid, then each time the point with which the squared distances to the nearest start are the smallest."""

    def cost(chosen: list[int]) -> float:
        return cdist(x, x[chosen], "sqeuclidean").min(axis=1).sum()

    alone = np.array([cost([one]) for one in range(len(x))])
    chosen = [int(np.argmax(alone <= (1 + TIE) * alone.min()))]
    while len(chosen) < number:
        gains = np.array([cost(chosen) - cost([*chosen, one]) for one in range(len(x))])
        chosen.append(int(np.argmax(gains >= (1 - TIE) * gains.max())))
    return chosen


def means_by_sklearn(x: np.ndarray, number: int, steps: int = 20) -> np.ndarray:
    """The means of k-means."""
    start = x[starts_of(x, number)]
    return KMeans(number, init=start, n_init=1, max_iter=steps, tol=0, algorithm="lloyd").fit(x).cluster_centers_


def proxy_scores(x: np.ndarray, y: np.ndarray, f: np.ndarray, number: int) -> np.ndarray:
    """Minus half the squared distance to the nearest proxy of each class, ``(len(f), classes)``."""
    means = [means_by_sklearn(x[y == code], number) for code in range(y.max() + 1)]
    return -np.stack([cdist(f, one, "sqeuclidean").min(axis=1) for one in means], axis=1) / 2


def margins_left_out(x: np.ndarray, y: np.ndarray, number: int, folds: int = 10) -> np.ndarray:
    """The score of each class minus that of the right one, of each sample when its fold is left out of every class."""
    place = np.concatenate([np.arange((y == code).sum()) for code in range(y.max() + 1)])
    folds = min(folds, int((y == 0).sum()))
    margins = []
    for fold in range(folds):
        held = place % folds == fold
        scores = proxy_scores(x[~held], y[~held], x[held], number)
        margins.append(scores - scores[np.arange(held.sum()), y[held]][:, None])
    return np.concatenate(margins)


def number_of_proxies(x: np.ndarray, y: np.ndarray, numbers: Sequence[int], patience: int = 2) -> int:
    """The fewest proxies whose loss is within one standard error of the smallest."""
    losses: dict[int, np.ndarray] = {}
    unit = 1.0
    for number in numbers:
        margins = margins_left_out(x, y, number)
        unit = np.abs(margins).mean() if number == 1 else unit
        found = [logsumexp(margins / unit / temperature, axis=1) for temperature in TEMPERATURES]
        losses[number] = min(found, key=np.mean)
        best = min(losses, key=lambda one: losses[one].mean())
        if list(losses).index(number) - list(losses).index(best) >= patience:
            break
    for number, loss in losses.items():
        difference = loss - losses[best]
        if difference.mean() <= difference.std(ddof=1) / np.sqrt(len(loss)) + 1e-6:
            return number
    raise AssertionError("the best one is within its own error")

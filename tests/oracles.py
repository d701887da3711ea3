"""The definitions once more, in float64 NumPy and plain loops: slow, and written without the package's shortcuts.

Everything takes a list of classes, each of them the ``(n_c, d)`` features of its samples.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import scipy.stats


def split(features, labels):
    """The classes of a set in the order of their names, float64."""
    features, labels = np.asarray(features, dtype=np.float64), np.asarray([str(label) for label in labels])
    return [features[labels == name] for name in sorted(set(labels.tolist()))]


def ordered_pairs(classes):
    return list(itertools.permutations(range(len(classes)), 2))


def unordered_pairs(classes):
    return list(itertools.combinations(range(len(classes)), 2))


def mean(rows):
    return sum(rows) / len(rows)


def variance(rows):
    centre = mean(rows)
    return sum(float((row - centre) @ (row - centre)) for row in rows) / len(rows)


def covariance(rows):
    centre = mean(rows)
    return sum(np.outer(row - centre, row - centre) for row in rows) / len(rows)


def centred_means(classes):
    means = [mean(rows) for rows in classes]
    return [m - mean(means) for m in means]


def squared_distance(classes, i, j):
    difference = mean(classes[i]) - mean(classes[j])
    return float(difference @ difference)


def cdnv_pair(classes, i, j):
    squared = squared_distance(classes, i, j)
    return (variance(classes[i]) + variance(classes[j])) / (2 * squared) if squared > 0 else math.inf


def directional_pair(classes, i, j):
    squared = squared_distance(classes, i, j)
    if squared == 0:
        return math.inf
    u = (mean(classes[j]) - mean(classes[i])) / math.sqrt(squared)
    return float(u @ covariance(classes[i]) @ u) / squared


def debiased_pair(classes, i, j):
    """``V_ij`` from unbiased variances and squared distance; ``None`` where the data do not resolve the pair."""
    squared = squared_distance(classes, i, j)
    if squared == 0:
        return math.inf
    sizes = [len(classes[c]) for c in (i, j)]
    v = [n / (n - 1) * variance(classes[c]) for n, c in zip(sizes, (i, j), strict=True)]
    bias = v[0] / sizes[0] + v[1] / sizes[1]
    return sum(v) / (2 * (squared - bias)) if squared - bias > bias else None


def cdnv(classes):
    return float(np.mean([cdnv_pair(classes, i, j) for i, j in ordered_pairs(classes)]))


def directional_cdnv(classes):
    return float(np.mean([directional_pair(classes, i, j) for i, j in ordered_pairs(classes)]))


def cdnv_debiased(classes):
    values = [debiased_pair(classes, i, j) for i, j in ordered_pairs(classes)]
    return float(np.mean([value for value in values if value is not None]))


def nc1(classes):
    within = sum(covariance(rows) for rows in classes) / len(classes)
    between = sum(np.outer(m, m) for m in centred_means(classes)) / len(classes)
    # the cutoff is above the rounding of the means, which an offset of 1000 lifts above NumPy's default
    return float(np.trace(within @ np.linalg.pinv(between, rcond=1e-12, hermitian=True))) / len(classes)


def equinorm(classes):
    lengths = [float(np.linalg.norm(m)) for m in centred_means(classes)]
    return float(np.std(lengths) / np.mean(lengths))


def cosines(classes):
    m = [row / np.linalg.norm(row) for row in centred_means(classes)]
    return [float(m[i] @ m[j]) for i, j in unordered_pairs(classes)]


def equiangularity(classes):
    return float(np.std(cosines(classes)))


def ncc_accuracies(classes):
    """Leave-one-out: the centre of the own class is computed anew without the sample."""
    means = [mean(rows) for rows in classes]
    shares = []
    for own, rows in enumerate(classes):
        right = 0
        for number, row in enumerate(rows):
            centres = [*means[:own], mean(np.delete(rows, number, axis=0)), *means[own + 1 :]]
            distances = [np.linalg.norm(row - centre) for centre in centres]
            right += all(distances[own] < distances[other] for other in range(len(classes)) if other != own)
        shares.append(right / len(rows))
    return shares


def ncc_accuracy(classes):
    return float(np.mean(ncc_accuracies(classes)))


MEASURES = {
    "cdnv": cdnv,
    "cdnv_debiased": cdnv_debiased,
    "directional_cdnv": directional_cdnv,
    "nc1": nc1,
    "equinorm": equinorm,
    "equiangularity": equiangularity,
    "ncc_accuracy": ncc_accuracy,
}


def jackknife(measure, classes):
    """95% interval of a measure: computed anew without each of the classes."""
    C = len(classes)
    without = [measure(classes[:c] + classes[c + 1 :]) for c in range(C)]
    error = math.sqrt((C - 1) / C * sum((value - np.mean(without)) ** 2 for value in without))
    reach = float(scipy.stats.t.ppf(0.975, C - 1)) * error
    return measure(classes) - reach, measure(classes) + reach


def simplex(C, d):
    """The vertices of a simplex, ``(C, d)``: of unit length and equally far from each other, about zero."""
    vertices = np.zeros((C, d))
    vertices[:, :C] = math.sqrt(C / (C - 1)) * (np.eye(C) - 1 / C)
    return vertices

"""The definitions once more, in float64 NumPy and plain loops: slow, and written without the package's shortcuts.

Everything takes a list of classes, each of them the ``(n_c, d)`` features of its samples.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import scipy.linalg
import scipy.stats
import torch


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
    """``None`` where no pair is resolved."""
    values = [debiased_pair(classes, i, j) for i, j in ordered_pairs(classes)]
    resolved = [value for value in values if value is not None]
    return float(np.mean(resolved)) if resolved else None


def halves(rows, splits=4):
    """A class in two halves, for each of the random divisions, which depend on its size only."""
    generator = torch.Generator().manual_seed(len(rows))
    for _ in range(splits):
        order = torch.randperm(len(rows), generator=generator).numpy()
        yield rows[order < len(rows) // 2], rows[order >= len(rows) // 2]


def crossed(classes):
    """``½ Σ_t D_Aᵀ S_t D_B`` averaged over divisions, ``(C, C)``; ``None`` if a class is too small."""
    if min(map(len, classes)) < 4:
        return None
    found = np.zeros((len(classes), len(classes)))
    divided = [list(halves(rows)) for rows in classes]
    means = [[[mean(half) for half in both] for both in one] for one in divided]
    sigmas = [
        [sum(covariance(half) * len(half) / (len(half) - 1) for half in both) / 2 for both in one] for one in divided
    ]
    for i, j in ordered_pairs(classes):
        values = []
        for of_i, of_j, sigma in zip(means[i], means[j], sigmas[i], strict=True):
            first, second = (theirs - ours for ours, theirs in zip(of_i, of_j, strict=True))
            values.append(first @ sigma @ second)
        found[i, j] = np.mean(values)
    return found


def directional_cdnv_debiased(classes):
    """``None`` where a class is too small, where no pair is resolved, and where noise makes it negative."""
    top, found = crossed(classes), []
    if top is None:
        return None
    for i, j in ordered_pairs(classes):
        squared = squared_distance(classes, i, j)
        bias = sum(variance(classes[c]) / (len(classes[c]) - 1) for c in (i, j))
        if squared == 0:
            found.append(math.inf)
        elif squared - bias > bias:
            found.append(top[i, j] / (squared - bias) ** 2)
    return float(np.mean(found)) if found and np.mean(found) >= 0 else None


def within(classes):
    return sum(covariance(rows) for rows in classes) / len(classes)


def between(classes):
    return sum(np.outer(m, m) for m in centred_means(classes)) / len(classes)


def total(classes):
    return within(classes) + between(classes)


def nc1(classes):
    # the cutoff is above the rounding of the means, which an offset of 1000 lifts above NumPy's default
    inverse = np.linalg.pinv(between(classes), rcond=1e-12, hermitian=True)
    return float(np.trace(within(classes) @ inverse)) / len(classes)


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


def separation_fuzziness(classes):
    return len(classes) * nc1(classes)


def variance_ratio(classes):
    return float(np.trace(within(classes)) / np.trace(between(classes)))


def variability_collapse_index(classes):
    """``None`` where Sigma_T is singular."""
    both = total(classes)
    if np.linalg.matrix_rank(both, hermitian=True) < len(both):
        return None
    # m by m: the rounding of Sigma_B is large beside a small variance
    explained = sum(m @ scipy.linalg.solve(both, m, assume_a="pos") for m in centred_means(classes)) / len(classes)
    return float(1 - explained / min(len(both), len(classes) - 1))


def vci_noise_level(classes):
    """``None`` where Sigma_T is singular for want of samples."""
    n, d = sum(map(len, classes)), classes[0].shape[1]
    return 1 - d / (n - 1) if n - 1 >= d else None


def maximal_angle(classes):
    return float(np.mean([abs(cosine + 1 / (len(classes) - 1)) for cosine in cosines(classes)]))


def etf_error(classes):
    """``None`` where there is no simplex of C vertices."""
    C, m = len(classes), np.array(centred_means(classes))
    if m.shape[1] < C - 1:
        return None
    gram = m @ m.T
    return float(np.linalg.norm(gram / np.linalg.norm(gram) - (np.eye(C) - np.ones((C, C)) / C) / math.sqrt(C - 1)))


def mean_uniformity(classes):
    m = [row / np.linalg.norm(row) for row in centred_means(classes)]
    apart = [float(np.linalg.norm(m[i] - m[j])) for i, j in unordered_pairs(classes)]
    return float(np.mean([math.log(1 / one) if one > 0 else math.inf for one in apart]))


def effective_rank(classes):
    rows = np.concatenate(classes)
    values = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)
    shares = [value / values.sum() for value in values if value > 1e-9 * values[0]]
    return math.exp(-sum(share * math.log(share) for share in shares))


def participation(matrix):
    return float(np.trace(matrix) ** 2 / np.trace(matrix @ matrix))


def participation_ratio(classes):
    return participation(total(classes))


def within_participation_ratio(classes):
    return participation(within(classes))


def matrix_entropy(classes):
    """Of the covariance about the mean of all samples, from singular values."""
    rows = np.concatenate(classes)
    squares = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
    return float(scipy.stats.entropy(squares))


def rankme(classes):
    """As in the paper: the features as they are, and a small number added to each share."""
    values = np.linalg.svd(np.concatenate(classes), compute_uv=False)
    shares = values / values.sum() + 1e-7
    return math.exp(-sum(share * math.log(share) for share in shares))


def gram(rows):
    """Of centred rows at unit length, at trace one."""
    rows = np.array([row - mean(list(rows)) for row in rows])
    unit = np.array([row / math.sqrt(row @ row) for row in rows])
    return np.array([[one @ other for other in unit] for one in unit]) / len(unit)


def von_neumann(matrix):
    """Of a matrix of trace one, by its matrix logarithm on the space where it is not zero."""
    values, vectors = np.linalg.eigh(matrix)
    kept = vectors[:, values > 1e-12]
    small = kept.T @ matrix @ kept
    return float(-np.trace(small @ scipy.linalg.logm(small)).real)


def head_entropies(classes, weight):
    """Of the class means, of the head, and of both: None where all lie on a line."""
    means, weights = gram([mean(rows) for rows in classes]), gram(weight)
    return von_neumann(means), von_neumann(weights), von_neumann(len(classes) * means * weights)


def mutual_information_ratio(classes, weight):
    means, weights, both = head_entropies(classes, weight)
    return (means + weights - both) / min(means, weights) if min(means, weights) > 1e-9 else None


def entropy_difference_ratio(classes, weight):
    means, weights, _ = head_entropies(classes, weight)
    return abs(means - weights) / max(means, weights) if max(means, weights) > 1e-9 else None


def self_duality(classes, weight):
    w, m = weight - weight.mean(axis=0), np.array(centred_means(classes))
    return float(np.linalg.norm(w / np.linalg.norm(w) - m / np.linalg.norm(m)))


def nearest(row, centres):
    """The first of the nearest."""
    return int(np.argmin([np.linalg.norm(row - centre) for centre in centres]))


def ncc_agreement(classes, weight, bias):
    means = [mean(rows) for rows in classes]
    agree = [np.argmax(weight @ row + bias) == nearest(row, means) for rows in classes for row in rows]
    return float(np.mean(agree))


def ncc_accuracies_by(classes, others):
    """Of each class the accuracy of the nearest of the class centres of another set."""
    means = [mean(rows) for rows in others]
    return [float(np.mean([nearest(row, means) == own for row in rows])) for own, rows in enumerate(classes)]


MEASURES = {
    "cdnv": cdnv,
    "cdnv_debiased": cdnv_debiased,
    "directional_cdnv": directional_cdnv,
    "directional_cdnv_debiased": directional_cdnv_debiased,
    "nc1": nc1,
    "separation_fuzziness": separation_fuzziness,
    "variance_ratio": variance_ratio,
    "variability_collapse_index": variability_collapse_index,
    "vci_noise_level": vci_noise_level,
    "equinorm": equinorm,
    "equiangularity": equiangularity,
    "maximal_angle": maximal_angle,
    "etf_error": etf_error,
    "mean_uniformity": mean_uniformity,
    "ncc_accuracy": ncc_accuracy,
    "effective_rank": effective_rank,
    "participation_ratio": participation_ratio,
    "within_participation_ratio": within_participation_ratio,
    "matrix_entropy": matrix_entropy,
    "rankme": rankme,
}
"""Of the classes alone; those of a head need its weights."""


def jackknife(measure, classes):
    """95% interval of a positive measure, on the logarithmic scale: computed anew without each of the classes."""
    C = len(classes)
    without = [math.log(measure(classes[:c] + classes[c + 1 :])) for c in range(C)]
    error = math.sqrt((C - 1) / C * sum((value - np.mean(without)) ** 2 for value in without))
    reach = float(scipy.stats.t.ppf(0.975, C - 1)) * error
    return measure(classes) * math.exp(-reach), measure(classes) * math.exp(reach)


def simplex(C, d):
    """The vertices of a simplex, ``(C, d)``: of unit length and equally far from each other, about zero."""
    vertices = np.zeros((C, d))
    vertices[:, :C] = math.sqrt(C / (C - 1)) * (np.eye(C) - 1 / C)
    return vertices

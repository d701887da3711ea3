"""Measures of matrix information theory: the entropy of a spectrum, and what two Gram matrices share.

The entropy of a symmetric positive semidefinite matrix A is that of its eigenvalues at sum one,
``H(A) = −Σ p_k log p_k`` with ``p = λ/Σλ``, in nats (von Neumann). The information that two Gram matrices of C vectors
of unit length share is ``I = H(G_1) + H(G_2) − H(G_1 ∘ G_2)``, with the product taken entry by entry.

Both Gram matrices are blind to rotations: a head turned away from the class means keeps its ratios. ``self_duality``
sees it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nctransfer.features.feature_set import FeatureSet  # noqa: F401 - for the examples
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.neural_collapse.head_order import MOST_CLASSES
from nctransfer.neural_collapse.measure import Measure, Undefined
from nctransfer.neural_collapse.nearest_centre import NO_HEAD

if TYPE_CHECKING:
    import torch

__all__ = [
    "ENTROPY_DIFFERENCE_RATIO",
    "MATRIX_ENTROPY",
    "MUTUAL_INFORMATION_RATIO",
    "RANKME",
    "entropy_difference_ratio",
    "matrix_entropy",
    "mutual_information_ratio",
    "rankme",
]

EPSILON = 1e-7
"""What RankMe adds to each share of the singular values."""
SMALLEST = 1e-9
"""Entropies of Gram matrices below this are rounding."""


def matrix_entropy(stats: ClassStatistics) -> float:
    """Entropy of the eigenvalues of the covariance of all samples, at sum one, in nats.

    Z23 subtract the mean as well, but scale each feature to unit length first; here only the whole covariance is
    scaled, so that the entropy comes from the same sums as the other measures. Its exponential counts dimensions,
    weighted by variance, where ``effective_rank`` weights them by standard deviation. Range 0 to log d.

    >>> square = FeatureSet.from_arrays([[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 2.0]], "aabb")
    >>> round(math.exp(matrix_entropy(ClassStatistics.of(square))), 6)
    2.0
    """
    if not len(stats.spectrum):
        raise Undefined("all features are equal")
    return _entropy(stats.spectrum)


def rankme(stats: ClassStatistics) -> float:
    """RankMe: exponential of the entropy of the normalised singular values of the features, mean not subtracted.

    With ``p_k = σ_k/Σσ + 1e-7`` for the first ``min(n, d)`` singular values of the ``(n, d)`` features, it is
    ``exp(−Σ p_k log p_k)`` (G23). Because the mean stays, features far from zero have a low value: it changes with the
    activation function before the last layer, and so from one architecture to another. Range 1 to d.

    >>> two = FeatureSet.from_arrays([[3.0, 0.0], [3.0, 0.0], [0.0, 3.0], [0.0, 3.0]], "aabb")
    >>> round(rankme(ClassStatistics.of(two)), 4)
    2.0
    """
    import torch

    found = stats.spectrum_about_zero.sqrt()
    if not len(found):
        raise Undefined("all features are zero")
    number = min(int(stats.counts.sum()), stats.covariance.shape[0])
    singular = torch.cat([found, found.new_zeros(max(0, number - len(found)))])
    added = singular / singular.sum() + EPSILON
    return max(1.0, math.exp(-float((added * added.log()).sum())))  # the added 1e-7 may make it less


def mutual_information_ratio(stats: ClassStatistics) -> float:
    """Information that class means and head share, over the smaller entropy of the two: ``I(G_M, G_W) / min H``.

    G_M is the Gram matrix of the class means, and G_W that of the head's weight vectors for the same classes; the mean
    row of each is subtracted, and each row has unit length (S24). In collapse, with C classes, it is
    ``1/(C−1) + (C−2) log(C−2) / ((C−1) log(C−1))``; rows that are all orthogonal give 1. Range 0 to 1.
    """
    means, weights = _grams(stats)
    of_means, of_weights = _gram_entropy(means), _gram_entropy(weights)
    if (smaller := min(of_means, of_weights)) < SMALLEST:
        raise Undefined("the class means, or the weight vectors of the head, lie on one line, so their entropy is 0")
    return (of_means + of_weights - _gram_entropy(means * weights)) / smaller


def entropy_difference_ratio(stats: ClassStatistics) -> float:
    """Difference of the entropies of class means and head, over the larger: ``|H(G_M) − H(G_W)| / max H``.

    The Gram matrices are those of :func:`mutual_information_ratio` (S24). Range 0 to 1; 0 in collapse.
    """
    of_means, of_weights = (_gram_entropy(gram) for gram in _grams(stats))
    if (larger := max(of_means, of_weights)) < SMALLEST:
        raise Undefined("the class means and the weight vectors of the head lie on one line, so their entropy is 0")
    return abs(of_means - of_weights) / larger


def _grams(stats: ClassStatistics) -> tuple[torch.Tensor, torch.Tensor]:
    """The Gram matrices ``(C, C)`` of centred class means and of a head's centred weight vectors, at unit length."""
    if stats.head is None:
        raise Undefined(NO_HEAD)
    if len(stats.counts) > MOST_CLASSES:
        raise Undefined(f"there are more than {MOST_CLASSES:,} classes, and the time grows with their cube")
    weight = stats.head.weight.double()
    grams = []
    for rows in (stats.centred_means, weight - weight.mean(dim=0)):
        lengths = rows.norm(dim=1, keepdim=True)
        if bool((lengths <= SMALLEST * lengths.max()).any()):
            raise Undefined("a class mean, or a weight vector of the head, lies on the mean of all")
        unit = rows / lengths
        grams.append(unit @ unit.T)
    return grams[0], grams[1]


def _gram_entropy(gram: torch.Tensor) -> float:
    """The entropy of a symmetric positive semidefinite matrix."""
    import torch

    return _entropy(torch.linalg.eigvalsh(gram))


def _entropy(values: torch.Tensor) -> float:
    """``−Σ p log p`` for non-negative values at sum one; those that are negative by rounding count as zero."""
    shares = values[values > 0] / values[values > 0].sum()
    return max(0.0, -float((shares * shares.log()).sum()))


MATRIX_ENTROPY = Measure(
    name="matrix_entropy",
    function=matrix_entropy,
    meaning="entropy of the variance",
    aspect="width",
    range="0 to log d",
    is_correlated=True,
)
RANKME = Measure(
    name="rankme",
    function=rankme,
    meaning="width used, mean included",
    aspect="width",
    range="1 to d",
    is_correlated=True,
    caution="compare rankme only between checkpoints of one training method",
)
MUTUAL_INFORMATION_RATIO = Measure(
    name="mutual_information_ratio",
    function=mutual_information_ratio,
    meaning="head and class means",
    aspect="NC3",
    range="0 to 1",
)
ENTROPY_DIFFERENCE_RATIO = Measure(
    name="entropy_difference_ratio",
    function=entropy_difference_ratio,
    meaning="head against class means",
    aspect="NC3",
    direction="lower",
    range="0 to 1",
)

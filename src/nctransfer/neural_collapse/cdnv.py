"""Class-distance normalised variance (CDNV): plain, debiased, and directional."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.features.feature_set import FeatureSet  # noqa: F401 - for the examples
from nctransfer.intervals import pair_average
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.neural_collapse.measure import Undefined

if TYPE_CHECKING:
    import torch

__all__ = ["cdnv", "cdnv_debiased", "cdnv_pairs", "debiased_pairs", "directional_cdnv", "directional_pairs"]


def _over_square(numerator: torch.Tensor, squared: torch.Tensor) -> torch.Tensor:
    """``numerator / squared`` off the diagonal, infinite where two means coincide; zero on it."""
    import torch

    ratio = torch.where(squared > 0, numerator / squared, torch.inf)
    return ratio.fill_diagonal_(0)


def cdnv_pairs(stats: ClassStatistics) -> torch.Tensor:
    """``V_ij = (v_i + v_j) / (2 d_ij²)``, symmetric ``(C, C)``, zero on the diagonal (G22)."""
    sums = stats.variances[:, None] + stats.variances
    return _over_square(sums / 2, stats.distances.square())


def directional_pairs(stats: ClassStatistics) -> torch.Tensor:
    """``u_ijᵀ Sigma_i u_ij / d_ij²``, ``(C, C)``: row i the class that varies, column j the one it looks at."""
    squared = stats.distances.square()
    return _over_square(stats.directional, squared.square())


def debiased_pairs(stats: ClassStatistics) -> tuple[torch.Tensor, torch.Tensor]:
    """Debiased ``V_ij``, and which ordered pairs the data resolve; both ``(C, C)``."""
    import torch

    unbiased = stats.variances * stats.counts / (stats.counts - 1)
    bias = unbiased / stats.counts
    bias_pairs = bias[:, None] + bias
    squared = stats.distances.square() - bias_pairs
    coincide = stats.distances == 0
    resolved = ((squared > bias_pairs) | coincide).fill_diagonal_(False)
    values = (unbiased[:, None] + unbiased) / (2 * squared)
    return torch.where(coincide, torch.inf, values), resolved


def cdnv(stats: ClassStatistics) -> float:
    """Class-distance normalised variance: ``V_ij = (v_i + v_j) / (2 d_ij²)``, averaged over pairs.

    With the factor ½, as in G22 (L26 writes V without it, twice as large). Range 0 to ∞; lower is more collapsed.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> cdnv(ClassStatistics.of(two))  # v = 1 and 1, d² = 100
    0.01
    """
    return pair_average(cdnv_pairs(stats))


def cdnv_debiased(stats: ClassStatistics) -> float:
    """CDNV with unbiased variances and squared distances.

    ``v_c → n_c/(n_c−1) v_c`` and ``d_ij² → d_ij² − v_i/n_i − v_j/n_j``. The plug-in value is too low when classes
    are small, because class means of few samples lie too far apart. Pairs whose debiased squared distance is not
    above the bias taken off are not resolved by the data and left out of the average.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> round(cdnv_debiased(ClassStatistics.of(two)), 6)  # v = 2 and 2, d² = 100 − 1 − 1
    0.020408
    """
    values, resolved = debiased_pairs(stats)
    if not bool(resolved.any()):
        raise Undefined("no pair of classes is resolved: distances are within the noise of the class means")
    return float(values[resolved].mean())


def directional_cdnv(stats: ClassStatistics) -> float:
    """CDNV along the line between the means: ``u_ijᵀ Sigma_i u_ij / d_ij²`` over ordered pairs (L25).

    Range 0 to ∞, and at most the CDNV; lower is more collapsed. It counts only the variance that can confuse the
    two classes.

    >>> two = FeatureSet.from_arrays([[0.0, 5.0], [2.0, 5.0], [1.0, 0.0], [1.0, 0.0]], "aabb")
    >>> directional_cdnv(ClassStatistics.of(two))  # class a varies across the line to b, not along it
    0.0
    """
    return pair_average(directional_pairs(stats))

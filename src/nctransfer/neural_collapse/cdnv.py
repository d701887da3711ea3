"""Class-distance normalised variance (CDNV): plain, debiased, and directional.

Notation: ``v_c`` is the variance of class c (the mean squared distance to its mean ``mu_c``), ``d_ij = ‖mu_i − mu_j‖``,
``u_ij`` the unit vector from mean i to mean j, and ``Sigma_i`` the covariance of class i.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.features.feature_set import FeatureSet  # noqa: F401 - for the examples
from nctransfer.intervals import pair_average
from nctransfer.neural_collapse.class_statistics import ClassStatistics, PairStatistics
from nctransfer.neural_collapse.halves import LEAST
from nctransfer.neural_collapse.measure import Measure, Undefined

if TYPE_CHECKING:
    import torch

__all__ = [
    "CDNV",
    "CDNV_DEBIASED",
    "DIRECTIONAL_CDNV",
    "DIRECTIONAL_CDNV_DEBIASED",
    "cdnv",
    "cdnv_debiased",
    "cdnv_pairs",
    "debiased_pairs",
    "debiased_values",
    "directional_cdnv",
    "directional_cdnv_debiased",
    "directional_debiased_pairs",
    "directional_pairs",
]


def _over_square(numerator: torch.Tensor, squared: torch.Tensor) -> torch.Tensor:
    """``numerator / squared`` off the diagonal, infinite where two means coincide; zero on the diagonal."""
    import torch

    ratio = (numerator / squared).masked_fill_(~(squared > 0), torch.inf)
    return ratio.fill_diagonal_(0)


def cdnv_pairs(stats: ClassStatistics) -> torch.Tensor:
    """``V_ij = (v_i + v_j) / (2 d_ij²)`` (G22): symmetric, ``(C, C)``, zero on the diagonal."""
    sums = stats.variances[:, None] + stats.variances
    return _over_square(sums / 2, stats.distances.square())


def directional_pairs(stats: ClassStatistics) -> torch.Tensor:
    """``u_ijᵀ Sigma_i u_ij / d_ij²``, ``(C, C)``: the variance of class i (row) on the line to class j (column)."""
    squared = stats.distances.square()
    return _over_square(stats.directional, squared.square())


def debiased_pairs(stats: PairStatistics) -> tuple[torch.Tensor, torch.Tensor]:
    """The debiased ``V_ij``, and for which ordered pairs the data resolve it; both ``(C, C)``."""
    unbiased = stats.variances * stats.counts / (stats.counts - 1)
    return debiased_values(stats.distances, unbiased, _bias(stats))


def debiased_values(
    distances: torch.Tensor, unbiased: torch.Tensor, bias: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The debiased ``V_ij`` of class means, and for which ordered pairs the data resolve it; both ``(C, C)``.

    Args:
        distances: ``d_ij = ‖mu_i − mu_j‖``, ``(C, C)``.
        unbiased: The unbiased variances ``v_c``, ``(C,)``.
        bias: The variance of each class mean, ``v_c / n_c``, ``(C,)``.
    """
    import torch

    squared, resolved = _debiased_squares(distances, bias)
    values = (unbiased[:, None] + unbiased) / (2 * squared)
    return torch.where(distances == 0, torch.inf, values), resolved


def directional_debiased_pairs(stats: PairStatistics) -> tuple[torch.Tensor, torch.Tensor]:
    """The debiased directional CDNV, and for which ordered pairs the data resolve it; both ``(C, C)``.

    Raises:
        Undefined: A class has fewer than 4 samples.
    """
    import torch

    if stats.crossed is None:
        raise Undefined(
            f"it needs {LEAST} samples per class, 2 for each half, and the smallest class has {int(stats.counts.min())}"
        )
    squared, resolved = _debiased_squares(stats.distances, _bias(stats))
    values = stats.crossed / squared.square()
    return torch.where(stats.distances == 0, torch.inf, values), resolved


def _bias(stats: PairStatistics) -> torch.Tensor:
    """``v_c / n_c`` with the unbiased variance, ``(C,)``."""
    found: torch.Tensor = stats.variances / (stats.counts - 1)
    return found


def _debiased_squares(distances: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``d_ij² − v_i/n_i − v_j/n_j``, and for which ordered pairs the data resolve it; both ``(C, C)``."""
    bias_pairs = bias[:, None] + bias
    squared = distances.square() - bias_pairs
    resolved = (squared > bias_pairs) | (distances == 0)
    return squared, resolved.fill_diagonal_(False)


def cdnv(stats: ClassStatistics) -> float:
    """Class-distance normalised variance: ``V_ij = (v_i + v_j) / (2 d_ij²)``, averaged over pairs.

    It has the factor ½, as in G22; L26 writes V without it, twice as large. Range 0 to ∞; lower is more collapsed.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> cdnv(ClassStatistics.of(two))  # v = 1 and 1, d² = 100
    0.01
    """
    return pair_average(cdnv_pairs(stats))


def cdnv_debiased(stats: PairStatistics) -> float:
    """CDNV with unbiased variances and squared distances.

    It replaces ``v_c`` by ``n_c/(n_c−1) v_c``, and ``d_ij²`` by ``d_ij² − v_i/n_i − v_j/n_j`` with the unbiased
    variances. The plug-in value is too low when classes are small, because means of few samples lie too far apart. A
    pair is left out of the average if its debiased squared distance is not larger than the bias that was subtracted:
    the data do not resolve it.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> round(cdnv_debiased(ClassStatistics.of(two)), 6)  # v = 2 and 2, d² = 100 − 1 − 1
    0.020408
    """
    return _average_of_resolved(*debiased_pairs(stats))


def _average_of_resolved(values: torch.Tensor, resolved: torch.Tensor) -> float:
    if not bool(resolved.any()):
        raise Undefined("no pair of classes is resolved: distances are within the noise of the class means")
    return float(values[resolved].mean())


def _resolved_only(values: torch.Tensor, resolved: torch.Tensor) -> torch.Tensor | None:
    """The values with zeros on the diagonal and NaN for pairs that are not resolved; ``None`` if no pair is."""
    import torch

    return torch.where(resolved, values, torch.nan).fill_diagonal_(0) if bool(resolved.any()) else None


def _cdnv_resolved(stats: ClassStatistics) -> torch.Tensor | None:
    return _resolved_only(*debiased_pairs(stats))


def _directional_resolved(stats: ClassStatistics) -> torch.Tensor | None:
    return None if stats.crossed is None else _resolved_only(*directional_debiased_pairs(stats))


def directional_cdnv(stats: ClassStatistics) -> float:
    """CDNV along the line between the means: ``u_ijᵀ Sigma_i u_ij / d_ij²``, averaged over ordered pairs (L25).

    It counts only the variance that can confuse the two classes, and is at most the CDNV. Range 0 to ∞; lower is more
    collapsed.

    >>> two = FeatureSet.from_arrays([[0.0, 5.0], [2.0, 5.0], [1.0, 0.0], [1.0, 0.0]], "aabb")
    >>> directional_cdnv(ClassStatistics.of(two))  # class a varies across the line to b, not along it
    0.0
    """
    return pair_average(directional_pairs(stats))


def directional_cdnv_debiased(stats: PairStatistics) -> float:
    """Directional CDNV without the noise of the class means: an estimate of ``ΔᵀSigma_iΔ / ‖Δ‖⁴``, averaged over pairs.

    Class means of few samples lie too far apart, and the plug-in value multiplies their noise with itself. Here each
    class is divided into random halves A and B. With ``D_A`` and ``D_B`` the differences of the two means in each half
    and ``S_t`` the unbiased covariance of class i in half t, the numerator is ``½ Σ_t D_Aᵀ S_t D_B``, averaged over 4
    divisions. The denominator is the square of ``D_A · D_B`` averaged over all divisions, which is
    ``d_ij² − v_i/n_i − v_j/n_j`` with the unbiased variances. Pairs that :func:`cdnv_debiased` leaves out are left out.

    Range 0 to ∞; lower is more collapsed. It has no value if a class has fewer than 4 samples, or if noise makes the
    average negative.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [0.0], [2.0], [10.0], [12.0], [10.0], [12.0]], "aaaabbbb")
    >>> stats = ClassStatistics.of(two)
    >>> round(directional_cdnv(stats), 6), round(directional_cdnv_debiased(stats), 6)
    (0.01, 0.010135)
    """
    found = _average_of_resolved(*directional_debiased_pairs(stats))
    if found < 0:
        raise Undefined("the estimate is negative: there are too few samples for its noise")
    return found


CDNV = Measure(
    name="cdnv",
    function=cdnv,
    meaning="variance over distance²",
    aspect="NC1",
    direction="lower",
    range="0 to ∞",
    is_usual=True,
    pairs=cdnv_pairs,
    is_positive=True,
    in_layers=True,
    in_trajectories=True,
    is_correlated=True,
    label="CDNV",
)
CDNV_DEBIASED = Measure(
    name="cdnv_debiased",
    function=cdnv_debiased,
    meaning="corrected for few samples",
    aspect="NC1",
    direction="lower",
    range="0 to ∞",
    is_usual=True,
    pairs=_cdnv_resolved,
    is_positive=True,
    label="debiased CDNV",
)
DIRECTIONAL_CDNV = Measure(
    name="directional_cdnv",
    function=directional_cdnv,
    meaning="along the line to the other",
    aspect="NC1",
    direction="lower",
    range="0 to ∞",
    is_usual=True,
    pairs=directional_pairs,
    is_positive=True,
    in_trajectories=True,
    is_correlated=True,
    label="directional CDNV",
    column="directional",
)
DIRECTIONAL_CDNV_DEBIASED = Measure(
    name="directional_cdnv_debiased",
    function=directional_cdnv_debiased,
    meaning="corrected for few samples",
    aspect="NC1",
    direction="lower",
    range="0 to ∞",
    is_usual=True,
    pairs=_directional_resolved,
    is_positive=True,
    label="debiased directional CDNV",
)

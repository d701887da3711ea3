"""How the class means lie (NC2): lengths, angles, distance to a simplex.

Notation: ``mu_c`` are the class means, ``mu_G`` their unweighted mean, M the matrix of the rows ``mu_c − mu_G``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nctransfer.features.feature_set import FeatureSet  # noqa: F401 - for the examples
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.neural_collapse.measure import Measure, Undefined

if TYPE_CHECKING:
    import torch

__all__ = [
    "EQUIANGULARITY",
    "EQUINORM",
    "ETF_ERROR",
    "MAXIMAL_ANGLE",
    "MEAN_UNIFORMITY",
    "equiangularity",
    "equinorm",
    "etf_error",
    "maximal_angle",
    "mean_uniformity",
]


def equinorm(stats: ClassStatistics) -> float:
    """Coefficient of variation of the lengths ``‖mu_c − mu_G‖`` (P20).

    Range 0 to ∞; 0 if all class means are equally far from ``mu_G``, as in collapse.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> equinorm(ClassStatistics.of(two))
    0.0
    """
    lengths = stats.centred_means.norm(dim=1)
    if float(lengths.max()) == 0:
        raise Undefined("all class means coincide")
    return float(lengths.std(correction=0) / lengths.mean())


def equiangularity(stats: ClassStatistics) -> float:
    """Standard deviation of ``cos(mu_i − mu_G, mu_j − mu_G)`` over pairs (P20).

    Range 0 to 1; 0 if any two class means enclose the same angle, as in collapse.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> equiangularity(ClassStatistics.of(two))
    0.0
    """
    return float(_cosines(stats).std(correction=0))


def maximal_angle(stats: ClassStatistics) -> float:
    """How far the angles between class means are from the widest possible ones: mean of ``|cos + 1/(C−1)|`` (P20).

    ``−1/(C−1)`` is the smallest cosine that all pairs can have at once. Range 0 to 2; 0 in collapse.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> maximal_angle(ClassStatistics.of(two))
    0.0
    """
    return float((_cosines(stats) + 1 / (len(stats.counts) - 1)).abs().mean())


def etf_error(stats: ClassStatistics) -> float:
    """Distance of the class means from a simplex: ``‖ MMᵀ/‖MMᵀ‖_F − (I − 11ᵀ/C)/√(C−1) ‖_F`` (Z21).

    It is not defined for ``C − 1 > d``, where no simplex of C vertices exists. Range 0 to 2; 0 in collapse.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> round(etf_error(ClassStatistics.of(two)), 6)
    0.0
    """
    import torch

    classes, dim = stats.centred_means.shape
    if classes - 1 > dim:
        raise Undefined(f"{classes:,} classes cannot form a simplex in {dim:,} dimensions; use mean_uniformity")
    gram = stats.centred_means @ stats.centred_means.T
    if float(gram.abs().max()) == 0:
        raise Undefined("all class means coincide")
    simplex = (torch.eye(classes, dtype=gram.dtype) - 1 / classes) / math.sqrt(classes - 1)
    return float((gram / gram.norm() - simplex).norm())


def mean_uniformity(stats: ClassStatistics) -> float:
    """How unevenly the directions of the class means are spread: mean over pairs of ``log(1/‖m_i − m_j‖)`` (J24).

    m are the rows of M scaled to unit length. Use it for ``C − 1 > d``, where :func:`etf_error` is not defined. Lower
    is more even; two opposite directions have −log 2.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> round(mean_uniformity(ClassStatistics.of(two)), 6)
    -0.693147
    """
    import torch

    unit = _directions(stats)
    apart = torch.nn.functional.pdist(unit)
    return float(-apart.log().mean())


def _directions(stats: ClassStatistics) -> torch.Tensor:
    """The directions of the class means from ``mu_G``, scaled to unit length: ``(C, d)``."""
    lengths: torch.Tensor = stats.centred_means.norm(dim=1, keepdim=True)
    if float(lengths.min()) == 0:
        raise Undefined("a class mean equals the mean of all class means, so that it has no direction")
    return stats.centred_means / lengths


def _cosines(stats: ClassStatistics) -> torch.Tensor:
    """The cosine between the directions of two class means from ``mu_G``, for each pair."""
    import torch

    unit = _directions(stats)
    pairs = torch.triu_indices(len(unit), len(unit), offset=1)
    return (unit @ unit.T)[pairs[0], pairs[1]]


EQUINORM = Measure(
    name="equinorm",
    function=equinorm,
    meaning="spread of mean lengths",
    aspect="NC2",
    direction="lower",
    range="0 to ∞",
    is_usual=True,
)
EQUIANGULARITY = Measure(
    name="equiangularity",
    function=equiangularity,
    meaning="spread of mean angles",
    aspect="NC2",
    direction="lower",
    range="0 to 1",
    is_usual=True,
)
MAXIMAL_ANGLE = Measure(
    name="maximal_angle",
    function=maximal_angle,
    meaning="distance to widest angles",
    aspect="NC2",
    direction="lower",
    range="0 to 2",
)
ETF_ERROR = Measure(
    name="etf_error",
    function=etf_error,
    meaning="distance to a simplex",
    aspect="NC2",
    direction="lower",
    range="0 to 2",
)
MEAN_UNIFORMITY = Measure(
    name="mean_uniformity",
    function=mean_uniformity,
    meaning="uneven directions of means",
    aspect="NC2",
    direction="lower",
    range="−log 2 to ∞",
)

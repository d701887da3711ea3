"""How the class means lie (NC2): lengths, angles, distance to a simplex."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nctransfer.features.feature_set import FeatureSet  # noqa: F401 - for the examples
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.neural_collapse.measure import Undefined

if TYPE_CHECKING:
    import torch

__all__ = ["equiangularity", "equinorm", "etf_error", "maximal_angle", "mean_uniformity"]


def equinorm(stats: ClassStatistics) -> float:
    """Coefficient of variation of the lengths ``‖mu_c − mu_G‖`` (P20).

    Range 0 to ∞; 0 if all class means are equally far from their centre, as in collapse.

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

    Range 0 to 1; 0 if all class means enclose the same angle, as in collapse.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> equiangularity(ClassStatistics.of(two))
    0.0
    """
    return float(_cosines(stats).std(correction=0))


def maximal_angle(stats: ClassStatistics) -> float:
    """How far the class means are from the widest angle that all can have: mean of ``|cos + 1/(C−1)|`` (P20).

    Range 0 to 2; 0 in collapse.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> maximal_angle(ClassStatistics.of(two))
    0.0
    """
    return float((_cosines(stats) + 1 / (len(stats.counts) - 1)).abs().mean())


def etf_error(stats: ClassStatistics) -> float:
    """Distance of the class means from a simplex: ``‖ MMᵀ/‖MMᵀ‖_F − (I − 11ᵀ/C)/√(C−1) ‖_F`` (Z21).

    Range 0 to 2; 0 in collapse. Not defined where ``C − 1 > d``: there is no simplex of C vertices.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> round(etf_error(ClassStatistics.of(two)), 6)
    0.0
    """
    import torch

    classes, dim = stats.centred_means.shape
    if classes - 1 > dim:
        raise Undefined(f"{classes:,} classes make no simplex in {dim:,} dimensions: read mean_uniformity")
    gram = stats.centred_means @ stats.centred_means.T
    if float(gram.abs().max()) == 0:
        raise Undefined("all class means coincide")
    simplex = (torch.eye(classes, dtype=gram.dtype) - 1 / classes) / math.sqrt(classes - 1)
    return float((gram / gram.norm() - simplex).norm())


def mean_uniformity(stats: ClassStatistics) -> float:
    """How unevenly the directions of the class means are spread: mean over pairs of ``log(1/‖m_i − m_j‖)`` (J24).

    m are the unit-length rows of M. Lower is more even; of two opposite directions it is −log 2. The one to read where
    ``C − 1 > d``.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> round(mean_uniformity(ClassStatistics.of(two)), 6)
    -0.693147
    """
    import torch

    unit = _directions(stats)
    apart = torch.nn.functional.pdist(unit)
    return float(-apart.log().mean())


def _directions(stats: ClassStatistics) -> torch.Tensor:
    """The class means about their centre, of unit length: ``(C, d)``."""
    lengths: torch.Tensor = stats.centred_means.norm(dim=1, keepdim=True)
    if float(lengths.min()) == 0:
        raise Undefined("a class mean lies on the centre of all, and has no direction")
    return stats.centred_means / lengths


def _cosines(stats: ClassStatistics) -> torch.Tensor:
    """The cosines of the class means about their centre, one for each pair."""
    import torch

    unit = _directions(stats)
    pairs = torch.triu_indices(len(unit), len(unit), offset=1)
    return (unit @ unit.T)[pairs[0], pairs[1]]

"""Within-class variability (NC1): within-class relative to between-class covariance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.features.feature_set import FeatureSet  # noqa: F401 - for the examples
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.neural_collapse.measure import Undefined

if TYPE_CHECKING:
    pass

__all__ = ["nc1", "separation_fuzziness", "variability_collapse_index", "variance_ratio", "vci_noise_level"]


def nc1(stats: ClassStatistics) -> float:
    """Within-class relative to between-class covariance: ``tr(Sigma_W Sigma_B⁺) / C`` (P20).

    Computed through the C×C Gram matrix ``M Mᵀ = U S² Uᵀ`` of the centred means. Range 0 to ∞; lower is more collapsed.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> round(nc1(ClassStatistics.of(two)), 6)  # Sigma_W = 1, Sigma_B = 25
    0.02
    """
    return separation_fuzziness(stats) / len(stats.counts)


def separation_fuzziness(stats: ClassStatistics) -> float:
    """Within-class covariance in units of that between classes: ``tr(Sigma_W Sigma_B⁺)`` (H23).

    Computed from the eigenvectors of ``M Mᵀ`` or of ``MᵀM``, whichever is smaller. Range 0 to ∞; lower is more
    collapsed. Across the layers of a trained network its logarithm falls about linearly.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> round(separation_fuzziness(ClassStatistics.of(two)), 6)
    0.04
    """
    import torch

    means = stats.centred_means
    by_class = len(means) <= means.shape[1]
    values, vectors = torch.linalg.eigh(means @ means.T if by_class else means.T @ means)  # ascending
    kept = values > values[-1] * max(means.shape) * torch.finfo(values.dtype).eps
    if not bool(kept.any()):
        raise Undefined("all class means coincide")
    values, vectors = values[kept], vectors[:, kept]
    directions = means.T @ vectors / values.sqrt() if by_class else vectors  # (d, k), of unit length
    return float(((stats.within @ directions) * directions).sum(dim=0) @ (len(means) / values))


def variance_ratio(stats: ClassStatistics) -> float:
    """Within-class over between-class variance: ``tr Sigma_W / tr Sigma_B`` (Tirer et al.).

    Range 0 to ∞; lower is more collapsed.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> variance_ratio(ClassStatistics.of(two))
    0.04
    """
    between = float(stats.centred_means.square().sum()) / len(stats.counts)
    if between == 0:
        raise Undefined("all class means coincide")
    return float(stats.within.diagonal().sum()) / between


def variability_collapse_index(stats: ClassStatistics) -> float:
    """Share of the variance that classes do not explain: ``1 − tr(Sigma_T⁺ Sigma_B) / min(d, C−1)`` (X23).

    Range 0 to 1; lower is more collapsed. With few samples a width even noise gives about
    :func:`vci_noise_level`. Not defined where ``Sigma_T`` is singular.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> round(variability_collapse_index(ClassStatistics.of(two)), 6)  # 1 − 25/26
    0.038462
    """
    import torch

    classes, dim = stats.centred_means.shape
    rank = len(stats.spectrum)  # but for rounding that of Sigma_T, which weights the classes otherwise
    root, failed = torch.linalg.cholesky_ex(stats.total)
    if rank < dim or bool(failed):
        raise Undefined(f"the features span {min(rank, dim - 1):,} of {dim:,} dimensions, so that Sigma_T is singular")
    explained = torch.linalg.solve_triangular(root, stats.centred_means.T, upper=False).square().sum() / classes
    return 1 - float(explained) / min(dim, classes - 1)


def vci_noise_level(stats: ClassStatistics) -> float:
    """What :func:`variability_collapse_index` is about for pure noise: ``1 − d/(n−1)``.

    >>> four = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> round(vci_noise_level(ClassStatistics.of(four)), 6)
    0.666667
    """
    samples, dim = int(stats.counts.sum()), stats.centred_means.shape[1]
    if samples - 1 < dim:
        raise Undefined(f"{samples:,} samples are fewer than {dim + 1:,}")
    return 1 - dim / (samples - 1)

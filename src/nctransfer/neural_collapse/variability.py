"""Within-class variability (NC1): covariance within classes relative to that between classes.

Notation: ``mu_c`` are the class means, ``mu_G`` their unweighted mean, M the matrix of the rows ``mu_c − mu_G``,
``Sigma_B = MᵀM / C`` the covariance between classes, ``Sigma_W`` the mean covariance within classes, and
``Sigma_T = Sigma_W + Sigma_B``. A superscript ⁺ is the pseudoinverse.
"""

from __future__ import annotations

from nctransfer.features.feature_set import FeatureSet  # noqa: F401 - for the examples
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.neural_collapse.measure import Measure, Undefined

__all__ = [
    "NC1",
    "SEPARATION_FUZZINESS",
    "VARIABILITY_COLLAPSE_INDEX",
    "VARIANCE_RATIO",
    "VCI_NOISE_LEVEL",
    "nc1",
    "separation_fuzziness",
    "variability_collapse_index",
    "variance_ratio",
    "vci_noise_level",
]


def nc1(stats: ClassStatistics) -> float:
    """Covariance within classes relative to that between classes: ``tr(Sigma_W Sigma_B⁺) / C`` (P20).

    It is :func:`separation_fuzziness` divided by C. Range 0 to ∞; lower is more collapsed.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> round(nc1(ClassStatistics.of(two)), 6)  # Sigma_W = 1, Sigma_B = 25
    0.02
    """
    return separation_fuzziness(stats) / len(stats.counts)


def separation_fuzziness(stats: ClassStatistics) -> float:
    """Covariance within classes in units of that between classes: ``tr(Sigma_W Sigma_B⁺)`` (H23).

    It is computed from the eigenvectors of ``M Mᵀ`` or of ``MᵀM``, whichever is smaller. Across the layers of a trained
    network its logarithm falls about linearly. Range 0 to ∞; lower is more collapsed.

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
    """Variance within classes over variance between classes: ``tr Sigma_W / tr Sigma_B`` (Tirer et al.).

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

    If there are few samples for the width d, pure noise already has a value of about :func:`vci_noise_level`, not 1. It
    is not defined if ``Sigma_T`` is singular. Range 0 to 1; lower is more collapsed.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> round(variability_collapse_index(ClassStatistics.of(two)), 6)  # 1 − 25/26
    0.038462
    """
    import torch

    classes, dim = stats.centred_means.shape
    rank = len(stats.spectrum)  # up to rounding also the rank of Sigma_T, which weights the classes differently
    root, failed = torch.linalg.cholesky_ex(stats.total)
    if rank < dim or bool(failed):
        raise Undefined(f"the features span {min(rank, dim - 1):,} of {dim:,} dimensions, so that Sigma_T is singular")
    explained = torch.linalg.solve_triangular(root, stats.centred_means.T, upper=False).square().sum() / classes
    return 1 - float(explained) / min(dim, classes - 1)


def vci_noise_level(stats: ClassStatistics) -> float:
    """The value of :func:`variability_collapse_index` that pure noise has, approximately: ``1 − d/(n−1)``.

    Range 0 to 1.

    >>> four = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> round(vci_noise_level(ClassStatistics.of(four)), 6)
    0.666667
    """
    samples, dim = int(stats.counts.sum()), stats.centred_means.shape[1]
    if samples - 1 < dim:
        raise Undefined(f"it needs {dim + 1:,} samples, one more than the width, and there are {samples:,}")
    return 1 - dim / (samples - 1)


NC1 = Measure(
    name="nc1",
    function=nc1,
    meaning="within over between classes",
    aspect="NC1",
    direction="lower",
    range="0 to ∞",
    is_usual=True,
    is_correlated=True,
    label="NC1",
)
SEPARATION_FUZZINESS = Measure(
    name="separation_fuzziness",
    function=separation_fuzziness,
    meaning="C times nc1",
    aspect="NC1",
    direction="lower",
    range="0 to ∞",
    in_layers=True,
)
VARIANCE_RATIO = Measure(
    name="variance_ratio",
    function=variance_ratio,
    meaning="ratio of the variances",
    aspect="NC1",
    direction="lower",
    range="0 to ∞",
)
VARIABILITY_COLLAPSE_INDEX = Measure(
    name="variability_collapse_index",
    function=variability_collapse_index,
    meaning="variance that classes do not explain",
    aspect="NC1",
    direction="lower",
    range="0 to 1",
    is_correlated=True,
    label="VCI",
)
VCI_NOISE_LEVEL = Measure(
    name="vci_noise_level",
    function=vci_noise_level,
    meaning="that index of pure noise",
    aspect="NC1",
    range="0 to 1",
)

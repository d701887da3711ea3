"""A head beside the class means (NC3), and nearest-class-centre accuracy (NC4)."""

from __future__ import annotations

from nctransfer.features.feature_set import FeatureSet  # noqa: F401 - for the examples
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.neural_collapse.measure import Undefined

__all__ = ["ncc_accuracy", "ncc_agreement", "self_duality"]


def self_duality(stats: ClassStatistics) -> float:
    """Distance between a head's weights and the class means: ``‖ W/‖W‖_F − M/‖M‖_F ‖_F`` (NC3 in P20).

    W are the head's rows for the same classes, centred like M. Range 0 to 2; 0 in collapse.
    """
    if stats.head is None:
        raise Undefined(NO_HEAD)
    weight = stats.head.weight.double()
    weight = weight - weight.mean(dim=0)
    norms = float(weight.norm()), float(stats.centred_means.norm())
    if min(norms) == 0:
        raise Undefined("all class means, or all rows of the head, coincide")
    return float((weight / norms[0] - stats.centred_means / norms[1]).norm())


def ncc_agreement(stats: ClassStatistics) -> float:
    """Share of samples on which a head and the nearest class centre agree (NC4 in P20).

    Range 0 to 1; higher is more collapsed.
    """
    if stats.agreement is None:
        raise Undefined(NO_HEAD)
    return stats.agreement


NO_HEAD = "no classifier: --head takes the backbone's own, --fit-head ridge fits one"


def ncc_accuracy(stats: ClassStatistics) -> float:
    """Leave-one-out accuracy of the nearest class centre, classes weighted equally (NC4 in P20).

    Leaving a sample out moves its own class centre: ``‖f − mu_c‖`` becomes ``n_c/(n_c−1) ‖f − mu_c‖``. Range 0 to 1;
    higher is more collapsed.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> ncc_accuracy(ClassStatistics.of(two))
    1.0
    """
    return float(stats.ncc_accuracies.mean())

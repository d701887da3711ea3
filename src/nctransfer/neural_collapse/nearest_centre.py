"""The head of a network compared with the class means (NC3), and nearest-class-centre accuracy (NC4)."""

from __future__ import annotations

from nctransfer.features.feature_set import FeatureSet  # noqa: F401 - for the examples
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.neural_collapse.measure import Measure, Undefined

__all__ = ["NCC_ACCURACY", "NCC_AGREEMENT", "SELF_DUALITY", "ncc_accuracy", "ncc_agreement", "self_duality"]

NO_HEAD = "there is no classifier: --head takes the backbone's own, --fit-head ridge fits one"


def self_duality(stats: ClassStatistics) -> float:
    """Distance between a head's weights and the class means: ``‖ W/‖W‖_F − M/‖M‖_F ‖_F`` (NC3 in P20).

    W has the head's weight vectors for the same classes as rows, and M the class means; the mean row of each is
    subtracted. Range 0 to 2; 0 in collapse.
    """
    if stats.head is None:
        raise Undefined(NO_HEAD)
    weight = stats.head.weight.double()
    weight = weight - weight.mean(dim=0)
    norms = float(weight.norm()), float(stats.centred_means.norm())
    if min(norms) == 0:
        raise Undefined("all class means, or all weight vectors of the head, coincide")
    return float((weight / norms[0] - stats.centred_means / norms[1]).norm())


def ncc_agreement(stats: ClassStatistics) -> float:
    """Share of the samples for which a head and the nearest class centre predict the same class (NC4 in P20).

    Range 0 to 1; higher is more collapsed.
    """
    if stats.agreement is None:
        raise Undefined(NO_HEAD)
    return stats.agreement


def ncc_accuracy(stats: ClassStatistics) -> float:
    """Leave-one-out accuracy of the nearest class centre, classes weighted equally (NC4 in P20).

    Leaving a sample out moves the centre of its own class: ``‖f − mu_c‖`` becomes ``n_c/(n_c−1) ‖f − mu_c‖``. Range 0
    to 1; higher is more collapsed.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> ncc_accuracy(ClassStatistics.of(two))
    1.0
    """
    return float(stats.ncc_accuracies.mean())


SELF_DUALITY = Measure(
    name="self_duality",
    function=self_duality,
    meaning="head against class means",
    aspect="NC3",
    direction="lower",
    range="0 to 2",
)
NCC_AGREEMENT = Measure(
    name="ncc_agreement",
    function=ncc_agreement,
    meaning="head and nearest centre",
    aspect="NC4",
    direction="higher",
    range="0 to 1",
)
NCC_ACCURACY = Measure(
    name="ncc_accuracy",
    function=ncc_accuracy,
    meaning="nearest class centre",
    aspect="NC4",
    direction="higher",
    range="0 to 1",
    is_usual=True,
    in_layers=True,
)

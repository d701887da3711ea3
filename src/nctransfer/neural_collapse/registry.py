"""The registry of collapse measures.

To add one: write its function and its :class:`~nctransfer.neural_collapse.measure.Measure` in the file of its group,
list the entry below, and give it an oracle in a test. Other packages add theirs by an entry point of the group
``nctransfer.measures``.
"""

from __future__ import annotations

from nctransfer.neural_collapse.cdnv import CDNV, CDNV_DEBIASED, DIRECTIONAL_CDNV, DIRECTIONAL_CDNV_DEBIASED
from nctransfer.neural_collapse.class_means import EQUIANGULARITY, EQUINORM, ETF_ERROR, MAXIMAL_ANGLE, MEAN_UNIFORMITY
from nctransfer.neural_collapse.effective_dimension import (
    EFFECTIVE_RANK,
    PARTICIPATION_RATIO,
    WITHIN_PARTICIPATION_RATIO,
)
from nctransfer.neural_collapse.information import (
    ENTROPY_DIFFERENCE_RATIO,
    MATRIX_ENTROPY,
    MUTUAL_INFORMATION_RATIO,
    RANKME,
)
from nctransfer.neural_collapse.measure import Measure
from nctransfer.neural_collapse.nearest_centre import NCC_ACCURACY, NCC_AGREEMENT, SELF_DUALITY
from nctransfer.neural_collapse.variability import (
    NC1,
    SEPARATION_FUZZINESS,
    VARIABILITY_COLLAPSE_INDEX,
    VARIANCE_RATIO,
    VCI_NOISE_LEVEL,
)
from nctransfer.registry import Registry

__all__ = ["MEASURES", "correlated_measures"]

MEASURES: Registry[Measure] = Registry(
    "nctransfer.measures",
    Measure,
    (
        CDNV,
        CDNV_DEBIASED,
        DIRECTIONAL_CDNV,
        DIRECTIONAL_CDNV_DEBIASED,
        NC1,
        SEPARATION_FUZZINESS,
        VARIANCE_RATIO,
        VARIABILITY_COLLAPSE_INDEX,
        VCI_NOISE_LEVEL,
        EQUINORM,
        EQUIANGULARITY,
        MAXIMAL_ANGLE,
        ETF_ERROR,
        MEAN_UNIFORMITY,
        SELF_DUALITY,
        MUTUAL_INFORMATION_RATIO,
        ENTROPY_DIFFERENCE_RATIO,
        NCC_AGREEMENT,
        NCC_ACCURACY,
        EFFECTIVE_RANK,
        PARTICIPATION_RATIO,
        WITHIN_PARTICIPATION_RATIO,
        MATRIX_ENTROPY,
        RANKME,
    ),
)
"""Every measure by name, in the order of the tables."""


def correlated_measures() -> tuple[str, ...]:
    """The measures whose rank correlation with accuracy a trajectory gives."""
    return tuple(name for name, measure in MEASURES.items() if measure.is_correlated)

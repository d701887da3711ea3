"""Every measure by name."""

from __future__ import annotations

from collections.abc import Mapping

from nctransfer.neural_collapse.cdnv import cdnv, cdnv_debiased, directional_cdnv
from nctransfer.neural_collapse.class_means import equiangularity, equinorm, etf_error, maximal_angle, mean_uniformity
from nctransfer.neural_collapse.effective_dimension import (
    effective_rank,
    participation_ratio,
    within_participation_ratio,
)
from nctransfer.neural_collapse.measure import Measure
from nctransfer.neural_collapse.nearest_centre import ncc_accuracy, ncc_agreement, self_duality
from nctransfer.neural_collapse.variability import (
    nc1,
    separation_fuzziness,
    variability_collapse_index,
    variance_ratio,
    vci_noise_level,
)

__all__ = ["MEASURES"]

MEASURES: Mapping[str, Measure] = {
    "cdnv": Measure(cdnv, "variance over distance²", "lower", "0 to ∞", "NC1"),
    "cdnv_debiased": Measure(cdnv_debiased, "corrected for few samples", "lower", "0 to ∞", "NC1"),
    "directional_cdnv": Measure(directional_cdnv, "along the line to the other", "lower", "0 to ∞", "NC1"),
    "nc1": Measure(nc1, "within over between classes", "lower", "0 to ∞", "NC1"),
    "separation_fuzziness": Measure(separation_fuzziness, "C times nc1", "lower", "0 to ∞", "NC1", False),
    "variance_ratio": Measure(variance_ratio, "ratio of the variances", "lower", "0 to ∞", "NC1", False),
    "variability_collapse_index": Measure(
        variability_collapse_index, "variance left unexplained", "lower", "0 to 1", "NC1", False
    ),
    "vci_noise_level": Measure(vci_noise_level, "the same of pure noise", "", "0 to 1", "NC1", False),
    "equinorm": Measure(equinorm, "spread of mean lengths", "lower", "0 to ∞", "NC2"),
    "equiangularity": Measure(equiangularity, "spread of mean angles", "lower", "0 to 1", "NC2"),
    "maximal_angle": Measure(maximal_angle, "distance to widest angles", "lower", "0 to 2", "NC2", False),
    "etf_error": Measure(etf_error, "distance to a simplex", "lower", "0 to 2", "NC2", False),
    "mean_uniformity": Measure(mean_uniformity, "uneven directions of means", "lower", "−log 2 to ∞", "NC2", False),
    "self_duality": Measure(self_duality, "head against class means", "lower", "0 to 2", "NC3", False),
    "ncc_agreement": Measure(ncc_agreement, "head and nearest centre", "higher", "0 to 1", "NC4", False),
    "ncc_accuracy": Measure(ncc_accuracy, "nearest class centre", "higher", "0 to 1", "NC4"),
    "effective_rank": Measure(effective_rank, "width used", "", "1 to d", "width"),
    "participation_ratio": Measure(participation_ratio, "width of the variance", "", "1 to d", "width", False),
    "within_participation_ratio": Measure(
        within_participation_ratio, "the same within classes", "", "1 to d", "width", False
    ),
}
"""Every measure by name, in the order of the tables."""

"""The two debiased measures alone, without the covariances that the collapse report needs for the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nctransfer.features.feature_set import FeatureSet  # noqa: F401 - for the example
from nctransfer.neural_collapse.cdnv import cdnv_debiased, debiased_pairs, directional_cdnv_debiased
from nctransfer.neural_collapse.class_statistics import PairStatistics
from nctransfer.neural_collapse.collapse_report import usable_classes
from nctransfer.neural_collapse.measure import Undefined

if TYPE_CHECKING:
    from nctransfer.features.feature_stream import Features

__all__ = ["DebiasedMeasures", "debiased_measures"]


@dataclass(frozen=True, kw_only=True)
class DebiasedMeasures:
    """The debiased measures of one feature set, with the values that the collapse report has.

    Attributes:
        cdnv_debiased: See :func:`~nctransfer.neural_collapse.cdnv.cdnv_debiased`; ``None`` where it is not defined.
        directional_cdnv_debiased: See :func:`~nctransfer.neural_collapse.cdnv.directional_cdnv_debiased`; ``None``
            where it is not defined.
        undefined: The reason for each ``None``.
        left_out: The share of the pairs of classes that both leave out, because the samples do not tell the two classes
            apart. These are the closest pairs, so the averages are too low.
    """

    cdnv_debiased: float | None
    directional_cdnv_debiased: float | None
    undefined: dict[str, str] = field(default_factory=dict)
    left_out: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary for JSON."""
        return {
            "cdnv_debiased": self.cdnv_debiased,
            "directional_cdnv_debiased": self.directional_cdnv_debiased,
            "undefined": self.undefined,
            "left_out": self.left_out,
        }


def debiased_measures(features: Features, device: str = "auto") -> DebiasedMeasures:
    """The debiased CDNV and directional CDNV of a feature set; classes of one sample are left out.

    The values are those of :func:`~nctransfer.neural_collapse.collapse_report.collapse`, which computes all measures
    and takes two to four times as long.

    Args:
        features: The feature set.
        device: Where to compute.

    Raises:
        FeaturesError: There are fewer than two classes with two samples.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> found = debiased_measures(two)
    >>> round(found.cdnv_debiased, 6), found.directional_cdnv_debiased
    (0.020408, None)
    >>> found.undefined["directional_cdnv_debiased"]
    'it needs 4 samples per class, 2 for each half, and the smallest class has 2'
    """
    usable, _ = usable_classes(features)
    stats = PairStatistics.of(usable, device)
    values: dict[str, float | None] = {}
    undefined = {}
    for function in (cdnv_debiased, directional_cdnv_debiased):
        name = function.__name__
        try:
            values[name] = function(stats)
        except Undefined as reason:
            values[name], undefined[name] = None, str(reason)
    resolved = debiased_pairs(stats)[1]
    every = len(resolved) * (len(resolved) - 1)  # ordered pairs
    return DebiasedMeasures(**values, undefined=undefined, left_out=(every - int(resolved.sum())) / every)

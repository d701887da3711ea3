"""In how many dimensions the features vary."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nctransfer.features.feature_set import FeatureSet  # noqa: F401 - for the examples
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.neural_collapse.measure import Measure, Undefined

if TYPE_CHECKING:
    import torch

__all__ = [
    "EFFECTIVE_RANK",
    "PARTICIPATION_RATIO",
    "WITHIN_PARTICIPATION_RATIO",
    "effective_rank",
    "participation_ratio",
    "within_participation_ratio",
]


def effective_rank(stats: ClassStatistics) -> float:
    """Number of dimensions that the features use: exponential of the entropy of their normalised singular values.

    The mean of the features is subtracted first. Range 1 to d.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> round(effective_rank(ClassStatistics.of(two)), 6)
    1.0
    """
    if not len(stats.spectrum):
        raise Undefined("all features are equal")
    shares = stats.spectrum.sqrt() / stats.spectrum.sqrt().sum()
    return math.exp(-float((shares * shares.log()).sum()))


def participation_ratio(stats: ClassStatistics) -> float:
    """Number of dimensions over which the variance is spread: ``(tr Sigma_T)² / tr(Sigma_T²)``.

    Range 1 to d.

    >>> square = FeatureSet.from_arrays([[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 2.0]], "aabb")
    >>> participation_ratio(ClassStatistics.of(square))
    2.0
    """
    return _participation(stats.total)


def within_participation_ratio(stats: ClassStatistics) -> float:
    """Number of dimensions over which the variance within classes is spread: ``(tr Sigma_W)² / tr(Sigma_W²)``.

    Range 1 to d.

    >>> square = FeatureSet.from_arrays([[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 2.0]], "aabb")
    >>> within_participation_ratio(ClassStatistics.of(square))  # both classes vary in one direction only
    1.0
    """
    return _participation(stats.within)


def _participation(covariance: torch.Tensor) -> float:
    squared = float(covariance.square().sum())
    if squared == 0:
        raise Undefined("the features do not vary")
    return float(covariance.diagonal().sum()) ** 2 / squared


EFFECTIVE_RANK = Measure(
    name="effective_rank",
    function=effective_rank,
    meaning="width used",
    aspect="width",
    range="1 to d",
    is_usual=True,
    in_layers=True,
)
PARTICIPATION_RATIO = Measure(
    name="participation_ratio",
    function=participation_ratio,
    meaning="width of the variance",
    aspect="width",
    range="1 to d",
)
WITHIN_PARTICIPATION_RATIO = Measure(
    name="within_participation_ratio",
    function=within_participation_ratio,
    meaning="width within classes",
    aspect="width",
    range="1 to d",
)

"""Scores that are distances to the training images or to their classes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from nctransfer.heads.neighbour_distance import fit_neighbour_distance
from nctransfer.ood.score import OodScore, Reference

if TYPE_CHECKING:
    from nctransfer.ood.score import Scoring

__all__ = ["KNN", "MAHALANOBIS", "RELATIVE_MAHALANOBIS"]


def _relative_mahalanobis(reference: Reference) -> Scoring:
    """See :mod:`nctransfer.heads.unlikeness`; a head keeps the directions that matter most of it."""
    return reference.distances.of


def _mahalanobis(reference: Reference) -> Scoring:
    """The distance to the nearest class alone, without taking off that to all images; the penalty is the same."""
    return functools.partial(reference.distances.of, is_relative=False)


def _knn(reference: Reference) -> Scoring:
    """See :mod:`nctransfer.heads.neighbour_distance`."""
    return fit_neighbour_distance(reference.features, reference.device)[0].of


RELATIVE_MAHALANOBIS = OodScore(
    name="relative-mahalanobis",
    meaning="distance to the nearest class minus that to all images",
    function=_relative_mahalanobis,
    formula="min_k (u − μ_k)ᵀ W⁻¹ (u − μ_k) − (u − m)ᵀ T⁻¹ (u − m)",
    source="Ren et al. 2021",
    needs="classes",
)
MAHALANOBIS = OodScore(
    name="mahalanobis",
    meaning="distance to the nearest class",
    function=_mahalanobis,
    formula="min_k (u − μ_k)ᵀ W⁻¹ (u − μ_k)",
    source="Lee et al. 2018",
    needs="classes",
)
KNN = OodScore(
    name="knn",
    meaning="distance to the k-th nearest image",
    function=_knn,
    formula="‖u − u_(k)‖",
    source="Sun et al. 2022",
    needs="features",
)

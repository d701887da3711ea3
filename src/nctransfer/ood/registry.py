"""The registry of out-of-distribution scores.

To add one: write its function and its :class:`~nctransfer.ood.score.OodScore`, list the entry below, and give it an
oracle in a test. Other packages add theirs by an entry point of the group ``nctransfer.ood_scores``.
"""

from __future__ import annotations

from nctransfer.ood.answers import ENERGY, MAX_LOGIT, MSP
from nctransfer.ood.distances import KNN, MAHALANOBIS, RELATIVE_MAHALANOBIS
from nctransfer.ood.score import OodScore
from nctransfer.ood.subspaces import EPA, NECO, NECO_LOGIT, VIM
from nctransfer.registry import Registry

__all__ = ["SCORES"]

SCORES: Registry[OodScore] = Registry(
    "nctransfer.ood_scores",
    OodScore,
    (RELATIVE_MAHALANOBIS, MAHALANOBIS, KNN, NECO, NECO_LOGIT, EPA, VIM, MSP, MAX_LOGIT, ENERGY),
)
"""Every score by name, in the order of the tables."""

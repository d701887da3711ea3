"""Scores from the answers of a classifier with logits ℓ, its scores over its calibrated temperature."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.ood.score import OodScore, Reference

if TYPE_CHECKING:
    import torch

    from nctransfer.ood.score import Scoring

__all__ = ["ENERGY", "MAX_LOGIT", "MSP"]


def _msp(reference: Reference) -> Scoring:
    """``1 − max_k p_k``, p the softmax of the logits."""

    def score(features: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = 1 - reference.logits(features).softmax(dim=1).amax(dim=1)
        return found

    return score


def _max_logit(reference: Reference) -> Scoring:
    """``−max_k ℓ_k``."""

    def score(features: torch.Tensor) -> torch.Tensor:
        return -reference.logits(features).amax(dim=1)

    return score


def _energy(reference: Reference) -> Scoring:
    """``−log Σ_k exp ℓ_k``."""

    def score(features: torch.Tensor) -> torch.Tensor:
        return -reference.logits(features).logsumexp(dim=1)

    return score


MSP = OodScore(
    name="msp",
    meaning="one minus the probability of the predicted class",
    function=_msp,
    formula="1 − max_k p_k",
    source="Hendrycks and Gimpel 2017",
    needs="classifier",
)
MAX_LOGIT = OodScore(
    name="max-logit",
    meaning="largest logit",
    function=_max_logit,
    formula="−max_k ℓ_k",
    source="Hendrycks et al. 2022",
    needs="classifier",
)
ENERGY = OodScore(
    name="energy",
    meaning="log-sum-exp of the logits",
    function=_energy,
    formula="−log Σ_k exp ℓ_k",
    source="Liu et al. 2020",
    needs="classifier",
)

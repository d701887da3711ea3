"""Scores from the part of a feature that lies along the principal axes of the training images.

``v = f − m`` is the feature minus the mean of the training images, P the projection onto their C − 1 principal axes,
and H the entropy of the probabilities of the classifier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.ood.score import OodScore, Reference

if TYPE_CHECKING:
    import torch

    from nctransfer.ood.score import Scoring

__all__ = ["EPA", "NECO", "NECO_LOGIT", "VIM"]

TINY = 1e-12


def _neco(reference: Reference) -> Scoring:
    """See :mod:`nctransfer.heads.principal_share`."""
    return reference.share.of


def _neco_logit(reference: Reference) -> Scoring:
    """``−‖P v‖ / ‖v‖ · max_k (ℓ_k − ℓ̄)``: logits ℓ minus their mean over classes, so that the largest is positive."""

    def score(features: torch.Tensor) -> torch.Tensor:
        logits = reference.logits(features)
        largest = logits.amax(dim=1) - logits.mean(dim=1)
        return -(1 - reference.share.of(features)) * largest

    return score


def _epa(reference: Reference) -> Scoring:
    """``arccos(‖P v‖ / ‖v‖) + β H(p)``, β the mean angle of the training images over their mean entropy.

    The paper combines the principal angle with the entropy, scaled by a factor that it takes from the training images.
    The sum, and the way in which β balances the means of both, are as we understand it. The entropy of a training
    image is that of an image left out.
    """
    angle = _angle(reference.share.of(reference.features.features)).mean()
    entropy = _entropy(reference.fitted[1]).mean()
    beta = float(angle / entropy.clamp(min=TINY))

    def score(features: torch.Tensor) -> torch.Tensor:
        return _angle(reference.share.of(features)) + beta * _entropy(reference.logits(features))

    return score


def _vim(reference: Reference) -> Scoring:
    """``α ‖v − P_D v‖ − log Σ_k exp ℓ_k``, α the mean largest logit of the training images over their mean residual.

    P_D projects onto D principal axes: 1,000 of 2,048 dimensions or more, 512 of 768 or more, else half of them, and
    at most half as many as there are images. The origin is the mean of the training images, about which the classifier
    is fitted. Logits of training images are those of images left out.
    """
    centre, axes = reference.axes
    dim = reference.features.dim
    kept = 1000 if dim >= 2048 else 512 if dim >= 768 else dim // 2
    axes = axes[: max(1, min(kept, len(reference.features) // 2))]

    def residual(features: torch.Tensor) -> torch.Tensor:
        moved = features.float() - centre
        outside: torch.Tensor = (moved - moved @ axes.T @ axes).norm(dim=1)
        return outside

    largest = reference.fitted[1].amax(dim=1).mean().abs()
    alpha = float(largest / residual(reference.features.features).mean().clamp(min=TINY))

    def score(features: torch.Tensor) -> torch.Tensor:
        return alpha * residual(features) - reference.logits(features).logsumexp(dim=1)

    return score


def _angle(outside: torch.Tensor) -> torch.Tensor:
    """The angle to the axes from ``1 − cos``."""
    return (1 - outside).clamp(-1, 1).arccos()


def _entropy(logits: torch.Tensor) -> torch.Tensor:
    logs = logits.log_softmax(dim=1)
    found: torch.Tensor = -(logs.exp() * logs).sum(dim=1)
    return found


NECO = OodScore(
    name="neco",
    meaning="share of the feature outside the principal axes",
    function=_neco,
    formula="1 − ‖P v‖ / ‖v‖",
    source="Ammar et al. 2024",
    needs="classes",
)
NECO_LOGIT = OodScore(
    name="neco-logit",
    meaning="the same times the largest logit",
    function=_neco_logit,
    formula="−‖P v‖ / ‖v‖ · max_k (ℓ_k − ℓ̄)",
    source="Ammar et al. 2024",
    needs="classifier",
)
EPA = OodScore(
    name="epa",
    meaning="angle to the principal axes plus entropy",
    function=_epa,
    formula="arccos(‖P v‖ / ‖v‖) + β H(p)",
    source="Zhang et al. 2024",
    needs="classifier",
)
VIM = OodScore(
    name="vim",
    meaning="residual outside many principal axes plus energy",
    function=_vim,
    formula="α ‖v − P_D v‖ − log Σ_k exp ℓ_k",
    source="Wang et al. 2022",
    needs="classifier",
)

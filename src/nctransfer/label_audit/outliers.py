"""Images that are unlike every class of their set, as far as the set itself can tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.heads.unlikeness import fit_unlikeness

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["Outliers", "outliers"]

FEWEST = 20
"""With fewer images, what is usual cannot be told."""


class Outliers(NamedTuple):
    """Which of n images are unlike every class.

    Attributes:
        unlikeness: How unlike every class each image is, ``(n,)`` float64, in robust standard deviations above the
            median: 1.4826 times the median absolute deviation. The mean over the sets, scaled again.
        flagged: Which images are flagged, ``(n,)`` bool.
        agreeing: How many sets flag each image on their own, ``(n,)`` int64.
        by_chance: How many images would be as unlike as those flagged if unlikeness were normally distributed.
    """

    unlikeness: torch.Tensor
    flagged: torch.Tensor
    agreeing: torch.Tensor
    by_chance: float


def outliers(sets: Sequence[FeatureSet], level: float, *, device: str = "auto") -> Outliers:
    """The images that are as unlike every class as images of a class that the set lacks.

    The unlikeness of each image is that of an image left out (:mod:`nctransfer.heads.unlikeness`), so its own label
    plays no part but for the mean of its class. An image is flagged if both hold:

    - It is at least as unlike all classes as the median image is unlike all classes but its own. So images of a class
      that the set lacks usually are.
    - If unlikeness were normally distributed, ``n P(z)`` images would lie beyond z. That number is at most a share
      ``1 − level`` of those that do lie beyond the z of the image (Benjamini and Hochberg, 1995). Real sets have longer
      tails than the normal distribution, so more of the flagged images may be ordinary ones.

    Args:
        sets: Features of the same images in the same order, each of another backbone; at least one.
        level: The share of the flagged images that are not due to chance, at least, from 0 to 1.
        device: Where to compute.

    >>> import numpy as np
    >>> from nctransfer.features.feature_set import FeatureSet
    >>> rows = np.random.default_rng(0).normal(size=(100, 8)) + 5 * np.repeat(np.eye(2, 8), 50, axis=0)
    >>> rows[3] = [-5.0, -5.0, 0, 0, 0, 0, 0, 0]
    >>> outliers([FeatureSet.from_arrays(rows, "a" * 50 + "b" * 50)], 0.5).flagged.nonzero().tolist()
    [[3]]
    """
    import torch

    each = [_unlikeness(features, device) for features in sets]
    own, unseen = (torch.stack(columns).mean(dim=0) for columns in zip(*each, strict=True))
    own, unseen = _standardised(own, unseen)
    flagged = _flagged(own, unseen, level)
    agreeing = torch.stack([_flagged(*one, level) for one in each]).sum(dim=0)
    least = float(own[flagged].min()) if bool(flagged.any()) else torch.inf
    return Outliers(own, flagged, agreeing, len(own) * float(_beyond(torch.tensor(least))))


def _unlikeness(features: FeatureSet, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """How unlike every class each image is, and how unlike every class but its own, ``(n,)`` each, standardised."""
    import torch

    model, left_out = fit_unlikeness(features, device)
    unseen = torch.full((len(features),), torch.inf)
    for code in range(len(features.classes) if len(features.classes) > 1 else 0):
        without = replace(model, offset=model.offset.index_fill(0, torch.tensor([code]), torch.inf))
        members = features.labels == code
        unseen[members] = without.of(features.features[members])
    return _standardised(left_out.double(), unseen.double())


def _standardised(unlikeness: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both in robust standard deviations of the first above its median; zeros if half of the first are equal."""
    import torch

    median = unlikeness.median()
    scale = 1.4826 * float((unlikeness - median).abs().median())
    if not scale > 0:
        return torch.zeros_like(unlikeness), torch.full_like(other, torch.inf)
    return (unlikeness - median) / scale, (other - median) / scale


def _beyond(z: torch.Tensor) -> torch.Tensor:
    """The share of a normal distribution beyond z."""
    import torch

    share: torch.Tensor = torch.special.ndtr(-z)
    return share


def _flagged(z: torch.Tensor, unseen: torch.Tensor, level: float) -> torch.Tensor:
    """Which images are flagged, ``(n,)`` bool; see :func:`outliers`."""
    import torch

    n = len(z)
    usual = float(unseen.median())
    if n < FEWEST or not math.isfinite(usual):
        return torch.zeros(n, dtype=torch.bool)
    ordered = z.sort(descending=True).values
    allowed = (1 - level) * torch.arange(1, n + 1, dtype=z.dtype)
    good = (n * _beyond(ordered) <= allowed).nonzero()[:, 0]
    least = float(ordered[good[-1]]) if len(good) else torch.inf
    flagged: torch.Tensor = z >= max(least, usual)
    return flagged

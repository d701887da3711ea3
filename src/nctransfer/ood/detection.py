"""How well a score tells images of no known class from those of the known ones: AUROC and FPR95, with intervals.

Shapes: n known images, m others, K scores. Every score is larger for images that are more unlike the known classes.

**AUROC** is the probability that another image scores higher than a known one, ties counting half. With ``V_i`` the
share of the others above known image i, and ``W_j`` the share of the known below other image j, it is the mean of
either, and its variance is ``Var(V)/n + Var(W)/m`` (DeLong et al., Biometrics 1988). If few pairs are in the wrong
order, that is far too small by chance, so the interval takes the variance of Hanley and McNeil (Radiology 1982) if it
is larger, ``A(1 − A)/(nm) · (1 + N(1 − A)/(2 − A) + N A/(1 + A))`` with ``N = (n + m)/2 − 1`` as in Newcombe (2006). It
is Wilson's for a proportion of as many trials as have that variance, ``A(1 − A)/se²``, with the quantile of t with
``min(n, m) − 1`` degrees of freedom; for a perfect AUROC, of ``min(n, m)`` trials.

**FPR95** is the share of the others that score at most t, where t is the smallest value that 95% of the known do not
exceed. Its interval has two parts, which are added as squares (MOVER; Zou and Donner 2008): Wilson's interval of that
share, and how far it moves when t moves through the 95% interval of its rank, ``0.95 n ± 1.96 √(0.95 · 0.05 n)``. With
fewer than 73 known images that rank may lie above n, so that nothing is known of the upper end.

Known images may be scored in parts, each by a model that has not seen it. Then each is compared with the others as the
same model scores them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.intervals import Z, t_quantile

if TYPE_CHECKING:
    import torch

__all__ = ["ACCEPTED", "Detection", "Part", "detection", "placements", "wilson_of"]

ACCEPTED = 0.95
"""The share of the known images that the threshold of FPR95 accepts."""


class Part(NamedTuple):
    """The scores of some known images and of all others by one model.

    Attributes:
        known: ``(n_k,)``.
        other: ``(m,)``.
    """

    known: torch.Tensor
    other: torch.Tensor


class Detection(NamedTuple):
    """How well a score does.

    Attributes:
        auroc: The AUROC.
        auroc_interval: Its 95% interval over other images of the same kind.
        fpr: The FPR95.
        fpr_interval: Its 95% interval over other images of the same kind.
        vector: What each image contributes to the error of the AUROC, ``(n + m,)`` float64: the sum of its squares is
            the variance.
    """

    auroc: float
    auroc_interval: tuple[float, float]
    fpr: float
    fpr_interval: tuple[float, float]
    vector: torch.Tensor


def detection(parts: Sequence[Part]) -> Detection:
    """AUROC and FPR95 of a score, with their intervals.

    Args:
        parts: The scores, by model. All have the same others in the same order.

    >>> import torch
    >>> known, other = torch.arange(100.0), torch.arange(50.0, 150.0)
    >>> found = detection([Part(known, other)])
    >>> round(found.auroc, 3), round(found.fpr, 2)
    (0.875, 0.45)
    >>> [round(end, 3) for end in (*found.auroc_interval, *found.fpr_interval)]
    [0.816, 0.917, 0.348, 0.56]
    """
    import torch

    total = sum(len(part.known) for part in parts)
    each = [placements(*part) for part in parts]
    v = torch.cat([above for above, _ in each])
    w = torch.stack([below * (len(above) / total) for above, below in each]).sum(dim=0)
    auroc = float(v.mean())
    vector = torch.cat([_contributions(v), -_contributions(w)])
    smaller = min(total, len(w))
    variance = max(float(vector.square().sum()), _hanley_and_mcneil(auroc, total, len(w)))
    trials = auroc * (1 - auroc) / variance if variance > 0 else float(smaller)
    fpr, fpr_interval = _false_positives(parts)
    interval = wilson_of(auroc, trials, t_quantile(max(smaller - 1, 1)))
    return Detection(auroc, interval, fpr, fpr_interval, vector)


def _hanley_and_mcneil(auroc: float, known: int, other: int) -> float:
    """The variance of an AUROC if scores are exponential."""
    size = (known + other) / 2 - 1
    factor = 1 + size * (1 - auroc) / (2 - auroc) + size * auroc / (1 + auroc)
    return auroc * (1 - auroc) / (known * other) * factor


def placements(known: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The share of the others above each known image, and of the known below each other; ties count half.

    Args:
        known: The scores of n known images.
        other: The scores of m others.

    Returns:
        ``(n,)`` and ``(m,)``, float64; both have the same mean, the AUROC.

    >>> import torch
    >>> placements(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 2.0]))[0].tolist()
    [1.0, 0.75]
    """
    return 1 - _below(other, known), _below(known, other)


def _below(some: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The share of some scores below each value, ties half."""
    import torch

    ordered, values = some.double().sort().values, values.double()
    less, up_to = (torch.searchsorted(ordered, values, right=right).double() for right in (False, True))
    return (less + up_to) / (2 * len(some))


def _contributions(values: torch.Tensor) -> torch.Tensor:
    """Values about their mean, so scaled that the sum of their squares is the variance of the mean."""
    return (values - values.mean()) / math.sqrt(len(values) * max(len(values) - 1, 1))


def wilson_of(share: float, trials: float, factor: float = Z) -> tuple[float, float]:
    """Wilson's interval of a share that is known as well as from so many trials.

    Args:
        share: From 0 to 1.
        trials: Above 0; need not be whole.
        factor: The quantile; that of the normal distribution for 95%.
    """
    scale = 1 + factor**2 / trials
    centre = (share + factor**2 / (2 * trials)) / scale
    half = factor * math.sqrt(share * (1 - share) / trials + (factor / (2 * trials)) ** 2) / scale
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _false_positives(parts: Sequence[Part]) -> tuple[float, tuple[float, float]]:
    """FPR95 and its interval."""
    import torch

    known = torch.cat([part.known for part in parts]).double().sort().values
    n, m = len(known), len(parts[0].other)

    def share(rank: float) -> float:
        """The share of the others that score at most as high as the known image of this rank; 1 above all of them."""
        if rank > n:
            return 1.0
        threshold = known[max(math.ceil(rank - 1e-9), 1) - 1]
        of_parts = [len(part.known) / n * float((part.other.double() <= threshold).double().mean()) for part in parts]
        return min(sum(of_parts), 1.0)

    middle, reach = ACCEPTED * n, Z * math.sqrt(ACCEPTED * (1 - ACCEPTED) * n)
    fpr = share(middle)
    low, high = wilson_of(fpr, m)
    down, up = share(middle - reach), share(middle + reach)
    return fpr, (max(fpr - math.hypot(fpr - low, fpr - down), 0.0), min(fpr + math.hypot(high - fpr, up - fpr), 1.0))

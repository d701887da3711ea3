"""NC5: how orthogonal the mean of other images is to the class means of the known ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.episodes.leaving_out import TENTHS
from nctransfer.intervals import t_quantile

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["Nc5", "nc5", "nc5_by_chance"]


class Nc5(NamedTuple):
    """NC5 of a pair of sets.

    Attributes:
        value: The mean ``|cos|``, from 0 for orthogonal to 1.
        interval: Its 95% interval over other images of the same kind.
    """

    value: float
    interval: tuple[float, float]


def nc5(known: FeatureSet, other: torch.Tensor, seed: int = 0) -> Nc5:
    """The mean over classes of ``|cos|`` between a class mean and the mean of other images.

    With ``m`` the mean of all known images, ``μ_c`` that of class c and ``μ`` that of the others, it is
    ``1/C Σ_c |⟨μ_c − m, μ − m⟩| / (‖μ_c − m‖ ‖μ − m‖)``. It is a property of two sets, not of an image. Source: Ammar
    et al. (ICLR 2024), who observe that it tends to 0 late in training. As we remember it, they do not subtract m,
    which features after a ReLU need: without that, all means point the same way.

    The interval is that of a jackknife that leaves out a tenth of the images of both sets at a time. Noise in means
    makes their cosine smaller.

    Args:
        known: The known images, n of C classes.
        other: The features of the others, ``(m, d)``.
        seed: The seed of the tenths.

    >>> from nctransfer.features.feature_set import FeatureSet
    >>> import torch
    >>> known = FeatureSet.from_arrays([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]], "aabb")
    >>> nc5(known, torch.tensor([[3.0, 3.0]])).value, nc5(known, torch.tensor([[0.0, 2.0]])).value
    (0.707..., 0.0)
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    rows, labels, classes = known.features.double(), known.labels, len(known.classes)
    of_known = torch.randperm(len(rows), generator=generator) % TENTHS
    of_other = torch.randperm(len(other), generator=generator) % TENTHS
    sums = torch.zeros(TENTHS, classes, rows.shape[1], dtype=torch.float64)
    sums.index_put_((of_known, labels), rows, accumulate=True)
    counts = torch.zeros(TENTHS, classes, dtype=torch.float64)
    counts.index_put_((of_known, labels), torch.ones(len(rows), dtype=torch.float64), accumulate=True)
    others = torch.zeros(TENTHS, rows.shape[1], dtype=torch.float64).index_add_(0, of_other, other.double())
    numbers = of_other.bincount(minlength=TENTHS).double()

    def value(kept: torch.Tensor) -> float:
        return _mean_cosine(sums[kept].sum(0), counts[kept].sum(0), others[kept].sum(0) / numbers[kept].sum())

    tenths = torch.arange(TENTHS)
    whole = value(tenths)
    if len(other) < TENTHS or len(rows) < TENTHS:
        return Nc5(whole, (0.0, 1.0))
    without = torch.tensor([value(tenths != number) for number in range(TENTHS)], dtype=torch.float64)
    error = math.sqrt((TENTHS - 1) / TENTHS * float((without - without.mean()).square().sum()))
    half = t_quantile(TENTHS - 1) * error
    return Nc5(whole, (max(whole - half, 0.0), min(whole + half, 1.0)))


def _mean_cosine(sums: torch.Tensor, counts: torch.Tensor, other: torch.Tensor) -> float:
    """The measure from the sums of the classes, their counts, and the mean of the others."""
    mean = sums.sum(dim=0) / counts.sum()
    there = counts > 0
    means = sums[there] / counts[there, None] - mean
    moved = other - mean
    lengths = means.norm(dim=1) * moved.norm()
    return float(((means @ moved).abs() / lengths.where(lengths > 0, 1)).mean())


def nc5_by_chance(dim: int) -> float:
    """The mean ``|cos|`` of two random directions in d dimensions, ``Γ(d/2) / (√π Γ((d + 1)/2))``.

    >>> round(nc5_by_chance(2), 4), round(nc5_by_chance(1280), 4)  # 2/π, and about √(2/πd)
    (0.6366, 0.0223)
    """
    return math.exp(math.lgamma(dim / 2) - math.lgamma((dim + 1) / 2)) / math.sqrt(math.pi)

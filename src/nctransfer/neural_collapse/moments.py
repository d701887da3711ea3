"""Sums over the rows of a feature set, in two passes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from nctransfer.features.sample_content import Duplicates, row_digests

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_stream import Features

__all__ = ["Geometry", "Means", "Moments", "symmetric"]


@dataclass(eq=False, kw_only=True)
class Means:
    """The first pass: the sums that give the class means.

    Attributes:
        counts: The number of samples of each class, ``(C,)``.
        shift: The first feature, ``(d,)``. It is subtracted from all features, so that sums lose no digits.
        sums: The sum over each class of features minus the shift, ``(C, d)``.
        prints: A digest of each row and its class code, ``(2, n)`` int64, in pieces; equal rows have equal digests.
    """

    counts: torch.Tensor
    shift: torch.Tensor
    sums: torch.Tensor
    prints: list[torch.Tensor]

    @classmethod
    def of(cls, features: Features, device: torch.device) -> Means:
        """One pass over the rows."""
        import torch

        counts = torch.zeros(len(features.classes), dtype=torch.float64, device=device)
        sums = torch.zeros(len(features.classes), features.dim, dtype=torch.float64, device=device)
        shift = torch.zeros(features.dim, dtype=torch.float64, device=device)
        prints, done = torch.empty(2, len(features), dtype=torch.int64), 0
        for rows, codes in features.batches():
            labels, values = codes.to(device), rows.to(device, torch.float64)
            if not done and len(rows):
                shift = values[0].clone()
            sums.index_add_(0, labels, values - shift)
            counts += labels.bincount(minlength=len(counts))
            # One tensor for all: if small ones were kept, each would keep the memory of its batch from being freed.
            prints[:, done : done + len(rows)] = torch.stack([row_digests(rows), codes])
            done += len(rows)
        return cls(counts=counts, shift=shift, sums=sums, prints=[prints])

    def __add__(self, other: Means) -> Means:
        """The sums over two parts of one set."""
        moved = other.sums + other.counts[:, None] * (other.shift - self.shift)
        return Means(
            counts=self.counts + other.counts,
            shift=self.shift,
            sums=self.sums + moved,
            prints=self.prints + other.prints,
        )

    @property
    def duplicates(self) -> Duplicates:
        """How many rows are equal to an earlier row."""
        import torch

        return Duplicates.of(*torch.cat(self.prints, dim=1))


@dataclass(eq=False, kw_only=True)
class Moments:
    """The second pass: the sums that give the second moments of C classes of width d; r is the residual of a sample.

    Attributes:
        squares: The sum of ``‖r‖²`` over each class, ``(C,)``.
        fourths: The sum of ``‖r‖⁴`` over each class, ``(C,)``.
        directional: The sum of ``(r · (mu_j − mu_i))²`` over each class i, for each class j, ``(C, C)``.
        right: The number of samples of each class whose leave-one-out nearest centre is that of their class, ``(C,)``.
        within: The sum of ``r rᵀ / (C n_c)``, ``(d, d)``, on and above the diagonal.
        pooled: The sum of ``r rᵀ``, ``(d, d)``, on and above the diagonal; ``None`` if all classes have the same size,
            so that it is ``n within``.
    """

    squares: torch.Tensor
    fourths: torch.Tensor
    directional: torch.Tensor
    right: torch.Tensor
    within: torch.Tensor
    pooled: torch.Tensor | None

    @classmethod
    def of(cls, features: Features, means: Means) -> Moments:
        """One pass over the rows of a set, or of a part of it, given the means of the whole set."""
        import torch

        geometry = Geometry(means)
        counts, classes, dim = geometry.counts, len(geometry.counts), features.dim
        balanced = bool((counts == counts[0]).all())
        zeros = counts.new_zeros
        new = cls(
            squares=zeros(classes),
            fourths=zeros(classes),
            directional=zeros(classes, classes),
            right=zeros(classes),
            within=zeros(dim, dim),
            pooled=None if balanced else zeros(dim, dim),
        )
        weights = 1 / (classes * counts)
        shrink = (counts / (counts - 1)).square()
        squared = geometry.distances.square()
        for rows, labels in features.batches(512):
            labels = labels.to(counts.device)
            residuals = rows.to(counts.device, torch.float64) - geometry.means[labels]  # (b, d)
            norms = residuals.square().sum(dim=1)
            new.squares.index_add_(0, labels, norms)
            new.fourths.index_add_(0, labels, norms.square())
            projected = residuals @ geometry.centred.T  # (b, C)
            projected -= projected.gather(1, labels[:, None])  # r · (mu_j − mu_i)
            new.directional.index_add_(0, labels, projected.square())
            excess = projected.mul_(-2).add_(squared[labels])  # (b, C): ‖f − mu_j‖² − ‖r‖², zero for the own class
            # Leave-one-out: without the sample itself, the centre of its class is n/(n−1) times as far away.
            others = excess.scatter_(1, labels[:, None], torch.inf).amin(dim=1)
            is_right = norms * (shrink[labels] - 1) < others
            new.right.index_add_(0, labels, is_right.to(torch.float64))
            if new.pooled is not None:
                _add_outer(new.pooled, residuals)
            _add_outer(new.within, residuals.mul_(weights[labels].sqrt()[:, None]))
        return new

    def __add__(self, other: Moments) -> Moments:
        """The sums over two parts of one set."""
        sums: dict[str, Any] = {
            field.name: None if (mine := getattr(self, field.name)) is None else mine + getattr(other, field.name)
            for field in fields(self)
        }
        return Moments(**sums)


def _add_outer(total: torch.Tensor, rows: torch.Tensor, block: int = 192) -> None:
    """Add ``rowsᵀ rows`` on and above the diagonal, in blocks, which is half of the work."""
    for start in range(0, len(total), block):
        total[start : start + block, start:].addmm_(rows[:, start : start + block].T, rows[:, start:])


def symmetric(upper: torch.Tensor) -> torch.Tensor:
    """The symmetric matrix with these entries on and above the diagonal."""
    return upper.triu() + upper.triu(1).mT


class Geometry:
    """How the class means lie: what the second pass and the statistics need."""

    def __init__(self, means: Means) -> None:
        import torch

        self.counts = means.counts
        self.means = means.shift + means.sums / means.counts[:, None]
        self.centred = self.means - self.means.mean(dim=0)
        # Not from the Gram matrix, which would lose digits for means that are close to each other and far from mu_G.
        self.distances = torch.cdist(self.means, self.means, compute_mode="donot_use_mm_for_euclid_dist")
        # Distances within the rounding of the means count as zero.
        self.rounding = 8 * torch.finfo(torch.float64).eps * self.means.norm(dim=1).max()
        self.distances[self.distances <= self.rounding] = 0
        self.centred[self.centred.norm(dim=1) <= self.rounding] = 0

    def without_rounding(self, covariance: torch.Tensor) -> torch.Tensor:
        """The covariance with zeros for features that vary by no more than rounding."""
        still = covariance.diagonal() <= self.rounding.square()
        covariance[still] = 0
        covariance[:, still] = 0
        return covariance

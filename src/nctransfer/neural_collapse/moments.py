"""Sums over the rows of features, gathered in two passes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from nctransfer.features.feature_stream import Features

__all__ = ["Geometry", "Means", "Moments", "symmetric"]


@dataclass(eq=False)
class Means:
    """The first pass: what adds up to the class means.

    Attributes:
        counts: Samples of each class, ``(C,)``.
        shift: Some feature, ``(d,)``: around it, sums lose no digits.
        sums: Of the features of each class less the shift, ``(C, d)``.
        prints: A number for each row that equal rows share, ``(n,)`` int64, in pieces.
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
        prints, done = torch.empty(len(features), dtype=torch.int64), 0
        for rows, labels in features.batches():
            labels, values = labels.to(device), rows.to(device, torch.float64)
            if not done and len(rows):
                shift = values[0].clone()
            sums.index_add_(0, labels, values - shift)
            counts += labels.bincount(minlength=len(counts))
            # into one tensor: a small one kept from each batch would pin the memory of all others
            prints[done : done + len(rows)] = torch.tensor([_print(row) for row in rows.contiguous().numpy()])
            done += len(rows)
        return cls(counts, shift, sums, [prints])

    def __add__(self, other: Means) -> Means:
        """Of two parts of one set."""
        moved = other.sums + other.counts[:, None] * (other.shift - self.shift)
        return Means(self.counts + other.counts, self.shift, self.sums + moved, self.prints + other.prints)

    @property
    def duplicates(self) -> int:
        """Rows that are equal to an earlier one."""
        import torch

        prints = torch.cat(self.prints)
        return len(prints) - len(torch.unique(prints))


def _print(row: NDArray[Any]) -> int:
    return int.from_bytes(hashlib.blake2b(row.data, digest_size=8).digest(), signed=True)


@dataclass(eq=False)
class Moments:
    """The second pass: what adds up to the second moments. C classes, width d, K classes of a head.

    Attributes:
        squares: Of each class the sum of ``‖r‖²``, ``(C,)``.
        fourths: Of each class the sum of ``‖r‖⁴``, ``(C,)``.
        along: Of each class i the sum of ``(r · (mu_j − mu_i))²``, ``(C, C)``.
        right: Samples of each class whose leave-one-out nearest centre is their own, ``(C,)``.
        within: The sum of ``r rᵀ / (C n_c)``, ``(d, d)``, on and above the diagonal.
        pooled: The sum of ``r rᵀ``, likewise; ``None`` where all classes are of one size, and it is ``n within``.
    """

    squares: torch.Tensor
    fourths: torch.Tensor
    along: torch.Tensor
    right: torch.Tensor
    within: torch.Tensor
    pooled: torch.Tensor | None

    @classmethod
    def of(cls, features: Features, means: Means) -> Moments:
        """One pass over the rows, or over a part of them, given the means of the whole set."""
        import torch

        geometry = Geometry(means)
        counts, classes, dim = geometry.counts, len(geometry.counts), features.dim
        balanced = bool((counts == counts[0]).all())
        zeros = counts.new_zeros
        new = cls(
            squares=zeros(classes),
            fourths=zeros(classes),
            along=zeros(classes, classes),
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
            along = residuals @ geometry.centred.T  # (b, C)
            along -= along.gather(1, labels[:, None])  # r · (mu_j − mu_i)
            new.along.index_add_(0, labels, along.square())
            beyond = along.mul_(-2).add_(squared[labels])  # (b, C): ‖f − mu_j‖² − ‖r‖², zero for the own class
            # leave-one-out: without its own share, the own centre is n/(n−1) as far away
            others = beyond.scatter_(1, labels[:, None], torch.inf).amin(dim=1)
            is_right = norms * (shrink[labels] - 1) < others
            new.right.index_add_(0, labels, is_right.to(torch.float64))
            if new.pooled is not None:
                _add_outer(new.pooled, residuals)
            _add_outer(new.within, residuals.mul_(weights[labels].sqrt()[:, None]))
        return new

    def __add__(self, other: Moments) -> Moments:
        """Of two parts of one set."""
        sums: dict[str, Any] = {
            field.name: None if (mine := getattr(self, field.name)) is None else mine + getattr(other, field.name)
            for field in fields(self)
        }
        return Moments(**sums)


def _add_outer(total: torch.Tensor, rows: torch.Tensor, block: int = 192) -> None:
    """Add ``rowsᵀ rows`` on and above the diagonal, in blocks: half of the work of all of it."""
    for start in range(0, len(total), block):
        total[start : start + block, start:].addmm_(rows[:, start : start + block].T, rows[:, start:])


def symmetric(upper: torch.Tensor) -> torch.Tensor:
    """A matrix of which only what is on and above the diagonal was given."""
    return upper.triu() + upper.triu(1).mT


class Geometry:
    """Where the class means lie: what both passes need of them."""

    def __init__(self, means: Means) -> None:
        import torch

        self.counts = means.counts
        self.means = means.shift + means.sums / means.counts[:, None]
        self.centred = self.means - self.means.mean(dim=0)
        # not by the Gram matrix: close means far from mu_G would lose digits
        self.distances = torch.cdist(self.means, self.means, compute_mode="donot_use_mm_for_euclid_dist")
        # what is within the rounding of the means is nothing
        self.rounding = 8 * torch.finfo(torch.float64).eps * self.means.norm(dim=1).max()
        self.distances[self.distances <= self.rounding] = 0
        self.centred[self.centred.norm(dim=1) <= self.rounding] = 0

    def without_rounding(self, covariance: torch.Tensor) -> torch.Tensor:
        """A covariance in which a feature that varies by no more than rounding does not vary."""
        still = covariance.diagonal() <= self.rounding.square()
        covariance[still] = 0
        covariance[:, still] = 0
        return covariance

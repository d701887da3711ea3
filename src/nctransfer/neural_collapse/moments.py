"""Sums over the rows of a feature set, in two passes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any

from nctransfer.features.sample_content import Duplicates, row_digests
from nctransfer.neural_collapse.halves import Halves, first_halves

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_stream import Features

__all__ = ["Geometry", "Means", "Moments", "add_outer", "symmetric"]


@dataclass(eq=False, kw_only=True)
class Means:
    """The first pass: the sums that give the class means.

    Attributes:
        counts: The number of samples of each class, ``(C,)``.
        shift: The first feature, ``(d,)``. It is subtracted from all features, so that sums lose no digits.
        sums: The sum over each class of features minus the shift, ``(C, d)``.
        halves: The same sum over the first half of each class, for each of S splits, ``(S, C, d)``.
        half_counts: The number of samples in these halves, ``(S, C)``.
        prints: A digest of each row and its class code, ``(2, n)`` int64, in pieces; equal rows have equal digests.
    """

    counts: torch.Tensor
    shift: torch.Tensor
    sums: torch.Tensor
    halves: torch.Tensor
    half_counts: torch.Tensor
    prints: list[torch.Tensor]

    @classmethod
    def of(cls, features: Features, device: torch.device, is_first: torch.Tensor | None = None) -> Means:
        """One pass over the rows of a set, or of a part of it.

        Args:
            features: The set or the part.
            device: Where to compute.
            is_first: Which rows are in the first half of their class, ``(n, S)``; by default those of the set, see
                :func:`~nctransfer.neural_collapse.halves.first_halves`. A part needs those that its rows have in the
                whole set.
        """
        import torch

        is_first = first_halves(features) if is_first is None else is_first
        classes, splits = len(features.classes), is_first.shape[1]
        zeros = partial(torch.zeros, dtype=torch.float64, device=device)
        new = cls(
            counts=zeros(classes),
            shift=zeros(features.dim),
            sums=zeros(classes, features.dim),
            halves=zeros(splits, classes, features.dim),
            half_counts=zeros(splits, classes),
            prints=[torch.empty(2, len(features), dtype=torch.int64)],
        )
        done = 0
        for rows, codes in features.batches():
            labels, values = codes.to(device), rows.to(device, torch.float64, copy=True)
            if not done and len(rows):
                new.shift.copy_(values[0])
            values -= new.shift
            new.sums.index_add_(0, labels, values)
            new.counts.add_(labels.bincount(minlength=classes))
            batch = slice(done, done + len(rows))
            for split, chosen in enumerate(is_first[batch].to(device).T):
                new.halves[split].index_add_(0, labels[chosen], values[chosen])
                new.half_counts[split].add_(labels[chosen].bincount(minlength=classes))
            # One tensor for all: if small ones were kept, each would keep the memory of its batch from being freed.
            new.prints[0][:, batch] = torch.stack([row_digests(rows), codes])
            done += len(rows)
        return new

    def __add__(self, other: Means) -> Means:
        """The sums over two parts of one set."""
        shift = self.shift if bool(self.counts.any()) else other.shift  # a part without rows has none
        move = other.shift - shift
        return Means(
            counts=self.counts + other.counts,
            shift=shift,
            sums=self.sums + other.sums + other.counts[:, None] * move,
            halves=self.halves + other.halves + other.half_counts[:, :, None] * move,
            half_counts=self.half_counts + other.half_counts,
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
        within: The sum of ``r rᵀ / (C n_c)``, ``(d, d)``, on and above the diagonal; ``(0, 0)`` without covariances.
        pooled: The sum of ``r rᵀ``, ``(d, d)``, on and above the diagonal; ``None`` if all classes have the same size,
            so that it is ``n within``.
        crossed: The sum of :meth:`~nctransfer.neural_collapse.halves.Halves.products` over each class, ``(C, C)``;
            ``None`` if a class is too small for halves.
    """

    squares: torch.Tensor
    fourths: torch.Tensor
    directional: torch.Tensor
    right: torch.Tensor
    within: torch.Tensor
    pooled: torch.Tensor | None
    crossed: torch.Tensor | None

    @classmethod
    def of(
        cls, features: Features, means: Means, is_first: torch.Tensor | None = None, *, covariances: bool = True
    ) -> Moments:
        """One pass over the rows of a set, or of a part of it, given the means of the whole set.

        Args:
            features: The set or the part.
            means: The means of the whole set.
            is_first: As in :meth:`Means.of`.
            covariances: If false, ``within`` and ``pooled``, which are most of the work, are left empty.
        """
        import torch

        geometry, halves = Geometry(means), Halves.of(means)
        is_first = first_halves(features) if is_first is None else is_first
        counts, classes, dim = geometry.counts, len(geometry.counts), features.dim * covariances
        balanced = bool((counts == counts[0]).all())
        zeros = counts.new_zeros
        new = cls(
            squares=zeros(classes),
            fourths=zeros(classes),
            directional=zeros(classes, classes),
            right=zeros(classes),
            within=zeros(dim, dim),
            pooled=None if balanced else zeros(dim, dim),
            crossed=None if halves is None else zeros(classes, classes),
        )
        weights = 1 / (classes * counts)
        done = 0
        for rows, labels in features.batches(512):
            labels = labels.to(counts.device)
            residuals = rows.to(counts.device, torch.float64) - geometry.means[labels]  # (b, d)
            projected = residuals @ geometry.centred.T  # (b, C)
            projected -= projected.gather(1, labels[:, None])  # r · (mu_j − mu_i)
            if new.crossed is not None and halves is not None:
                sides = is_first[done : done + len(rows)].to(counts.device)
                new.crossed.index_add_(0, labels, halves.products(residuals, projected, labels, sides))
            new._add_lengths(geometry, residuals.square().sum(dim=1), projected, labels)
            if new.pooled is not None:
                add_outer(new.pooled, residuals)
            add_outer(new.within, residuals.mul_(weights[labels].sqrt()[:, None]))
            done += len(rows)
        return new

    def _add_lengths(
        self, geometry: Geometry, norms: torch.Tensor, projected: torch.Tensor, labels: torch.Tensor
    ) -> None:
        """Add what the squared lengths ``(b,)`` and the projections ``(b, C)`` of some residuals give.

        The projections are overwritten.
        """
        import torch

        shrink = (geometry.counts / (geometry.counts - 1)).square()
        self.squares.index_add_(0, labels, norms)
        self.fourths.index_add_(0, labels, norms.square())
        self.directional.index_add_(0, labels, projected.square())
        # (b, C): ‖f − mu_j‖² − ‖r‖², zero for the own class
        excess = projected.mul_(-2).add_(geometry.distances[labels].square())
        # Leave-one-out: without the sample itself, the centre of its class is n/(n−1) times as far away.
        others = excess.scatter_(1, labels[:, None], torch.inf).amin(dim=1)
        self.right.index_add_(0, labels, (norms * (shrink[labels] - 1) < others).to(torch.float64))

    def __iadd__(self, other: Moments) -> Moments:
        """Add the sums over another part of the set, in place: with many classes they are large."""
        for field in fields(self):
            if (mine := getattr(self, field.name)) is not None:
                mine += getattr(other, field.name)
        return self

    def __add__(self, other: Moments) -> Moments:
        """The sums over two parts of one set."""
        sums: dict[str, Any] = {
            field.name: None if (mine := getattr(self, field.name)) is None else mine + getattr(other, field.name)
            for field in fields(self)
        }
        return Moments(**sums)


def add_outer(total: torch.Tensor, rows: torch.Tensor, block: int = 192) -> None:
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

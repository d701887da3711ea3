"""Class statistics of a feature set: all that the collapse measures need of it, in two passes over its rows.

The first pass, :class:`Means`, counts and averages; the second, :class:`Moments`, needs the class means of the first.
Both add up, so that parts of a set, on several machines if need be, give what the whole gives. Nothing holds more
than C·d + d² + C² numbers and a batch; rows come in any order; everything is float64.

With ``mu_c`` the class means, ``mu_G`` their unweighted mean and ``r = f − mu_c`` the residual of a sample, one matrix
product ``g = r · (mu_j − mu_G)`` for all classes j gives what two classes have with each other:

- directional variance: ``u_ijᵀ Sigma_i u_ij d_ij²`` is the mean over class i of ``(g_j − g_i)²``;
- nearest centre: ``‖f − mu_j‖² = ‖r‖² − 2 (g_j − g_i) + d_ij²``;

so no class covariance is ever made. A second one, ``rᵀ r``, gives ``Sigma_W``.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

from nctransfer.devices import with_float64
from nctransfer.errors import FeaturesError
from nctransfer.features.feature_stream import Features

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

__all__ = ["ClassStatistics", "LinearHead", "Means", "Moments", "ncc_accuracies", "with_head"]


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

        geometry = _Geometry(means)
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


def _symmetric(upper: torch.Tensor) -> torch.Tensor:
    """A matrix of which only what is on and above the diagonal was given."""
    return upper.triu() + upper.triu(1).mT


class _Geometry:
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


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """First and second moments of C classes of width d, float64, on the CPU.

    Attributes:
        counts: Samples of each class, ``(C,)``.
        centred_means: ``mu_c − mu_G``, ``(C, d)``.
        centre: ``mu_G``, ``(d,)``.
        variances: ``v_c = (1/n_c) sum ‖f − mu_c‖²``, ``(C,)``.
        fourths: ``q_c = (1/n_c) sum ‖f − mu_c‖⁴``, ``(C,)``.
        distances: ``d_ij = ‖mu_i − mu_j‖``, ``(C, C)``.
        directional: ``(mu_j − mu_i)ᵀ Sigma_i (mu_j − mu_i)``, ``(C, C)``, zero on the diagonal.
        within: ``Sigma_W``, ``(d, d)``.
        covariance: Of all samples about their mean, ``(d, d)``, classes weighted by their size.
        ncc_accuracies: Leave-one-out nearest-class-centre accuracy of each class, ``(C,)``.
        duplicates: Rows that are equal to an earlier one.
        head: A linear classifier of these classes; ``None`` without.
        agreement: Share of samples on which the head and the nearest centre agree; ``None`` without a head.
    """

    counts: torch.Tensor
    centred_means: torch.Tensor
    centre: torch.Tensor
    variances: torch.Tensor
    fourths: torch.Tensor
    distances: torch.Tensor
    directional: torch.Tensor
    within: torch.Tensor
    covariance: torch.Tensor
    ncc_accuracies: torch.Tensor
    duplicates: int = 0
    head: LinearHead | None = None
    agreement: float | None = None

    @functools.cached_property
    def between(self) -> torch.Tensor:
        """``Sigma_B``, ``(d, d)``."""
        return self.centred_means.T @ self.centred_means / len(self.counts)

    @property
    def total(self) -> torch.Tensor:
        """``Sigma_T = Sigma_W + Sigma_B``, ``(d, d)``."""
        return self.within + self.between

    @functools.cached_property
    def spectrum(self) -> torch.Tensor:
        """The eigenvalues of the covariance of all samples that are not zero but for rounding, ``(rank,)``."""
        import torch

        values: torch.Tensor = torch.linalg.eigvalsh(self.covariance)
        return values[values > values[-1] * len(values) * torch.finfo(values.dtype).eps]

    @classmethod
    def of(cls, features: Features, device: str = "auto") -> ClassStatistics:
        """The statistics of a feature set.

        Args:
            features: At least 2 classes, each of at least 2 samples.
            device: Where to compute, see :func:`~nctransfer.devices.with_float64`.

        Raises:
            FeaturesError: Fewer than 2 classes, or a class of fewer than 2 samples.
        """
        if len(features.classes) < 2 or int(features.counts.min()) < 2:
            raise FeaturesError(
                f"{len(features.classes)} classes of at least {int(features.counts.min())} samples "
                "are too few for class statistics",
                "needed are 2 classes of 2 samples each",
            )
        means = Means.of(features, with_float64(device))
        return cls.from_passes(means, Moments.of(features, means))

    @classmethod
    def from_passes(cls, means: Means, moments: Moments) -> Self:
        """The statistics of what both passes gave, added up over all parts of the set."""
        geometry = _Geometry(means)
        counts = means.counts
        total = counts.sum()
        offsets = geometry.means - (means.shift + means.sums.sum(dim=0) / total)  # (C, d)
        within = _symmetric(moments.within)
        pooled = within * total if moments.pooled is None else _symmetric(moments.pooled)
        variances = moments.squares / counts
        variances[variances <= geometry.rounding.square()] = 0
        return cls(
            counts=counts.cpu(),
            centred_means=geometry.centred.cpu(),
            centre=geometry.means.mean(dim=0).cpu(),
            variances=variances.cpu(),
            fourths=(moments.fourths / counts).cpu(),
            distances=geometry.distances.cpu(),
            directional=(moments.along / counts[:, None]).cpu(),
            within=geometry.without_rounding(within).cpu(),
            covariance=geometry.without_rounding((pooled + (offsets.T * counts) @ offsets) / total).cpu(),
            ncc_accuracies=(moments.right / counts).cpu(),
            duplicates=means.duplicates,
        )


def ncc_accuracies(features: Features, centres: ClassStatistics, device: str = "auto") -> torch.Tensor:
    """Share of the samples of each class whose nearest class centre, of another set, is that of their own class.

    Args:
        features: Samples of C classes.
        centres: Of the same classes, in the same order.
        device: Where to compute.

    Returns:
        ``(C,)`` float64.
    """
    import torch

    right = torch.zeros(len(centres.counts), dtype=torch.float64)
    for _, labels, nearest in _nearest(features, centres, with_float64(device)):
        right.index_add_(0, labels, (nearest == labels).to(torch.float64))
    return right / features.counts


def _nearest(
    features: Features, centres: ClassStatistics, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Features less ``mu_G``, labels, and the nearest class centre, some rows at a time."""
    import torch

    centred, centre = centres.centred_means.to(device), centres.centre.to(device)
    lengths = centred.square().sum(dim=1)
    for rows, labels in features.batches():
        values = rows.to(device, torch.float64) - centre
        yield values, labels, (lengths - 2 * values @ centred.T).argmin(dim=1).cpu()


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A linear classifier on the features.

    Attributes:
        weight: ``(C, d)``.
        bias: ``(C,)``.
        origin: Where it comes from, in words.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    origin: str

    @classmethod
    def ridge(cls, stats: ClassStatistics, origin: str, penalty: float = 1e-3) -> LinearHead:
        """Ridge regression of the one-hot labels on the features, from the moments alone.

        Args:
            stats: Of the samples that it is fitted on.
            origin: What these are.
            penalty: On the squared weights, as a share of the mean variance of a feature.
        """
        import torch

        shares = stats.counts / stats.counts.sum()
        means = stats.centred_means + stats.centre
        mean = shares @ means
        strength = penalty * float(stats.covariance.diagonal().mean()) or 1.0  # of features that do not vary, any
        covariance = stats.covariance + strength * torch.eye(len(mean), dtype=mean.dtype)
        weight = torch.linalg.solve(covariance, (shares[:, None] * (means - mean)).T).T
        return cls(weight, shares - weight @ mean, f"ridge, fitted on {origin}")

    def of_classes(self, classes: Sequence[str], names: Sequence[str] | None = None) -> LinearHead:
        """The rows for some classes, in their order.

        Args:
            classes: Names. Without ``names`` they are the numbers of rows, or as many as there are rows, in order.
            names: What the rows are called.

        Raises:
            FeaturesError: They cannot be matched.
        """
        rows = len(self.weight)
        if names is not None:
            known = {name: row for row, name in enumerate(names)}
            if absent := [name for name in classes if name not in known]:
                near = difflib.get_close_matches(absent[0], known, 3)
                raise FeaturesError(
                    f"{len(absent)} of {len(classes)} classes are not among the names of the head: {absent[0]!r}, …",
                    f"nearest: {', '.join(near)}" if near else "needed is one name a line, as the data has it",
                )
            if len(names) != rows:
                raise FeaturesError(
                    f"{len(names):,} names do not go with a head of {rows:,} classes",
                    "--head-names is a file of one name for each class of the head, in their order",
                )
            chosen, how = [known[name] for name in classes], "name"
        elif all(name.isdecimal() and int(name) < rows for name in classes):
            chosen, how = [int(name) for name in classes], "number"
        elif len(classes) == rows:
            chosen, how = list(range(rows)), "order"
        else:
            raise FeaturesError(
                f"the head has {rows:,} classes and the data {len(classes):,}",
                "name the head's classes by --head-names FILE: one a line, as the data has them",
            )
        return LinearHead(self.weight[chosen], self.bias[chosen], f"{self.origin}, classes matched by {how}")


def with_head(stats: ClassStatistics, features: Features, head: LinearHead, device: str = "auto") -> ClassStatistics:
    """The statistics with a head of the same classes, and how far it agrees with the nearest class centre.

    Raises:
        FeaturesError: The head is of another width.
    """
    import torch

    if head.weight.shape != stats.centred_means.shape:
        raise FeaturesError(f"a head of shape {tuple(head.weight.shape)} does not go with features of {features.dim:,}")
    chosen = with_float64(device)
    weight = head.weight.to(chosen, torch.float64)
    bias = head.bias.to(chosen, torch.float64) + weight @ stats.centre.to(chosen)
    agreeing = 0
    for values, _, nearest in _nearest(features, stats, chosen):
        agreeing += int(((values @ weight.T + bias).argmax(dim=1).cpu() == nearest).sum())
    return replace(stats, head=head, agreement=agreeing / len(features))

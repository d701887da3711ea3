"""Mean and variance of the margin of a query over another class, and Cantelli's bound of a lost margin.

The formulas stand in :mod:`nctransfer.evaluation.margin_bounds`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.devices import with_float64
from nctransfer.evaluation.win_probability import mean_wins

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_stream import Features

__all__ = ["ClassMoments", "PairMargins", "QueryMargins"]

BLOCK = 1 << 23  # numbers of a block of inner products: 64 MiB
ROWS = 1024  # of a block, at most
SLACK = 1e-12  # of the size of its terms: an expected margin that is not above it counts as not positive


@dataclass(frozen=True, eq=False)
class ClassMoments:
    """What margins need of C classes of width d: float64, on the device of the computation.

    Attributes:
        rows: Features less the mean of the class means, sorted by class, ``(n, d)``.
        labels: Their class codes, ``(n,)``.
        counts: Samples of each class, ``(C,)``.
        means: ``mu_c`` less their mean, ``(C, d)``.
        variances: ``v_c = tr Σ_c``, ``(C,)``.
        fourths: ``q_c``, ``(C,)``.
        thirds: ``κ_c``, ``(C, d)``.
        traces: ``tr Σ_c²``, ``(C,)``.
        factors: The F of all classes, one below the other, ``(R, d)``; ``R ≤ n``.
        ranks: How many of these rows each class has: no more than samples, nor than the width.
    """

    rows: torch.Tensor
    labels: torch.Tensor
    counts: torch.Tensor
    means: torch.Tensor
    variances: torch.Tensor
    fourths: torch.Tensor
    thirds: torch.Tensor
    traces: torch.Tensor
    factors: torch.Tensor
    ranks: tuple[int, ...]

    @classmethod
    def of(cls, features: Features, device: str = "auto") -> ClassMoments:
        """The moments of a feature set. All of its rows are held in float64, about twice.

        Args:
            features: One sample per class or more.
            device: Where to compute, see :func:`~nctransfer.devices.with_float64`.
        """
        import torch

        rows, labels = _sorted_rows(features)
        rows = rows.to(with_float64(device), torch.float64)
        sizes: list[int] = labels.bincount(minlength=len(features.classes)).tolist()
        # sums about the mean of the first class lose no digits to an offset that all features share
        rows = rows - rows[: sizes[0]].mean(dim=0)
        means = torch.stack([part.mean(dim=0) for part in torch.split(rows, sizes)])
        centre = means.mean(dim=0)
        rows, means = rows - centre, means - centre
        variances, fourths, thirds, traces, factors = [], [], [], [], []
        for part, mean in zip(torch.split(rows, sizes), means, strict=True):
            residuals = part - mean
            squares = residuals.square().sum(dim=1)
            factor = residuals / math.sqrt(len(part))
            if len(part) > part.shape[1]:
                factor = torch.linalg.qr(factor, mode="r").R
            variances.append(squares.mean())
            fourths.append(squares.square().mean())
            thirds.append(squares @ residuals / len(part))
            traces.append((factor @ factor.T).square().sum())
            factors.append(factor)
        return cls(
            rows,
            labels.to(rows.device),
            torch.tensor(sizes, dtype=torch.float64, device=rows.device),
            means,
            torch.stack(variances),
            torch.stack(fourths),
            torch.stack(thirds),
            torch.stack(traces),
            torch.cat(factors),
            tuple(map(len, factors)),
        )

    def support_noise(self, shots: float) -> torch.Tensor:
        """``Q_c = Var ‖ε_c‖²``, ``(C,)``; zero for infinitely many shots."""
        once = self.fourths - self.variances.square() - 2 * self.traces
        return (once / shots / shots / shots + 2 * self.traces / shots / shots).clamp(min=0)

    def squared_distances(self) -> torch.Tensor:
        """``‖Δ‖²``, ``(C, C)``; zero where two means differ by no more than rounding."""
        import torch

        distances = torch.cdist(self.means, self.means, compute_mode="donot_use_mm_for_euclid_dist")
        lengths = (self.variances + self.means.square().sum(dim=1)).sqrt()
        rounding = 16 * torch.finfo(torch.float64).eps * (lengths[:, None] + lengths)
        return torch.where(distances > rounding, distances.square(), 0.0)

    def queries(self) -> Iterator[QueryMargins]:
        """Every sample as a query, some at a time, in the order of the rows."""
        import torch

        squared = self.squared_distances()
        own = (self.factors * self.means.repeat_interleave(self._ranks(), dim=0)).sum(dim=1)  # F_j mu_j, (R,)
        skew_own = (self.thirds * self.means).sum(dim=1)
        size = max(1, min(ROWS, BLOCK // len(self.factors)))
        for values, labels in zip(torch.split(self.rows, size), torch.split(self.labels, size), strict=True):
            first, last = int(labels[0]), int(labels[-1]) + 1
            residuals = values - self.means[labels]
            inner = residuals @ self.factors.T  # (b, R)
            offsets = self.means[first:last] @ self.factors.T - own  # F_j (mu_i − mu_j) of the classes of the block
            within = self._by_class(inner.square())
            across = self._by_class(inner.add_(offsets[labels - first]).square_())
            along = residuals @ self.means.T
            along -= along.gather(1, labels[:, None])  # z · Δ, (b, C)
            yield QueryMargins(
                labels=labels,
                gains=squared[labels] - 2 * along,
                along=along,
                lengths=residuals.norm(dim=1),
                within=within,
                across=across,
                skew=values @ self.thirds.T - skew_own,
            )

    def _ranks(self) -> torch.Tensor:
        import torch

        return torch.tensor(self.ranks, device=self.rows.device)

    def _by_class(self, squares: torch.Tensor) -> torch.Tensor:
        """Sums over the rows of each factor, ``(b, R)`` to ``(b, C)``."""
        import torch

        return torch.stack([part.sum(dim=1) for part in torch.split(squares, list(self.ranks), dim=1)], dim=1)


@dataclass(frozen=True, eq=False)
class QueryMargins:
    """b queries against each of C classes.

    Attributes:
        labels: Class codes of the queries, ``(b,)``.
        gains: ``‖y‖² − ‖z‖²``, ``(b, C)``; zero for the own class.
        along: ``z · Δ``, ``(b, C)``.
        lengths: ``‖z‖``, ``(b,)``.
        within: ``zᵀΣ_j z``, ``(b, C)``.
        across: ``yᵀΣ_j y``, ``(b, C)``; for the own class ``zᵀΣ_i z``.
        skew: ``yᵀκ_j``, ``(b, C)``; for the own class ``zᵀκ_i``.
    """

    labels: torch.Tensor
    gains: torch.Tensor
    along: torch.Tensor
    lengths: torch.Tensor
    within: torch.Tensor
    across: torch.Tensor
    skew: torch.Tensor

    def moments(self, classes: ClassMoments, shots: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance of the margins over the supports, both ``(b, C)``."""
        drift = classes.variances - classes.variances[self.labels][:, None]
        noise = 4 / shots * self.across - 4 / shots / shots * self.skew + classes.support_noise(shots)
        own = noise.gather(1, self.labels[:, None])
        return self.gains + drift / shots, (noise + own).clamp(min=0)

    def losses(self, classes: ClassMoments, shots: float) -> torch.Tensor:
        """A bound of the chance to lose to each class, ``(b, C)``; 1 for the own class."""
        mean, variance = self.moments(classes, shots)
        sizes = classes.means.norm(dim=1)
        terms = self.lengths[:, None] * (sizes + sizes[self.labels][:, None])
        terms += (classes.variances + classes.variances[self.labels][:, None]) / shots
        return _cantelli(mean, variance, SLACK * (terms + self.gains.abs())).scatter_(1, self.labels[:, None], 1.0)

    def certificates(
        self, classes: ClassMoments, degrees: Sequence[int], shots: float, resolved: torch.Tensor | None = None
    ) -> torch.Tensor:
        """A lower bound of each query's chance to be classified right, ``(k, b)``.

        Args:
            classes: The moments of the classes.
            degrees: How many other classes a task has, k numbers.
            shots: m.
            resolved: Which ordered pairs of classes count, ``(C, C)``; a query may always lose to the others.
        """
        import torch

        wins = 1 - self.losses(classes, shots)
        if resolved is not None:
            wins *= resolved[self.labels]
        others = torch.arange(wins.shape[1], device=wins.device) != self.labels[:, None]
        return mean_wins(wins[others].view(len(wins), -1).T, degrees)


@dataclass(frozen=True, eq=False)
class PairMargins:
    """Margins of queries of class i over class j, over queries and supports together; all ``(C, C)`` by i and j.

    Attributes:
        squared: ``‖Δ‖²``.
        along: ``ΔᵀΣ_iΔ``.
        crossed: ``tr(Σ_i Σ_j)``.
        skew: ``Δᵀκ_j``.
    """

    squared: torch.Tensor
    along: torch.Tensor
    crossed: torch.Tensor
    skew: torch.Tensor

    @classmethod
    def of(cls, classes: ClassMoments) -> PairMargins:
        """From all samples as queries."""
        number = len(classes.counts)
        along, crossed = classes.means.new_zeros(2, number, number)
        for queries in classes.queries():
            along.index_add_(0, queries.labels, queries.along.square())
            crossed.index_add_(0, queries.labels, queries.within)
        return cls.from_sums(classes, along, crossed)

    @classmethod
    def from_sums(cls, classes: ClassMoments, along: torch.Tensor, crossed: torch.Tensor) -> PairMargins:
        """From the sums of ``(z · Δ)²`` and of ``zᵀΣ_j z`` over the queries of each class, both ``(C, C)``."""
        skew = (classes.means * classes.thirds).sum(dim=1) - classes.means @ classes.thirds.T
        counts = classes.counts[:, None]
        return cls(classes.squared_distances(), along / counts, crossed / counts, skew)

    def moments(self, classes: ClassMoments, shots: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance of the margins, both ``(C, C)``."""
        noise = classes.support_noise(shots)
        supports = self.along.T + classes.traces[:, None] + self.crossed
        variance = 4 * self.along + 4 / shots * supports + noise[:, None] + noise + 4 / shots / shots * self.skew
        return self.squared + (classes.variances - classes.variances[:, None]) / shots, variance.clamp(min=0)

    def losses(self, classes: ClassMoments, shots: float) -> torch.Tensor:
        """A bound of the chance of class i to lose to class j, ``(C, C)``; 1 on the diagonal."""
        mean, variance = self.moments(classes, shots)
        terms = self.squared + (classes.variances[:, None] + classes.variances) / shots
        return _cantelli(mean, variance, SLACK * terms).fill_diagonal_(1)


def _cantelli(mean: torch.Tensor, variance: torch.Tensor, slack: torch.Tensor) -> torch.Tensor:
    """``W / (W + E²)`` where ``E > slack``, else 1."""
    import torch

    return torch.where(mean > slack, variance / (variance + mean.square()).clamp(min=1e-300), 1.0)


def _sorted_rows(features: Features) -> tuple[torch.Tensor, torch.Tensor]:
    """All features and labels in memory, sorted by class, whatever the order of the passes."""
    import torch

    rows, codes = zip(*features.batches(), strict=True)
    labels = torch.cat(codes)
    order = labels.argsort(stable=True)
    return torch.cat(rows)[order], labels[order]

"""Expected accuracy from resampled supports: unbiased, whatever the data.

In a *partition*, the samples of every class are put into a random order and divided into supports of m samples. Each
support has a centre. The share of the centres of another class that are farther from a query than one of its own
class's is an unbiased estimate of the chance to win against that class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.evaluation.win_probability import mean_wins
from nctransfer.intervals import Z, t_quantile

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.classifier import ExpectedForm
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["QUERIES", "Queries", "Resampled", "is_plain"]

QUERIES = 4000  # at most, over all classes: their mean is known well enough
CENTRES = 12  # per class and round, at least
ROUNDS = 8, 100  # in the first stage, for a standard error; and at most
TOLERANCE = 0.0005  # the standard error that the number of rounds aims at
PAIRS = 10**8  # of query, own centre and class in a round, at most
RARE = 1e-4  # a share of ties, which float32 makes, that changes nothing


def is_plain(features: FeatureSet, rows: torch.Tensor) -> bool:
    """Whether the rounding of float32 is far below the distances within classes.

    Args:
        features: The labels.
        rows: The features as the classifier sees them, ``(n, d)``.
    """
    import torch

    means = torch.zeros(len(features.classes), rows.shape[1], dtype=rows.dtype)
    means.index_add_(0, features.labels, rows)
    means /= features.counts[:, None]
    lengths = (
        torch.linalg.vector_norm(part, dim=1, dtype=torch.float64) for part in (rows, rows - means[features.labels])
    )
    longest, within = (part.square() for part in lengths)
    return float(longest.max()) * torch.finfo(torch.float32).eps < 1e-4 * float(within.median())


class Queries:
    """The samples that are classified: all, or a random share of each class, some thousands together.

    Attributes:
        rows: Row numbers, class by class.
        of_class: The row numbers of each class.
        sizes: The number of samples of each class.
        starts: The first row of each class.
    """

    def __init__(self, features: FeatureSet, generator: torch.Generator) -> None:
        import torch

        self.sizes: list[int] = features.counts.tolist()
        self.starts: list[int] = (features.counts.cumsum(0) - features.counts).tolist()
        share = min(1.0, QUERIES / len(features))
        self.of_class: list[torch.Tensor] = []
        for start, size in zip(self.starts, self.sizes, strict=True):
            kept = min(size, max(2, math.floor(size * share)))
            self.of_class.append(start + torch.randperm(size, generator=generator)[:kept].sort().values)
        self.rows = torch.cat(self.of_class)

    def mean(self, sums: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean over classes, and its squared standard error by the subsampling of queries; both ``(k,)``.

        Args:
            sums: Of each query the sum over some values, ``(k, n)``.
            counts: Their number, ``(n,)``.
        """
        import torch

        means, squares = [], []
        sizes = list(map(len, self.of_class))
        parts = zip(self.sizes, torch.split(sums, sizes, dim=1), torch.split(counts, sizes), strict=True)
        for size, of_class, number in parts:
            means.append(of_class.sum(dim=1) / number.sum())
            share = 1 - len(number) / size
            squares.append((of_class / number).var(dim=1) * (share / len(number)) if share else 0 * means[-1])
        return torch.stack(means).mean(dim=0), torch.stack(squares).sum(dim=0) / len(means) ** 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Resampled:
    """The expected accuracy by resampled supports.

    Attributes:
        queries: What is classified.
        rows: The features as the classifier sees them, ``(n, d)``.
        degrees: One less than each number of ways.
        form: The expected form of the classifier.
        generator: Of the partitions.
    """

    queries: Queries
    rows: torch.Tensor
    degrees: torch.Tensor
    form: ExpectedForm
    generator: torch.Generator

    def __call__(self, shots: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The accuracy and half the width of its 95% interval, for each number of ways; both ``(k,)``.

        The number of rounds comes from the standard deviation s of a few first ones (Stein's two stages). The interval
        uses this s and its few degrees of freedom only. Were the rounds stopped as soon as the standard error of all is
        small, they would stop where it happens to be too small.
        """
        import torch

        partitions = -(-CENTRES // (min(self.queries.sizes) // shots))  # per round
        found: list[torch.Tensor] = []
        first, rounds = ROUNDS
        error = torch.zeros(len(self.degrees), dtype=torch.float64)
        while len(found) < rounds:
            wins, counts, is_exact = self._round(shots, partitions)
            accuracy, subsampling = self.queries.mean(wins, counts)
            found.append(accuracy)
            if is_exact:
                break
            if len(found) == first:
                error = torch.stack(found).std(dim=0)
                rounds = min(rounds, max(first, math.ceil(float((error / TOLERANCE).square().max()))))
        half = t_quantile(first - 1) * error / math.sqrt(len(found))
        return torch.stack(found).mean(dim=0), (half.square() + Z**2 * subsampling).sqrt()

    def _round(self, shots: int, partitions: int) -> tuple[torch.Tensor, torch.Tensor, bool]:
        """One round of partitions.

        A partition uses every sample of a class at most once, so that what a single sample adds cancels.

        Returns:
            The chance to win of every query, summed over centres of its own class, ``(k, n)``; the number of these
            centres ``(n,)``; and whether the result is exact.
        """
        import torch

        queries = self.queries
        centres, holders = self._centres(shots, partitions)
        counts = torch.tensor([len(some) for some in centres])
        columns, shifts = self._scoring(centres, int(counts.max()))
        own_limit = max(CENTRES, PAIRS // (len(queries.rows) * len(counts)))
        found, numbers, ties = [], [], 0.0
        for own, rows in enumerate(queries.of_class):
            scores = (self.rows[rows.to(self.rows.device)] @ columns - shifts).view(len(rows), len(counts), -1)
            most = min(int(counts[own]), max(own_limit, len(holders[own])))
            share, tied = self._losing_share(scores, counts, own, most)
            ties = max(ties, tied)
            wins = mean_wins(share.transpose(0, 1).flatten(1), self.degrees).view(-1, len(rows), most)
            holds = holders[own][:, rows - queries.starts[own]].T  # (q, partitions)
            is_free = (holds[:, :, None] != torch.arange(most)).all(dim=1)
            found.append((wins.cpu() * is_free).sum(dim=2))
            numbers.append(is_free.sum(dim=1))
        is_exact = shots == 1 and int(counts.max()) <= own_limit and ties < RARE
        return torch.cat(found, dim=1).double(), torch.cat(numbers), is_exact

    def _centres(self, shots: int, partitions: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The centres of the supports of each class, and which of them holds each sample.

        Returns:
            Of each class the centres ``(t, d)``, and ``(partitions, size)`` with the number of the centre whose support
            holds a sample in each partition, −1 for none.
        """
        import torch

        centres: list[torch.Tensor] = []
        holders: list[torch.Tensor] = []
        for start, size in zip(self.queries.starts, self.queries.sizes, strict=True):
            count = size // shots
            orders = self._orders(size, shots, partitions)
            support = self.rows[(start + orders).view(-1).to(self.rows.device)]
            centres.append(support.view(len(orders) * count, shots, -1).mean(dim=1))
            numbers = torch.arange(len(orders) * count).repeat_interleave(shots).view(len(orders), -1)
            holders.append(torch.full((len(orders), size), -1).scatter_(1, orders, numbers))
        return centres, holders

    def _losing_share(
        self, scores: torch.Tensor, counts: torch.Tensor, own: int, most: int
    ) -> tuple[torch.Tensor, float]:
        """The share of the centres of every other class that lose to a centre of the own class.

        A tied centre counts by a random share, one for each query and own centre, so that ties are broken at random.

        Args:
            scores: Of q queries of one class with t centres of every class, ``(q, C, t)``.
            counts: The number of centres of each class, ``(C,)``.
            own: The class of the queries.
            most: How many centres of that class are used.

        Returns:
            ``(q, C − 1, most)``, and the share of ties.
        """
        import torch

        mine = scores[:, own, :most].contiguous()
        others = torch.cat([scores[:, :own], scores[:, own + 1 :]], dim=1).sort(dim=2).values
        each = mine[:, None].expand(-1, others.shape[1], -1).contiguous()
        below = torch.searchsorted(others, each)
        equal = torch.searchsorted(others, each, right=True) - below
        lots = torch.rand(mine.shape, generator=self.generator).to(mine)[:, None]
        share = (below + lots * equal) / torch.cat([counts[:own], counts[own + 1 :]]).to(mine)[:, None]
        return share, float(equal.double().mean())

    def _orders(self, size: int, shots: int, partitions: int) -> torch.Tensor:
        """The samples of a class in the order of each partition, without the rest that fills no support.

        Where a partition has one support only, a single order is rotated, until every sample is left out at least once.

        Returns:
            ``(partitions, count · shots)``; more rows where an order is rotated more often.
        """
        import torch

        count, left_out = size // shots, size - shots
        if count > 1:
            orders = [torch.randperm(size, generator=self.generator)[: count * shots] for _ in range(partitions)]
            return torch.stack(orders)
        order = torch.randperm(size, generator=self.generator)
        turns = range(max(partitions, -(-size // left_out)))
        return torch.stack([order.roll(turn * left_out)[:shots] for turn in turns])

    def _scoring(self, centres: Sequence[torch.Tensor], most: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The w ``(d, C · most)`` and b ``(C · most,)`` of all centres; places without a centre never lose."""
        columns = centres[0].new_zeros(len(centres), most, centres[0].shape[1])
        shifts = centres[0].new_full((len(centres), most), -math.inf)
        for number, some in enumerate(centres):
            columns[number, : len(some)], shifts[number, : len(some)] = self.form.linear(some)
        return columns.flatten(0, 1).T, shifts.flatten()

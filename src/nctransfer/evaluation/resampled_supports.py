"""Expected accuracy from resampled supports, without assumptions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.evaluation.win_probability import mean_wins

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["QUERIES", "Deals", "Queries", "is_plain"]

QUERIES = 4000  # at most, of all classes together: their mean is known well enough
CENTRES = 16  # of a class at least, by dealing so often: the hand of one round
HANDS = 6, 100  # at least, for a standard error, and at most
TOLERANCE = 0.0005  # of the standard error: no more hands then
PAIRS = 10**8  # of query, own centre and class, in a hand
RARE = 1e-4  # ties of float32 that change nothing


def is_plain(features: FeatureSet, rows: torch.Tensor) -> bool:
    """Whether the rounding of float32 is far below the distances within classes."""
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
    """The samples that are classified: all, or as many of each class as make some thousands together.

    Attributes:
        rows: Row numbers, class by class.
        of_class: Those of each class.
        sizes: Samples of each class.
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
        """Of sums ``(k, n)`` of so many values ``(n,)`` the mean over classes, and its squared error by subsampling."""
        import torch

        means, squares = [], []
        sizes = list(map(len, self.of_class))
        parts = zip(self.sizes, torch.split(sums, sizes, dim=1), torch.split(counts, sizes), strict=True)
        for size, of_class, number in parts:
            means.append(of_class.sum(dim=1) / number.sum())
            share = 1 - len(number) / size
            squares.append((of_class / number).var(dim=1) * (share / len(number)) if share else 0 * means[-1])
        return torch.stack(means).mean(dim=0), torch.stack(squares).sum(dim=0) / len(means) ** 2


@dataclass(frozen=True, eq=False)
class Deals:
    """The resampled construction."""

    queries: Queries
    rows: torch.Tensor
    degrees: torch.Tensor
    classifier: str
    generator: torch.Generator

    def __call__(self, shots: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Accuracy and standard error for each number of ways."""
        import torch

        together = -(-CENTRES // (min(self.queries.sizes) // shots))  # deals
        found: list[torch.Tensor] = []
        subsampling = torch.zeros(len(self.degrees), dtype=torch.float64)
        error = torch.full_like(subsampling, torch.inf)
        while len(found) < HANDS[0] or (bool((error > TOLERANCE).any()) and len(found) < HANDS[1]):
            wins, counts, is_exact = self._hand(shots, together)
            accuracy, subsampling = self.queries.mean(wins, counts)
            found.append(accuracy)
            if is_exact:
                error = torch.zeros_like(accuracy)
                break
            if len(found) > 1:
                error = torch.stack(found).std(dim=0) / math.sqrt(len(found))
        return torch.stack(found).mean(dim=0), (error.square() + subsampling).sqrt()

    def _hand(self, shots: int, deals: int) -> tuple[torch.Tensor, torch.Tensor, bool]:
        """The chance to win of every query, summed over own centres, ``(k, n)``; these ``(n,)``; whether it is exact.

        Each deal uses every sample of a class at most once, so that what a single sample adds cancels.
        """
        import torch

        queries, device = self.queries, self.rows.device
        centres: list[torch.Tensor] = []
        holders: list[torch.Tensor] = []  # of each class: which centre holds a sample, in each deal; −1 none
        for start, size in zip(queries.starts, queries.sizes, strict=True):
            count = size // shots
            orders = self._orders(size, shots, deals)
            support = self.rows[(start + orders).view(-1).to(device)]
            centres.append(support.view(len(orders) * count, shots, -1).mean(dim=1))
            numbers = torch.arange(len(orders) * count).repeat_interleave(shots).view(len(orders), -1)
            holders.append(torch.full((len(orders), size), -1).scatter_(1, orders, numbers))
        counts = torch.tensor([len(some) for some in centres])
        columns, shifts = self._scoring(centres, int(counts.max()))
        own_limit = max(CENTRES, PAIRS // (len(queries.rows) * len(counts)))
        found, numbers_of, ties = [], [], 0.0
        for own, rows in enumerate(queries.of_class):
            scores = (self.rows[rows.to(device)] @ columns - shifts).view(len(rows), len(counts), -1)  # (q, C, t)
            mine = scores[:, own, : min(int(counts[own]), max(own_limit, len(holders[own])))].contiguous()
            others = torch.cat([scores[:, :own], scores[:, own + 1 :]], dim=1).sort(dim=2).values
            each = mine[:, None].expand(-1, others.shape[1], -1).contiguous()
            below = torch.searchsorted(others, each)  # (q, C − 1, t)
            equal = torch.searchsorted(others, each, right=True) - below
            ties = max(ties, float(equal.double().mean()))
            # the share of the centres of a class that are farther than the own one; ties are broken by its lot
            lots = torch.rand(mine.shape, generator=self.generator).to(mine)[:, None]
            share = (below + lots * equal) / torch.cat([counts[:own], counts[own + 1 :]]).to(mine)[:, None]
            wins = mean_wins(share.transpose(0, 1).flatten(1), self.degrees).view(-1, *mine.shape)
            holds = holders[own][:, rows - queries.starts[own]].T  # (q, deals)
            is_free = (holds[:, :, None] != torch.arange(mine.shape[1])).all(dim=1)
            found.append((wins.cpu() * is_free).sum(dim=2))
            numbers_of.append(is_free.sum(dim=1))
        is_exact = shots == 1 and int(counts.max()) <= own_limit and ties < RARE
        return torch.cat(found, dim=1).double(), torch.cat(numbers_of), is_exact

    def _orders(self, size: int, shots: int, deals: int) -> torch.Tensor:
        """The samples of a class in the order of each deal, as many as make whole supports, ``(deals, …)``.

        Where there is one support a deal, one order is turned, so often that every sample is left out at least once.
        """
        import torch

        count, left = size // shots, size - shots
        if count > 1:
            return torch.stack([torch.randperm(size, generator=self.generator)[: count * shots] for _ in range(deals)])
        order = torch.randperm(size, generator=self.generator)
        return torch.stack([order.roll(turn * left)[:shots] for turn in range(max(deals, -(-size // left)))])

    def _scoring(self, centres: Sequence[torch.Tensor], most: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What a query is multiplied by, ``(d, C · most)``, and what is taken off; what only fills up never loses."""
        import torch

        columns = centres[0].new_zeros(len(centres), most, centres[0].shape[1])
        shifts = centres[0].new_full((len(centres), most), -torch.inf)
        for number, some in enumerate(centres):
            squares = some.square().sum(dim=1)
            if self.classifier == "cosine":
                lengths = squares.sqrt()
                some, squares = some / lengths.where(lengths > 0, 1)[:, None], 0 * squares
            columns[number, : len(some)], shifts[number, : len(some)] = some, squares / 2
        return columns.flatten(0, 1).T, shifts.flatten()

"""One round of the expected accuracy: every query against centres of supports drawn at random."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.evaluation.centre_scores import BLOCKS, Arrangement, CentreScores
from nctransfer.evaluation.support_draws import draw_supports, leaves_all_out
from nctransfer.evaluation.win_probability import mean_wins

if TYPE_CHECKING:
    import numpy as np
    import torch

    from nctransfer.episodes.classifier import ExpectedForm
    from nctransfer.evaluation.queries import Queries

__all__ = ["SupportRounds", "supports_per_class"]

PAIRS = 54_000  # of a query and a centre of its own class in a round of 20 classes and one shot, about
CLASSES = 20  # the more classes, the fewer pairs: supports of all classes together decide the error
STEADY = 20  # shots, with which centres vary so much less that half as many pairs do
SUPPORTS = 2, 128, 512  # per class and query: at least, at most, and at most where supports are nearly whole classes
RIVALS = 32  # centres per class, at most, that a centre of another class is compared with
ROWS = 2048  # that the supports of a class have together in a round, about
ENTRIES = 2**22  # of a query, a centre of its own class, and a class, at a time
RARE = 1e-6  # a share of ties, which float32 makes, that changes nothing


def supports_per_class(queries: int, sizes: Sequence[int], shots: int) -> int:
    """The supports of each class that a query meets in a round: so many that each sample is outside of one at least.

    >>> supports_per_class(6000, [300] * 20, 5), supports_per_class(100, [20] * 5, 5), supports_per_class(40, [40], 39)
    (7, 128, 128)
    """
    fewest, most, all_left_out = SUPPORTS
    pairs = PAIRS * math.sqrt(CLASSES / len(sizes)) / (1 + shots / STEADY)
    found = min(most, max(fewest, round(pairs / queries)))
    while found < all_left_out and not all(leaves_all_out(size, shots, found) for size in set(sizes)):
        found += 1
    return found


@dataclass(kw_only=True, eq=False)
class SupportRounds:
    """Rounds of one number of shots; each gives an unbiased estimate.

    Attributes:
        queries: What is classified. If these are not all samples, each round draws others.
        rows: The features as the classifier sees them, ``(n, d)``.
        form: The expected form of the classifier.
        degrees: One less than each number of ways, k of them.
        shots: Samples per support, m.
        generator: Of the supports.
        scores: The scores of all samples, if all are queries.
        has_ties: Whether ties are counted; ``None`` before the first round.
    """

    queries: Queries
    rows: torch.Tensor
    form: ExpectedForm
    degrees: Sequence[int]
    shots: int
    generator: np.random.Generator
    scores: CentreScores
    has_ties: bool | None = None

    def __post_init__(self) -> None:
        supports = supports_per_class(len(self.queries.rows), self.queries.sizes, self.shots)
        most = min(BLOCKS, ROWS // (supports * self.shots), len(self.queries.rows) // len(self.queries.sizes))
        self._supports, self._groups = supports, 2 ** max(0, most.bit_length() - 1)

    def __call__(self) -> torch.Tensor:
        """The mean accuracy by the supports of one round, ``(k,)`` float64."""
        import torch

        if not self.queries.is_all:
            self.queries.draw()
            places = Arrangement.of(self.queries, self.generator, self.rows.device)
            self.scores = CentreScores(rows=self.rows, form=self.form, places=places)
        drawn = draw_supports(self.queries.sizes, self.shots, self._supports, self._groups, self.generator)
        supports = torch.from_numpy(drawn).to(self.rows.device)
        labels, weights = self.scores.places.labels, self._weights(supports)
        size, count = len(labels) * self._supports * len(self.queries.sizes), self._groups
        while size // count > ENTRIES and count < BLOCKS:
            count *= 2
        total = torch.zeros(len(self.degrees), dtype=torch.float64)
        equal, compared = 0.0, 0
        for blocks in torch.split(torch.arange(count), max(1, ENTRIES * count // size)):
            of_blocks = supports[blocks * self._groups // count].flatten(1, 2)
            scores = self.scores(of_blocks, blocks, count).view(len(self.queries.sizes), self._supports, -1)
            below, ties = self._compared(scores, labels.view(count, -1)[blocks].flatten())
            weight = weights.view(self._supports, count, -1)[:, blocks].flatten()
            if ties is not None:
                equal, compared = equal + float(ties.double().sum()), compared + ties.numel()
            total += self._mean(below, ties, weight)
        if self.has_ties is None:
            self.has_ties = equal > RARE * compared
        return total

    def _mean(self, below: torch.Tensor, ties: torch.Tensor | None, weight: torch.Tensor) -> torch.Tensor:
        """The weighted sum of the chances to win; columns without weight are left out where they are many."""
        kept = weight.nonzero().squeeze(1)
        if 2 * len(kept) < len(weight):
            below, weight = below[:, kept], weight[kept]
            ties = None if ties is None else ties[:, kept]
        return (mean_wins(below, self.degrees, ties).double() @ weight).cpu()

    def _weights(self, supports: torch.Tensor) -> torch.Tensor:
        """The weight of each query with each centre of its own class, ``(R, n′)``: zero where its support holds it."""
        import torch

        places = self.scores.places
        at = self.scores.place_of[supports]  # (J, C, R, m)
        groups = torch.arange(len(supports), device=at.device)[:, None, None, None]
        numbers = torch.arange(supports.shape[2], device=at.device)[:, None].expand_as(at)
        is_query = (at >= 0) & (at * len(supports) // len(places.rows) == groups)
        free = torch.ones(supports.shape[2], len(places.rows), dtype=torch.float64, device=at.device)
        free[numbers[is_query], at[is_query]] = 0
        times = free.sum(dim=0)
        weights = places.weights * (times > 0)
        kept = torch.zeros(len(self.queries.sizes), dtype=torch.float64, device=at.device)
        kept.index_add_(0, places.labels, weights)  # 1/C, unless some queries are in all supports
        weights = weights / (times.clamp(min=1) * (kept * len(kept)).clamp(min=1e-9)[places.labels])
        return free.mul_(weights)

    def _compared(self, scores: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The share of the centres of every other class that score lower than an own one, and the share of ties.

        Args:
            scores: Of q queries for R centres of every class, ``(C, R, q)``.
            labels: The classes of the queries, ``(q,)``.

        Returns:
            ``(C − 1, R · q)``, and the same for ties, ``None`` if they are not counted.
        """
        import torch

        own_class = labels.expand(1, scores.shape[1], -1)
        mine = scores.gather(0, own_class)
        rivals = min(RIVALS, scores.shape[1])
        found = []
        for compare in (torch.gt,) if self.has_ties is False else (torch.gt, torch.eq):
            count, one = torch.zeros_like(scores), torch.empty_like(scores)
            for number in range(rivals):
                compare(mine, scores[:, number : number + 1], out=one)
                count += one
            # the last class takes the row of the query's own
            count.scatter_(0, own_class, count[-1:].clone())
            found.append(count[:-1].flatten(1).div_(rivals))
        return found[0], found[1] if len(found) > 1 else None

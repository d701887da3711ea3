"""Expected accuracy from resampled supports: unbiased, whatever the data.

In a *round*, each class gives R supports of m samples to each group of queries. The share of the centres of another
class that score lower than one of the query's own class is an unbiased estimate of the chance to win against that
class. Groups of queries have different supports, because that adds more than more supports for each query: then each
support is used for fewer queries, which tell nearly the same about it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from nctransfer.evaluation.centre_scores import Arrangement, CentreScores
from nctransfer.evaluation.one_shot import EXACT, one_shot_accuracy
from nctransfer.evaluation.queries import PAIRS
from nctransfer.evaluation.support_rounds import SupportRounds, supports_per_class
from nctransfer.intervals import t_quantile

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.classifier import ExpectedForm
    from nctransfer.evaluation.queries import Queries
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["Resampled", "is_plain", "work_of_a_round"]

PRECISION = 0.001  # half the width of the interval that the number of rounds aims at
ROUNDS = 16, 400  # in the first stage, for a standard error; and at most


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


def work_of_a_round(features: FeatureSet, ways: int, shots: int) -> float:
    """About the multiply-adds of a round with at most so many ways and shots.

    Args:
        features: What is classified.
        ways: Classes per task.
        shots: Samples per class.
    """
    count, classes = len(features), len(features.classes)
    supports = supports_per_class(count, features.counts.tolist(), shots)
    return float(min(count, PAIRS // classes)) * supports * classes * (features.dim + 10 * ways)


@dataclass(frozen=True, kw_only=True, eq=False)
class Resampled:
    """The expected accuracy by resampled supports.

    Attributes:
        queries: What is classified.
        rows: The features as the classifier sees them, ``(n, d)``.
        degrees: One less than each number of ways, k of them.
        form: The expected form of the classifier.
        seed: Of the supports.
    """

    queries: Queries
    rows: torch.Tensor
    degrees: Sequence[int]
    form: ExpectedForm
    seed: int

    def __call__(self, shots: int) -> tuple[torch.Tensor, torch.Tensor, bool]:
        """The accuracy and half the width of its 95% interval, for each number of ways.

        The number of rounds comes from the standard deviation s of a few first ones (Stein's two stages). The interval
        uses this s and its few degrees of freedom only. Were the rounds stopped as soon as the standard error of all is
        small, they would stop where it happens to be too small.

        Returns:
            Both ``(k,)``, and whether the accuracies are exact.
        """
        import numpy as np
        import torch

        if shots == 1 and len(self.rows) <= EXACT and self.queries.is_all:
            accuracy = one_shot_accuracy(self._scores, self.queries.sizes, self.degrees)
            return accuracy.clamp(0, 1), torch.zeros_like(accuracy), True
        one_round = SupportRounds(
            queries=self.queries,
            rows=self.rows,
            form=self.form,
            degrees=self.degrees,
            shots=shots,
            generator=np.random.default_rng([self.seed, shots]),
            scores=self._scores,
        )
        found: list[torch.Tensor] = []
        first, rounds = ROUNDS
        error = torch.zeros(len(self.degrees), dtype=torch.float64)
        quantile = t_quantile(first - 1)
        while len(found) < rounds:
            found.append(one_round())
            if len(found) == first:
                error = torch.stack(found).std(dim=0)
                rounds = min(rounds, max(first, math.ceil(float((quantile * error / PRECISION).square().max()))))
        return torch.stack(found).mean(dim=0).clamp(0, 1), quantile * error / math.sqrt(len(found)), False

    @cached_property
    def _scores(self) -> CentreScores:
        import numpy as np

        places = Arrangement.of(self.queries, np.random.default_rng(self.seed), self.rows.device)
        return CentreScores(rows=self.rows, form=self.form, places=places)

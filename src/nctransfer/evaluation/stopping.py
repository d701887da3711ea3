"""When enough episodes have been drawn: the mean accuracy is known as precisely as was asked for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.intervals import Z

if TYPE_CHECKING:
    import torch

    from nctransfer.intervals import Interval

__all__ = ["LEAST", "PRECISION", "StoppingRule", "half_width", "inflation", "sizes"]

PRECISION = 0.05  # percentage points
LEAST = 500  # episodes; fewer say too little about their own variance
SKEW = 100  # times the squared skewness: so many episodes make the interval nearly symmetric


def sizes(episodes: int, least: int = LEAST) -> Iterator[int]:
    """The numbers of episodes at which drawing may stop, ascending; the last is all of them.

    They are few and fixed, so that the size depends on the data no more than it must.

    Args:
        episodes: The largest number of episodes.
        least: The smallest.

    >>> list(sizes(3000))
    [500, 700, 1000, 1400, 2000, 2800, 3000]
    """
    steps = (start * 2**power for power in itertools.count() for start in (LEAST, LEAST * 7 // 5))
    yield from itertools.takewhile(lambda size: size < episodes, (size for size in steps if size >= least))
    yield episodes


def half_width(values: torch.Tensor) -> float:
    """Half the width of the 95% interval of a mean over episodes, from the accuracy of each, ``(E,)``."""
    return Z * float(values.numpy().std(ddof=1)) / math.sqrt(len(values))


def inflation(ways: int, classes: int, interval: Interval) -> float:
    """How many times the half-width over episodes the draw of episodes adds to an interval.

    To the jackknife over C classes it adds ``√(w (C − 1) / (C − w))`` times as much, to other intervals as much.

    Args:
        ways: Classes per episode, w.
        classes: The number of classes, C.
        interval: What the interval refers to.

    >>> round(inflation(5, 20, "classes"), 2), inflation(5, 20, "samples")
    (2.52, 1.0)
    """
    if interval != "classes" or ways >= classes:
        return 1.0
    return math.sqrt(ways * (classes - 1) / (classes - ways))


@dataclass(frozen=True, kw_only=True)
class StoppingRule:
    """Whether the mean accuracies over the episodes that were drawn are precise enough.

    Attributes:
        precision: The half-width over episodes to fall below, in percentage points; 0 if drawing never stops early.
        inflation: How many times the half-width over episodes the draw of episodes adds to the interval that is shown,
            at least 1. It is larger than 1 for intervals over classes.
        ways: Classes per episode.
    """

    precision: float
    inflation: float = 1.0
    ways: int = 2

    def is_met(self, rows: Iterable[torch.Tensor]) -> bool:
        """Whether every row is precise enough.

        Accuracies that are all equal so far, or that are nearly always 1, may hide rare failures: these go on. So does
        a row in which a sample that spoils its class may not have been drawn yet, such as one with a wrong label.

        Args:
            rows: The accuracy of each episode of each row, ``(E,)`` each.
        """
        return self.precision > 0 and all(
            self._is_below(values) and _is_symmetric(values) and self._has_seen_rare_ones(values) for values in rows
        )

    def is_met_by_differences(self, rows: Iterable[torch.Tensor]) -> bool:
        """Whether every paired difference is precise enough; a difference that is always 0 is.

        Args:
            rows: The difference of two accuracies in each episode, ``(E,)`` each.
        """
        return self.precision > 0 and all(self._is_below(values) for values in rows)

    def _has_seen_rare_ones(self, values: torch.Tensor) -> bool:
        """Whether episodes of a kind that was not drawn yet change the mean by less than half of the precision.

        By the rule of three, they are at most 3/E of all, with 95% confidence. In the worst of them that we consider, a
        sample of the support spoils its class: the queries of this class are lost, and as many of other classes.
        """
        return 100 * 3 / len(values) * float(values.mean()) * min(1.0, 2 / self.ways) < self.precision / 2

    def _is_below(self, values: torch.Tensor) -> bool:
        return 100 * self.inflation * half_width(values) < self.precision


def _is_symmetric(values: torch.Tensor) -> bool:
    """Whether there are enough episodes for an interval from their variance: the mean is then nearly normal."""
    if values.min() == values.max():
        return False
    centred = values.numpy() - values.numpy().mean()
    spread = float((centred**2).mean())
    skewness = float((centred**3).mean()) / spread**1.5
    return bool(len(values) >= SKEW * skewness**2)

"""Rank correlations of scores with accuracy over candidates, with intervals that hold for few candidates.

Spearman's rather than Kendall's: it is the one that papers on transfer scores report, and both order scores alike. Few
candidates have few possible values of it, so that an interval by Fisher's transformation is wrong: with 4 candidates,
every twelfth random order has a correlation of 1 or −1, where that interval has no width. The interval here contains
each population correlation under which the observed value is in neither tail of 2.5%. The population is bivariate
normal up to monotone changes of scale, which leave ranks as they are. By simulation it contains the truth in 94 to
100% of studies of 4 to 30 candidates from such a population, and in 89 to 94% where three candidates each are of one
family and so alike (``tests/simulations/rank_correlation.py``).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FEWEST", "RankCorrelation", "rank_correlation", "rank_correlations"]

FEWEST = 4  # candidates
DRAWS = 10_000
MOST_RANKS = 300_000  # drawn for one population
ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class RankCorrelation:
    """The rank correlation of a score with accuracy.

    Attributes:
        name: The score.
        value: From −1 to 1; ``None`` if it is not defined.
        interval: Its 95% interval over other candidates of this kind; for the random order, the range in which 95% of
            all orders lie. ``None`` if there is none.
        candidates: The number of candidates for which the score is known.
        reason: Why there is no value; ``None`` if there is one.
        is_control: Whether it only shows what a score has to surpass.
    """

    name: str
    value: float | None
    interval: tuple[float, float] | None
    candidates: int
    reason: str | None = None
    is_control: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary for JSON."""
        return {
            "name": self.name,
            "value": self.value,
            "interval": list(self.interval) if self.interval else None,
            "candidates": self.candidates,
            "reason": self.reason,
            "is_control": self.is_control,
        }


def rank_correlations(
    accuracies: Sequence[float],
    scores: Mapping[str, Sequence[float | None]],
    parameters: Sequence[float | None] | None = None,
) -> tuple[RankCorrelation, ...]:
    """The rank correlation of each score with accuracy over K candidates, and of the two controls.

    The controls are the number of parameters, and a random order, whose correlation is 0 on average.

    Args:
        accuracies: The accuracy of each candidate on images that were held out.
        scores: The values of each score by its name, K each; ``None`` or NaN where there is none.
        parameters: The number of parameters of each candidate.

    Raises:
        ValueError: The sequences are of unequal length.
    """
    found = [rank_correlation(name, values, accuracies) for name, values in scores.items()]
    if parameters is not None:
        found.append(rank_correlation("parameters", parameters, accuracies, is_control=True))
    name, count = "random order", len(accuracies)
    if count < FEWEST:
        control = _no_value(name, count, _too_few(count), is_control=True)
    else:
        end = _Populations.of(count).end_of_random_orders()
        control = RankCorrelation(name=name, value=0.0, interval=(-end, end), candidates=count, is_control=True)
    return (*found, control)


def rank_correlation(
    name: str, scores: Sequence[float | None], accuracies: Sequence[float], *, is_control: bool = False
) -> RankCorrelation:
    """Spearman's rank correlation of a score with accuracy; equal values have the mean of their ranks.

    Args:
        name: The name of the score.
        scores: Its values for K candidates; those with ``None`` or NaN are left out.
        accuracies: K accuracies.
        is_control: Whether the score is a control.

    Returns:
        The correlation with its interval; no value if there are fewer than 4 candidates with a score, or if all of
        their scores, or all of their accuracies, are equal.

    Raises:
        ValueError: The sequences are of unequal length.

    >>> found = rank_correlation("logme", [0.1, 0.3, 0.2, 0.5, 0.4], [0.70, 0.80, 0.85, 0.90, 0.88])
    >>> round(found.value, 3), [round(end, 1) for end in found.interval]
    (0.9, [-0.1, 1.0])
    """
    from scipy.stats import rankdata

    pairs = [
        (score, accuracy)
        for score, accuracy in zip(scores, accuracies, strict=True)
        if score is not None and not math.isnan(score)
    ]
    count = len(pairs)
    if count < FEWEST:
        return _no_value(name, count, _too_few(count), is_control)
    ranks = [rankdata(values) - (count + 1) / 2 for values in zip(*pairs, strict=True)]
    lengths = [float(one @ one) for one in ranks]
    if lengths[0] == 0:
        return _no_value(name, count, "all candidates have the same value", is_control)
    if lengths[1] == 0:
        return _no_value(name, count, "all candidates have the same accuracy", is_control)
    value = max(-1.0, min(1.0, float(ranks[0] @ ranks[1]) / math.sqrt(lengths[0] * lengths[1])))
    interval = _Populations.of(count).interval(value)
    return RankCorrelation(name=name, value=value, interval=interval, candidates=count, is_control=is_control)


def _too_few(count: int) -> str:
    return f"a rank correlation needs {FEWEST} candidates with a value, and there are {count}"


def _no_value(name: str, count: int, reason: str, is_control: bool) -> RankCorrelation:
    return RankCorrelation(name=name, value=None, interval=None, candidates=count, reason=reason, is_control=is_control)


class _Populations:
    """Rank correlations of samples of one size from normal populations of many correlations, by simulation.

    The samples of all populations have the same random numbers, so that they rise with the correlation.
    """

    def __init__(self, count: int) -> None:
        import numpy as np

        generator = np.random.default_rng(0)
        size = max(1000, min(DRAWS, MOST_RANKS // count))
        x, noise = np.sort(generator.standard_normal((size, count)), axis=1), generator.standard_normal((size, count))
        inner = np.tanh(np.linspace(-3.5, 3.5, 57))
        self._correlations = 6 / math.pi * np.arcsin(inner / 2)  # Spearman's, from Pearson's
        self._samples = [np.sort(_spearman(rho * x + math.sqrt(1 - rho**2) * noise)) for rho in inner]

    @staticmethod
    @functools.cache
    def of(count: int) -> _Populations:
        """Those of samples of one size; they are drawn once."""
        return _Populations(count)

    def interval(self, value: float, tail: float = 0.025) -> tuple[float, float]:
        """The population correlations under which a value is in neither tail."""
        import numpy as np

        size = len(self._samples[0])
        below = np.array([np.searchsorted(one, value - ROUNDING) for one in self._samples]) / size  # falls
        upto = np.array([np.searchsorted(one, value + ROUNDING) for one in self._samples]) / size  # falls
        low = -1.0 if below[0] <= 1 - tail else float(np.interp(tail - 1, -below, self._correlations))
        high = 1.0 if upto[-1] >= tail else float(np.interp(-tail, -upto, self._correlations))
        return min(low, value), max(high, value)

    def end_of_random_orders(self, tail: float = 0.025) -> float:
        """The correlation that a random order surpasses with this probability at most."""
        samples = self._samples[len(self._samples) // 2]
        return float(samples[math.ceil(len(samples) * (1 - tail)) - 1])


def _spearman(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rank correlation of each row with an ascending order; no two values of a row are equal."""
    import numpy as np

    count = values.shape[1]
    places = np.arange(count) - (count - 1) / 2
    found: NDArray[np.float64] = (values.argsort(axis=1) - (count - 1) / 2) @ places / (places @ places)
    return found

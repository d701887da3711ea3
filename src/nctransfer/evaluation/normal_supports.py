"""Expected accuracy from moments, with the noise of class centres taken as normal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.evaluation.win_probability import mean_wins
from nctransfer.intervals import Z

if TYPE_CHECKING:
    import torch

    from nctransfer.evaluation.queries import Queries

__all__ = ["Normal"]

NODES = 16  # of the integral over the noise of the centre of the query's class


class _Class(NamedTuple):
    """Moments of one class with covariance ``Sigma = FᵀF``; F has r rows, at most the samples and at most the width."""

    mean: torch.Tensor
    variance: float  # tr Sigma
    factor: torch.Tensor  # (r, d)
    inner: torch.Tensor  # F Fᵀ, (r, r)
    trace2: float  # tr Sigma²
    trace3: float  # tr Sigma³

    @classmethod
    def of(cls, rows: torch.Tensor) -> _Class:
        """The moments of the samples of a class, ``(n, d)``."""
        import torch

        mean = rows.mean(dim=0)
        factor = (rows - mean) / math.sqrt(len(rows))
        if len(rows) > rows.shape[1]:
            values, vectors = torch.linalg.eigh(factor.T @ factor)
            factor = values.clamp(min=0).sqrt()[:, None] * vectors.T
        inner = factor @ factor.T
        squared = inner @ inner
        return cls(
            mean, float(inner.trace()), factor, inner, float(inner.square().sum()), float((squared * inner).sum())
        )


class Normal:
    """The expected accuracy by normal noise of the centres. The queries are the samples themselves.

    A squared distance ``‖f − mu − ε‖²`` with normal ε of covariance φ Sigma is not normal itself. With ``w = f − mu``
    it has

    - the mean ``‖w‖² + φ tr Sigma``,
    - the variance ``4φ wᵀSigma w + 2φ² tr Sigma²``,
    - the third cumulant ``24φ² wᵀSigma² w + 8φ³ tr Sigma³``.

    The third cumulant enters by Edgeworth's expansion for the other classes, and by that of Cornish and Fisher for the
    class of the query. Ties, as between features that are all equal, are not broken at random here: each counts as
    half.

    Args:
        queries: What is classified.
        rows: The features as the classifier sees them, ``(n, d)`` float64.
        degrees: One less than each number of ways.
    """

    def __init__(self, queries: Queries, rows: torch.Tensor, degrees: Sequence[int]) -> None:
        import torch

        self._queries, self._degrees = queries, degrees
        f = rows[queries.rows.to(rows.device)]
        self._classes = [
            _Class.of(rows[start : start + size]) for start, size in zip(queries.starts, queries.sizes, strict=True)
        ]
        squares, first, second = [], [], []
        for one in self._classes:
            w = f - one.mean
            projected = w @ one.factor.T  # (n, r): F w
            squares.append(w.square().sum(dim=1))
            first.append(projected.square().sum(dim=1))
            second.append(((projected @ one.inner) * projected).sum(dim=1))
        # ‖w‖², wᵀSigma w and wᵀSigma² w for each query and class, (n, C)
        self._squares, self._first, self._second = (torch.stack(one, dim=1) for one in (squares, first, second))

    def __call__(self, shots: int) -> tuple[torch.Tensor, torch.Tensor, bool]:
        """The accuracy and half the width of its 95% interval, for each number of ways; never called exact."""
        import torch

        parts = []
        start = 0
        for own, rows in enumerate(self._queries.of_class):
            parts.append(self._of_class(own, slice(start, start + len(rows)), shots))
            start += len(rows)
        wins = torch.cat(parts, dim=1)
        accuracy, squared_error = self._queries.mean(wins)
        return accuracy, Z * squared_error.sqrt(), False

    def _of_class(self, own: int, some: slice, shots: int) -> torch.Tensor:
        """The chance to win for the queries of one class, ``(k, q)``."""
        import numpy as np
        import torch

        nodes, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(NODES))
        mean, variance, third = self._own(own, some, shots)
        skew = (third / variance.clamp(min=1e-60).pow(1.5))[:, None]
        nodes = nodes.to(mean.device)
        distances = mean[:, None] + variance.sqrt()[:, None] * (nodes + skew / 6 * (nodes.square() - 1))  # (q, Q)
        chances = torch.stack(
            [
                self._chance(distances, *self._other(other, some, shots))
                for other in range(len(self._classes))
                if other != own
            ]
        )  # (C − 1, q, Q)
        wins = mean_wins(chances.flatten(1), self._degrees)
        weights = (weights / weights.sum()).to(wins.device)
        found: torch.Tensor = (wins.view(-1, *distances.shape) @ weights).cpu()
        return found

    @staticmethod
    def _chance(
        distances: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor, third: torch.Tensor
    ) -> torch.Tensor:
        """The probability that a squared distance with these moments is above given ones, ``(q, Q)``."""
        import torch

        spread = variance.clamp(min=1e-60).sqrt()[:, None]
        t = (distances - mean[:, None]) / spread
        skew = third[:, None] / spread.pow(3)
        density = torch.exp(-t.square().clamp(max=1400) / 2) / math.sqrt(2 * math.pi)
        found: torch.Tensor = torch.special.ndtr(-t) + skew / 6 * (t.square().clamp(max=1400) - 1) * density
        return found.clamp(0, 1)

    def _other(self, number: int, some: slice, shots: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The moments of the squared distance to the centre of another class."""
        one, size = self._classes[number], self._queries.sizes[number]
        noise = (size - shots) / (shots * (size - 1)) if size > 1 else 0.0
        squares, first, second = (part[some, number] for part in (self._squares, self._first, self._second))
        return (
            squares + noise * one.variance,
            4 * noise * first + 2 * noise**2 * one.trace2,
            24 * noise**2 * second + 8 * noise**3 * one.trace3,
        )

    def _own(self, number: int, some: slice, shots: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The moments of the squared distance to the centre of the query's class, whose support excludes the query.

        With ``r = f − mu``, the query is ``n/(n−1) r`` away from the mean of the other samples of the class, whose
        covariance is ``n/(n−1) Sigma − n/(n−1)² r rᵀ``. The third cumulant uses Sigma itself.
        """
        one, n = self._classes[number], self._queries.sizes[number]
        squares, first, second = (part[some, number] for part in (self._squares, self._first, self._second))
        noise = (n - 1 - shots) / (shots * (n - 2)) if n > 2 else 0.0
        grow, drop = n / (n - 1), n / (n - 1) ** 2
        directional = grow**2 * (grow * first - drop * squares.square())
        trace2 = grow**2 * one.trace2 - 2 * grow * drop * first + drop**2 * squares.square()
        return (
            grow**2 * squares + noise * (grow * one.variance - drop * squares),
            (4 * noise * directional + 2 * noise**2 * trace2).clamp(min=0),
            24 * noise**2 * grow**4 * second + 8 * noise**3 * one.trace3,
        )

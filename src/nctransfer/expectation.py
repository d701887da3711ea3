"""Expected few-shot accuracy: the mean over all episodes of a task, without drawing one.

A query of class a wins against classes b, c, … if the centre of its own support is nearer than each of theirs. Given
the query and that own centre, the wins are independent over the other classes, as their supports are; so the chance to
win against ``w − 1`` classes, averaged over all choices of them among the others, is the elementary symmetric
polynomial of degree ``w − 1`` of the chances to win against one, over the number of choices. One recursion gives it for
every number of ways.

Two constructions give the chances:

- **resampled**: the samples of every class are dealt into supports of m at random, and the share of a class's centres
  that lose is its chance. It is unbiased, whatever the data: the polynomial is linear in each chance. Each deal uses
  every sample once, so that what a single sample adds cancels; at one shot it is exact.
- **normal**: centres scatter normally about the class means, with the covariance of the class over m. It needs
  nothing but moments, says what theory says, and fails where support noise is not normal: at few shots.
"""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nctransfer.devices import with_float64
from nctransfer.episodes import EpisodeSpec, check
from nctransfer.errors import EpisodeError
from nctransfer.features.feature_set import FeatureSet
from nctransfer.products import prepared

if TYPE_CHECKING:
    import pandas as pd
    import torch

__all__ = ["ExpectedAccuracies", "ExpectedAccuracy", "chance_to_win", "expect"]

QUERIES = 4000  # at most, of all classes together: their mean is known well enough
CENTRES = 16  # of a class at least, by dealing so often: the hand of one round
HANDS = 6, 100  # at least, for a standard error, and at most
TOLERANCE = 0.0005  # of the standard error: no more hands then
PAIRS = 10**8  # of query, own centre and class, in a hand
RARE = 1e-4  # ties of float32 that change nothing
NODES = 16  # of the integral over the noise of the own centre
CHUNK = 8192  # pairs of query and own centre at a time


@dataclass(frozen=True)
class ExpectedAccuracy:
    """The mean accuracy over all episodes of a task.

    Attributes:
        accuracy: Of nearest class centres.
        ci95: Half the width of the 95% interval of the computation (of what was resampled and subsampled, not of the
            data); 0 where it is exact.
        method: How it was computed.
        queries: Samples that were classified.
    """

    ways: int
    shots: int
    classifier: str
    method: Literal["resampled", "normal"]
    accuracy: float
    ci95: float
    queries: int


@dataclass(frozen=True)
class ExpectedAccuracies:
    """A learning surface: ways × shots.

    Attributes:
        features: What it is of.
        rows: One for each number of shots and of ways.
        seconds: Time of all of it.
    """

    features: dict[str, Any]
    rows: tuple[ExpectedAccuracy, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON has it."""
        return {"features": self.features, "results": [asdict(row) for row in self.rows], "seconds": self.seconds}

    def to_frame(self) -> pd.DataFrame:
        """One row a task."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows])


def chance_to_win(chances: torch.Tensor, most: int) -> torch.Tensor:
    """The chance to win against k classes drawn from T, for every k up to ``most``.

    ``e_k ← (1 − k/t) e_k + (k/t) p_t e_{k−1}`` with t classes taken so far: the elementary symmetric polynomial over
    the binomial coefficient, which never overflows.

    Args:
        chances: To win against each class alone, ``(T, b)``.
        most: k ≤ T.

    Returns:
        ``(most + 1, b)``; row k is for k classes.

    >>> import torch
    >>> chance_to_win(torch.tensor([[1.0], [1.0], [0.0]]), 2)[:, 0]  # one pair of the three
    tensor([1.0000, 0.6667, 0.3333])
    """
    import torch

    found = chances.new_zeros(most + 1, chances.shape[1])
    found[0] = 1
    degrees = torch.arange(1, most + 1, dtype=chances.dtype, device=chances.device)[:, None]
    for taken, chance in enumerate(chances, start=1):
        share = degrees / taken
        added = (share * chance) * found[:-1]
        found[1:].mul_(1 - share).add_(added)
    return found


def expect(
    features: FeatureSet,
    ways: int | Sequence[int] = (2, 5, 10, 20),
    shots: int | Sequence[int] = (1, 2, 5, 10, 50),
    *,
    classifier: str = "ncc",
    method: Literal["resampled", "normal"] = "resampled",
    center_on: FeatureSet | None = None,
    l2_normalise: bool = False,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> ExpectedAccuracies:
    """The mean accuracy over all episodes, for every number of ways and shots: no episode is drawn.

    Cost, for n queries (4,000 at most), C classes, s samples a class and K ways: ``n·C·s·d/m`` multiply-adds for a deal
    and ``n·C·K·s/m`` for the recursion; the normal form ``n·C·s·d``, and ``16·n·C·K`` for each number of shots.

    Args:
        features: The feature set.
        ways: Classes a task; those above the number of classes are an error.
        shots: Support samples a class; every class must have one sample more.
        classifier: ``ncc``, ``cosine``, or ``simpleshot`` with a reference mean: those whose score of a class depends
            on the centre of that class alone.
        method: ``resampled`` (unbiased) or ``normal`` (``ncc`` only).
        center_on: A set whose mean is taken off first.
        l2_normalise: Scale features to unit length (after that).
        seed: Of the deals.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        EpisodeError: Too few classes or samples, or a classifier or method for which there is no such form.
    """
    import torch

    start = time.perf_counter()
    all_ways, all_shots = sorted(set(_listed(ways))), sorted(set(_listed(shots)))
    if not (all_ways and all_shots):
        raise EpisodeError("ways and shots must each hold something")
    if classifier == "simpleshot" and center_on is None:
        raise EpisodeError(
            "the score of simpleshot depends on the supports of all classes by their mean: there is no such form of it",
            "give a reference mean by --center-on",
        )
    is_known = classifier in ("ncc", "cosine", "simpleshot") and method in ("resampled", "normal")
    if not is_known or (method == "normal" and classifier != "ncc"):
        raise EpisodeError(
            f"there is no expected accuracy of {classifier!r} by method {method!r}",
            "choose --classifier from ncc, cosine, simpleshot, and --method from resampled, normal (of ncc alone)",
        )
    for least in all_ways:
        check(features, EpisodeSpec(least, max(all_shots), 1, seed))
    for number in all_shots:
        EpisodeSpec(2, number, 1, seed)
    rows = prepared(features, None, center_on, l2_normalise or classifier == "simpleshot")
    if classifier != "cosine":
        rows = rows - rows.mean(dim=0, dtype=torch.float64).to(rows.dtype)
    generator = torch.Generator().manual_seed(seed)
    queries = Queries(features, generator)
    chosen = with_float64(device)
    degrees = torch.tensor([number - 1 for number in all_ways])
    surface: _Deals | _Normal
    if method == "normal":
        surface = _Normal(queries, rows.to(chosen, torch.float64), degrees)
    else:
        dtype = torch.float32 if _is_plain(features, rows) else torch.float64
        surface = _Deals(queries, rows.to(chosen, dtype), degrees, classifier, generator)
    found: list[ExpectedAccuracy] = []
    for done, number in enumerate(all_shots, start=1):
        accuracies, errors = surface(number)
        found += [
            ExpectedAccuracy(size, number, classifier, method, float(accuracy), 1.96 * float(error), len(queries.rows))
            for size, accuracy, error in zip(all_ways, accuracies, errors, strict=True)
        ]
        if progress:
            progress("shots", done, len(all_shots))
    return ExpectedAccuracies(features.to_dict(), tuple(found), time.perf_counter() - start)


def _wins(chances: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """:func:`chance_to_win` against as many classes as are wanted, ``(k, b)``, in pieces that stay in the cache."""
    import torch

    most = int(degrees.max())
    return torch.cat([chance_to_win(part, most)[degrees] for part in torch.split(chances, CHUNK, dim=1)], dim=1)


def _listed(given: int | Sequence[int]) -> list[int]:
    return [operator.index(number) for number in (given if isinstance(given, Iterable) else [given])]


def _is_plain(features: FeatureSet, rows: torch.Tensor) -> bool:
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
class _Deals:
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
            wins = _wins(share.transpose(0, 1).flatten(1), self.degrees).view(-1, *mine.shape)
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


class _Class(NamedTuple):
    """Moments of one class, with covariance ``Sigma = FᵀF``, F of r rows: no more than samples, nor than the width."""

    mean: torch.Tensor
    variance: float  # tr Sigma
    factor: torch.Tensor  # (r, d)
    inner: torch.Tensor  # F Fᵀ, (r, r)
    trace2: float  # tr Sigma²
    trace3: float  # tr Sigma³

    @classmethod
    def of(cls, rows: torch.Tensor) -> _Class:
        """Of the samples of a class, ``(n, d)``."""
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


class _Normal:
    """The normal construction: only the noise of the centres is normal; queries are those that there are.

    A squared distance ``‖f − mu − ε‖²`` of normal ε with covariance φ Sigma is not normal itself. With ``w = f − mu``,

    - mean ``‖w‖² + φ tr Sigma``;
    - variance ``4φ wᵀSigma w + 2φ² tr Sigma²``;
    - third cumulant ``24φ² wᵀSigma² w + 8φ³ tr Sigma³``.

    The last enters by Edgeworth's series for the other classes, and by Cornish and Fisher's for the own. Ties, as of
    features that are all the same, are not broken by lot here: each counts as half.
    """

    def __init__(self, queries: Queries, rows: torch.Tensor, degrees: torch.Tensor) -> None:
        import torch

        self._queries, self._degrees = queries, degrees
        f = rows[queries.rows.to(rows.device)]
        self._classes = [
            _Class.of(rows[start : start + size]) for start, size in zip(queries.starts, queries.sizes, strict=True)
        ]
        squares, first, second = [], [], []
        for one in self._classes:
            w = f - one.mean
            along = w @ one.factor.T  # (n, r)
            squares.append(w.square().sum(dim=1))
            first.append(along.square().sum(dim=1))
            second.append(((along @ one.inner) * along).sum(dim=1))
        # ‖w‖², wᵀSigma w, wᵀSigma² w of each query and class, (n, C)
        self._squares, self._first, self._second = (torch.stack(one, dim=1) for one in (squares, first, second))

    def __call__(self, shots: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Accuracy and standard error for each number of ways."""
        import torch

        parts = []
        start = 0
        for own, rows in enumerate(self._queries.of_class):
            parts.append(self._of_class(own, slice(start, start + len(rows)), shots))
            start += len(rows)
        wins = torch.cat(parts, dim=1)
        accuracy, squared_error = self._queries.mean(wins, torch.ones(wins.shape[1]))
        return accuracy, squared_error.sqrt()

    def _of_class(self, own: int, some: slice, shots: int) -> torch.Tensor:
        """The chance to win for queries of one class, ``(k, q)``."""
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
        wins = _wins(chances.flatten(1), self._degrees)
        weights = (weights / weights.sum()).to(wins.device)
        found: torch.Tensor = (wins.view(-1, *distances.shape) @ weights).cpu()
        return found

    @staticmethod
    def _chance(
        distances: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor, third: torch.Tensor
    ) -> torch.Tensor:
        """That a squared distance of these moments is above another, ``(q, Q)``."""
        import torch

        spread = variance.clamp(min=1e-60).sqrt()[:, None]
        t = (distances - mean[:, None]) / spread
        skew = third[:, None] / spread.pow(3)
        density = torch.exp(-t.square().clamp(max=1400) / 2) / math.sqrt(2 * math.pi)
        found: torch.Tensor = torch.special.ndtr(-t) + skew / 6 * (t.square().clamp(max=1400) - 1) * density
        return found.clamp(0, 1)

    def _other(self, number: int, some: slice, shots: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Moments of the squared distance to the centre of another class."""
        one, size = self._classes[number], self._queries.sizes[number]
        noise = (size - shots) / (shots * (size - 1)) if size > 1 else 0.0
        squares, first, second = (part[some, number] for part in (self._squares, self._first, self._second))
        return (
            squares + noise * one.variance,
            4 * noise * first + 2 * noise**2 * one.trace2,
            24 * noise**2 * second + 8 * noise**3 * one.trace3,
        )

    def _own(self, number: int, some: slice, shots: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Moments of the squared distance to the own centre, whose support is of the other samples of the class.

        With ``r = f − mu``: ``e = n/(n−1) r``, and their covariance is ``n/(n−1) Sigma − n/(n−1)² r rᵀ``; the third
        cumulant is left with Sigma.
        """
        one, n = self._classes[number], self._queries.sizes[number]
        squares, first, second = (part[some, number] for part in (self._squares, self._first, self._second))
        noise = (n - 1 - shots) / (shots * (n - 2)) if n > 2 else 0.0
        grow, drop = n / (n - 1), n / (n - 1) ** 2
        along = grow**2 * (grow * first - drop * squares.square())
        trace2 = grow**2 * one.trace2 - 2 * grow * drop * first + drop**2 * squares.square()
        return (
            grow**2 * squares + noise * (grow * one.variance - drop * squares),
            (4 * noise * along + 2 * noise**2 * trace2).clamp(min=0),
            24 * noise**2 * grow**4 * second + 8 * noise**3 * one.trace3,
        )

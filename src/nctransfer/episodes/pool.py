"""The features that episodes are drawn from, multiplied with each other in the way that is the least work.

Shapes: n rows of width d in the pool; E episodes with w classes, N support samples (class by class) and Q queries.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nctransfer.devices import with_float64
from nctransfer.episodes.inner_products import DEAR_PRODUCTS, AgainstAll, LookedUpAgainstAll, Products, looked_up
from nctransfer.episodes.rescaling import rescaled
from nctransfer.errors import EpisodeError, FeaturesError

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.episode import Episodes, EpisodeSpec
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["Pool", "prepared"]

GRAM_BYTES = 512 * 2**20  # the largest matrix of all inner products that is computed
GATHERED_BYTES = 2 * 2**20  # features gathered at a time, so that they stay in the cache of the processor
OUTLYING = 1e6  # times a typical distance of two samples, where float32 begins to lose it
LARGE_SUPPORT = 200  # support samples of an episode, from which its inner products are looked up by themselves
LOOKED_UP_BYTES = 2**20  # rows of all inner products copied at a time, so that they stay in the cache
BATCH_BYTES = 32 * 2**20  # inner products of a batch of episodes


def prepared(
    features: FeatureSet, query_set: FeatureSet | None, center_on: FeatureSet | None, l2_normalise: bool
) -> torch.Tensor:
    """The features, and after them those of the query set, as the classifiers see them, ``(n, d)``.

    Args:
        features: The features.
        query_set: Where the queries come from, if not from the features.
        center_on: A set whose mean is subtracted first.
        l2_normalise: Whether features are then scaled to unit length.

    Raises:
        EpisodeError: The set whose mean is subtracted has another width.
    """
    import torch

    rows = features.features if query_set is None else torch.cat([features.features, query_set.features])
    if center_on is not None:
        if center_on.dim != features.dim:
            raise EpisodeError(
                f"a reference mean of width {center_on.dim:,} does not go with features of {features.dim:,}",
                "give --center-on a set of the same backbone",
            )
        rows = rows - center_on.features.mean(dim=0, dtype=torch.float64).to(rows.dtype)
    if l2_normalise:
        rows, _ = rescaled(rows)
        lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)
        rows = (rows / lengths.where(lengths > 0, 1)).to(rows.dtype)
    return rows


class Pool:
    """The features that episodes are drawn from, minus their mean.

    Inner products are either computed for all pairs of features once and looked up, or computed from the rows of each
    episode, whichever is less work. The mean is subtracted in the precision of the features, because float32 products
    with a large offset would lose every digit. Features of extreme size are rescaled first, see
    :func:`~nctransfer.episodes.rescaling.rescaled`. Features are multiplied in float64 if they are so long that the
    rounding of float32 would be comparable to a penalty that does not grow with them.

    Args:
        features: ``(n, d)``.
        device: Where to compute.

    Attributes:
        squares: The squared lengths of the features about their mean, ``(n,)``.
        factor: What the features were multiplied by, 1 unless they are extremely large or small.

    Raises:
        FeaturesError: Features are far outside the range of float32, or one is so far from the others that their
            differences would be lost.
    """

    def __init__(self, features: torch.Tensor, device: str = "auto") -> None:
        import torch

        self.device = with_float64(device)
        features, self.factor = rescaled(features)
        mean = features.mean(dim=0, dtype=torch.float64).to(features.dtype)
        centred = features - mean
        lengths = torch.linalg.vector_norm(centred, dim=1, dtype=torch.float64)
        _check_outliers(features, lengths)
        longest = float(lengths.max()) / self.factor
        rounding = longest**2 * torch.finfo(torch.float32).eps
        dtype = torch.float32 if rounding < 0.01 else torch.float64  # such a penalty is at least 1
        self._rows = centred.to(self.device, dtype)
        mean = mean.to(self.device, dtype)
        self.squares = self._rows.square().sum(dim=1)
        self._with_mean = self._rows @ mean
        self._mean_square = mean.double().square().sum()
        self._gram: torch.Tensor | None = None
        self._work = 0.0

    @property
    def has_gram(self) -> bool:
        """Whether all inner products have been computed."""
        return self._gram is not None

    def prepare(self, specs: Sequence[EpisodeSpec], episodes: int, most: int, *, by_centres: bool = False) -> None:
        """Compute all inner products at once if that is less work than computing those of each episode.

        Args:
            specs: The episodes of each number of ways.
            episodes: The number of episodes of each.
            most: Queries per class, if all samples that are not in the support are queries.
            by_centres: Whether only the class centres of the support are multiplied.
        """
        size = len(self._rows)
        work = 0.0  # in units of one inner product within a large matrix product; measured on two cores
        for spec in specs:
            support, queries = spec.ways * spec.shots, spec.ways * (spec.queries or most)
            work += episodes * (support + queries) * (1.7 * (spec.ways if by_centres else support) + 10)
        if size * size * self._rows.itemsize <= GRAM_BYTES and 0.65 * size * size <= work:
            self._gram = _gram(self._rows)

    def prepare_draws(self, supports: Sequence[int], draws: int) -> None:
        """Compute all inner products at once if that is less work than computing those of the labelled examples.

        Args:
            supports: The number of labelled examples in a split, for each number of shots.
            draws: The number of draws of each that is expected at least.
        """
        size, width = self._rows.shape
        work = sum(draws * support**2 for support in supports if support <= DEAR_PRODUCTS * width)
        if size * size * self._rows.itemsize <= GRAM_BYTES and size * size <= work:
            self._gram = _gram(self._rows)

    def batch(self, spec: EpisodeSpec, queries: int, *, between_queries: bool = False) -> int:
        """The number of episodes per batch, with this number of queries per class.

        Args:
            spec: The episodes.
            queries: Queries per class.
            between_queries: Whether inner products of the queries with each other are needed.
        """
        support, asked = spec.ways * spec.shots, spec.ways * queries
        numbers = support * (support + asked) + (asked * asked if between_queries else 0)
        return max(1, BATCH_BYTES // (self._rows.itemsize * numbers))

    def __call__(self, episodes: Episodes, *, by_centres: bool = False) -> Products:
        """The inner products of some episodes.

        Args:
            episodes: The episodes.
            by_centres: Whether the class centres of the support take its place, as if there were one shot.
        """
        support, queries = (rows.flatten(1).to(self.device) for rows in (episodes.support, episodes.queries))
        averaged = episodes.support.shape[2] if by_centres else 1
        if self._gram is None or averaged > 1:
            rows, columns = self._gathered(support, queries, averaged)
        else:
            rows, columns = self._looked_up(support, queries)
        return Products(
            support=rows,
            cross=columns,
            ways=episodes.classes.shape[1],
            squares=self.squares[queries],
            with_point=(
                self._with_mean[support].view(len(support), -1, averaged).mean(dim=2),
                self._with_mean[queries],
                self._mean_square,
            ),
            factor=self.factor,
            is_query=None if episodes.is_query is None else episodes.is_query.flatten(1).to(self.device),
            between_queries=lambda: self._between(queries),
        )

    def _between(self, queries: torch.Tensor) -> torch.Tensor:
        """The inner products of the queries of each episode with each other, ``(E, Q, Q)``."""
        gram = self._gram
        return looked_up(gram, queries, queries) if gram is not None else self._gathered(queries, queries[:, :1], 1)[0]

    def against_all(self, support: torch.Tensor, *, by_centres: bool = False) -> AgainstAll | LookedUpAgainstAll:
        """The inner products of labelled examples with every row of the pool, as far as a classifier needs them.

        Args:
            support: The rows of the labelled examples of E episodes, ``(E, w, s)``.
            by_centres: Whether their class centres take their place, as if there were one shot.
        """
        rows, ways, shots = support.flatten(1).to(self.device), support.shape[1], support.shape[2]
        every = (len(rows), -1)
        if not (by_centres and shots > 1) and self._is_looked_up(rows.shape, ways):
            assert self._gram is not None
            point = (self._with_mean[rows], self._with_mean.expand(every), self._mean_square)
            return LookedUpAgainstAll(self._gram, rows, ways, self.squares.expand(every), point, self.factor)
        x = self._rows.index_select(0, rows.flatten()).view(*rows.shape, -1)
        with_mean = self._with_mean[rows]
        if by_centres and shots > 1:
            x = x.view(len(x), -1, shots, x.shape[2]).mean(dim=2)
            with_mean = with_mean.view(len(x), -1, shots).mean(dim=2)
        known = None
        if self._gram is not None and x.shape[1] == rows.shape[1]:
            known, _ = _looked_up_by_episode(self._gram, rows, rows[:, :0])
        return AgainstAll(
            x=x,
            rows=self._rows,
            ways=ways,
            squares=self.squares.expand(every),
            with_point=(with_mean, self._with_mean.expand(every), self._mean_square),
            factor=self.factor,
            looked_up=known,
        )

    def _is_looked_up(self, shape: Sequence[int], ways: int) -> bool:
        """Whether products of all rows with labelled examples are looked up.

        All of them are computed once so many have been computed one by one that it would have paid.

        Args:
            shape: The number of episodes, and of labelled examples of each.
            ways: The number of classes.
        """
        (count, width), (episodes, size) = self._rows.shape, shape
        if size > width or (4 * ways + 43) * size > 2 * ways * width:  # measured on two cores
            return False
        if self._gram is None and count * count * self._rows.itemsize <= GRAM_BYTES:
            self._work += episodes * (count * ways + size * size)  # in units of one inner product
            if self._work >= 0.25 * count * count:
                self._gram = _gram(self._rows)
        return self._gram is not None

    def _looked_up(self, support: torch.Tensor, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert self._gram is not None
        if self.device.type == "cpu" and support.shape[1] >= LARGE_SUPPORT:
            return _looked_up_by_episode(self._gram, support, queries)
        return looked_up(self._gram, support, support), looked_up(self._gram, support, queries).mT

    def _gathered(
        self, support: torch.Tensor, queries: torch.Tensor, averaged: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """From the rows of features; each ``averaged`` successive support samples are replaced by their mean."""
        import torch

        width = self._rows.shape[1]
        episodes, size, count = len(support), support.shape[1] // averaged, queries.shape[1]
        rows, columns = self._rows.new_empty(episodes, size, size), self._rows.new_empty(episodes, size, count)
        limit = GATHERED_BYTES if self.device.type == "cpu" else BATCH_BYTES * 16
        step = max(1, limit // (self._rows.itemsize * width * (support.shape[1] + count)))
        for start in range(0, episodes, step):
            here = slice(start, start + step)
            x, f = (
                self._rows.index_select(0, of[here].reshape(-1)).view(-1, of.shape[1], width)
                for of in (support, queries)
            )
            x = x if averaged == 1 else x.view(len(x), size, averaged, width).mean(dim=2)
            torch.bmm(x, x.mT, out=rows[here])
            torch.bmm(x, f.mT, out=columns[here])
        return rows, columns.mT


def _check_outliers(features: torch.Tensor, lengths: torch.Tensor) -> None:
    """Refuse features of which one is so far away that inner products about the mean say nothing of the others.

    Args:
        features: The features, ``(n, d)``.
        lengths: Their distances from the mean, ``(n,)``.

    Raises:
        FeaturesError: A distance from the mean is more than a million times the median distance of two successive rows.
    """
    import torch

    steps = torch.linalg.vector_norm(features[1:] - features[:-1], dim=1, dtype=torch.float64)
    longest, typical = float(lengths.max()), float(steps.median())
    if 0 < typical * OUTLYING < longest:
        raise FeaturesError(
            f"sample {int(lengths.argmax()):,} is {longest / typical:.0e} times as far from the mean as other samples "
            "are from each other, so that float32 loses their differences",
            "leave it out, or give --l2-normalise",
        )


def _gram(rows: torch.Tensor, block: int = 1024) -> torch.Tensor:
    """``rows rowsᵀ``; one half is computed, the other copied."""
    import torch

    gram = rows.new_empty(len(rows), len(rows))
    for start in range(0, len(rows), block):
        here, after = slice(start, start + block), slice(start + block, None)
        torch.mm(rows[here], rows[start:].T, out=gram[here, start:])
        gram[after, here] = gram[here, after].T
    return gram


def _looked_up_by_episode(
    gram: torch.Tensor, support: torch.Tensor, queries: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of the matrix are copied first, some at a time, then their columns: faster where episodes are large."""
    import torch

    (episodes, size), count = support.shape, queries.shape[1]
    rows, columns = gram.new_empty(episodes, size, size), gram.new_empty(episodes, size, count)
    step = max(1, LOOKED_UP_BYTES // (gram.itemsize * len(gram)))
    for e, start in itertools.product(range(episodes), range(0, size, step)):
        here = slice(start, start + step)
        some = gram.index_select(0, support[e, here])
        for of, out in ((support, rows), (queries, columns)):
            torch.gather(some, 1, of[e].expand(len(some), -1), out=out[e, here])
    return rows, columns.mT

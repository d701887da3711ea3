"""Inner products of the support and the queries of episodes: all that few-shot classifiers need to know of features.

Shapes: n rows of width d in the pool; E episodes with w classes, N support samples (class by class) and Q queries.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.devices import with_float64
from nctransfer.episodes.rescaling import rescaled
from nctransfer.errors import EpisodeError, FeaturesError

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.episode import Episodes, EpisodeSpec
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["AgainstAll", "Pool", "Products", "one_hot", "prepared"]

GRAM_BYTES = 512 * 2**20  # the largest matrix of all inner products that is computed
GATHERED_BYTES = 2 * 2**20  # features gathered at a time, so that they stay in the cache of the processor
OUTLYING = 1e6  # times a typical distance of two samples, where float32 begins to lose it
LARGE_SUPPORT = 200  # support samples of an episode, from which its inner products are looked up by themselves
LOOKED_UP_BYTES = 2**20  # rows of all inner products copied at a time, so that they stay in the cache
DEAR_PRODUCTS = 1.4  # times the width: with more labelled examples, weights by features are less work than by products
BATCH_BYTES = 32 * 2**20  # inner products of a batch of episodes


@dataclass(eq=False, kw_only=True)
class Products:
    """Inner products of the support and the queries of E episodes.

    They are those of features from which a common point p was subtracted.

    Attributes:
        support: Of the support with itself, ``(E, N, N)``.
        cross: Of the queries with the support, ``(E, Q, N)``; fastest where N is the second dimension in memory.
        ways: The number of classes per episode, w.
        squares: The squared lengths of the queries, ``(E, Q)``.
        with_point: Inner products with p: of the support ``(E, N)``, of the queries ``(E, Q)``, and of p with itself;
            ``None`` if p is the origin.
        factor: What the features were multiplied by, 1 unless they are extremely large or small. A classifier that
            depends on the scale of features must take it into account: a penalty on squared weights is multiplied by
            ``factor²``.
    """

    support: torch.Tensor
    cross: torch.Tensor
    ways: int
    squares: torch.Tensor
    with_point: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
    factor: float = 1.0

    @classmethod
    def of(cls, support: torch.Tensor, queries: torch.Tensor, ways: int) -> Products:
        """The inner products of features as they are.

        Args:
            support: ``(E, N, d)``, class by class.
            queries: ``(E, Q, d)``.
            ways: The number of classes.
        """
        return cls(
            support=support @ support.mT,
            cross=queries @ support.mT,
            ways=ways,
            squares=queries.square().sum(dim=2),
        )

    @property
    def shots(self) -> int:
        """Support samples per class, s."""
        return self.support.shape[1] // self.ways

    def cut(self, shots: int) -> Products:
        """The inner products with only the first ``shots`` support samples of each class."""
        if shots == self.shots:
            return self
        size = self.ways * shots
        split = (self.ways, self.shots)
        point = self.with_point
        return Products(
            support=self.support.reshape(-1, *split, *split)[:, :, :shots, :, :shots].reshape(-1, size, size),
            cross=self.cross.mT.reshape(-1, *split, self.cross.shape[1])[:, :, :shots].flatten(1, 2).mT,
            ways=self.ways,
            squares=self.squares,
            with_point=point and (point[0].reshape(-1, *split)[..., :shots].flatten(1), *point[1:]),
            factor=self.factor,
        )

    @functools.cached_property
    def centred_support(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The inner products of the support minus its mean in each episode; float64.

        Returns:
            Those of the centred support with itself ``(E, N, N)``, of each support sample with the mean ``(E, N)``, and
            of the mean with itself ``(E,)``.
        """
        support = self.support.double()
        support = (support + support.mT).div_(2)  # float32 products of a batch are not quite symmetric
        rows = support.mean(dim=2)
        total = rows.mean(dim=1)
        shift = rows - total[:, None] / 2
        return support.sub_(shift[:, :, None]).sub_(shift[:, None]), rows, total

    def weighted(self, weights: torch.Tensor) -> torch.Tensor:
        """The inner products of the queries with ``XᵀA``, X being the support minus its mean; ``(E, Q, w)`` float64.

        They are multiplied in the precision of the inner products, in which very large or small weights would be lost:
        so they are divided by the largest of their episode first.

        Args:
            weights: The dual weights A, ``(E, N, w)`` float64.
        """
        dtype = self.cross.dtype
        rows, total = (part.to(dtype) for part in self.centred_support[1:])
        centred = self.cross - self.cross.mean(dim=2, keepdim=True)
        centred.sub_(rows[:, None]).add_(total[:, None, None])
        largest = weights.abs().amax(dim=(1, 2), keepdim=True)
        largest = largest.where(largest > 0, 1)
        return (centred @ (weights / largest).to(dtype)).double().mul_(largest)

    @functools.cached_property
    def about_mean(self) -> Products:
        """The inner products of features minus the mean of the support of their episode; float64."""
        support, rows, total = self.centred_support
        cross = self.cross.double()
        crossed = cross.mean(dim=2)  # (E, Q): of each query with the mean
        return Products(
            support=support,
            cross=cross - crossed[:, :, None] - rows[:, None] + total[:, None, None],
            ways=self.ways,
            squares=self.squares.double() - 2 * crossed + total[:, None],
            factor=self.factor,
        )

    @functools.cached_property
    def about_origin(self) -> Products:
        """The inner products of the features as they are; float64."""
        if self.with_point is None:
            return self
        support, queries, point = (part.double() for part in self.with_point)
        return Products(
            support=self.support.double() + support[:, :, None] + support[:, None] + point,
            cross=self.cross.double() + queries[:, :, None] + support[:, None] + point,
            ways=self.ways,
            squares=self.squares.double() + 2 * queries + point,
            factor=self.factor,
        )

    def scaled(self) -> Products:
        """The inner products of the features, minus p, scaled to unit length; a feature of length zero stays."""
        lengths = self.support.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
        support, queries = (1 / length.where(length > 0, 1) for length in (lengths, self.squares.clamp(min=0).sqrt()))
        return Products(
            support=self.support * support[:, :, None] * support[:, None],
            cross=self.cross * queries[:, :, None] * support[:, None],
            ways=self.ways,
            squares=self.squares * queries.square(),
        )


class AgainstAll(Products):
    """Inner products of E episodes whose queries are all rows of the pool, of which few are ever needed.

    A classifier that only asks for :meth:`weighted` never has the products of all rows with all labelled examples.

    Args:
        x: The labelled examples, ``(E, N, d)``.
        rows: The queries, ``(n, d)``.
        ways: The number of classes.
        squares: The squared lengths of the queries, ``(E, n)``.
        with_point: See :class:`Products`.
        factor: See :class:`Products`.
        looked_up: The inner products of the labelled examples with each other, if they are known, ``(E, N, N)``.
    """

    def __init__(
        self,
        *,
        x: torch.Tensor,
        rows: torch.Tensor,
        ways: int,
        squares: torch.Tensor,
        with_point: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        factor: float,
        looked_up: torch.Tensor | None = None,
    ) -> None:
        self.x, self._rows, self._known = x, rows, looked_up
        self.ways, self.squares, self.with_point, self.factor = ways, squares, with_point, factor

    @property
    def shots(self) -> int:
        """Labelled examples per class, s."""
        return self.x.shape[1] // self.ways

    @functools.cached_property
    def support(self) -> torch.Tensor:  # type: ignore[override]
        """The inner products of the labelled examples with each other, ``(E, N, N)``."""
        return self.x @ self.x.mT if self._known is None else self._known

    @property
    def prefers_directions(self) -> bool:
        """Whether weights by features are less work than by inner products."""
        size, width = self.x.shape[1:]
        return size > width * (1 if self._known is None else DEAR_PRODUCTS)

    @functools.cached_property
    def cross(self) -> torch.Tensor:  # type: ignore[override]
        """The inner products of the queries with the labelled examples, ``(E, n, N)``."""
        return (self.x.flatten(0, 1) @ self._rows.T).view(*self.x.shape[:2], -1).mT

    @functools.cached_property
    def centred(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The labelled examples minus their mean ``(E, N, d)``, and the mean ``(E, 1, d)``."""
        mean = self.x.mean(dim=1, keepdim=True)
        return self.x - mean, mean

    def weighted(self, weights: torch.Tensor) -> torch.Tensor:
        """See :meth:`Products.weighted`."""
        largest = weights.abs().amax(dim=(1, 2), keepdim=True)
        largest = largest.where(largest > 0, 1)
        directions = self.centred[0].mT @ (weights / largest).to(self.x.dtype)  # (E, d, w)
        return self.along(directions).mul_(largest.to(self.x.dtype))

    def along(self, directions: torch.Tensor) -> torch.Tensor:
        """The inner products of the queries, minus the mean of the labelled examples, with directions.

        Args:
            directions: ``(E, d, w)``.

        Returns:
            ``(E, n, w)``, in the precision of the features.
        """
        episodes, width, ways = directions.shape
        products = directions.mT.reshape(-1, width) @ self._rows.T  # one large product is much the fastest
        offsets = (self.centred[1] @ directions).mT  # (E, w, 1)
        return products.view(episodes, ways, -1).sub_(offsets).mT


class LookedUpAgainstAll(Products):
    """Inner products of E episodes whose queries are all rows of the pool, from those of all rows with each other.

    Args:
        gram: The inner products of all rows with each other, ``(n, n)``.
        labelled: The rows of the labelled examples, ``(E, N)``.
        ways: The number of classes.
        squares: The squared lengths of the queries, ``(E, n)``.
        with_point: See :class:`Products`.
        factor: See :class:`Products`.
    """

    def __init__(
        self,
        gram: torch.Tensor,
        labelled: torch.Tensor,
        ways: int,
        squares: torch.Tensor,
        with_point: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        factor: float,
    ) -> None:
        self._gram, self._labelled = gram, labelled
        self.ways, self.squares, self.with_point, self.factor = ways, squares, with_point, factor

    @property
    def shots(self) -> int:
        """Labelled examples per class, s."""
        return self._labelled.shape[1] // self.ways

    @functools.cached_property
    def support(self) -> torch.Tensor:  # type: ignore[override]
        """The inner products of the labelled examples with each other, ``(E, N, N)``."""
        return looked_up(self._gram, self._labelled, self._labelled)

    @functools.cached_property
    def cross(self) -> torch.Tensor:  # type: ignore[override]
        """The inner products of the queries with the labelled examples, ``(E, n, N)``."""
        rows = self._gram.index_select(0, self._labelled.flatten())
        return rows.view(*self._labelled.shape, -1).mT

    def weighted(self, weights: torch.Tensor) -> torch.Tensor:
        """See :meth:`Products.weighted`."""
        import torch

        weights = weights - weights.mean(dim=1, keepdim=True)  # as if the mean were subtracted from the examples
        largest = weights.abs().amax(dim=(1, 2), keepdim=True)
        largest = largest.where(largest > 0, 1)
        scaled = (weights / largest).to(self._gram.dtype).mT.contiguous()  # (E, w, N)
        products = scaled.new_empty(*scaled.shape[:2], len(self._gram))
        for one, labelled, out in zip(scaled, self._labelled, products, strict=True):  # these rows stay in the cache
            torch.mm(one, self._gram.index_select(0, labelled), out=out)
        products -= scaled @ self.support.mean(dim=2)[:, :, None]  # and from the queries
        return products.mul_(largest.to(products.dtype)).mT


def looked_up(gram: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Places of a matrix of at most ``GRAM_BYTES``.

    Args:
        gram: The matrix.
        rows: Row numbers of E episodes, ``(E, N)``.
        columns: Column numbers, ``(E, M)``.

    Returns:
        ``(E, N, M)``.
    """
    rows, columns = rows.int(), columns.int()  # all places are below 2³¹
    places = rows[:, :, None] * len(gram) + columns[:, None]  # row by row, so that a row stays in the cache
    return gram.view(-1).index_select(0, places.view(-1)).view(places.shape)  # several times faster than two indices


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

    Raises:
        FeaturesError: Features are far outside the range of float32, or one is so far from the others that their
            differences would be lost.
    """

    def __init__(self, features: torch.Tensor, device: str = "auto") -> None:
        import torch

        self.device = with_float64(device)
        features, self._factor = rescaled(features)
        mean = features.mean(dim=0, dtype=torch.float64).to(features.dtype)
        centred = features - mean
        lengths = torch.linalg.vector_norm(centred, dim=1, dtype=torch.float64)
        _check_outliers(features, lengths)
        longest = float(lengths.max()) / self._factor
        rounding = longest**2 * torch.finfo(torch.float32).eps
        dtype = torch.float32 if rounding < 0.01 else torch.float64  # such a penalty is at least 1
        self._rows = centred.to(self.device, dtype)
        mean = mean.to(self.device, dtype)
        self._squares = self._rows.square().sum(dim=1)
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

    def batch(self, spec: EpisodeSpec, queries: int) -> int:
        """The number of episodes per batch, with this number of queries per class."""
        support = spec.ways * spec.shots
        return max(1, BATCH_BYTES // (self._rows.itemsize * support * (support + spec.ways * queries)))

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
            squares=self._squares[queries],
            with_point=(
                self._with_mean[support].view(len(support), -1, averaged).mean(dim=2),
                self._with_mean[queries],
                self._mean_square,
            ),
            factor=self._factor,
        )

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
            return LookedUpAgainstAll(self._gram, rows, ways, self._squares.expand(every), point, self._factor)
        x = self._rows.index_select(0, rows.flatten()).view(*rows.shape, -1)
        with_mean = self._with_mean[rows]
        if by_centres and shots > 1:
            x = x.view(len(x), -1, shots, x.shape[2]).mean(dim=2)
            with_mean = with_mean.view(len(x), -1, shots).mean(dim=2)
        known = None
        if self._gram is not None and x.shape[1] == rows.shape[1]:
            known, _ = self._looked_up_by_episode(self._gram, rows, rows[:, :0])
        return AgainstAll(
            x=x,
            rows=self._rows,
            ways=ways,
            squares=self._squares.expand(every),
            with_point=(with_mean, self._with_mean.expand(every), self._mean_square),
            factor=self._factor,
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
            return self._looked_up_by_episode(self._gram, support, queries)
        return looked_up(self._gram, support, support), looked_up(self._gram, support, queries).mT

    def _looked_up_by_episode(
        self, gram: torch.Tensor, support: torch.Tensor, queries: torch.Tensor
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


def one_hot(products: Products) -> torch.Tensor:
    """The one-hot labels of the support, ``(N, w)`` float64."""
    import torch

    classes = torch.eye(products.ways, dtype=torch.float64, device=products.support.device)
    return classes.repeat_interleave(products.shots, dim=0)

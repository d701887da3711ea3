"""Inner products of the support and the queries of episodes: all that few-shot classifiers need to know of features.

Shapes: n rows of width d in the pool; E episodes with w classes, N support samples (class by class) and Q queries.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["DEAR_PRODUCTS", "AgainstAll", "LookedUpAgainstAll", "Products", "looked_up", "one_hot"]

DEAR_PRODUCTS = 1.4  # times the width: with more labelled examples, weights by features are less work than by products


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
        is_query: Which of the queries count, ``(E, Q)``; ``None`` if all do.
        between_queries: Computes the inner products of the queries with each other, ``(E, Q, Q)``, which only
            transductive classifiers need, see :attr:`queries`; ``None`` if they cannot be had.
    """

    support: torch.Tensor
    cross: torch.Tensor
    ways: int
    squares: torch.Tensor
    with_point: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
    factor: float = 1.0
    is_query: torch.Tensor | None = None
    between_queries: Callable[[], torch.Tensor] | None = None

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
            between_queries=lambda: queries @ queries.mT,
        )

    @functools.cached_property
    def queries(self) -> torch.Tensor:
        """The inner products of the queries with each other, ``(E, Q, Q)``; computed when they are first asked for."""
        assert self.between_queries is not None, "these inner products are not of episodes"
        return self.between_queries()

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
            is_query=self.is_query,
            between_queries=lambda: self.queries,
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


def one_hot(products: Products) -> torch.Tensor:
    """The one-hot labels of the support, ``(N, w)`` float64."""
    import torch

    classes = torch.eye(products.ways, dtype=torch.float64, device=products.support.device)
    return classes.repeat_interleave(products.shots, dim=0)

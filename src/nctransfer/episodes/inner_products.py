"""Inner products of the support and the queries of episodes: all that the few-shot classifiers need of features.

Shapes: n rows of width d in the pool, E episodes, N support samples and Q queries of each.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.devices import with_float64
from nctransfer.errors import EpisodeError

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.episode import Episodes, EpisodeSpec
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["Pool", "Products", "one_hot", "prepared"]

GRAM_BYTES = 512 * 2**20  # the largest matrix of all inner products that is made
GATHERED_BYTES = 8 * 2**20  # of features gathered at a time: they should stay in the cache of the processor
BATCH_BYTES = 32 * 2**20  # of inner products of a batch of episodes


@dataclass(eq=False)
class Products:
    """Inner products of E episodes of features less a common point, of which the classifiers make what they need.

    Attributes:
        support: ``(E, N, N)``: of the support with itself.
        cross: ``(E, Q, N)``: of the queries with the support.
        ways: w; N is a multiple of it.
        squares: Squared lengths of the queries, ``(E, Q)``.
        along: Inner products with the common point: of the support ``(E, N)``, of the queries ``(E, Q)`` and of the
            point itself; ``None`` if it is the origin.
    """

    support: torch.Tensor
    cross: torch.Tensor
    ways: int
    squares: torch.Tensor
    along: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    @classmethod
    def of(cls, support: torch.Tensor, queries: torch.Tensor, ways: int) -> Products:
        """Of features ``(E, N, d)`` and ``(E, Q, d)``, about the origin."""
        return cls(support @ support.mT, queries @ support.mT, ways, queries.square().sum(dim=2))

    @property
    def shots(self) -> int:
        """Samples a class, s."""
        return self.support.shape[1] // self.ways

    def cut(self, shots: int) -> Products:
        """Those of the first ``shots`` of each class."""
        import torch

        if shots == self.shots:
            return self
        kept = torch.arange(self.support.shape[1], device=self.support.device).view(self.ways, -1)
        some = kept[:, :shots].reshape(-1)
        return Products(
            self.support[:, some[:, None], some],
            self.cross[:, :, some],
            self.ways,
            self.squares,
            self.along and (self.along[0][:, some], *self.along[1:]),
        )

    @functools.cached_property
    def about_mean(self) -> Products:
        """Of features less the mean of the support of their episode; float64."""
        support, cross = self.support.double(), self.cross.double()
        support = (support + support.mT) / 2  # float32 products of a batch are not quite symmetric
        rows = support.mean(dim=2)  # (E, N): each with the mean
        total = rows.mean(dim=1)  # (E,): the mean with itself
        crossed = cross.mean(dim=2)  # (E, Q)
        return Products(
            support - rows[:, :, None] - rows[:, None] + total[:, None, None],
            cross - crossed[:, :, None] - rows[:, None] + total[:, None, None],
            self.ways,
            self.squares.double() - 2 * crossed + total[:, None],
        )

    @functools.cached_property
    def about_origin(self) -> Products:
        """Of the features as they are; float64."""
        if self.along is None:
            return self
        near, far, point = (part.double() for part in self.along)
        return Products(
            self.support.double() + near[:, :, None] + near[:, None] + point,
            self.cross.double() + far[:, :, None] + near[:, None] + point,
            self.ways,
            self.squares.double() + 2 * far + point,
        )

    def scaled(self) -> Products:
        """Of the features scaled to unit length about the common point; a feature of no length stays."""
        lengths = self.support.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
        near, far = (1 / length.where(length > 0, 1) for length in (lengths, self.squares.clamp(min=0).sqrt()))
        return Products(
            self.support * near[:, :, None] * near[:, None],
            self.cross * far[:, :, None] * near[:, None],
            self.ways,
            self.squares * far.square(),
        )


def prepared(
    features: FeatureSet, query_set: FeatureSet | None, center_on: FeatureSet | None, l2_normalise: bool
) -> torch.Tensor:
    """The features, and after them those of the query set, as the classifiers shall see them, ``(n, d)``.

    Raises:
        EpisodeError: The reference mean is of another width.
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
        lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)
        rows = (rows / lengths.where(lengths > 0, 1)).to(rows.dtype)
    return rows


class Pool:
    """The features that episodes are drawn from, less their mean.

    Inner products are either made of all features once and looked up, or made from the rows of each episode: whichever
    is less work. The mean is taken off in the precision of the features, as float32 products at a large offset would
    lose every digit. Features so long that the rounding of float32 rivals a ridge penalty are multiplied in float64.
    """

    def __init__(self, features: torch.Tensor, device: str = "auto") -> None:
        """Of features ``(n, d)``."""
        import torch

        self.device = with_float64(device)
        mean = features.mean(dim=0, dtype=torch.float64).to(features.dtype)
        centred = features - mean
        longest = float(torch.linalg.vector_norm(centred, dim=1, dtype=torch.float64).max())
        if not longest < 1e150:
            raise EpisodeError(
                f"features as long as {longest:.3g} have no inner products in float64",
                "scale them, as by --l2-normalise",
            )
        rounding = longest**2 * torch.finfo(torch.float32).eps
        dtype = torch.float32 if rounding < 0.01 else torch.float64  # a penalty is at least sqrt(2)
        self._rows = centred.to(self.device, dtype)
        mean = mean.to(self.device, dtype)
        self._squares = self._rows.square().sum(dim=1)
        self._along = self._rows @ mean
        self._origin = mean.double().square().sum()
        self._gram: torch.Tensor | None = None

    @property
    def has_gram(self) -> bool:
        """Whether all inner products are at hand."""
        return self._gram is not None

    def prepare(self, specs: Sequence[EpisodeSpec], episodes: int, most: int) -> None:
        """Make all inner products at once if that is less work than those of each episode.

        Args:
            specs: The tasks.
            episodes: Of each.
            most: Queries a class where all that are left are.
        """
        size = len(self._rows)
        work = 0.0  # in products of two features, as a large matrix product makes them; measured on two cores
        for spec in specs:
            support, queries = spec.ways * spec.shots, spec.ways * (spec.queries or most)
            work += episodes * (support + queries) * (1.7 * support + 10)
        if size * size * self._rows.itemsize <= GRAM_BYTES and 0.65 * size * size <= work:
            self._gram = _gram(self._rows)

    def batch(self, spec: EpisodeSpec, queries: int) -> int:
        """Episodes at a time, with so many queries a class."""
        support = spec.ways * spec.shots
        return max(1, BATCH_BYTES // (self._rows.itemsize * support * (support + spec.ways * queries)))

    def __call__(self, episodes: Episodes) -> Products:
        """The inner products of some episodes."""
        support, queries = (rows.flatten(1).to(self.device) for rows in (episodes.support, episodes.queries))
        rows, columns = (self._gathered if self._gram is None else self._looked_up)(support, queries)
        return Products(
            rows,
            columns,
            episodes.classes.shape[1],
            self._squares[queries],
            (self._along[support], self._along[queries], self._origin),
        )

    def _looked_up(self, support: torch.Tensor, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert self._gram is not None
        flat, width = self._gram.view(-1), len(self._gram)

        def at(rows: torch.Tensor) -> torch.Tensor:
            places = rows[:, :, None] * width + support[:, None]
            return flat.index_select(0, places.view(-1)).view(places.shape)  # several times as fast as two indices

        return at(support), at(queries)

    def _gathered(self, support: torch.Tensor, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        width = self._rows.shape[1]
        episodes, size, count = len(support), support.shape[1], queries.shape[1]
        rows, columns = self._rows.new_empty(episodes, size, size), self._rows.new_empty(episodes, count, size)
        limit = GATHERED_BYTES if self.device.type == "cpu" else BATCH_BYTES * 16
        step = max(1, limit // (self._rows.itemsize * width * (size + count)))
        for start in range(0, episodes, step):
            here = slice(start, start + step)
            x, f = (
                self._rows.index_select(0, of[here].reshape(-1)).view(-1, of.shape[1], width)
                for of in (support, queries)
            )
            torch.bmm(x, x.mT, out=rows[here])
            torch.bmm(f, x.mT, out=columns[here])
        return rows, columns


def _gram(rows: torch.Tensor, block: int = 1024) -> torch.Tensor:
    """``rows rowsᵀ``, half of it by multiplying."""
    import torch

    gram = rows.new_empty(len(rows), len(rows))
    for start in range(0, len(rows), block):
        here, after = slice(start, start + block), slice(start + block, None)
        torch.mm(rows[here], rows[start:].T, out=gram[here, start:])
        gram[after, here] = gram[here, after].T
    return gram


def one_hot(products: Products) -> torch.Tensor:
    """The labels of the support as one-hot rows, ``(N, w)`` float64."""
    import torch

    classes = torch.eye(products.ways, dtype=torch.float64, device=products.support.device)
    return classes.repeat_interleave(products.shots, dim=0)

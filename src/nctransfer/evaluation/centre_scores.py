"""Scores of queries for the centres of many supports."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

    from nctransfer.episodes.classifier import ExpectedForm
    from nctransfer.evaluation.queries import Queries

__all__ = ["BLOCKS", "TABLE_BYTES", "Arrangement", "CentreScores"]

BLOCKS = 64  # of queries; groups of queries are whole blocks
TABLE_BYTES = 5 * 10**8  # of the inner products of all samples, at most
TABLE_SHOTS = 32  # d/m above which m inner products are looked up and not computed: a look-up costs about 32 of them


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrangement:
    """Queries in a random order in which every stretch holds the same share of each class.

    There are n′ places, a multiple of :data:`BLOCKS`; those at the end hold no query.

    Attributes:
        rows: The sample at each place, ``(n′,)``; 0 where there is none.
        labels: Its class, ``(n′,)``.
        weights: Its weight in the mean over classes, ``(n′,)`` float64; 0 where there is none.
    """

    rows: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor

    @classmethod
    def of(cls, queries: Queries, generator: np.random.Generator, device: torch.device) -> Arrangement:
        """A random arrangement.

        Args:
            queries: What is classified.
            generator: Of the order.
            device: Where the tensors lie.
        """
        import numpy as np
        import torch

        counts = np.array(list(map(len, queries.of_class)))
        keys = np.concatenate([(generator.permutation(k) + generator.random()) / k for k in counts])
        order = torch.from_numpy(np.argsort(keys, kind="stable"))
        labels = torch.from_numpy(np.repeat(np.arange(len(counts)), counts))[order]
        weights = torch.from_numpy(1 / (counts * len(counts)))[labels]
        padding = (0, -len(order) % BLOCKS)
        return cls(
            **{
                name: torch.nn.functional.pad(values, padding).to(device)
                for name, values in (("rows", queries.rows[order]), ("labels", labels), ("weights", weights))
            }
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class CentreScores:
    """Scores of queries for the centres of supports.

    Where supports are small, and all samples are queries, the inner products of all pairs of samples are computed once:
    those with a centre are means over its support. Otherwise centres are computed and multiplied.

    Attributes:
        rows: The features as the classifier sees them, ``(n, d)``.
        form: The expected form of the classifier.
        places: The queries.
    """

    rows: torch.Tensor
    form: ExpectedForm
    places: Arrangement

    def has_table(self, shots: int) -> bool:
        """Whether scores for centres of supports of this size come from the inner products of all samples."""
        count, dim = self.rows.shape
        return (
            self.form.from_products is not None
            and count <= int((self.places.weights > 0).sum())
            and count**2 * self.rows.element_size() <= TABLE_BYTES
            and TABLE_SHOTS * shots <= dim
        )

    @cached_property
    def queries(self) -> torch.Tensor:
        """The features of the queries, ``(n′, d)``."""
        return self.rows[self.places.rows]

    @cached_property
    def table(self) -> torch.Tensor:
        """The inner products of all samples with the queries, ``(n, n′)``."""
        return self.rows @ self.queries.T

    @cached_property
    def place_of(self) -> torch.Tensor:
        """The place of each sample among the queries, ``(n,)``; −1 for those that are none."""
        import torch

        rows = self.places.rows[self.places.weights > 0]
        found = torch.full((len(self.rows),), -1, device=rows.device)
        found[rows] = torch.arange(len(rows), device=rows.device)
        return found

    def __call__(self, supports: torch.Tensor, blocks: torch.Tensor, count: int) -> torch.Tensor:
        """The scores of the queries of some blocks for the centres of the supports that belong to each block.

        Args:
            supports: Row numbers, ``(g, t, m)``.
            blocks: The numbers of g blocks, ``(g,)``.
            count: Into how many blocks the queries are divided; a divisor of :data:`BLOCKS`.

        Returns:
            ``(t, g · n′/count)``.
        """
        by = self._from_table if self.has_table(supports.shape[2]) else self._from_centres
        scores = by(supports, blocks, count)
        return scores.transpose(0, 1).reshape(supports.shape[1], -1)

    def _from_centres(self, supports: torch.Tensor, blocks: torch.Tensor, count: int) -> torch.Tensor:
        import torch

        groups, number, shots = supports.shape
        centres = torch.nn.functional.embedding_bag(supports.reshape(-1, shots), self.rows, mode="mean")
        w, b = self.form.linear(centres)
        f = self.queries.view(count, -1, self.rows.shape[1])[blocks]
        return torch.baddbmm(b.view(groups, number, 1), w.view(groups, number, -1), f.transpose(1, 2), beta=-1)

    def _from_table(self, supports: torch.Tensor, blocks: torch.Tensor, count: int) -> torch.Tensor:
        import torch

        groups, number, shots = supports.shape
        form = self.form.from_products
        assert form is not None
        width = self.table.shape[1]
        stretches = self.table.view(-1, width // count)  # of one row and one block each
        chosen = supports * count + blocks.to(supports.device)[:, None, None]
        products = torch.nn.functional.embedding_bag(chosen.view(-1, shots), stretches, mode="mean")
        pairs = supports[..., :, None] * width + self.place_of[supports][..., None, :]
        squares = self.table.view(-1)[pairs.flatten()].view(groups, number, -1).mean(dim=2)
        return form(products.view(groups, number, -1), squares[..., None])

    def of_samples(self, own: slice, squares: torch.Tensor) -> torch.Tensor:
        """The scores of samples for every sample as a centre.

        Args:
            own: The samples.
            squares: The squared lengths of all samples, ``(n,)``.

        Returns:
            ``(samples, n)``.
        """
        if self.has_table(1):
            form = self.form.from_products
            assert form is not None
            return form(self.table[own][:, self.place_of], squares)
        w, b = self._as_centres
        return self.rows[own] @ w.T - b

    @cached_property
    def _as_centres(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.form.linear(self.rows)

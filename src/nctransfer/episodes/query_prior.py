"""Query priors: how the queries of an episode are spread over its classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nctransfer.errors import SettingError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

__all__ = ["BALANCED", "UNEVEN", "QueryPrior", "fitted"]

BALANCED = "balanced"
UNEVEN = "dirichlet:2"  # the one of the literature (Veilleux et al., NeurIPS 2021)
LEAST, MOST = 0.01, 1e6  # concentrations, between which draws are exact enough

Kind = Literal["balanced", "dirichlet", "empirical"]


@dataclass(frozen=True)
class QueryPrior:
    """How the queries of an episode are spread over its classes.

    - ``balanced``: as many queries of each class.
    - ``dirichlet:A``: proportions are drawn from the symmetric Dirichlet distribution with concentration A, anew for
      each episode, and the class of each query is drawn with these proportions. Small A give very uneven queries, and
      the larger A, the closer they are to a multinomial draw with equal proportions.
    - ``empirical``: the class of each query is drawn in proportion to the numbers of images of the classes of the
      episode, in the set that queries come from.

    Whatever the prior, there are ``ways · queries`` queries in all, unless a class has too few images, see
    :func:`fitted`. Source of the Dirichlet prior: Veilleux, Boudiaf, Piantanida, Ben Ayed, "Realistic evaluation of
    transductive few-shot learning" (NeurIPS 2021). As we remember it, they round the proportions to numbers of queries,
    where we draw the class of each query.

    Attributes:
        kind: ``balanced``, ``dirichlet`` or ``empirical``.
        concentration: A of the Dirichlet distribution; 0 for the others.
    """

    kind: Kind = "balanced"
    concentration: float = 0.0

    @classmethod
    def parse(cls, text: str) -> QueryPrior:
        """A prior from its name.

        Raises:
            SettingError: There is no such prior.

        >>> QueryPrior.parse("dirichlet:2.0"), str(QueryPrior.parse("dirichlet:2.0"))
        (QueryPrior(kind='dirichlet', concentration=2.0), 'dirichlet:2')
        """
        if text == "balanced":
            return cls("balanced")
        if text == "empirical":
            return cls("empirical")
        name, _, number = text.partition(":")
        try:
            concentration = float(number)
        except ValueError:
            concentration = math.nan
        if name != "dirichlet" or not LEAST <= concentration <= MOST:
            raise SettingError(
                f"expected a query prior, got {text!r}",
                "give --query-prior balanced, empirical or dirichlet:A with a number A from "
                f"{LEAST:g} to {MOST:,.0f}, such as {UNEVEN}",
            )
        return cls("dirichlet", concentration)

    @property
    def is_balanced(self) -> bool:
        """Whether there are as many queries of each class."""
        return self.kind == "balanced"

    def __str__(self) -> str:
        """The name by which users choose it."""
        return f"dirichlet:{self.concentration:g}" if self.kind == "dirichlet" else self.kind

    def draw(self, generator: np.random.Generator, sizes: NDArray[np.int64], queries: int) -> NDArray[np.int64]:
        """The number of queries of each class.

        Args:
            generator: What is random.
            sizes: The number of images of each class of E episodes, in the set that queries come from, ``(E, w)``.
            queries: Queries per class, on average over the classes of an episode.

        Returns:
            ``(E, w)``; the numbers of an episode add up to ``w · queries``.

        >>> import numpy as np
        >>> prior, sizes = QueryPrior.parse("dirichlet:2"), np.full((3, 4), 100)
        >>> prior.draw(np.random.default_rng(0), sizes, 15).sum(axis=1).tolist()
        [60, 60, 60]
        """
        import numpy as np

        episodes, ways = sizes.shape
        if self.kind == "balanced":
            return np.full(sizes.shape, queries)
        if self.kind == "dirichlet":
            shares = generator.dirichlet(np.full(ways, self.concentration), episodes)
        else:
            shares = sizes / sizes.sum(axis=1, keepdims=True)
        return generator.multinomial(ways * queries, shares)


def fitted(wanted: torch.Tensor, available: torch.Tensor) -> torch.Tensor:
    """The numbers of queries that the images suffice for, in the proportions that were drawn.

    If a class has fewer images than were drawn of it, all numbers of the episode are multiplied by the same factor, the
    largest for which they suffice, and rounded. So the episode has fewer queries, and its proportions stay.

    Args:
        wanted: The number of queries of each class that was drawn, ``(E, w)``.
        available: The number of images of each class that can be queries, ``(E, w)``.

    Returns:
        ``(E, w)``.

    >>> import torch
    >>> fitted(torch.tensor([[40, 20, 15], [25, 25, 25]]), torch.tensor([[20, 20, 30], [25, 25, 25]])).tolist()
    [[20, 10, 8], [25, 25, 25]]
    """
    import torch

    share = (available.double() / wanted.clamp(min=1)).where(wanted > 0, 1.0).amin(dim=1, keepdim=True).clamp(max=1)
    return torch.minimum((wanted * share + 0.5).floor().long(), available)

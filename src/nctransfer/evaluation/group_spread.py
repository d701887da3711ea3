"""How the accuracies of groups vary together where each group has its own degrees of freedom."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.evaluation.spread import Spread
from nctransfer.intervals import Z, t_quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

__all__ = ["GroupSpread"]

FEWEST = 4.0  # degrees of freedom; a group with fewer would widen the intervals of all groups together
NONE = 1e-12  # a standard error up to this is that of equal accuracies, and of rounding


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupSpread:
    """The covariance of the accuracies of G groups, ``vectorsᵀ vectors``.

    Attributes:
        vectors: What leaving out images or classes changes, scaled, and the draw of episodes, ``(N, G)``.
        degrees: The degrees of freedom of each group, ``(G,)``.
    """

    vectors: torch.Tensor
    degrees: torch.Tensor

    def errors(self) -> torch.Tensor:
        """The standard errors, ``(G,)``."""
        return self.vectors.square().sum(dim=0).sqrt()

    def half_widths(self) -> list[float | None]:
        """Half the width of the 95% interval of each group for itself, at most 1; ``None`` if there is none.

        Over episodes, a group that has the same accuracy in each episode, or is asked in one alone, has none: that no
        spread was seen does not tell how small it is.
        """
        factors = [Z if math.isinf(one) else t_quantile(max(one, 1.0)) for one in self.degrees.tolist()]
        pairs = zip(self.errors().tolist(), factors, strict=True)
        return [min(factor * error, 1.0) if NONE < error < math.inf else None for error, factor in pairs]

    def comparable(self) -> list[int]:
        """The groups that are compared: those with an interval and four degrees of freedom, or as many as any has."""
        enough = self.degrees >= min(FEWEST, float(self.degrees.max()))
        found: list[int] = (self.errors().isfinite() & enough).nonzero()[:, 0].tolist()
        return found

    def of(self, groups: Sequence[int]) -> Spread:
        """The spread of some groups together, with the degrees of freedom of the one with the fewest."""
        return Spread(vectors=self.vectors[:, groups], degrees=max(float(self.degrees[groups].min()), 1.0))

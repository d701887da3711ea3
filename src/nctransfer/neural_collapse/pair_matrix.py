"""The CDNV of every pair of classes, for a figure of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from nctransfer.neural_collapse.cdnv import cdnv_pairs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nctransfer.neural_collapse.class_statistics import ClassStatistics

__all__ = ["PairMatrix"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PairMatrix:
    """The CDNV of every pair of classes.

    Attributes:
        classes: The names of the classes, by code.
        cdnv: ``V_ij``, ``(C, C)`` float32: symmetric, zero on the diagonal, infinite where two means coincide.
    """

    classes: tuple[str, ...]
    cdnv: NDArray[np.float32]

    @classmethod
    def of(cls, stats: ClassStatistics, classes: tuple[str, ...]) -> Self:
        """The matrix of these statistics."""
        return cls(classes=classes, cdnv=cdnv_pairs(stats).float().numpy())

    def closest(self, most: int) -> list[tuple[int, int]]:
        """The pairs with the highest CDNV, at most so many, the closest pair first.

        >>> import numpy as np
        >>> found = PairMatrix(classes=("a", "b", "c"), cdnv=np.array([[0, 1, 3], [1, 0, 2], [3, 2, 0]], np.float32))
        >>> found.closest(2)
        [(0, 2), (1, 2)]
        """
        import numpy as np

        found: list[tuple[float, int, int]] = []
        least = -1.0  # of the pairs that are kept so far
        for a, row in enumerate(self.cdnv):
            others = a + 1 + np.flatnonzero(row[a + 1 :] >= least)
            found += [(-value, a, b) for value, b in zip(row[others].tolist(), others.tolist(), strict=True)]
            if len(found) > 2 * most:
                found = sorted(found)[:most]
                least = -found[-1][0]
        return [(a, b) for _, a, b in sorted(found)[:most]]

    def most_interesting(self, most: int) -> list[int]:
        """The classes of the closest pairs, at most so many, by code: pairs count from the closest on."""
        chosen: set[int] = set()
        for pair in self.closest(most * most):  # among so many pairs are more classes than wanted
            if len(chosen.union(pair)) <= most:
                chosen.update(pair)
        return sorted(chosen)

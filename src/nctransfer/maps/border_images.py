"""The images of two classes that lie nearest to the border between them.

Their places on the line between the class means are those of :mod:`~nctransfer.evaluation.line_places`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.errors import FeaturesError
from nctransfer.evaluation.line_places import line_places

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["Border", "border_between"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Border:
    """The images of two classes, a and b, and where they lie on the line between the means.

    Attributes:
        rows_a: The image numbers of class a, those nearest to the border first, ``(n_a,)`` int64.
        rows_b: The image numbers of class b, in the same way, ``(n_b,)`` int64.
        right_a: How many images of class a lie on their own side of the border.
        right_b: How many images of class b do.
    """

    rows_a: torch.Tensor
    rows_b: torch.Tensor
    right_a: int
    right_b: int


def border_between(features: FeatureSet, class_a: int, class_b: int) -> Border:
    """The images of two classes by how near they lie to the border between them.

    The cost is that of reading the rows of both classes.

    Args:
        features: The feature set, sorted by class as feature sets are.
        class_a: The code of a class of at least two images.
        class_b: The code of another one.

    Raises:
        FeaturesError: One of the classes has fewer than two images.

    >>> import numpy as np
    >>> from nctransfer.features.feature_set import FeatureSet
    >>> line = FeatureSet.from_arrays(np.array([[0.0], [1.0], [4.0], [8.0], [9.0], [10.0]]), "aaabbb")
    >>> border = border_between(line, 0, 1)
    >>> border.rows_a.tolist(), border.rows_b.tolist(), border.right_a, border.right_b
    ([2, 1, 0], [3, 4, 5], 3, 3)
    """
    counts: list[int] = features.counts.tolist()
    if min(counts[class_a], counts[class_b]) < 2:
        raise FeaturesError(
            "the border between two classes needs two images of each; "
            f"{features.classes[class_a]!r} has {counts[class_a]}, {features.classes[class_b]!r} {counts[class_b]}",
            "give more images of these classes",
        )
    first_a, first_b = (sum(counts[:code]) for code in (class_a, class_b))
    # about the mean of class a, so that no digits are lost to an offset that all features share
    rows_a = features.features[first_a : first_a + counts[class_a]].double()
    centre = rows_a.mean(dim=0)
    rows_a = rows_a - centre
    rows_b = features.features[first_b : first_b + counts[class_b]].double() - centre
    place_a, place_b = line_places(rows_a, rows_b.mean(dim=0)), line_places(rows_b, rows_a.mean(dim=0))
    return Border(
        rows_a=first_a + place_a.abs().argsort(stable=True),
        rows_b=first_b + place_b.abs().argsort(stable=True),
        right_a=int((place_a > 0).sum()),
        right_b=int((place_b > 0).sum()),
    )

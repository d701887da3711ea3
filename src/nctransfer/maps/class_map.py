"""How far apart the classes of a feature set are, and an order in which similar classes stand beside each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.devices import with_float64
from nctransfer.errors import FeaturesError, SettingError, counted, join_names
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.features.feature_set import FeatureSet
from nctransfer.features.size_limits import check_size
from nctransfer.maps.leaf_order import with_best_leaf_order
from nctransfer.neural_collapse.cdnv import debiased_values
from nctransfer.neural_collapse.moments import Geometry, Means

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from numpy.typing import NDArray

__all__ = ["MOST_ORDERED", "ClassMap", "map_classes"]

MOST_ORDERED = 2000
"""Up to how many classes the leaf order is the best one; that takes 1 to 3 seconds for 2,000 classes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassMap:
    """How far apart the C classes of a feature set are, and a tree of them.

    Attributes:
        features: What the set is, with its numbers of samples, classes and dimensions.
        classes: The C class names. Codes below are positions in it.
        counts: The number of images of each class, ``(C,)`` int64.
        distance: The distance of two class means in within-class standard deviations, ``(C, C)`` float64, symmetric,
            zero on the diagonal: ``1 / √V_ij`` with the debiased CDNV ``V_ij``. It is infinite where neither class
            varies and their means differ.
        told_apart: Whether these images tell two classes apart, ``(C, C)`` bool: the squared distance is larger than
            the noise of the two means that was subtracted from it. False on the diagonal.
        order: The codes in an order in which similar classes stand beside each other, ``(C,)`` int64: that of the
            leaves of the tree.
        linkage: The tree as SciPy has it, ``(C − 1, 4)`` float64, by average linkage: the leaves are codes, and a
            dendrogram draws them in the order of ``order``. An infinite distance counts as twice the largest finite
            one.
        is_optimal: Whether ``order`` is that of all orders of the tree in which neighbours are closest.
        single: The codes of classes of one image, whose variance is taken to be that of the other classes.
        notes: What a reader of the distances should know.
    """

    features: FeatureInfo
    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    distance: NDArray[np.float64]
    told_apart: NDArray[np.bool_]
    order: NDArray[np.int64]
    linkage: NDArray[np.float64]
    is_optimal: bool
    single: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def most_interesting(self, most: int) -> tuple[int, ...]:
        """The classes of the closest pairs, for a map of classes that are too many to be read.

        Pairs are taken from the closest on, as long as their classes are at most so many.

        Args:
            most: How many classes, at least 2.

        Returns:
            The codes of ``min(most, C)`` classes in leaf order.

        Raises:
            SettingError: Fewer than 2 classes are wanted.
        """
        import numpy as np

        if most < 2:
            raise SettingError(f"a map of {counted(most, 'class', 'classes')} is asked for", "give 2 or more")
        first, second = np.triu_indices(len(self.classes), 1)
        closest = np.argsort(self.distance[first, second], kind="stable")
        chosen: set[int] = set()
        for a, b in zip(first[closest].tolist(), second[closest].tolist(), strict=True):
            if len(chosen | {a, b}) <= most:
                chosen |= {a, b}
            if len(chosen) == most:
                break
        return tuple(code for code in self.order.tolist() if code in chosen)

    def to_frame(self) -> pd.DataFrame:
        """The distances as a table with class names, both ways in leaf order."""
        import pandas as pd

        names = pd.Index([self.classes[code] for code in self.order.tolist()], dtype=object)
        return pd.DataFrame(self.distance[self.order][:, self.order], index=names, columns=names)


def map_classes(features: FeatureSet, *, most: int = MOST_ORDERED, device: str = "auto") -> ClassMap:
    """How far apart the classes are, in standard deviations within classes, and an order of similar classes.

    The distance of two classes is ``1 / √V``, where V is the debiased CDNV of
    :func:`~nctransfer.neural_collapse.cdnv.cdnv_debiased`: ``‖mu_a − mu_b‖ / √((v_a + v_b) / 2)``, without the noise
    by which means of few images lie too far apart. With 5 images per class, this noise would add 0.4 to each squared
    distance. Where the noise is larger than the squared distance, the distance is 0. Scaling, rotating and shifting all
    features changes nothing.

    Classes at distance 1 can be told apart well: their variance lies in many directions, and only one of them leads to
    the other class.

    The tree is that of average linkage. Its leaves are put into the order in which the sum of the distances of
    neighbours is smallest (Bar-Joseph et al., 2001).

    Args:
        features: At least 2 classes, at least one of them with 2 images. A class of one image is taken to vary as much
            as the other classes do.
        most: Up to how many classes the order of the leaves is the optimal one; beyond, it is any that the tree allows.
        device: Where to compute.

    Raises:
        FeaturesError: There are fewer than 2 classes, a class has no image, or none has 2 images; or the features are
            so large or small that their moments leave float64.

    >>> rows = [[0.0], [2.0], [20.0], [22.0], [10.0], [12.0]]  # v = 2 in each class
    >>> found = map_classes(FeatureSet.from_arrays(rows, "aabbcc"))
    >>> found.distance[0].round(2).tolist()  # √((10² − 1 − 1) / 2) = 7
    [0.0, 14.11, 7.0]
    >>> found.order.tolist()
    [0, 2, 1]
    """
    import numpy as np
    import torch

    _check(features)
    place = with_float64(device)
    means = Means.of(features, place, torch.empty(len(features), 0, dtype=torch.bool))
    geometry = Geometry(means)
    unbiased = _unbiased_variances(features, geometry, means)
    values, resolved = debiased_values(geometry.distances, unbiased, unbiased / means.counts)
    differ = geometry.distances > 0
    distance = torch.where(values > 0, values.rsqrt(), torch.where((values == 0) & differ, torch.inf, 0.0))
    matrix = distance.fill_diagonal_(0).cpu().numpy()
    told_apart = (resolved & differ).cpu().numpy()
    is_optimal = len(matrix) <= most
    tree = _tree(matrix, is_optimal)
    counts = features.counts.numpy()
    single = tuple(np.flatnonzero(counts == 1).tolist())
    return ClassMap(
        features=features.describe(),
        classes=features.classes,
        counts=counts,
        distance=matrix,
        told_apart=told_apart,
        order=_leaves(tree),
        linkage=tree,
        is_optimal=is_optimal,
        single=single,
        notes=tuple(_notes(features.classes, matrix, told_apart, single, is_optimal)),
    )


def _check(features: FeatureSet) -> None:
    """Refuse classes that cannot be compared."""
    counts = features.counts
    if len(counts) < 2 or int(counts.max()) < 2:
        raise FeaturesError(
            f"{features.info.id} has {counted(len(counts), 'class', 'classes')}, the largest with "
            f"{counted(int(counts.max()), 'image')}; a map of classes needs two classes, and two images of one of them",
            "give more images, so that their variance within a class is known",
        )
    if empty := [features.classes[code] for code in (counts == 0).nonzero()[:, 0].tolist()]:
        raise FeaturesError(
            f"{counted(len(empty), 'class has', 'classes have')} no image: {join_names(list(map(repr, empty)))}",
            "leave them out by FeatureSet.only_classes",
        )


def _unbiased_variances(features: FeatureSet, geometry: Geometry, means: Means) -> torch.Tensor:
    """``v_c`` with the divisor ``n_c − 1``, ``(C,)``; of classes of one image, the pooled one of the others.

    Raises:
        FeaturesError: The features are so large or small that their moments leave float64.
    """
    import torch

    counts = geometry.counts
    squares = counts.new_zeros(len(counts))
    for rows, codes in features.batches():
        labels = codes.to(counts.device)
        residuals = rows.to(counts.device, torch.float64) - geometry.means[labels]
        squares.index_add_(0, labels, residuals.square().sum(dim=1))
    offsets = geometry.means - (means.shift + means.sums.sum(dim=0) / counts.sum())
    total = squares.sum() + counts @ offsets.square().sum(dim=1)
    check_size(max(float(geometry.means.abs().max()), math.sqrt(float(total / counts.sum()))))
    squares[squares <= counts * geometry.rounding.square()] = 0
    pooled = squares.sum() / (counts - 1).sum()
    return torch.where(counts > 1, squares / (counts - 1), pooled)


def _tree(distance: NDArray[np.float64], is_optimal: bool) -> NDArray[np.float64]:
    """The tree of average linkage, ``(C − 1, 4)``."""
    import numpy as np
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    finite = distance[np.isfinite(distance)].max()
    lengths = np.where(np.isfinite(distance), distance, 2 * finite or 1.0)
    tree: NDArray[np.float64] = linkage(squareform(lengths, checks=False), "average")
    return with_best_leaf_order(tree, lengths) if is_optimal else tree


def _leaves(tree: NDArray[np.float64]) -> NDArray[np.int64]:
    import numpy as np
    from scipy.cluster.hierarchy import leaves_list

    return np.asarray(leaves_list(tree), dtype=np.int64)


def _notes(
    classes: tuple[str, ...],
    distance: NDArray[np.float64],
    told_apart: NDArray[np.bool_],
    single: tuple[int, ...],
    is_optimal: bool,
) -> Iterator[str]:
    """What a reader of the distances should know."""
    import numpy as np

    upper = np.triu(np.ones_like(told_apart), 1)
    if number := int((upper & ~told_apart).sum()):
        yield (
            f"these images do not tell {number:,} of {counted(int(upper.sum()), 'pair')} of classes apart: more images "
            "per class are needed to say how far apart such classes are"
        )
    if single:
        names = join_names([repr(classes[code]) for code in single])
        yield (
            f"{counted(len(single), 'class has', 'classes have')} one image, so that their variance is taken to be "
            f"that of the other classes: {names}"
        )
    if number := int((upper & np.isinf(distance)).sum()):
        yield (
            f"{counted(number, 'pair')} of classes {'is' if number == 1 else 'are'} infinitely far apart, because the "
            "images of each class are all equal"
        )
    if not is_optimal:
        yield (
            f"for {len(classes):,} classes, the order of similar classes is not the best that their tree allows, which "
            "would take long to find"
        )

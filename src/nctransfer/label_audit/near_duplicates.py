"""Pairs of images whose features are so close that they show the same picture."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.label_audit.nearest_images import nearest_images, unit_rows

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["NearDuplicates", "near_duplicates"]

NEIGHBOURS = 10
"""Of each image, so many neighbours are looked at. The distance to the last one says how far others usually lie."""

MOST_RATIO = 0.5
"""Two images are near-duplicates if they are at most half as far apart as their tenth neighbours lie."""

CHANCE_PAIRS = 0.5
"""How many pairs may come so close by chance in a set of independent images."""

SAMPLED = 4  # pairs within a class that are drawn per image, to see how far apart images of a class usually are


class NearDuplicates(NamedTuple):
    """P pairs of near-duplicates, the closest first.

    Attributes:
        first: The position of one image, ``(P,)`` int64.
        second: The position of the other one, which is larger, ``(P,)`` int64.
        closeness: How far apart they are, in units of the largest distance at which they count as near-duplicates:
            0 to 1, ``(P,)`` float32; the mean over the sets.
        copies: Whether the files have the same content, ``(P,)`` bool.
        agreeing: How many of the sets find the pair, ``(P,)`` int64.
    """

    first: torch.Tensor
    second: torch.Tensor
    closeness: torch.Tensor
    copies: torch.Tensor
    agreeing: torch.Tensor


def near_duplicates(
    sets: Sequence[FeatureSet], *, device: torch.device, progress: Callable[[str, int, int], None] | None = None
) -> NearDuplicates:
    """The pairs of images that show the same picture: saved again, resized, slightly cropped or mirrored.

    Features lose their mean and are scaled to unit length. The distance of two images is divided by the geometric mean
    of their *scales*; the scale of an image is the distance to its tenth neighbour, but at most the distance that a
    third of all pairs of one class do not exceed (in small classes the tenth neighbour is of another class). Pairs with
    a ratio of at most 0.5 are near-duplicates. Where features have few dimensions, half the distance is nothing
    special. So the ratio must also be one that less than half a pair of the whole set reaches by chance: in a cloud of
    intrinsic dimension m, the nearest of ten neighbours has a ratio below r with probability ``1 − (1 − r^m)^9``, and
    m follows from the ratios of the distances to successive neighbours (Facco et al., 2017). Files with the same
    content count as well, whatever their features.

    Several backbones decide together, by the mean of the ratios in units of their limits.

    Args:
        sets: Features of the same images in the same order, each of another backbone; at least one.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    >>> import torch
    >>> from nctransfer.features.feature_set import FeatureSet
    >>> rows = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    >>> rows[7] = 2 * rows[3] + 0.1  # the contrast was changed
    >>> found = near_duplicates([FeatureSet.from_arrays(rows, "a" * 40)], device=torch.device("cpu"))
    >>> found.first.tolist(), found.second.tolist()
    ([3], [7])
    """
    import torch

    spaces = [_Space.of(one, device, progress) for one in sets]
    copies = _copies(sets[0].images)
    pairs = _distinct(torch.cat([copies, *(space.close_pairs() for space in spaces)]))  # (P, 2), sorted
    measured = torch.stack([space.closeness(pairs) for space in spaces])  # (S, P)
    same = torch.isin(_numbered(pairs, len(sets[0])), _numbered(copies, len(sets[0])))
    together = torch.where(same, 0, measured.mean(dim=0))
    agreeing = (measured <= 1).sum(dim=0)
    agreeing[same] = len(sets)
    kept = (together <= 1).nonzero()[:, 0]
    kept = kept[together[kept].argsort(stable=True)]
    return NearDuplicates(pairs[kept, 0], pairs[kept, 1], together[kept], same[kept], agreeing[kept])


class _Space(NamedTuple):
    """The images as one backbone sees them.

    Attributes:
        rows: ``(n, d)``, of unit length.
        places: The nearest images of each, ``(n, K)``.
        scale: How far from it others usually lie, ``(n,)``; 0 if that cannot be said.
        limit: The largest ratio of near-duplicates.
    """

    rows: torch.Tensor
    places: torch.Tensor
    scale: torch.Tensor
    limit: float

    @classmethod
    def of(cls, features: FeatureSet, device: torch.device, progress: Callable[[str, int, int], None] | None) -> _Space:
        rows = unit_rows(features, device)
        number = min(NEIGHBOURS, len(rows) - 1)
        near = nearest_images(rows, number, progress) if number else None
        rows = rows.cpu()
        if near is None or number < 3:  # too few images to say what is usual
            return cls(rows, features.labels[:, None][:, :0], features.labels.float() * 0, 0.0)
        scale = near.distance[:, -1].clamp(max=_usual_within_classes(rows, features.labels))
        return cls(rows, near.places, scale, min(MOST_RATIO, _chance_limit(near.distance)))

    def close_pairs(self) -> torch.Tensor:
        """The pairs of neighbours that this backbone takes as near-duplicates, ``(P, 2)``, the smaller position first.

        A pair is measured anew, since cosines near 1 are rounded in the products of matrices.
        """
        import torch

        n, number = self.places.shape
        pairs = torch.stack([torch.arange(n)[:, None].expand(n, number), self.places], dim=2).reshape(-1, 2)
        pairs = _distinct(pairs.sort(dim=1).values)
        close: torch.Tensor = pairs[self.closeness(pairs) <= 1]
        return close

    def closeness(self, pairs: torch.Tensor) -> torch.Tensor:
        """The distance of each pair in units of the largest one of near-duplicates, ``(P,)``; infinite if unknown."""
        import torch

        distance = torch.cat([(self.rows[a] - self.rows[b]).norm(dim=1) for a, b in _blocks(pairs)])
        largest = self.limit * (self.scale[pairs[:, 0]] * self.scale[pairs[:, 1]]).sqrt()
        found: torch.Tensor = torch.where(largest > 0, distance / largest, torch.inf)
        return found


def _distinct(pairs: torch.Tensor) -> torch.Tensor:
    """Each pair once, sorted."""
    import torch

    found: torch.Tensor = torch.unique(pairs, dim=0)
    return found


def _blocks(pairs: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    import torch

    return [(block[:, 0], block[:, 1]) for block in torch.split(pairs, 4096)]


def _usual_within_classes(rows: torch.Tensor, labels: torch.Tensor) -> float:
    """The distance that a third of the pairs of one class do not exceed; infinite if no class has two images."""
    import torch

    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    order = order[labels[order].argsort(stable=True)]  # by class, in random order within each
    pairs = torch.cat([torch.stack([order[:-step], order[step:]], dim=1) for step in range(1, SAMPLED + 1)])
    pairs = pairs[labels[pairs[:, 0]] == labels[pairs[:, 1]]]
    if not len(pairs):
        return math.inf
    distance = torch.cat([(rows[a] - rows[b]).norm(dim=1) for a, b in _blocks(pairs)])
    return float(distance.kthvalue(1 + len(distance) // 3).values)


def _chance_limit(distance: torch.Tensor) -> float:
    """The ratio below which less than half a pair lies by chance, from the distances to the nearest images ``(n, K)``.

    ``P(d_j / d_{j+1} < r) = r^{jm}`` in m dimensions, so the median of these ratios gives m. The median of m over j is
    taken: where the j-th neighbour is the last one of the own class, their ratio is small in any dimension.
    """
    found = []
    for j, (one, other) in enumerate(itertools.pairwise(distance.T), 1):
        median = float((one / other)[one > 0].median()) if bool((one > 0).any()) else 1.0
        found.append(-math.log(2) / (j * math.log(median)) if median < 1 else math.inf)
    dimension = statistics.median(found)
    share = 1 - (1 - min(1.0, CHANCE_PAIRS / len(distance))) ** (1 / (distance.shape[1] - 1))
    return float(share ** (1 / dimension))


def _copies(images: torch.Tensor | None) -> torch.Tensor:
    """Pairs of images whose files have the same content, ``(P, 2)``: of several copies, each with the next one."""
    import torch

    if images is None:
        return torch.zeros(0, 2, dtype=torch.int64)
    ordered, order = images.sort(stable=True)
    same = (ordered[1:] == ordered[:-1]).nonzero()[:, 0]
    return torch.stack([order[same], order[same + 1]], dim=1)


def _numbered(pairs: torch.Tensor, n: int) -> torch.Tensor:
    """One number for each pair of positions below n."""
    return pairs[:, 0] * n + pairs[:, 1]

"""Right answers by group of the query, and how accuracies per group vary over a population.

Shapes: E episodes with w classes out of C; G groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.episodes.leaving_out import TENTHS
from nctransfer.evaluation.group_spread import GroupSpread

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.episode import Episodes
    from nctransfer.episodes.groups import Groups
    from nctransfer.intervals import Interval

__all__ = [
    "GroupCounts",
    "GroupTally",
    "LeftOutCells",
    "class_jackknife",
    "spread_of_groups",
    "spread_to_others",
    "to_others",
]

PSEUDO = 2.0  # images that are always right, and as many that are always wrong (Agresti and Coull 1998)


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupCounts:
    """What happened to the queries of G groups with one classifier.

    Attributes:
        right: Queries of each group that were classified right in each episode, ``(E, G)`` float64.
        asked: Queries of each group in each episode, ``(E, G)`` float64.
        cells_right: Right queries of each class and group over all episodes, ``(C, G)`` float64.
        cells_asked: Queries of each class and group over all episodes, ``(C, G)`` float64.
        accuracies: The accuracy of each episode, over all its queries, ``(E,)`` float64.
        classes: The class codes of each episode, ``(E, w)``.
    """

    right: torch.Tensor
    asked: torch.Tensor
    cells_right: torch.Tensor
    cells_asked: torch.Tensor
    accuracies: torch.Tensor
    classes: torch.Tensor

    @property
    def group_accuracies(self) -> torch.Tensor:
        """The share of the queries of each group that are right, ``(G,)``; NaN for a group that was never asked."""
        return self.cells_right.sum(dim=0) / self.cells_asked.sum(dim=0)

    @property
    def asked_classes(self) -> torch.Tensor:
        """The number of classes of which each group had queries, ``(G,)`` int64."""
        return (self.cells_asked > 0).sum(dim=0)


class GroupTally:
    """Counts right answers by group over episodes of one task and one classifier.

    Args:
        classes: The number of classes, C.
        groups: The groups of all rows that queries are drawn from.
    """

    def __init__(self, classes: int, groups: Groups) -> None:
        import torch

        self._groups, self._width = groups, len(groups) + 1
        self._cells = torch.zeros(2, classes * self._width, dtype=torch.float64)
        self._parts: list[tuple[torch.Tensor, ...]] = []

    def add(self, episodes: Episodes, right: torch.Tensor) -> torch.Tensor:
        """Count some episodes.

        Args:
            episodes: E episodes.
            right: Which queries count and were classified right, ``(E, Q)`` bool.

        Returns:
            The accuracy of each, ``(E,)`` float64.
        """
        import torch

        group = self._groups.codes[episodes.queries.flatten(1)]  # (E, Q)
        asked = torch.ones_like(right) if episodes.is_query is None else episodes.is_query.flatten(1)
        both = torch.stack([right, asked]).double()
        cell = episodes.classes.repeat_interleave(episodes.queries.shape[2], dim=1) * self._width + group
        self._cells.index_add_(1, cell.flatten(), both.flatten(1))
        by_group = both.new_zeros(2, len(right), self._width).scatter_add_(2, group.expand(both.shape), both)
        accuracies = both[0].sum(dim=1) / both[1].sum(dim=1)
        self._parts.append((*by_group[:, :, :-1], accuracies, episodes.classes))
        return accuracies

    def cells(self) -> torch.Tensor:
        """Right answers and queries of each class and group, ``(2, C, G)``."""
        return self._cells.view(2, -1, self._width)[:, :, :-1]

    @property
    def accuracies(self) -> torch.Tensor:
        """The accuracy of each episode so far, ``(E,)``."""
        import torch

        return torch.cat([part[2] for part in self._parts])

    def counts(self) -> GroupCounts:
        """All counts so far."""
        import torch

        right, asked, accuracies, classes = (torch.cat(parts) for parts in zip(*self._parts, strict=True))
        return GroupCounts(
            right=right,
            asked=asked,
            cells_right=self.cells()[0],
            cells_asked=self.cells()[1],
            accuracies=accuracies,
            classes=classes,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LeftOutCells:
    """Right answers and queries of the first episodes without each tenth of the images.

    Attributes:
        right: ``(10, C, G)`` float64.
        asked: ``(10, C, G)`` float64.
    """

    right: torch.Tensor
    asked: torch.Tensor


def spread_of_groups(
    counts: GroupCounts, interval: Interval, images: torch.Tensor, left_out: LeftOutCells | None = None
) -> GroupSpread:
    """How the accuracies of G groups vary together over a population.

    The accuracy of a group is a ratio, of its right answers to its queries.

    - ``episodes``: from the residuals ``R_eg − a_g N_eg`` of the episodes.
    - ``classes``: delete-one-class jackknife, over the episodes without each class.
    - ``samples``: jackknife that leaves out a tenth of the images at a time, and the draw of episodes.

    Over classes and samples, two images that are always right and two that are always wrong are added to the variance,
    so that a group whose few images are all right has an interval of some width.

    Args:
        counts: What happened.
        interval: The population.
        images: The number of images of each group, ``(G,)``.
        left_out: For ``samples``, the counts without each tenth of the images.
    """
    import torch

    accuracies = counts.group_accuracies
    if interval == "episodes":
        return GroupSpread(vectors=_over_episodes(counts), degrees=torch.full_like(accuracies, math.inf))
    size = images.double() + 2 * PSEUDO
    pseudo = (PSEUDO * ((1 - accuracies) ** 2 + accuracies**2)).sqrt() / size
    if interval == "classes":
        changes = class_jackknife(counts.right, counts.asked, counts.classes, counts.cells_asked.any(dim=1))
        vectors = torch.cat([changes, pseudo.diag()])
        return GroupSpread(vectors=vectors, degrees=counts.asked_classes.double() - 1)
    assert left_out is not None
    means = left_out.right.sum(dim=1) / left_out.asked.sum(dim=1)  # (10, G)
    changes = (means - means.mean(dim=0)) * math.sqrt((TENTHS - 1) / TENTHS)
    vectors = torch.cat([changes, _over_episodes(counts), pseudo.diag()])
    return GroupSpread(vectors=vectors, degrees=torch.full_like(accuracies, TENTHS - 1))


def _over_episodes(counts: GroupCounts) -> torch.Tensor:
    episodes = len(counts.right)
    residuals = counts.right - counts.group_accuracies * counts.asked
    return residuals / counts.asked.sum(dim=0) * math.sqrt(episodes / (episodes - 1))


def class_jackknife(
    right: torch.Tensor, asked: torch.Tensor, classes: torch.Tensor, is_asked: torch.Tensor
) -> torch.Tensor:
    """The delete-one-class jackknife of ratios ``Σ_e R_ek / Σ_e N_ek``: scaled changes without each class, ``(A, K)``.

    A ratio that only one class contributes to is NaN.

    Args:
        right: Numerators of each episode, ``(E, K)``.
        asked: Denominators of each episode, ``(E, K)``.
        classes: The class codes of each episode, ``(E, w)``.
        is_asked: Which classes can be drawn, ``(C,)`` bool, A of them. The others tell nothing of a draw of classes.
    """
    without = []
    for values in (right, asked):
        with_class = values.new_zeros(len(is_asked), values.shape[1])
        with_class.index_add_(0, classes.flatten(), values.repeat_interleave(classes.shape[1], dim=0))
        without.append(values.sum(dim=0) - with_class[is_asked])
    means = without[0] / without[1]
    return (means - means.mean(dim=0)) * math.sqrt((len(means) - 1) / len(means))


def to_others(right: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """How much more accurate each group is than the other groups on the same classes, ``(…, G)``.

    ``Σ_c w_gc (a_gc − ā_gc)``: ``a_gc`` is the accuracy of group g on class c, ``ā_gc`` that of all other groups on
    this class, and ``w_gc`` the share of class c in the queries of g. Classes that no other group has are left out.

    Args:
        right: Right answers of each class and group, ``(…, C, G)``.
        asked: Queries of each class and group, ``(…, C, G)``.

    >>> import torch
    >>> right, asked = torch.tensor([[9.0, 0.0], [4.0, 2.0]]), torch.tensor([[10.0, 0.0], [5.0, 5.0]])
    >>> to_others(right, asked)  # only the second class has both groups
    tensor([ 0.4000, -0.4000])
    """
    gaps, weights = _gaps(right, asked)
    return (gaps * weights).sum(dim=-2)


def _gaps(right: torch.Tensor, asked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``a_gc − ā_gc``, 0 where there is none, and ``w_gc``, which is NaN for a group without any."""
    others_right, others = right.sum(dim=-1, keepdim=True) - right, asked.sum(dim=-1, keepdim=True) - asked
    has = (asked > 0) & (others > 0)
    gaps = (right / asked - others_right / others).where(has, 0)
    weights = asked * has
    return gaps, weights / weights.sum(dim=-2, keepdim=True)


def spread_to_others(counts: GroupCounts, interval: Interval, left_out: LeftOutCells | None = None) -> GroupSpread:
    """How the differences of :func:`to_others` vary together over other classes, or over other images.

    Over classes, each class gives one difference, and they are independent: a paired t-test by class. Over samples, see
    :func:`spread_of_groups`.
    """
    import torch

    gaps, weights = _gaps(counts.cells_right, counts.cells_asked)
    if interval == "classes":
        classes = (weights > 0).sum(dim=0).double()  # (G,)
        residuals = weights * (gaps - (gaps * weights).sum(dim=0))
        vectors = residuals * (classes / (classes - 1).clamp(min=1)).sqrt()
        vectors[:, classes < 2] = torch.nan
        return GroupSpread(vectors=vectors, degrees=classes - 1)
    assert left_out is not None
    found = to_others(left_out.right, left_out.asked)
    changes = (found - found.mean(dim=0)) * math.sqrt((TENTHS - 1) / TENTHS)
    others = counts.right.sum(dim=1, keepdim=True) - counts.right, counts.asked.sum(dim=1, keepdim=True) - counts.asked
    mean = others[0].sum(dim=0) / others[1].sum(dim=0)
    drawn = _over_episodes(counts) - (others[0] - mean * others[1]) / others[1].sum(dim=0)
    return GroupSpread(vectors=torch.cat([changes, drawn]), degrees=torch.full_like(mean, TENTHS - 1))

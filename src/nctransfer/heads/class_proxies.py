"""Several proxies per class: the means of k-means within each class, and its scores without some training images.

Shapes: n images of C classes, m of one class; G groups; k proxies per class, P in all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nctransfer.episodes.kernel_means import first_of, means_of
from nctransfer.episodes.proxy_numbers import FOLDS, chosen_numbers, numbers_tried
from nctransfer.evaluation.ridge_regression import LinearMap
from nctransfer.heads.left_out_groups import left_out_groups

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["ClassProxies"]

CHOICE = 1  # the seed of the groups by which the number of proxies is chosen; those that judge it have another
MOST_CLUSTERED = 500  # images of a class; of more, k-means sees so many, evenly spaced


class ClassProxies:
    """The proxies of the classes of a training set.

    The proxies of a class are the means of k-means among its images. In a class of more than 500 images, k-means runs
    on 500 of them, and each proxy is then the mean of all images that are nearest to it. With one proxy per class, this
    is :class:`~nctransfer.heads.centre_classifiers.ClassCentres`.

    Args:
        features: The training set.
        device: Where to compute, in float64.
    """

    def __init__(self, features: FeatureSet, device: torch.device) -> None:
        self._labels = features.labels
        rows = features.features.to(device).double()
        self.centre = rows.mean(dim=0)
        self._rows = rows - self.centre
        self._members = [(features.labels == code).nonzero()[:, 0] for code in range(len(features.classes))]

    def best_number(self) -> int:
        """The number of proxies per class: the fewest whose loss on images left out is within one standard error.

        It is chosen as in episodes, see :func:`~nctransfer.episodes.proxies.proxies`, by tenths of the images that are
        left out in turn. If it is less accurate on these images than one proxy, one is taken: with many classes, the
        loss can fall while accuracy does.
        """
        numbers = numbers_tried(int(self._labels.bincount().max()))
        left_out = _LeftOut(self, self._labels)
        number = int(chosen_numbers(left_out, numbers))
        return number if left_out.right[number] >= left_out.right[1] else 1

    def linear_map(self, number: int) -> tuple[LinearMap, torch.Tensor]:
        """The scores of all proxies as a linear map of features, and the class of each proxy, ``(P,)`` ascending.

        Args:
            number: The number of proxies per class; a class with fewer different images has fewer.
        """
        import torch

        every = self._rows.new_zeros(1, len(self._rows)) == 0
        means = torch.cat(
            [self._means(code, every[0], one[:, 0]) for code, one in enumerate(self._weights(every, number))]
        )
        owners = torch.arange(len(self._members)).repeat_interleave(number)
        is_there = means.isfinite().all(dim=1)
        weight = means[is_there]
        return LinearMap(weight, -weight.square().sum(dim=1) / 2, self.centre), owners[is_there.cpu()]

    def scores_without_groups(self, groups: Sequence[torch.Tensor], number: int) -> Iterator[torch.Tensor]:
        """The scores of groups of training images; k-means is run again without the images of each group.

        Args:
            groups: The rows of each group; no two share an image, and none has all images of a class.
            number: The number of proxies per class.

        Yields:
            The scores of each group, ``(b, C)`` float64, on the CPU.
        """
        import torch

        included = torch.ones(len(groups), len(self._rows), dtype=torch.bool)
        for place, group in enumerate(groups):
            included[place, group] = False
        included = included.to(self._rows.device)
        weights = list(self._weights(included, number))
        for place, group in enumerate(groups):
            means = [self._means(code, included[place], one[:, place]) for code, one in enumerate(weights)]
            proxies = torch.cat(means)
            halves = proxies.square().sum(dim=1) / 2
            scores = self._rows[group] @ proxies.nan_to_num().T - halves.nan_to_num(nan=torch.inf)
            yield scores.view(len(group), -1, number).amax(dim=2).cpu()

    def _weights(self, included: torch.Tensor, number: int) -> Iterator[torch.Tensor]:
        """What the images of each class that k-means sees weigh in each proxy, ``(m, G, k)``."""
        for code in range(len(self._members)):
            rows = self._seen(code)
            x = self._rows[rows]
            squares = x.square().sum(dim=1)
            distances = (squares[:, None] + squares - 2 * x @ x.T).clamp_(min=0)[None]
            taking_part = included[:, rows]
            yield means_of(distances, taking_part, first_of(distances, taking_part, number))[0]

    def _seen(self, code: int) -> torch.Tensor:
        """The rows of the images of a class that k-means sees."""
        import torch

        rows = self._members[code]
        if len(rows) <= MOST_CLUSTERED:
            return rows
        return rows[torch.linspace(0, len(rows) - 1, MOST_CLUSTERED).long()]

    def _means(self, code: int, included: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The proxies of a class, ``(k, d)``; NaN for those that were dropped.

        Args:
            code: The class.
            included: Which images take part, ``(n,)`` bool.
            weights: What those that k-means saw weigh, ``(m, k)``.
        """
        import torch

        rows = self._members[code]
        means = weights.T @ self._rows[self._seen(code)]
        means[weights.sum(dim=0) == 0] = torch.nan
        if len(rows) <= MOST_CLUSTERED:
            return means
        x = self._rows[rows[included[rows].cpu()]]
        scores = x @ means.nan_to_num().T - (means.square().sum(dim=1) / 2).nan_to_num(nan=torch.inf)
        nearest = scores.argmax(dim=1)
        sums = torch.zeros_like(means).index_add_(0, nearest, x)
        return sums / nearest.bincount(minlength=len(means))[:, None]


class _LeftOut:
    """The margins of training images that are left out, for the choice of the number of proxies.

    Args:
        classes: The classes.
        labels: The class codes of the images, ``(n,)``.

    Attributes:
        right: How many images are classified right, by the number of proxies, as far as it was asked for.
    """

    def __init__(self, classes: ClassProxies, labels: torch.Tensor) -> None:
        self._classes, self._labels = classes, labels
        self.right: dict[int, int] = {}
        self._groups = left_out_groups(labels, 1, FOLDS, CHOICE)

    def margins(self, number: int) -> torch.Tensor:
        """The score of each class minus that of the right class, ``(1, n, C)``, group by group."""
        import torch

        found = zip(self._groups, self._classes.scores_without_groups(self._groups, number), strict=True)
        margins = torch.cat([scores - scores.gather(1, self._labels[group, None]) for group, scores in found])
        self.right[number] = int((margins.amax(dim=1) <= 0).sum())
        return margins[None]

    def only(self, episodes: torch.Tensor) -> _LeftOut:  # noqa: ARG002 - there is one only
        """The same."""
        return self

"""Several proxies per class: the nearest of the means of k-means within each class, with their number chosen.

Source: Westerhoff et al. (2025), as we remember them. The choice of the number of proxies is ours.

Shapes: E episodes with w classes, N support samples, s per class (class by class), and Q queries; B = E · w classes of
all episodes; G folds; k proxies per class.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.episodes.classifier import Classifier, Report
from nctransfer.episodes.inner_products import Products
from nctransfer.episodes.kernel_means import first_of, first_points, half_spread, means_of
from nctransfer.episodes.nearest import ncc
from nctransfer.episodes.proxy_numbers import FOLDS, chosen_numbers, numbers_tried

if TYPE_CHECKING:
    import torch

__all__ = ["PROXIES", "PROXIES_PER_CLASS", "proxies"]

PROXIES_PER_CLASS = "proxies_per_class"


def proxies(products: Products, number: int | None = None, report: Report | None = None) -> torch.Tensor:
    """Several proxies per class: the score of a class is that of its nearest proxy, ``max_j ⟨f, m_cj⟩ − ‖m_cj‖²/2``.

    The proxies m_cj of class c are the means of k-means within its support; one proxy is the class centre, so that this
    is ``ncc``. All classes of an episode have the same number of proxies. It is chosen inside the support: one sample
    of each class is left out at a time (a tenth of them with more than ten shots), k-means is run again on the others,
    and the samples that were left out are classified. Of the numbers of proxies whose logarithmic loss, at its best
    temperature, is within one standard error of the smallest, the fewest are taken.

    Args:
        products: The inner products of E episodes.
        number: The number of proxies per class, at most the number of shots; ``None`` if each episode chooses its own.
        report: Receives ``proxies_per_class``: the number of proxies per class, ``(E,)``.

    Returns:
        The score of each query and class, ``(E, Q, w)``.

    >>> import torch
    >>> x = torch.tensor([[[0.0], [1.0], [8.0], [9.0], [4.0], [5.0], [4.0], [5.0]]])  # 2-way 4-shot
    >>> f = torch.tensor([[[0.5], [8.5], [4.5]]])
    >>> proxies(Products.of(x, f, 2), 2).argmax(dim=2).tolist(), ncc(Products.of(x, f, 2)).argmax(dim=2).tolist()
    ([[0, 0, 1]], [[0, 0, 0]])
    """
    import torch

    classes = _Classes.of(products)
    numbers = numbers_tried(products.shots) if number is None else (number,)
    if len(numbers) > 1:
        chosen = chosen_numbers(_LeftOut(classes, max(numbers)), numbers)
    else:
        chosen = torch.full((len(products.support),), numbers[0], device=products.support.device)
    if report:
        report(PROXIES_PER_CLASS, chosen.double())
    scores = ncc(products)
    for one in sorted(set(chosen.tolist()) - {1}):
        here = (chosen == one).nonzero()[:, 0]
        scores[here] = classes.only(here).scores(products.cross.mT[here], one)
    return scores


@dataclass(frozen=True, eq=False, kw_only=True)
class _Classes:
    """The support samples of the classes of E episodes, with their inner products and distances.

    Attributes:
        support: The inner products of the support samples with each other, ``(E, w, s, w, s)``.
        distances: The squared distances within each class, ``(B, s, s)``.
        squares: The squared lengths, ``(B, s)``.
    """

    support: torch.Tensor
    distances: torch.Tensor
    squares: torch.Tensor

    @classmethod
    def of(cls, products: Products) -> _Classes:
        ways, shots = products.ways, products.shots
        support = products.support.view(-1, ways, shots, ways, shots)
        inner = support.diagonal(dim1=1, dim2=3).movedim(-1, 1).reshape(-1, shots, shots).double()
        squares = inner.diagonal(dim1=1, dim2=2)
        distances = (squares[:, :, None] + squares[:, None] - inner - inner.mT).clamp_(min=0)
        return cls(support=support, distances=distances.to(support.dtype), squares=squares.to(support.dtype))

    def only(self, episodes: torch.Tensor) -> _Classes:
        """The classes of some episodes, given by their places."""
        ways = self.support.shape[1]
        distances, squares = (part.view(-1, ways, *part.shape[1:]) for part in (self.distances, self.squares))
        return _Classes(
            support=self.support[episodes],
            distances=distances[episodes].flatten(0, 1),
            squares=squares[episodes].flatten(0, 1),
        )

    def proxies(self, included: torch.Tensor, starts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The proxies of each class, by some of its samples.

        Args:
            included: Which of the samples of each class take part, ``(G, s)``.
            starts: The samples at which k-means starts, ``(B, G, k)``.

        Returns:
            What each sample weighs ``(B, s, G, k)``, and half the squared lengths ``(B, G, k)``, which are infinite for
            proxies that were dropped.
        """
        import torch

        weights = means_of(self.distances, included, starts)
        squares = (weights * self.squares[:, :, None, None]).sum(dim=1) - half_spread(self.distances, weights)
        return weights, (squares / 2).masked_fill_(weights.sum(dim=1) == 0, torch.inf)

    def scores(self, cross: torch.Tensor, number: int) -> torch.Tensor:
        """The scores of queries with one number of proxies per class, ``(E, Q, w)``.

        Args:
            cross: The inner products of the support with the queries, ``(E, N, Q)``.
            number: The number of proxies per class.
        """
        import torch

        ways, shots = self.support.shape[1:3]
        every = torch.ones(1, shots, dtype=torch.bool, device=cross.device)
        weights, halves = self.proxies(every, first_points(self.distances, number)[:, None])
        found = weights.view(-1, ways, shots, number).mT @ cross.reshape(len(cross), ways, shots, -1)
        return (found - halves.view(-1, ways, number, 1)).amax(dim=2).mT


class _LeftOut:
    """What the support samples of E episodes lose when they are left out, by the number of proxies per class.

    Args:
        classes: The classes of the episodes.
        most: The largest number of proxies.
    """

    def __init__(self, classes: _Classes, most: int) -> None:
        import torch

        shots = classes.support.shape[2]
        folds = min(shots, FOLDS)
        fold = torch.arange(shots, device=classes.support.device) % folds
        self._included = fold != torch.arange(folds, device=fold.device)[:, None]  # (G, s)
        self._starts = first_of(classes.distances, self._included, most)
        self._classes = classes

    def only(self, episodes: torch.Tensor) -> _LeftOut:
        """The same of some episodes, given by their places."""
        found = copy.copy(self)
        found._classes = self._classes.only(episodes)
        starts = self._starts.view(-1, self._classes.support.shape[1], *self._starts.shape[1:])
        found._starts = starts[episodes].flatten(0, 1)
        return found

    def margins(self, number: int) -> torch.Tensor:
        """The score of each class minus that of the right class, ``(E, n, w)``, for each sample, fold by fold."""
        import torch

        support = self._classes.support
        ways, shots = support.shape[1:3]
        weights, halves = self._classes.proxies(self._included, self._starts[:, :, :number])
        margins = []
        for place, is_in in enumerate(self._included):
            held = (~is_in).nonzero()[:, 0]
            queries = support[:, :, held].permute(0, 3, 1, 2, 4).flatten(2, 3)  # (E, w, w · h, s)
            found = queries @ weights[:, :, place].reshape(-1, ways, shots, number)
            scores = (found - halves[:, place].view(-1, ways, 1, number)).amax(dim=3).mT  # (E, w · h, w)
            truth = torch.arange(ways, device=held.device).repeat_interleave(len(held))[:, None]
            margins.append(scores - scores.gather(2, truth.expand(len(scores), -1, 1)))
        return torch.cat(margins, dim=1)


PROXIES = Classifier(
    name="proxies",
    function=proxies,
    meaning="nearest of several means per class, by k-means, their number chosen by leave-one-out",
    reports=(PROXIES_PER_CLASS,),
    averaged=(PROXIES_PER_CLASS,),
)

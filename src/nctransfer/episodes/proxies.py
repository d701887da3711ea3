"""Several proxies per class: the nearest of the means of k-means within each class, with their number chosen.

Source: Westerhoff et al. (2025), as we remember them. The choice of the number of proxies is ours.

Shapes: E episodes with w classes, N support samples, s per class (class by class), and Q queries; B = E · w classes of
all episodes; G folds; K numbers of proxies that are tried.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.episodes.classifier import Classifier, Report
from nctransfer.episodes.inner_products import Products
from nctransfer.episodes.kernel_means import first_points, half_spread, means_of
from nctransfer.episodes.nearest import ncc

if TYPE_CHECKING:
    import torch

__all__ = ["FOLDS", "PROXIES", "PROXIES_PER_CLASS", "fewest_within_error", "losses", "numbers_tried", "proxies"]

NUMBERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
FOLDS = 10  # with more shots, a tenth of them is left out at a time
TEMPERATURES = tuple(2.0**exponent for exponent in range(-4, 2))  # times the mean size of a margin of one proxy
PATIENCE = 2  # numbers of proxies in a row that are worse than the best so far; then larger ones are not tried
ROUNDING = 1e-6  # a smaller difference of logarithmic losses says nothing
PROXIES_PER_CLASS = "proxies_per_class"


def numbers_tried(shots: int) -> tuple[int, ...]:
    """The numbers of proxies per class that leaving out can compare, ascending.

    They are at most the shots that remain. With one or two shots only one proxy remains.

    >>> numbers_tried(2), numbers_tried(5), numbers_tried(20)
    ((1,), (1, 2, 3, 4), (1, 2, 3, 4, 6, 8, 12, 16))
    """
    left = shots - -(-shots // min(shots, FOLDS))
    return tuple(number for number in NUMBERS if number <= max(left, 1))


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
        chosen = _chosen(classes, numbers)
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
        self._starts = torch.stack([_starts(classes.distances, one, most) for one in self._included], dim=1)
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


def _starts(distances: torch.Tensor, is_in: torch.Tensor, most: int) -> torch.Tensor:
    """Where k-means starts among some of the samples, ``(B, most)``."""
    places = is_in.nonzero()[:, 0]
    return places[first_points(distances[:, places][:, :, places], most)]


def _chosen(classes: _Classes, numbers: tuple[int, ...]) -> torch.Tensor:
    """The number of proxies that each episode chooses, ``(E,)``.

    The search ends for an episode where two successive numbers have a larger loss than the best so far.
    """
    import torch

    left_out = _LeftOut(classes, max(numbers))
    margins = left_out.margins(numbers[0])
    scale = margins.abs().mean(dim=(1, 2))
    values = losses(margins, scale)[:, None].expand(-1, len(numbers), -1).clone()
    values[:, 1:] = torch.inf
    active = torch.arange(len(values), device=values.device)
    for place, number in enumerate(numbers[1:], 1):
        if not len(active):
            break
        values[active, place] = losses(left_out.margins(number), scale[active])
        means = values[active, : place + 1].mean(dim=2)
        goes_on = place - means.argmin(dim=1) < PATIENCE
        if not bool(goes_on.all()):
            active, left_out = active[goes_on], left_out.only(goes_on.nonzero()[:, 0])
    return torch.tensor(numbers, device=values.device)[fewest_within_error(values)]


def losses(margins: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The logarithmic loss of each sample, ``log Σ_c exp(margin_c / T)``, at the T of the smallest mean loss.

    Args:
        margins: The score of each class minus that of the right class, ``(E, n, w)``.
        scale: What the six temperatures T are multiplied by, ``(E,)``.

    Returns:
        ``(E, n)``.
    """
    import torch

    relative = margins / scale.where(scale > 0, 1)[:, None, None]
    found = torch.full_like(margins[..., 0], torch.inf)
    for temperature in TEMPERATURES:
        here = (relative / temperature).logsumexp(dim=2)
        is_better = here.mean(dim=1, keepdim=True) < found.mean(dim=1, keepdim=True)
        found = here.where(is_better, found)
    return found


def fewest_within_error(values: torch.Tensor) -> torch.Tensor:
    """The first classifier whose mean loss is within one standard error of the smallest.

    The standard error is that of the difference from the one with the smallest mean loss, over the same samples. This
    is the one-standard-error rule (Breiman et al. 1984): more proxies are taken only if that clearly pays.

    Args:
        values: The loss of each sample, ``(E, K, n)``, for K classifiers from simple to complex.

    Returns:
        Its place, ``(E,)``.

    >>> import torch
    >>> fewest_within_error(torch.tensor([[[1.0, 1.1, 0.9], [0.5, 0.6, 0.4]], [[1.0, 1.1, 0.9], [1.3, 0.6, 0.9]]]))
    tensor([1, 0])
    """
    best = values.mean(dim=2).argmin(dim=1)
    differences = values - values.gather(1, best[:, None, None].expand(-1, 1, values.shape[2]))
    errors = differences.std(dim=2) / values.shape[2] ** 0.5
    place: torch.Tensor = (differences.mean(dim=2) <= errors + ROUNDING).int().argmax(dim=1)
    return place


PROXIES = Classifier(
    name="proxies",
    function=proxies,
    meaning="nearest of several means per class, by k-means, their number chosen by leave-one-out",
    reports=(PROXIES_PER_CLASS,),
    averaged=(PROXIES_PER_CLASS,),
)

"""How many proxies a class gets: the fewest whose loss on samples left out is within one standard error of the least.

Shapes: E episodes, w classes, n samples that are left out in turn, K numbers of proxies that are tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

__all__ = ["FOLDS", "LeftOutMargins", "chosen_numbers", "fewest_within_error", "losses", "numbers_tried"]

NUMBERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
FOLDS = 10  # with more shots, a tenth of them is left out at a time
TEMPERATURES = tuple(2.0**exponent for exponent in range(-4, 2))  # times the mean size of a margin of one proxy
PATIENCE = 2  # numbers of proxies in a row that are worse than the best so far; then larger ones are not tried
ROUNDING = 1e-6  # a smaller difference of logarithmic losses says nothing


def numbers_tried(shots: int) -> tuple[int, ...]:
    """The numbers of proxies per class that leaving out can compare, ascending.

    They are at most the shots that remain. With one or two shots only one proxy remains.

    >>> numbers_tried(2), numbers_tried(5), numbers_tried(20)
    ((1,), (1, 2, 3, 4), (1, 2, 3, 4, 6, 8, 12, 16))
    """
    left = shots - -(-shots // min(shots, FOLDS))
    return tuple(number for number in NUMBERS if number <= max(left, 1))


class LeftOutMargins(Protocol):
    """The margins of samples that are left out."""

    def margins(self, number: int) -> torch.Tensor:
        """The score of each class minus that of the right class, ``(E, n, w)``, with this number of proxies."""

    def only(self, episodes: torch.Tensor) -> LeftOutMargins:
        """The same of some episodes, given by their places."""


def chosen_numbers(left_out: LeftOutMargins, numbers: Sequence[int]) -> torch.Tensor:
    """The number of proxies per class that each episode chooses, ``(E,)``.

    It is the smallest whose logarithmic loss is within one standard error of the smallest loss. The search goes from
    few to many, and ends for an episode where two successive numbers have a larger loss than the best so far.

    Args:
        left_out: The margins of its samples when they are left out.
        numbers: The numbers to try, ascending; the first is 1.
    """
    import torch

    margins = left_out.margins(numbers[0])
    scale = margins.abs().mean(dim=(1, 2))
    values = margins.new_full((len(margins), len(numbers), margins.shape[1]), torch.inf)
    values[:, 0] = losses(margins, scale)
    active = torch.arange(len(values), device=values.device)
    for place, number in enumerate(numbers[1:], 1):
        values[active, place] = losses(left_out.margins(number), scale[active])
        goes_on = place - values[active].mean(dim=2).argmin(dim=1) < PATIENCE
        if not bool(goes_on.any()):
            break
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

"""Whether the rows of a head stand for the classes that they were taken for.

A head whose classes are in another order is right on hardly any sample, though it tells the classes apart. Then another
assignment of its rows to the classes makes it right. That assignment is found on one half of the samples and tried on
the other, so that chance does not find one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nctransfer.errors import counted
from nctransfer.intervals import wilson

if TYPE_CHECKING:
    import torch

    from nctransfer.neural_collapse.class_statistics import ClassStatistics

__all__ = ["MOST_CLASSES", "best_order", "head_warnings"]

MOST_CLASSES = 2000  # with more, answers are not counted: memory grows with the square, time with the cube
DECENT = 0.3  # the nearest centre's accuracy above chance, relative to that of no error, from which a head is judged
FAR = 1 / 3  # a head is far below if it agrees less than this share of what nearest centres reach above chance
ERRORS = 2.0  # standard errors by which another order must be better


def head_warnings(stats: ClassStatistics, classes: Sequence[str]) -> Iterator[str]:
    """A warning if the head seems to have its classes in another order, or hardly agrees with the nearest centre.

    Args:
        stats: Statistics with a head.
        classes: The names of the C classes.
    """
    if stats.head is None or stats.agreement is None:
        return
    if stats.answers is not None and (order := _better_order(stats.answers, stats.ncc_accuracies)) is not None:
        yield _of_order(order, stats, classes)
        return
    total, chance, accuracy = stats.counts.sum(), 1 / len(classes), stats.ncc_accuracies.mean()
    reached = float(wilson(total * accuracy, total)[0]) - chance
    agreed = float(wilson(total * stats.agreement, total)[1]) - chance
    if reached >= DECENT * (1 - chance) and agreed < FAR * reached:
        yield (
            f"the head agrees with the nearest class centre on {stats.agreement:.0%} of the samples only, although "
            f"{float(accuracy):.0%} are nearest to the centre of their own class: it may be of other classes or of "
            "another backbone, or not be made for such images"
        )


def best_order(answers: torch.Tensor) -> torch.Tensor:
    """The row for each class with which a head is right most often, ``(C,)`` int64.

    Args:
        answers: How often samples of each class (first) get each row (second) as the answer, ``(C, C)``.

    >>> import torch
    >>> best_order(torch.tensor([[0, 9, 1], [1, 1, 8], [7, 2, 1]])).tolist()
    [1, 2, 0]
    """
    import torch
    from scipy.optimize import linear_sum_assignment

    _, rows = linear_sum_assignment(answers.numpy(), maximize=True)
    return torch.from_numpy(rows)


def _better_order(answers: torch.Tensor, accuracies: torch.Tensor) -> torch.Tensor | None:
    """Another order in which the head is right far more often, ``(C,)`` int64; ``None`` if there is none.

    Args:
        answers: See :class:`ClassStatistics`, ``(2, C, C)``.
        accuracies: The nearest-class-centre accuracy of each class, ``(C,)``.
    """
    import torch

    found, tried = answers
    order = best_order(found)
    moved = (order != torch.arange(len(order))).nonzero()[:, 0]
    if not len(moved):
        return None
    total = int(tried[moved].sum())
    now, then = int(tried[moved, moved].sum()), int(tried[moved, order[moved]].sum())
    decent = max(float(accuracies[moved].mean()), DECENT) / 2
    is_better = then - now >= ERRORS * math.sqrt(then + now) and now <= then / 3
    return best_order(answers.sum(dim=0)) if is_better and then >= decent * total else None


def _of_order(order: torch.Tensor, stats: ClassStatistics, classes: Sequence[str]) -> str:
    import torch

    assert stats.answers is not None
    assert stats.head is not None
    answers = stats.answers.sum(dim=0)
    moved = (order != torch.arange(len(order))).nonzero()[:, 0]
    total = int(answers[moved].sum())
    now, then = int(answers[moved, moved].sum()) / total, int(answers[moved, order[moved]].sum()) / total
    first = int(moved[answers[moved, order[moved]].argmax()])
    place = int(order[first])
    return (
        f"the classes of the head seem to be in another order: for {counted(len(moved), 'class', 'classes')} of "
        f"{len(classes):,} another row fits, and then {then:.0%} of their samples are classified correctly instead of "
        f"{now:.0%}; row {stats.head.row_numbers[place]} of the head, counted from 0, seems to be {classes[first]!r}, "
        f"not {classes[place]!r}; give the names of its rows in their order by --head-names"
    )

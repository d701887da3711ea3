"""How well a score tells images of classes that are held out: half of the classes are known, the others are not.

Shapes: C classes, K scores. In each round a random half of the classes is known, and a fifth of the images of each, at
least one, is scored by a model of the others; all images of the other half are scored by it too.

The AUROC is that over all pairs of a known and another image of all rounds. Without class c, its pairs are left out on
either side, and the 95% interval over other classes of this kind comes from these C estimates (delete-one-class
jackknife, ``(C−1)/C Σ(θ₍₋c₎ − θ̄)²``). The models are not fitted again, so that the interval does not hold what a class
does to the reference of others. FPR95 is the mean over rounds, with the same jackknife. Where no class
changes an estimate, the interval is Wilson's of C/2 trials.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.intervals import t_quantile, without_each
from nctransfer.ood.detection import ACCEPTED, Detection, wilson_of

if TYPE_CHECKING:
    import torch

__all__ = ["ClassRound", "class_detection"]


class ClassRound(NamedTuple):
    """The scores of a round.

    Attributes:
        known: The scores of the known images that the model has not seen, ``(n,)``.
        known_labels: Their class codes, ``(n,)``.
        other: The scores of all images of the other classes, ``(m,)``.
        other_labels: Their class codes, ``(m,)``.
    """

    known: torch.Tensor
    known_labels: torch.Tensor
    other: torch.Tensor
    other_labels: torch.Tensor


def class_detection(rounds: Sequence[ClassRound], classes: int) -> Detection:
    """AUROC and FPR95 of a score on classes that are held out, with intervals over other classes of this kind.

    Args:
        rounds: The scores, by round.
        classes: The number C of classes; each is known in some rounds.

    Returns:
        The numbers; ``vector`` is ``(C,)``.
    """
    import torch

    won = torch.zeros(classes, classes, dtype=torch.float64)
    pairs = torch.zeros_like(won)
    for one in rounds:
        won += _won(one, classes)
        known, other = (labels.bincount(minlength=classes).double() for labels in (one.known_labels, one.other_labels))
        pairs += known[:, None] * other
    auroc = float(won.sum() / pairs.sum())
    without = without_each(won) / without_each(pairs)
    vector = (without - without.mean()) * math.sqrt((classes - 1) / classes)
    error, t = float(vector.square().sum().sqrt()), t_quantile(classes - 1)
    trials = auroc * (1 - auroc) / error**2 if error > 0 else classes / 2
    fpr = _false_positives(rounds)
    fprs = torch.tensor([_false_positives(rounds, code) for code in range(classes)], dtype=torch.float64)
    half = t * math.sqrt((classes - 1) / classes * float((fprs - fprs.mean()).square().sum()))
    around = (max(fpr - half, 0.0), min(fpr + half, 1.0)) if half > 0 else wilson_of(fpr, classes / 2, t)
    return Detection(auroc, wilson_of(auroc, trials, t), fpr, around, vector)


def _won(one: ClassRound, classes: int) -> torch.Tensor:
    """In how many pairs of a known image of class a and another of class b the other scores higher, ``(C, C)``."""
    import torch

    order = one.known.double().argsort()
    ordered, labels = one.known.double()[order], one.known_labels[order]
    counts = torch.zeros(len(order) + 1, classes, dtype=torch.float64)  # known images of each class among the lowest
    counts[torch.arange(1, len(order) + 1), labels] = 1
    counts = counts.cumsum(dim=0)
    values = one.other.double()
    less, up_to = (counts[torch.searchsorted(ordered, values, right=right)] for right in (False, True))
    found = torch.zeros(classes, classes, dtype=torch.float64)
    return found.index_add_(0, one.other_labels, (less + up_to) / 2).T


def _false_positives(rounds: Sequence[ClassRound], without: int = -1) -> float:
    """The mean FPR95 of the rounds, one class left out."""
    found = []
    for one in rounds:
        known, other = one.known[one.known_labels != without], one.other[one.other_labels != without]
        threshold = known.kthvalue(max(math.ceil(ACCEPTED * len(known) - 1e-9), 1)).values
        found.append(float((other <= threshold).double().mean()))
    return sum(found) / len(found)

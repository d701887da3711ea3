"""Which classes a head finds hard, and which it confuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.intervals import wilson

if TYPE_CHECKING:
    import torch

__all__ = ["ClassAccuracy", "Confusion", "class_accuracies", "confusions"]


@dataclass(frozen=True, kw_only=True)
class ClassAccuracy:
    """How many images of a class are classified right.

    Attributes:
        name: The class.
        images: The number of its images.
        right: How many of them are classified right.
        interval: The 95% interval of the share that is right (Wilson's).
    """

    name: str
    images: int
    right: int
    interval: tuple[float, float]

    @property
    def accuracy(self) -> float:
        """The share of the images that are classified right."""
        return self.right / self.images


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Images of one class that are taken for another.

    Attributes:
        given: Their class.
        predicted: The class that they are taken for.
        images: Their number.
        of: The number of all images of their class.
    """

    given: str
    predicted: str
    images: int
    of: int


def class_accuracies(
    predicted: torch.Tensor, labels: torch.Tensor, classes: Sequence[str]
) -> tuple[ClassAccuracy, ...]:
    """The accuracy of each class that has images, the lowest first.

    Args:
        predicted: The predicted class codes, ``(n,)``.
        labels: The right class codes, ``(n,)``.
        classes: The class names.

    >>> import torch
    >>> [(one.name, one.right) for one in class_accuracies(torch.tensor([0, 1, 0]), torch.tensor([0, 1, 1]), "ab")]
    [('b', 1), ('a', 1)]
    """
    images = labels.bincount(minlength=len(classes))
    right = labels[predicted == labels].bincount(minlength=len(classes))
    low, high = wilson(right.double(), images.double().clamp(min=1))
    found = [
        ClassAccuracy(name=name, images=count, right=hits, interval=(max(0.0, ends[0]), min(1.0, ends[1])))
        for name, count, hits, *ends in zip(
            classes, images.tolist(), right.tolist(), low.tolist(), high.tolist(), strict=True
        )
        if count
    ]
    return tuple(sorted(found, key=lambda one: (one.accuracy, -one.images)))


def confusions(predicted: torch.Tensor, labels: torch.Tensor, classes: Sequence[str]) -> tuple[Confusion, ...]:
    """The pairs of classes that are confused, those of most images first.

    Args:
        predicted: The predicted class codes, ``(n,)``.
        labels: The right class codes, ``(n,)``.
        classes: The class names.

    >>> import torch
    >>> confusions(torch.tensor([0, 1, 0]), torch.tensor([0, 1, 1]), ["cat", "dog"])
    (Confusion(given='dog', predicted='cat', images=1, of=2),)
    """
    wrong = predicted != labels
    counts = Counter(zip(labels[wrong].tolist(), predicted[wrong].tolist(), strict=True))
    images = labels.bincount(minlength=len(classes)).tolist()
    found = [
        Confusion(given=classes[given], predicted=classes[taken], images=count, of=images[given])
        for (given, taken), count in counts.items()
    ]
    return tuple(sorted(found, key=lambda one: (-one.images, -one.images / one.of, one.given, one.predicted)))

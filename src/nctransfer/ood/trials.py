"""Which images are the reference of a score, and which are scored.

An image that is its own reference looks more like the known classes than a new one. So every known image is scored by
models that have not seen it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.errors import FeaturesError, counted, join_names

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["FOLDS", "ROUNDS", "Trial", "check_classes", "folds_of", "held_out_trials", "image_trials"]

FOLDS = 5
ROUNDS = 10
FEWEST = 3  # images of a class: one is left out, and what is left has another of which one can be left out


class Trial(NamedTuple):
    """A reference, and the images that it scores.

    Attributes:
        reference: The images that models are fitted to.
        known: The rows of the known set that are scored, ``(n_k,)``; none if the known images are another set.
        other: The rows of the known set that count as others, if classes are held out; else none.
    """

    reference: FeatureSet
    known: torch.Tensor
    other: torch.Tensor


def check_classes(features: FeatureSet, classes: int, images: int) -> None:
    """Refuse a set with too few classes, or with classes of too few images.

    Raises:
        FeaturesError: There are too few.
    """
    if len(features.classes) < classes:
        raise FeaturesError(
            f"{features.info.id} has {counted(len(features.classes), 'class', 'classes')}; expected at least {classes}",
            "give images of more classes"
            if classes == 2
            else "give images of more classes, or a set of other images: nctransfer ood SET OTHER",
        )
    if small := [features.classes[code] for code in (features.counts < images).nonzero()[:, 0].tolist()]:
        raise FeaturesError(
            f"{counted(len(small), 'class has', 'classes have')} fewer than {images} images: "
            f"{join_names([repr(name) for name in small])}",
            "give more images of these classes, or leave them out by --exclude-classes FILE",
        )


def folds_of(labels: torch.Tensor, seed: int) -> torch.Tensor:
    """A random fold for each image, from 0 to 4, so that each has a fifth of the images of every class.

    Args:
        labels: The class codes, ``(n,)``.
        seed: The seed.

    >>> import torch
    >>> folds_of(torch.tensor([0, 0, 0, 0, 0]), 0).sort().values.tolist()
    [0, 1, 2, 3, 4]
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    folds = torch.empty_like(labels)
    start = 0
    for code in labels.bincount().nonzero()[:, 0].tolist():
        rows = (labels == code).nonzero()[:, 0]
        folds[rows[torch.randperm(len(rows), generator=generator)]] = (torch.arange(len(rows)) + start) % FOLDS
        start += len(rows)  # so that small classes do not all lie in the first folds
    return folds


def image_trials(known: FeatureSet, seed: int) -> Iterator[Trial]:
    """Each fifth of the known images in turn, with the others as the reference."""
    import torch

    folds = folds_of(known.labels, seed)
    for number in range(FOLDS):
        is_left_out = folds == number
        yield Trial(
            known.only_rows((~is_left_out).nonzero()[:, 0]),
            is_left_out.nonzero()[:, 0],
            torch.empty(0, dtype=torch.int64),
        )


def held_out_trials(known: FeatureSet, seed: int) -> Iterator[Trial]:
    """Rounds in which half of the classes are held out; every class is known in half of the rounds.

    Both halves take turns, with another halving for every two rounds, and another fifth of the images is left out in
    each round. A class without an image in this fold leaves out that of the next fold that has one, so that every known
    class is scored in every round.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    folds = folds_of(known.labels, seed)
    classes = len(known.classes)
    for number in range(ROUNDS):
        if number % 2 == 0:
            order = torch.randperm(classes, generator=generator)
        half = (order[: classes // 2] if number % 2 == 0 else order[classes // 2 :]).sort().values
        is_known = torch.isin(known.labels, half)
        distance = (folds - number // 2) % FOLDS
        nearest = torch.full((classes,), FOLDS).scatter_reduce(0, known.labels, distance, "amin")
        is_left_out = distance == nearest[known.labels]
        reference = known.only_rows((is_known & ~is_left_out).nonzero()[:, 0])
        yield Trial(
            reference.only_classes(half),
            (is_known & is_left_out).nonzero()[:, 0],
            (~is_known).nonzero()[:, 0],
        )

"""Labelled images that a head classifies wrong, and how many images of each class it classifies right."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.heads.foremost import Foremost

if TYPE_CHECKING:
    from nctransfer.heads.prediction import Prediction

__all__ = ["KEPT", "Mistake", "MistakeTally"]

KEPT = 10
"""How many mistakes are kept: the most confident ones."""


@dataclass(frozen=True)
class Mistake:
    """An image whose label is another class of the head than the predicted one: either of the two is wrong.

    Attributes:
        id: The path of the image, or what else identifies it.
        label: The class that the image has as label.
        predicted: The most probable class, as the head says.
        probability: Its probability.
        abstained: Whether the image was held back.
    """

    id: str
    label: str
    predicted: str
    probability: float
    abstained: bool


class MistakeTally:
    """Counts labelled images by their class, and keeps the most confident mistakes."""

    def __init__(self) -> None:
        self._images: collections.Counter[str] = collections.Counter()
        self._right: collections.Counter[str] = collections.Counter()
        self._mistakes: Foremost[Mistake] = Foremost(KEPT)

    def add(self, prediction: Prediction, label: str) -> None:
        """Count an image that could be used and whose label is a class of the head."""
        self._images[label] += 1
        if prediction.label == label:
            self._right[label] += 1
            return
        probability = prediction.probability or 0.0
        found = Mistake(prediction.id, label, prediction.label or "", probability, prediction.abstained)
        self._mistakes.add(probability, found)

    @property
    def mistakes(self) -> tuple[Mistake, ...]:
        """The most confident mistakes, the most confident first."""
        return self._mistakes.items

    @property
    def of_classes(self) -> Mapping[str, tuple[int, int]]:
        """For each class that is a label: how many of its images are classified right, and how many there are."""
        return {name: (self._right[name], number) for name, number in sorted(self._images.items())}

"""How many images a head answered, how many were right where labels are known, and whether that was to be expected."""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nctransfer.errors import counted
from nctransfer.heads.prediction_mistakes import MistakeTally
from nctransfer.intervals import wilson
from nctransfer.sources.source import digest_number

if TYPE_CHECKING:
    from nctransfer.heads.head import Head
    from nctransfer.heads.prediction import Prediction
    from nctransfer.heads.prediction_mistakes import Mistake

__all__ = ["PredictionSummary", "PredictionTally", "Share", "difference_interval"]

BROKEN = "broken"


@dataclass(frozen=True, kw_only=True)
class Share:
    """A number of images among others.

    Attributes:
        hits: Their number.
        of: The number of all.
    """

    hits: int
    of: int

    @property
    def value(self) -> float | None:
        """The share; ``None`` of no images."""
        return self.hits / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95% interval over other images of these classes; ``None`` of no images.

        >>> [round(end, 3) for end in Share(hits=8, of=10).interval]
        [0.49, 0.943]
        """
        import torch

        if not self.of:
            return None
        low, high = wilson(torch.tensor(self.hits, dtype=torch.float64), torch.tensor(self.of, dtype=torch.float64))
        return float(low), float(high)

    def to_dict(self) -> dict[str, Any]:
        """The numbers as a dictionary for JSON."""
        return {"value": self.value, "interval": self.interval and list(self.interval), "images": self.of}


def difference_interval(
    one: float, interval: tuple[float, float], other: float, others: tuple[float, float]
) -> tuple[float, float]:
    """The 95% interval of a difference, ``one - other``, of two independent estimates with their 95% intervals.

    With estimates a, b and intervals ``[l_a, u_a]``, ``[l_b, u_b]``, it is ``a − b − √((a − l_a)² + (u_b − b)²)`` to
    ``a − b + √((u_a − a)² + (b − l_b)²)``. For two proportions with Wilson's intervals, this is method 10 of Newcombe
    (Statistics in Medicine 17, 1998); it holds for any intervals (Zou and Donner, Statistics in Medicine 27, 2008).

    Args:
        one: The first estimate.
        interval: Its interval.
        other: The second estimate.
        others: Its interval.

    >>> low, high = difference_interval(56 / 70, (0.6919, 0.8768), 48 / 80, (0.4904, 0.7004))
    >>> round(low, 3), round(high, 3)
    (0.052, 0.334)
    """
    difference = one - other
    return (
        difference - math.hypot(one - interval[0], others[1] - other),
        difference + math.hypot(interval[1] - one, other - others[0]),
    )


@dataclass(frozen=True, kw_only=True)
class PredictionSummary:
    """What a head said of some images, in numbers.

    Accuracy is that of images whose label is a class of the head and that the head was not fitted on. Images of
    another label, and images without one, say nothing about it.

    Attributes:
        images: The number of images.
        answered: How many of them the head answered.
        reasons: How often it did not, by the reason; broken images count as ``broken``.
        classes: How many of the answered images are of each class, as the head says.
        accuracy: The share of right ones among images with a label, answered or not.
        error: The share of wrong ones among answered images with a label.
        fitted: The number of images with a label that the head was fitted on.
        other_label: The first label that is no class of the head; "" if every label is one.
        other_images: The number of images with such a label.
        other_answered: How many of them the head answered.
        label_counts: For each class that is a label, how many of its images are classified right, and how many there
            are: the images of ``accuracy`` by their label.
        mistakes: The most confident of the images that are classified wrong, the most confident first; up to ten.
        promised: The accuracy that was promised when the head was fitted, with its 95% interval.
        max_error: The error among the answered images that the head aims at; ``None`` if it aims at none.
        error_bound: The error among the answered images of its classes that the head promises not to exceed, with a
            confidence of 95%; ``None`` if this is unknown.
    """

    images: int
    answered: int
    reasons: Mapping[str, int]
    classes: Mapping[str, int]
    accuracy: Share
    error: Share
    fitted: int
    other_label: str
    other_images: int
    other_answered: int
    label_counts: Mapping[str, tuple[int, int]]
    mistakes: tuple[Mistake, ...]
    promised: tuple[float, tuple[float, float]]
    max_error: float | None
    error_bound: float | None

    @property
    def broken(self) -> int:
        """The number of images that could not be used."""
        return self.reasons.get(BROKEN, 0)

    @property
    def labelled(self) -> int:
        """The number of images with a label, but for those that could not be used."""
        return self.accuracy.of + self.fitted + self.other_images

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know before using the predictions, in sentences."""
        if not self.broken:
            return ()
        return (f"{counted(self.broken, 'image')} could not be used; the rows say why",)

    @property
    def above_promise(self) -> tuple[float, tuple[float, float]] | None:
        """By how much the accuracy is above the promised one, with the 95% interval over other images of these classes.

        Both accuracies are estimates, so the interval is wider than that of either; see :func:`difference_interval`.
        ``None`` if no image has a label.
        """
        value, interval = self.accuracy.value, self.accuracy.interval
        if value is None or interval is None:
            return None
        return value - self.promised[0], difference_interval(value, interval, *self.promised)

    def to_dict(self) -> dict[str, Any]:
        """The numbers as a dictionary for JSON."""
        above = self.above_promise
        return {
            **asdict(self),
            "accuracy": self.accuracy.to_dict(),
            "error": self.error.to_dict(),
            "label_counts": {
                name: {"right": right, "images": images} for name, (right, images) in self.label_counts.items()
            },
            "promised": {"value": self.promised[0], "interval": list(self.promised[1])},
            "above_promise": above and {"value": above[0], "interval": list(above[1])},
        }


class PredictionTally:
    """Counts predictions one by one, in memory that depends on the number of classes and not on that of images.

    Args:
        head: The head.
        max_error: The error among the answered images that it aims at; ``None`` for none.
        error_bound: The error among the answered that it promises; see :class:`PredictionSummary`.
    """

    def __init__(self, head: Head, max_error: float | None = None, error_bound: float | None = None) -> None:
        self._classes = frozenset(head.classes)
        self._fitted_on = frozenset([] if head.images is None else head.images.tolist())
        self._promised = head.promise.accuracy, head.promise.interval
        self._max_error, self._error_bound = max_error, error_bound
        self._images = self._labelled = self._right = self._answered_labelled = self._wrong = self._fitted = 0
        self._reasons: collections.Counter[str] = collections.Counter()
        self._given: collections.Counter[str] = collections.Counter()
        self._other_label = ""
        self._other_images = self._other_answered = 0
        self._mistakes = MistakeTally()

    def add(self, prediction: Prediction, label: str, digest: str) -> None:
        """Count one prediction.

        Args:
            prediction: The prediction.
            label: The true class as far as it is known; "" if it is not.
            digest: The digest of the image; "" if it could not be read.
        """
        self._images += 1
        if prediction.abstained:
            self._reasons[BROKEN if prediction.is_broken else prediction.reason] += 1
        else:
            self._given[prediction.label or ""] += 1
        if not label or prediction.is_broken:
            return
        if label not in self._classes:
            self._other_label = self._other_label or label
            self._other_images += 1
            self._other_answered += not prediction.abstained
            return
        if digest and self._fitted_on and digest_number(digest) in self._fitted_on:
            self._fitted += 1
            return
        is_right = prediction.label == label
        self._labelled += 1
        self._right += is_right
        self._answered_labelled += not prediction.abstained
        self._wrong += not (prediction.abstained or is_right)
        self._mistakes.add(prediction, label)

    def summary(self) -> PredictionSummary:
        """The numbers so far."""
        return PredictionSummary(
            images=self._images,
            answered=self._given.total(),
            reasons=dict(self._reasons.most_common()),
            classes=dict(self._given.most_common()),
            accuracy=Share(hits=self._right, of=self._labelled),
            error=Share(hits=self._wrong, of=self._answered_labelled),
            fitted=self._fitted,
            other_label=self._other_label,
            other_images=self._other_images,
            other_answered=self._other_answered,
            label_counts=self._mistakes.of_classes,
            mistakes=self._mistakes.mistakes,
            promised=self._promised,
            max_error=self._max_error,
            error_bound=self._error_bound,
        )

"""A head: a classifier on frozen features, with everything that is needed to use it and to judge its answers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nctransfer.backbones.feature_key import FEATURE

if TYPE_CHECKING:
    import torch

    from nctransfer.backbones.feature_key import FeatureKey
    from nctransfer.heads.linear_classifier import LinearClassifier
    from nctransfer.heads.unlikeness import Unlikeness

__all__ = ["Head", "HeadOrigin", "HeldOut", "Promise"]


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """What the head says of each of its n training images when that image is left out, in the order of the set.

    Attributes:
        probability: The calibrated probability of the predicted class, ``(n,)`` float32.
        right: Whether the prediction is right, ``(n,)`` bool.
        unlikeness: How unlike every class the image is, ``(n,)`` float32; see :mod:`nctransfer.heads.unlikeness`.
    """

    probability: torch.Tensor
    right: torch.Tensor
    unlikeness: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What to expect on other images of the same classes, in the same proportions. It comes from leave-one-out.

    Attributes:
        accuracy: The share of images that are classified right.
        interval: Its 95% interval over other images of these classes.
        balanced_accuracy: The mean over classes of the share of their images that are classified right.
        calibration_error: The expected calibration error of the probabilities; 0.03 means 3 points.
        calibration_error_before: The same before the temperature was fitted.
        images: The number of images that this comes from.
    """

    accuracy: float
    interval: tuple[float, float]
    balanced_accuracy: float
    calibration_error: float
    calibration_error_before: float
    images: int


@dataclass(frozen=True, kw_only=True)
class HeadOrigin:
    """Which features a head takes, and where they came from.

    Attributes:
        key: Everything about the backbone that changes the features; ``None`` for features made elsewhere.
        column: ``feature``, or a layer such as ``layer_3``.
        weights: Where the weights of the backbone came from, in words.
        licence: The licence of these weights; "" if it is not known.
        data: The name of the training images.
        versions: The versions of nctransfer, timm and torch that fitted the head.
    """

    key: FeatureKey | None
    column: str = FEATURE
    weights: str | None = None
    licence: str = ""
    data: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """A classifier on frozen features, with everything that is needed to use it and to judge its answers.

    Attributes:
        linear: The classifier with its calibrated temperature.
        counts: The number of training images per class.
        classifier: Its kind: ``ridge``, ``ncc``, ``cosine`` or ``logistic``.
        penalty: The penalty of ridge or logistic regression; ``None`` for the others.
        unlikeness: Finds images that are unlike every class.
        held_out: What leave-one-out says of the training images; thresholds are made of it.
        promise: What to expect on other images.
        origin: Which features the head takes.
        images: Digests of the training images, ``(n,)`` int64; ``None`` if they are not known.
        max_error: The largest error among the answered images that predictions aim at; ``None``: no image is held back
            for lying between classes.
        max_lost: The share of good images that may be held back as unlike every class.
    """

    linear: LinearClassifier
    counts: tuple[int, ...]
    classifier: str
    penalty: float | None
    unlikeness: Unlikeness
    held_out: HeldOut
    promise: Promise
    origin: HeadOrigin
    images: torch.Tensor | None = None
    max_error: float | None = None
    max_lost: float = 0.05

    @property
    def classes(self) -> tuple[str, ...]:
        """The C class names, in the order of the scores."""
        return self.linear.classes

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the head into one file, whole or not at all; :func:`nctransfer.load_head` reads it.

        Args:
            path: The file. Its suffix is ``.head`` by habit.
            overwrite: Whether a file that exists is replaced.

        Raises:
            HeadError: The file exists or cannot be written, or a class name is not plain text.
        """
        from nctransfer.heads.head_files import save_head

        save_head(self, path, overwrite)

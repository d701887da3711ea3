"""A head: a classifier on frozen features, with everything that is needed to use it and to judge its answers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.feature_key import FEATURE

if TYPE_CHECKING:
    import torch

    from nctransfer.backbones.feature_key import FeatureKey
    from nctransfer.backbones.hub import Progress
    from nctransfer.heads.linear_classifier import LinearClassifier
    from nctransfer.heads.prediction import Predictions
    from nctransfer.heads.unlikeness_kinds import AnyUnlikeness
    from nctransfer.sources.source_kind import ReadingOptions

__all__ = ["Head", "HeadOrigin", "HeldOut", "Promise"]


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """What the head says of each of its n training images when that image is left out, in the order of the set.

    Attributes:
        probability: The calibrated probability of the predicted class, ``(n,)`` float32.
        right: Whether the prediction is right, ``(n,)`` bool.
        unlikeness: How unlike every class the image is, ``(n,)`` float32; see
            :mod:`nctransfer.heads.unlikeness_kinds`.
    """

    probability: torch.Tensor
    right: torch.Tensor
    unlikeness: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What to expect on other images of the same classes, in the same proportions.

    It comes from training images that were left out, one of each class at a time.

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


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Head:
    """A classifier on frozen features, with everything that is needed to use it and to judge its answers.

    Attributes:
        linear: The classifier with its calibrated temperature.
        counts: The number of training images per class.
        classifier: Its kind: ``ridge``, ``ncc``, ``cosine``, ``logistic`` or ``proxies``.
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
    unlikeness: AnyUnlikeness
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

    def __repr__(self) -> str:
        backbone = "features made elsewhere" if self.origin.key is None else self.origin.key.model
        return (
            f"Head({self.classifier}, {len(self.classes)} classes, {backbone}, "
            f"expected accuracy {self.promise.accuracy:.1%})"
        )

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

    def predict(
        self,
        images: Any,
        *,
        max_error: float | None = None,
        max_lost: float | None = None,
        reading: ReadingOptions | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        plugin: str | None = None,
        device: str = "auto",
        batch_size: int = 32,
        workers: int | None = None,
        offline: bool = False,
        progress: Progress | None = None,
    ) -> Predictions:
        """What the head says of one image or many.

        The backbone is loaded again, and checked to be the one that the head was fitted with. It is kept for the next
        call, as long as the head lives. An image that cannot be read gets a row with the reason.

        Args:
            images: One image or a list of images, each the path of a file, a PIL image, or an array of pixels
                ``(height, width, 3)`` uint8 with values from 0 to 255, or ``(height, width)`` for grey. Also an array
                of n images ``(n, height, width, 3)``; a folder of images at any depth; or any other source that
                :func:`nctransfer.open_source` reads, with labels or without.
            max_error: The largest error among the answered images; images between two classes are held back so that
                it is kept. 1 for no limit; by default what the head was fitted with.
            max_lost: The share of good images that may be held back as unlike every class; by default what the head
                was fitted with.
            reading: How to read a source, for example the names of columns.
            checkpoint: The file of the backbone's weights, if they are not published ones; for a model of a folder,
                the folder.
            plugin: The Python file or module that registers the architecture, if the head was fitted with one.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
            batch_size: The number of images that go through the backbone at once.
            workers: The number of threads that read and decode images.
            offline: If true, no server is ever asked for weights.
            progress: Called as ``progress(stage, done, total)``.

        Returns:
            A list of one :class:`~nctransfer.heads.prediction.Prediction` per image, also if there is only one image:
            the type does not depend on whether a path is that of a file or of a folder.

        Raises:
            DataError: There are no images.
            ModelError: The backbone cannot be had, or is not the one that the head was fitted with.
            FeaturesError: The training images cannot show that the error among the answered is so small.
            SettingError: A share is outside its range.
        """
        from nctransfer.heads.predicting import predict_images

        return predict_images(
            self,
            images,
            max_error=max_error,
            max_lost=max_lost,
            reading=reading,
            checkpoint=checkpoint,
            plugin=plugin,
            device=device,
            batch_size=batch_size,
            workers=workers,
            offline=offline,
            progress=progress,
        )

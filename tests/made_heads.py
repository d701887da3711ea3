"""Heads with random values, for tests of what is done with a head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from nctransfer.backbones.feature_key import FeatureKey
from nctransfer.heads.head import Head, HeadOrigin, HeldOut, Promise
from nctransfer.heads.linear_classifier import LinearClassifier
from nctransfer.heads.unlikeness import Unlikeness


def made_head(
    classes: Sequence[str] = ("cat", "dog", "owl"), dim: int = 8, images: int = 4, key: FeatureKey | None = None
) -> Head:
    """A head for a backbone, or for features made elsewhere.

    Args:
        classes: The names of the classes.
        dim: The width of the features.
        images: The number of training images per class.
        key: The backbone.
    """
    drawn = torch.Generator().manual_seed(len(classes) + dim)
    count = images * len(classes)

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=drawn)

    unlikeness = Unlikeness(
        centre=random(dim),
        constant=random(1)[0],
        directions=random(2, dim).half().float(),  # as it says of itself
        curvatures=random(2),
        weight=random(len(classes), dim),
        offset=random(len(classes)),
    )
    return Head(
        linear=LinearClassifier(
            classes=tuple(classes),
            weight=random(len(classes), dim) - 0.5,
            intercept=random(len(classes)),
            centre=random(dim),
            unit_length=True,
            temperature=0.1 + 0.2,  # no short decimal
        ),
        counts=(images,) * len(classes),
        classifier="ridge",
        penalty=1 / 3,
        unlikeness=unlikeness,
        held_out=HeldOut(probability=random(count), right=random(count) > 0.2, unlikeness=random(count)),
        promise=Promise(
            accuracy=0.9,
            interval=(0.85, 0.95),
            balanced_accuracy=0.89,
            calibration_error=0.01,
            calibration_error_before=0.2,
            images=count,
        ),
        origin=HeadOrigin(
            key=key, weights="timm/some_weights", licence="apache-2.0", data="pets", versions={"torch": "2.4.0"}
        ),
        images=torch.arange(count) - 2**62,
    )


def some_key(**changes: Any) -> FeatureKey:
    """A backbone."""
    key = FeatureKey(
        model="test_vit",
        weights="0123456789abcdef",
        transform={"input_size": [3, 160, 160], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "crop_pct": 0.95},
        model_kwargs={"depth": 2},
    )
    return replace(key, **changes)

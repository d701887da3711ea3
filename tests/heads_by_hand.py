"""Heads without calibration, for tests of what is done with a head."""

from __future__ import annotations

from typing import Any

import torch

from nctransfer.features.feature_set import FeatureSet
from nctransfer.heads.head import Head, HeldOut, Promise
from nctransfer.heads.head_origin import origin_of
from nctransfer.heads.linear_classifier import LinearClassifier
from nctransfer.heads.unlikeness import fit_unlikeness


def by_hand(features: FeatureSet, **fields: Any) -> Head:
    """The nearest class centre as a head. Its numbers of leave-one-out are those of the training images themselves."""
    means = torch.stack([features.features[features.labels == code].mean(0) for code in range(len(features.classes))])
    centre = means.mean(0)
    weight = means - centre
    linear = LinearClassifier(
        classes=features.classes,
        weight=weight,
        intercept=-weight.square().sum(1) / 2,
        centre=centre,
        temperature=float(weight.square().sum(1).mean()) / 4,
    )
    probability, code = linear.probabilities(features.features).max(1)
    right = code == features.labels
    unlikeness, unlike = fit_unlikeness(features)
    accuracy = float(right.double().mean())
    return Head(
        **{
            "linear": linear,
            "counts": tuple(features.counts.tolist()),
            "classifier": "ncc",
            "penalty": None,
            "unlikeness": unlikeness,
            "held_out": HeldOut(probability=probability, right=right, unlikeness=unlike),
            "promise": Promise(
                accuracy=accuracy,
                interval=(max(0.0, accuracy - 0.1), min(1.0, accuracy + 0.1)),
                balanced_accuracy=accuracy,
                calibration_error=0.01,
                calibration_error_before=0.1,
                images=len(right),
            ),
            "origin": origin_of(features),
            "images": features.images,
            **fields,
        }
    )

"""What the user asks of a backbone: model, weights, image transform, pooling, layers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

from nctransfer.backbones.names import DEFAULT_MODEL
from nctransfer.backbones.overrides import check_transform, why_reserved
from nctransfer.errors import SettingError, reason_of

__all__ = ["BackboneRequest"]

DTYPES = ("float32", "bfloat16", "float16")
LAYERS = re.compile(r"all|last-[1-9]\d*|\d+(,\d+)*")


@dataclass(frozen=True)
class BackboneRequest:
    """A backbone that the user asks for. Where a setting is ``None``, the model's own value is used.

    Attributes:
        model: timm's name with or without tag, a short name, ``hf-hub:owner/name`` or ``local-dir:folder``.
        checkpoint: A local file of weights that replaces the published ones.
        allow_missing: Whether the checkpoint may lack the classifier.
        random_init: Whether the weights are random, as a control.
        seed: The seed of the random weights.
        dtype: The dtype to compute in: ``float32``, ``bfloat16`` or ``float16``.
        store_dtype: The dtype to store features in: ``float32`` or ``float16``.
        img_size: The width and height of the images in pixels.
        mean: The mean of each colour channel, or of all.
        std: The standard deviation of each colour channel, or of all.
        crop_pct: The share of the image that the central crop keeps.
        interpolation: How images are resized, for example ``bicubic``.
        pool: How the last layer becomes one vector, if the model family has a choice: ``cls``, ``avg``, ``max`` …
        layers: Layers whose outputs are returned too: ``all``, ``last-N``, or indices as in ``0,3,11``.
        model_kwargs: Further arguments of timm's ``create_model``.
        plugin: A Python file or module that is run first, to register architectures with timm.
    """

    model: str = DEFAULT_MODEL
    _: KW_ONLY
    checkpoint: Path | None = None
    random_init: bool = False
    seed: int = 0
    dtype: str = "float32"
    store_dtype: str = "float32"
    allow_missing: bool = False
    img_size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop_pct: float | None = None
    interpolation: str | None = None
    pool: str | None = None
    layers: str | None = None
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    plugin: str | None = None

    def __post_init__(self) -> None:
        if self.checkpoint and self.random_init:
            raise SettingError(
                "a checkpoint and random weights exclude each other", "give either --checkpoint or --random-init"
            )
        for dtype, allowed in ((self.dtype, DTYPES), (self.store_dtype, ("float32", "float16"))):
            if dtype not in allowed:
                raise SettingError(f"there is no dtype {dtype!r}", f"give one of {', '.join(allowed)}")
        size = {"input_size": (3, self.img_size, self.img_size)} if self.img_size is not None else {}
        check_transform("the transform", {**self.transform, **size}, SettingError)
        if self.layers is not None and not LAYERS.fullmatch(self.layers):
            raise SettingError(f"{self.layers!r} does not name layers", "give all, last-N, or indices as in 0,3,11")
        for name in self.model_kwargs:
            if reason := why_reserved(name):
                raise SettingError(f"--model-kwargs cannot set {name}", reason)
        try:
            json.dumps(dict(self.model_kwargs), allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:  # the key of the features could not hold the value
            raise SettingError(
                f"--model-kwargs takes plain values only: {reason_of(error)}",
                "give finite numbers, text, True, False, or tuples such as (1,2)",
            ) from None

    @property
    def transform(self) -> dict[str, Any]:
        """The settings of the transform that the user gave, by timm's names."""
        names = ("img_size", "mean", "std", "crop_pct", "interpolation")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

"""A backbone as the user asks for it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nctransfer.backbones.names import DEFAULT_MODEL
from nctransfer.backbones.overrides import check_transform, why_reserved
from nctransfer.errors import DeviceError, ModelError, WeightsError

__all__ = ["BackboneRequest"]

DTYPES = ("float32", "bfloat16", "float16")
LAYERS = re.compile(r"all|last-[1-9]\d*|\d+(,\d+)*")


@dataclass(frozen=True)
class BackboneRequest:
    """A backbone as the user names it.

    Attributes:
        model: A timm name, with or without tag; a short name; ``hf-hub:owner/name``; ``local-dir:folder``.
        checkpoint: A local file of weights, in place of the published ones.
        allow_missing: Whether the checkpoint may lack the classifier.
        random_init: Random weights, as a control.
        seed: Of the random weights.
        dtype: What to compute in: ``float32``, ``bfloat16`` or ``float16``.
        store_dtype: What to store: ``float32`` or ``float16``.
        img_size: Size of the images in place of the model's own.
        mean: Of each colour channel, in place of the model's own.
        std: Likewise.
        crop_pct: Share of the image that the central crop keeps, in place of the model's own.
        interpolation: Of resizing, in place of the model's own.
        pool: How the last layer becomes one vector, where the family has a choice: ``cls``, ``avg``, ``max`` …
        layers: Layers whose outputs are wanted too: ``all``, ``last-N``, or indices as in ``0,3,11``.
        model_kwargs: Further arguments of timm's ``create_model``.
        plugin: A file or module of the user's that is imported first, to register architectures. It runs code.
    """

    model: str = DEFAULT_MODEL
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
            raise WeightsError("a checkpoint and random weights were asked for at once", "give one of them")
        for dtype, allowed in ((self.dtype, DTYPES), (self.store_dtype, ("float32", "float16"))):
            if dtype not in allowed:
                raise DeviceError(f"there is no dtype {dtype!r}", f"choose from {', '.join(allowed)}")
        size = {"input_size": (3, self.img_size, self.img_size)} if self.img_size is not None else {}
        check_transform("the transform", {**self.transform, **size})
        if self.layers is not None and not LAYERS.fullmatch(self.layers):
            raise ModelError(f"{self.layers!r} names no layers", "give all, last-N, or indices as in 0,3,11")
        for name in self.model_kwargs:
            if reason := why_reserved(name):
                raise ModelError(f"{name} is not for --model-kwargs", reason)
        try:
            json.dumps(dict(self.model_kwargs))
        except TypeError as error:  # the key of the features could not hold it
            raise ModelError(
                f"--model-kwargs are plain values: {error}", "give numbers, text, True, False, or tuples as (1,2)"
            ) from None

    @property
    def transform(self) -> dict[str, Any]:
        """What of the transform is asked for, in timm's words."""
        names = ("img_size", "mean", "std", "crop_pct", "interpolation")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

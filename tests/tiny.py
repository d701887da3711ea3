"""Small models on real images, and the cache of a hub that was never asked."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from nctransfer.backbones.backbone import Backbone
from nctransfer.backbones.building import load
from nctransfer.backbones.feature_key import FEATURE
from nctransfer.backbones.request import BackboneRequest
from nctransfer.sources.decoding import decode
from nctransfer.sources.digits import Digits

REPOSITORY = "timm/test_vit.r160_in1k"

State = dict[str, torch.Tensor]


def random(model: str = "test_vit", **options: Any) -> Backbone:
    return load(BackboneRequest(model, random_init=True, **options))


def state_of(model: str = "test_vit", seed: int = 42, **options: Any) -> State:
    """Weights of a model of one's own."""
    state = random(model, seed=seed, **options).model.state_dict()
    return {name: tensor.clone().contiguous() for name, tensor in state.items()}


def with_classes(state: State, classes: int, classifier: str = "head") -> State:
    """The same weights with another number of classes."""
    return {name: tensor[:classes].clone() if name.startswith(classifier) else tensor for name, tensor in state.items()}


def pixels(backbone: Backbone, n: int = 4) -> torch.Tensor:
    """The first images of the digits, as the backbone wants them."""
    digits = Digits()
    images = [decode(digits.read(entry)) for entry in digits.list()[:n]]
    return torch.from_numpy(np.stack([backbone.preprocess(image) for image in images]))


def features(backbone: Backbone, n: int = 4) -> torch.Tensor:
    return backbone(pixels(backbone, n))[FEATURE]


def near(one: torch.Tensor, other: torch.Tensor) -> float:
    """The relative error."""
    return float((one - other).norm() / other.norm())


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def in_hub(
    cache: Path,
    content: State | bytes | Mapping[str, Any],
    name: str = "model.safetensors",
    repository: str = REPOSITORY,
    revision: str = "main",
) -> Path:
    """A file in the cache of the hub, as a download leaves it: tensors, bytes, or what becomes JSON."""
    root = cache / f"models--{repository.replace('/', '--')}"
    path = root / "snapshots" / f"of-{revision}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / revision).write_text(f"of-{revision}")
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif name.endswith(".json"):
        path.write_text(json.dumps(content))
    else:
        save_file(dict(content), path)
    return path


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.marker),)

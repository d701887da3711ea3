"""Outputs of a model's layers (blocks or stages): which layers it has, and how their outputs become vectors."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nctransfer.errors import ModelError

if TYPE_CHECKING:
    import torch

__all__ = ["forward_with_layers", "is_layer", "layer_indices", "layer_name", "pool_type"]


def forward_with_layers(model: Any, images: torch.Tensor, indices: Sequence[int]) -> list[torch.Tensor]:
    """The pooled output of a model before its classifier, and the pooled outputs of some layers, in one pass.

    Args:
        model: A timm model.
        images: ``(B, 3, height, width)``, as the model expects them.
        indices: The layers.

    Returns:
        ``(B, d)`` of the model, then ``(B, d_l)`` of each layer l.
    """
    last, layers = _layer_outputs(model, images, indices)
    return [model.forward_head(last, pre_logits=True), *(_pooled(model, *layer) for layer in layers)]


def layer_indices(model: Any, wanted: str, input_size: Sequence[int], name: str) -> tuple[int, ...]:
    """The indices of the layers that a user names, in ascending order.

    Args:
        model: A timm model.
        wanted: ``all``, ``last-N``, or indices as in ``0,3,11``.
        input_size: Channels, height and width of an image; one is run to count the layers.
        name: The name of the model, for messages.

    Raises:
        ModelError: The model does not give the outputs of its layers, or has fewer layers.
    """
    import torch

    try:
        with torch.inference_mode():
            count = len(_layer_outputs(model, torch.zeros(1, *input_size), None)[1])
    except (AttributeError, TypeError, NotImplementedError) as error:
        raise ModelError(f"{name} does not give the outputs of its layers", "leave out --layers") from error
    if wanted == "all":
        return tuple(range(count))
    if wanted.startswith("last-"):
        return tuple(range(count))[-int(wanted.removeprefix("last-")) :]
    indices = sorted({int(index) for index in wanted.split(",")})
    if indices[-1] >= count:
        raise ModelError(f"{name} has no layer {indices[-1]}", f"give layers from 0 to {count - 1}")
    return tuple(indices)


def layer_name(index: int) -> str:
    """The column of a layer's outputs.

    >>> layer_name(3)
    'layer_3'
    """
    return f"layer_{index}"


def is_layer(column: str) -> bool:
    """Whether a column holds the outputs of an inner layer, and neither the pooled output nor several layers joined.

    >>> is_layer("layer_3"), is_layer("feature"), is_layer("last 2")
    (True, False, False)
    """
    return re.fullmatch(r"layer_\d+", column) is not None


def _layer_outputs(
    model: Any, images: torch.Tensor, indices: Sequence[int] | None
) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor | None]]]:
    """The last feature map; and for each layer its map ``(B, d, h, w)`` and its prefix tokens ``(B, p, d)``, if any."""
    takes = inspect.signature(model.forward_intermediates).parameters
    has_prefix = getattr(model, "num_prefix_tokens", 0) and "return_prefix_tokens" in takes
    more = {"return_prefix_tokens": True} if has_prefix else {}
    last, layers = model.forward_intermediates(images, indices=indices, output_fmt="NCHW", **more)
    return last, [layer if isinstance(layer, tuple) else (layer, None) for layer in layers]


def _pooled(model: Any, spatial: torch.Tensor, prefix: torch.Tensor | None) -> torch.Tensor:
    """The output of a layer as one vector per image, pooled like the last layer: class token, mean or maximum."""
    import torch

    kind = pool_type(model)
    places = spatial.flatten(2)  # (B, d, h·w)
    if kind == "token" and prefix is not None and prefix.shape[1]:
        return prefix[:, 0]
    if kind == "max":
        return places.amax(2)
    if kind == "avgmax":
        return (places.mean(2) + places.amax(2)) / 2
    if kind == "catavgmax":
        return torch.cat([places.mean(2), places.amax(2)], dim=1)
    return places.mean(2)


def pool_type(model: Any) -> str:
    """Timm's name of how a model pools its last layer.

    Depending on the family, it is an attribute of the model, of its pooling module or of its head.
    """
    for owner in (model, getattr(model, "head", None)):
        pool = getattr(owner, "global_pool", None)
        name = pool if isinstance(pool, str) else getattr(pool, "pool_type", None)
        if isinstance(name, str) and name:
            return name
    return "avg"

"""What a user may change about a model: its transform, and the arguments of its constructor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nctransfer.errors import ModelError, NCTransferError

__all__ = ["RESERVED", "check_transform", "why_reserved"]

INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
MOST_PIXELS = 4096  # per side of an image
# Arguments of create_model that other options replace, or that would change what is measured; and what to do instead.
RESERVED = {
    "pretrained": "choose weights with --checkpoint or --random-init",
    "checkpoint_path": "give --checkpoint FILE",
    "pretrained_cfg": "give --mean, --std, --img-size or --checkpoint",
    "pretrained_cfg_overlay": "give --mean, --std, --img-size or --checkpoint",
    "global_pool": "give --pool",
    "img_size": "give --img-size",
    "features_only": "give --layers",
    "out_indices": "give --layers",
    "in_chans": "images always have three channels",
    "num_classes": "the classifier has the number of classes that its weights have",
    "scriptable": "leave it out, because it does not change features",
    "exportable": "leave it out, because it does not change features",
    "device": "give --device",
    "dtype": "give --dtype",
    "cache_dir": "set HF_HOME",
}


def why_reserved(argument: str) -> str:
    """What to do instead of giving an argument of timm's ``create_model``; "" if it may be given."""
    whole = "leave it out, because weights are loaded completely" if argument.startswith("pretrained_") else ""
    return RESERVED.get(argument, whole)


def check_transform(what: str, given: Mapping[str, Any], error: type[NCTransferError] = ModelError) -> None:
    """Check the settings of a transform of images.

    Args:
        what: Where the settings come from, for messages.
        given: Some of timm's settings ``input_size``, ``mean``, ``std``, ``crop_pct`` and ``interpolation``.
        error: What is raised if a value is impossible.
    """
    for name in ("mean", "std"):
        values = given.get(name, (1.0,))
        if not _are_numbers(values) or len(values) not in (1, 3) or (name == "std" and min(values) <= 0):
            raise error(
                f"{what}: {name} cannot be {values}",
                f"give one {'number above 0' if name == 'std' else 'number'}, or three for red, green and blue",
            )
    size = given.get("input_size", (3, 1, 1))
    if not _are_numbers(size) or len(size) != 3 or size[0] != 3 or not 1 <= min(size) <= max(size) <= MOST_PIXELS:
        raise error(f"{what}: images cannot have the size {size}", f"give 1 to {MOST_PIXELS:,} pixels per side")
    crop = given.get("crop_pct", 1.0)
    if not _are_numbers((crop,)) or not 0 < crop <= 1:
        raise error(f"{what}: the central crop cannot keep {crop} of an image", "give a share above 0 and at most 1")
    if (interpolation := given.get("interpolation", "bicubic")) not in INTERPOLATIONS:
        raise error(f"{what}: there is no interpolation {interpolation!r}", f"give one of {', '.join(INTERPOLATIONS)}")


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(
        isinstance(value, int | float) and -math.inf < value < math.inf
        for value in values  # isfinite overflows
    )

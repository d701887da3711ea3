"""Read the state dict from a checkpoint file, without running any code that the file may hold."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.timm_import import import_timm
from nctransfer.errors import WeightsError, reason_of

if TYPE_CHECKING:
    import torch

__all__ = ["read_state_dict"]

log = logging.getLogger(__name__)

INNER = ("teacher", "target_encoder", "student", "encoder", "model_state_dict", "net", "network")
"""Where training programs put the state dict, besides the names that timm looks for."""


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in a checkpoint file: the whole file, or under one of the usual names.

    If there are several, an exponential moving average or a teacher is preferred. timm's reader does not unpickle
    objects, which could run any code.

    Raises:
        WeightsError: The file is damaged, unsafe, or holds no state dict.
    """
    import torch

    import_timm()
    from timm.models import clean_state_dict, load_state_dict

    try:
        content: Any = load_state_dict(str(path), weights_only=True)
        for name in INNER:
            if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
                log.info("taking %r from the checkpoint %s", name, path.name)
                content = clean_state_dict(content[name])
                break
    except Exception as error:  # a damaged or hostile file may raise anything
        raise WeightsError(
            f"the checkpoint {str(path)!r} cannot be read safely: {_why_unsafe(error)}",
            "give a state dict as .safetensors, or as .pth without pickled objects",
        ) from error
    if not content or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise WeightsError(
            f"the checkpoint {str(path)!r} does not hold a state dict",
            "expected a mapping from names of parameters to tensors, as the whole file or under 'state_dict', 'model', "
            "'model_ema', 'teacher' or 'student'",
        )
    for name, value in content.items():
        if odd := _why_not_plain(value):
            raise WeightsError(
                f"the checkpoint {str(path)!r} cannot be used: its tensor {str(name)[:100]!r} is {odd}",
                "save the weights as plain tensors: tensor.dequantize() or tensor.to_dense()",
            )
    return dict(content)


def _why_not_plain(tensor: torch.Tensor) -> str:
    """What a tensor is that holds no plain array of numbers; empty if it does."""
    import torch

    if tensor.is_nested:
        return "nested"
    if tensor.is_meta:
        return "without values (on the device meta)"
    if tensor.is_quantized:
        return "quantised"
    return "" if tensor.layout == torch.strided else "sparse"


def _why_unsafe(error: Exception) -> str:
    if "weights_only" in str(error):  # torch's own message advises to run the file
        return "it is damaged, or holds pickled objects, which could run any code"
    return f"it is damaged or not complete ({', '.join(dict.fromkeys([type(error).__name__, reason_of(error)]))})"

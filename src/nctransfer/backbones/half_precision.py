"""A model in bfloat16 or float16: its weights too, which is faster than converting them for each layer."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from nctransfer.devices import is_out_of_memory
from nctransfer.errors import reason_of

if TYPE_CHECKING:
    import torch

__all__ = ["HalfModel", "half_model", "is_half"]

log = logging.getLogger(__name__)

Result = TypeVar("Result")


def is_half(dtype: torch.dtype) -> bool:
    """Whether numbers of this dtype have 16 bits.

    >>> import torch
    >>> is_half(torch.bfloat16), is_half(torch.float32)
    (True, False)
    """
    return dtype.itemsize == 2


def half_model(dtype: torch.dtype) -> HalfModel | None:
    """What runs a model in this dtype, if its numbers have 16 bits; else ``None``."""
    return HalfModel(dtype) if is_half(dtype) else None


class HalfModel:
    """Runs a model in bfloat16 or float16.

    Some models compute a few tensors in float32, whatever their weights are, and then fail. They are run with the
    weights in float32 by autocast, which converts what a layer needs.

    Args:
        dtype: bfloat16 or float16.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._made: Any = None
        self._mixes = False

    def of(self, model: Any) -> Any:
        """The model to run: a copy with weights of 16 bits, which is made once; the model itself under autocast.

        Args:
            model: The model in float32. It must not change any more.
        """
        if self._made is None:
            self._made = model if self._mixes else with_half_weights(model, self._dtype)
        return self._made

    def run(self, forward: Callable[[torch.Tensor], Result], images: torch.Tensor) -> Result:
        """The outputs of a function that runs the model of :meth:`of`."""
        import torch

        if not self._mixes:
            try:
                return forward(images.to(self._dtype))
            except Exception as error:  # a model may refuse a dtype in any way
                if is_out_of_memory(error):
                    raise
                log.debug("autocast is used, since the model does not run in 16 bits: %s", reason_of(error))
                self._mixes, self._made = True, None
        with torch.autocast(images.device.type, self._dtype):
            return forward(images)


def with_half_weights(model: Any, dtype: torch.dtype) -> Any:
    """A copy of a model whose weights have 16 bits. BatchNorms stay in float32, since they divide by small variances.

    Args:
        model: A model in float32.
        dtype: bfloat16 or float16.
    """
    import torch

    lower = copy.deepcopy(model).to(dtype)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            lower.get_submodule(name).load_state_dict(module.state_dict(), assign=True)
    return lower

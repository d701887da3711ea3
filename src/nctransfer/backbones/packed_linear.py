"""A linear layer that holds its weights in oneDNN's own order, so that they need not be reordered in every run."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["PackedLinear", "can_pack", "pack", "packed_weight", "run_packed", "unpack"]


def can_pack() -> bool:
    """Whether this PyTorch has oneDNN and the two operators, which are private and may change."""
    there: Any = torch.backends.mkldnn
    names = ("_reorder_linear_weight", "_linear_pointwise")
    return bool(there.is_available() and there.enabled) and all(hasattr(torch.ops.mkldnn, name) for name in names)


def packed_weight(weight: torch.Tensor, rows: int) -> torch.Tensor:
    """The weight ``(d_out, d_in)`` of a linear layer, float32, packed for inputs of about this many rows."""
    packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), rows)
    return packed


def run_packed(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """What ``torch.nn.functional.linear`` gives for ``(…, d_in)`` float32 inputs, with a packed weight."""
    outputs: torch.Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return outputs


class PackedLinear(nn.Linear):
    """A linear layer with packed weights, for inference.

    The packed weights take the place of the plain ones, so the layer needs no more memory than before. ``weight`` is
    made from them where it is asked for, bit for bit. A copy of the layer is a plain one, and the layer itself becomes
    plain when it is moved to another device or dtype.
    """

    _packed: torch.Tensor

    @property
    def weight(self) -> torch.Tensor:  # type: ignore[override]
        """The plain weight ``(d_out, d_in)``, made anew at each access."""
        return self._packed.to_dense()

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        """The layer's output ``(…, d_out)`` for an input ``(…, d_in)``."""
        if input.dtype == torch.float32 and input.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
            return run_packed(input, self._packed, self.bias)
        return F.linear(input, self.weight, self.bias)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}weight"] = self.weight
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _apply(self, fn: Any, recurse: bool = True) -> nn.Module:
        unpack(self)
        return self._apply(fn, recurse)

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Linear:
        plain = nn.Linear.__new__(nn.Linear)
        memo[id(self)] = plain
        plain.__dict__ |= {name: copy.deepcopy(value, memo) for name, value in vars(self).items() if name != "_packed"}
        _restore(plain, self.weight)
        return plain


def pack(layer: nn.Linear, rows: int) -> None:
    """Make a linear layer a packed one, in place. The plain weights are dropped.

    Raises:
        ValueError: The plain weights cannot be made again from the packed ones.
    """
    packed = packed_weight(layer.weight, rows)
    if not torch.equal(packed.to_dense(), layer.weight):
        raise ValueError("the packed weights differ from the plain ones")
    del layer.weight
    layer._packed = packed
    layer.__class__ = PackedLinear


def unpack(layer: nn.Linear) -> None:
    """Make a packed linear layer a plain one again, in place."""
    weight = layer.weight
    del layer._packed
    layer.__class__ = nn.Linear
    _restore(layer, weight)


def _restore(layer: nn.Linear, weight: torch.Tensor) -> None:
    """Give a layer its plain weight again, before the bias as usual."""
    bias = layer._parameters.pop("bias")
    layer.register_parameter("weight", nn.Parameter(weight, requires_grad=False))
    layer.register_parameter("bias", bias)

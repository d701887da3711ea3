"""What identifies the tensors of a model: a digest of all of them, and which are still as they were drawn at random."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["is_counter", "left_at_random", "random_values", "tensor_digest"]

VALUES = 4096  # how many values of a tensor are compared


def is_counter(key: str) -> bool:
    """Whether a tensor is BatchNorm's count of training steps. Many files lack it, and no feature depends on it."""
    return key.endswith("num_batches_tracked")


def tensor_digest(state: Mapping[str, torch.Tensor]) -> str:
    """A digest of the names and values of tensors. It does not depend on the file that they came from."""
    import torch

    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted((name, tensor) for name, tensor in state.items() if not is_counter(name)):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def random_values(model: nn.Module) -> dict[str, bytes]:
    """The first values of each parameter of a model that was drawn at random.

    Parameters whose values are all equal are left out: they were set, not drawn.
    """
    return dict(_first_values(model))


def left_at_random(model: nn.Module, drawn: Mapping[str, bytes]) -> list[str]:
    """The parameters that no weights have replaced.

    Args:
        model: A model with weights, drawn with the same seed before they were loaded.
        drawn: The :func:`random_values` of an equal model without weights.
    """
    return [name for name, values in _first_values(model) if drawn.get(name) == values]


def _first_values(model: nn.Module) -> Iterator[tuple[str, bytes]]:
    for name, parameter in model.named_parameters():
        values = parameter.detach().reshape(-1)[:VALUES]
        if values.numel() > 1 and bool((values != values[0]).any()):
            yield name, values.contiguous().cpu().numpy().tobytes()

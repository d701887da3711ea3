"""Choose the device to compute on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nctransfer.errors import DeviceError

if TYPE_CHECKING:
    import torch

__all__ = ["is_out_of_memory", "pick_device", "with_float64"]

log = logging.getLogger(__name__)


def pick_device(name: str) -> torch.device:
    """The device with a name.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; ``auto`` is an accelerator if there is one, else the CPU.

    Raises:
        DeviceError: This machine has no such device.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, is_there in there.items() if is_there))
    kind, _, index = name.partition(":")
    devices = torch.cuda.device_count() if kind == "cuda" else 1
    if not there.get(kind) or (index and not (index.isdigit() and int(index) < devices)):
        names = ", ".join(kind for kind, is_there in there.items() if is_there)
        raise DeviceError(f"this machine has no device {name!r}", f"give one of: auto, {names}")
    return torch.device(name)


def with_float64(name: str) -> torch.device:
    """The device with a name, but the CPU in place of ``mps``, which cannot compute in float64.

    If the user named ``mps``, a warning says so. See :func:`pick_device` for the names.
    """
    import torch

    device = pick_device(name)
    if device.type != "mps":
        return device
    if name != "auto":
        log.warning("mps cannot compute in float64, so the CPU is used")
    return torch.device("cpu")


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that a device has too little memory.

    >>> is_out_of_memory(RuntimeError("CUDA out of memory")), is_out_of_memory(RuntimeError("no kernel"))
    (True, False)
    """
    import torch

    text = str(error).lower()
    words = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(some in text for some in words)
    )

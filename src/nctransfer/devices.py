"""Which device to compute on: what was asked for, or an error."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nctransfer.errors import DeviceError

if TYPE_CHECKING:
    import torch

__all__ = ["pick_device", "with_float64"]

log = logging.getLogger(__name__)


def pick_device(name: str) -> torch.device:
    """The device ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``auto`` is the first accelerator, else the CPU.

    Raises:
        DeviceError: It is not there.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, is_there in there.items() if is_there))
    kind, _, index = name.partition(":")
    devices = torch.cuda.device_count() if kind == "cuda" else 1
    if not there.get(kind) or (index and not (index.isdigit() and int(index) < devices)):
        names = ", ".join(kind for kind, is_there in there.items() if is_there)
        raise DeviceError(f"there is no device {name!r} here", f"there is: {names}")
    return torch.device(name)


def with_float64(name: str) -> torch.device:
    """As :func:`pick_device`; the CPU in place of mps, which has no float64, and said if mps was asked for."""
    import torch

    device = pick_device(name)
    if device.type != "mps":
        return device
    if name != "auto":
        log.warning("mps has no float64: computing on the CPU")
    return torch.device("cpu")

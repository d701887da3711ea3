"""Import timm without the compiler of PyTorch, which takes longer to import than all else that a backbone needs.

Two things import the compiler, ``torch._dynamo``, long before a model needs it. torchvision does, for a function of its
detection models; here, that function is looked up when it is called. timm marks a few functions that shall not be
compiled; here, the mark is made when such a function is called first, as PyTorch itself does it.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = ["import_timm"]

COMPILER = "torch._dynamo.utils"


def import_timm() -> None:
    """Import timm, if it is not imported yet, and add the model ``pixels`` to its models.

    ``torch._dynamo`` is imported as soon as anything needs it, as always.
    """
    _import_alone()
    from nctransfer.backbones.pixels import register_pixels  # it needs timm

    register_pixels()


def _import_alone() -> None:
    if "timm" in sys.modules or COMPILER in sys.modules:
        importlib.import_module("timm.data")
        return
    torch: Any = importlib.import_module("torch")
    stand_in = _StandIn(COMPILER)
    sys.modules[COMPILER] = stand_in
    disable = torch.compiler.disable
    later = _disable_later(disable, getattr(torch, "_disable_dynamo", None))
    try:
        torch.compiler.disable = later
        importlib.import_module("timm.data")
    finally:
        torch.compiler.disable = disable
        for name, module in list(sys.modules.items()):
            if name.startswith("timm.") and vars(module).get("disable_compiler") is later:
                vars(module)["disable_compiler"] = disable
        _remove(stand_in)


def _disable_later(at_once: Callable[..., Any], later: Callable[..., Any] | None) -> Callable[..., Any]:
    """``torch.compiler.disable`` that marks a function when it is called first.

    Args:
        at_once: The function as PyTorch has it.
        later: PyTorch's own function for this purpose; ``None`` in versions that have none.
    """

    def disable(function: Any = None, recursive: bool = True, **settings: Any) -> Any:
        if later is None or not inspect.isfunction(function) or settings.get("reason"):
            return at_once(function, recursive, **settings)
        return later(function, recursive)

    return disable


class _StandIn(ModuleType):
    """Stands for the compiler's module until something other than one function is needed of it."""

    def is_compile_supported(self, device_type: str) -> bool:
        """The module's function of this name."""
        return bool(self.__getattr__("is_compile_supported")(device_type))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system asks for these
            raise AttributeError(name)
        _remove(self)
        return getattr(importlib.import_module(COMPILER), name)


def _remove(stand_in: ModuleType) -> None:
    if sys.modules.get(COMPILER) is stand_in:
        del sys.modules[COMPILER]

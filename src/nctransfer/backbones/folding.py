"""BatchNorm folded into the convolution before it: at inference both are one affine map.

On the CPU, where normalising is a pass over memory of its own, this is what makes convolutional backbones fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["fold_batch_norms"]

TOLERANCE = 1e-5  # of the largest output; what does not agree so well is not folded


def fold_batch_norms(model: nn.Module, run: Callable[[], torch.Tensor]) -> int:
    """Fold every BatchNorm whose input comes straight from a convolution, if the outputs stay the same.

    Pairs are found by following the tensors of one run. What a run cannot show, a convolution whose
    output is used elsewhere too, shows in the outputs: then nothing is folded.

    Args:
        model: In ``eval()``; changed in place.
        run: Puts some images through the model.

    Returns:
        The number of BatchNorms that are gone.
    """
    import torch

    before = run()
    pairs = _pairs(model, run)
    undo = [_fold(model, conv, name) for name, conv in pairs.items()]
    after = run()
    scale = before.abs().max().clamp_min(torch.finfo(before.dtype).tiny)
    if bool(((after - before).abs().max() / scale) <= TOLERANCE):
        return len(undo)
    for step in reversed(undo):
        step()
    return 0


def _pairs(model: nn.Module, run: Callable[[], torch.Tensor]) -> dict[str, nn.Module]:
    """The names of BatchNorms, each with the convolution whose output it is given; both run just once."""
    from torch import nn

    outputs: dict[int, tuple[nn.Module, object]] = {}  # the tensors are kept, so that no id is used twice
    calls: list[tuple[str, nn.Module | None]] = []
    runs: dict[nn.Module, int] = {}

    def convolved(module: nn.Module, _: object, output: object) -> None:
        outputs[id(output)] = module, output
        runs[module] = runs.get(module, 0) + 1

    def watch(name: str) -> Callable[..., None]:
        def normalised(_: nn.Module, inputs: tuple[object, ...], __: object) -> None:
            calls.append((name, outputs.get(id(inputs[0]), (None,))[0]))

        return normalised

    handles = []
    for name, module in model.named_modules():
        if type(module).__name__ in ("Conv2d", "Conv2dSame"):  # not those that change their weights as they run
            handles.append(module.register_forward_hook(convolved))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            handles.append(module.register_forward_hook(watch(name)))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    names, convolutions = (list(column) for column in zip(*calls, strict=True)) if calls else ([], [])
    return {
        name: conv
        for name, conv in calls
        if conv is not None and runs[conv] == 1 and names.count(name) == convolutions.count(conv) == 1
    }


def _fold(model: nn.Module, conv: Any, name: str) -> Callable[[], None]:
    """Fold one BatchNorm, and return what undoes it. An activation that it carries stays."""
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    norm: Any = model.get_submodule(name)
    parent, _, child = name.rpartition(".")
    owner = model.get_submodule(parent)
    old = conv.weight, conv.bias

    def undo() -> None:
        conv.weight, conv.bias = old
        setattr(owner, child, norm)

    conv.weight, conv.bias = fuse_conv_bn_weights(
        *old, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    setattr(owner, child, getattr(norm, "act", nn.Identity()))
    return undo

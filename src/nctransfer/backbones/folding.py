"""Fold BatchNorms into the convolutions before them: at inference, both together are one affine map.

On the CPU, where a BatchNorm reads and writes the whole feature map once more, this makes convolutional backbones fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["fold_batch_norms"]

TOLERANCE = 1e-5
"""How much outputs may change, relative to the largest output. If they change more, nothing is folded."""


def fold_batch_norms(model: nn.Module, run: Callable[[], torch.Tensor]) -> int:
    """Fold every BatchNorm whose input is the output of a convolution, if the outputs of the model stay the same.

    Pairs are found by running the model once. If the output of a convolution is used elsewhere too, a run does not show
    it, but the outputs change after folding: then nothing is folded.

    Args:
        model: The model in ``eval()`` mode; it is changed in place.
        run: Runs some images through the model, and returns the outputs.

    Returns:
        The number of BatchNorms that were folded.
    """
    import torch
    from torch import nn

    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return 0
    before, pairs = _pairs(model, run)
    undo = [_fold(model, conv, name) for name, conv in pairs.items()]
    after = run()
    scale = before.abs().max().clamp_min(torch.finfo(before.dtype).tiny)
    if bool(((after - before).abs().max() / scale) <= TOLERANCE):
        return len(undo)
    for step in reversed(undo):
        step()
    return 0


def _pairs(model: nn.Module, run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, dict[str, nn.Module]]:
    """The outputs of a run; and the names of BatchNorms, each with the convolution whose output is its input.

    Both are used once per run.
    """
    from torch import nn

    outputs: dict[int, tuple[nn.Module, object]] = {}  # keeping the tensors keeps their ids unique
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
        if type(module).__name__ in ("Conv2d", "Conv2dSame"):  # other kinds may compute their weights when they run
            handles.append(module.register_forward_hook(convolved))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            handles.append(module.register_forward_hook(watch(name)))
    try:
        before = run()
    finally:
        for handle in handles:
            handle.remove()
    names, convolutions = (list(column) for column in zip(*calls, strict=True)) if calls else ([], [])
    pairs = {
        name: conv
        for name, conv in calls
        if conv is not None and runs[conv] == 1 and names.count(name) == convolutions.count(conv) == 1
    }
    return before, pairs


def _fold(model: nn.Module, conv: Any, name: str) -> Callable[[], None]:
    """Fold one BatchNorm, and return a function that undoes it. If the BatchNorm has an activation, that stays."""
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

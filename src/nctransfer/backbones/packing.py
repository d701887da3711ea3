"""Pack the weights of linear layers once, when a model is loaded, instead of in every run.

On AMD processors, float32 matrix products with weights packed by oneDNN are faster than PyTorch's own, which come from
MKL. By how much depends on the processor, so it is timed.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nctransfer.errors import reason_of

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["pack_linear_layers"]

log = logging.getLogger(__name__)

TOLERANCE = 1e-5
"""How much outputs may change, relative to the largest output. If they change more, nothing is packed."""
SLOWER = 1.1
"""If packed weights take more than this times as long as plain ones, nothing is packed.

Where both are about equally fast, they are always packed, so that the choice is the same in every run.
"""
OPERATIONS = 5e8
"""The number of floating-point operations that are timed at once."""
SMALLEST = 1e7
"""The fewest multiplications, summed over the layers of one shape, for which packing pays."""
REPEATS = 9


def pack_linear_layers(model: nn.Module, run: Callable[[], torch.Tensor]) -> int:
    """Pack the weights of every linear layer that runs, if the outputs stay the same and it is not slower.

    A layer is packed if it is an ``nn.Linear`` itself, not a subclass, and if it is called. Layers whose weights a
    model only reads, as attention often does, stay as they are.

    Args:
        model: The model in ``eval()`` mode, on the CPU and in float32; it is changed in place.
        run: Runs some images through the model, and returns the outputs.

    Returns:
        The number of layers that were packed.
    """
    import torch

    from nctransfer.backbones.packed_linear import PackedLinear, can_pack, pack, unpack

    layers = _candidates(model)
    if not layers or not can_pack():
        return 0
    before, rows = _rows(layers, run)
    packed: list[nn.Linear] = []
    try:
        if not rows or _is_no_faster(rows):
            return 0
        for layer, count in rows.items():
            pack(layer, count)
            packed.append(layer)
        after = run()
        scale = before.abs().max().clamp_min(torch.finfo(before.dtype).tiny)
        if bool(((after - before).abs().max() / scale) <= TOLERANCE):
            return len(packed)
    except Exception as error:  # the operators are private, and may do anything
        log.debug("linear layers are not packed: %s", reason_of(error))
    for layer in packed:
        if isinstance(layer, PackedLinear):
            unpack(layer)
    return 0


def _candidates(model: nn.Module) -> list[nn.Linear]:
    """The plain linear layers of a model, apart from the classifier, which does not run."""
    import torch
    from torch import nn

    untyped: Any = model
    classifier = untyped.get_classifier() if hasattr(model, "get_classifier") else None
    return [
        layer
        for layer in model.modules()
        if type(layer) is nn.Linear
        and layer is not classifier
        and isinstance(layer._parameters.get("weight"), nn.Parameter)
        and layer.weight.dtype == torch.float32
        and layer.weight.device.type == "cpu"
        and not layer._forward_pre_hooks  # they may compute the weights
    ]


def _rows(layers: list[nn.Linear], run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, dict[nn.Linear, int]]:
    """The outputs of a run; and the layers that it calls, each with the number of rows of its input."""
    rows: dict[nn.Linear, int] = {}

    def count(layer: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        rows[layer] = max(1, inputs[0].numel() // layer.in_features)

    handles = [layer.register_forward_pre_hook(count) for layer in layers]
    try:
        return run(), rows
    finally:
        for handle in handles:
            handle.remove()


def _is_no_faster(rows: Mapping[nn.Linear, int]) -> bool:
    """Whether packing does not pay: the shape of layers with the most work is small, or clearly slower packed."""
    import torch
    from torch.nn import functional as F

    from nctransfer.backbones.packed_linear import packed_weight, run_packed

    work: dict[tuple[int, int, int], int] = {}
    examples: dict[tuple[int, int, int], nn.Linear] = {}
    for layer, count in rows.items():
        shape = count, layer.in_features, layer.out_features
        work[shape] = work.get(shape, 0) + count * layer.weight.numel()
        examples[shape] = layer
    heaviest = max(work, key=lambda shape: work[shape])
    if work[heaviest] < SMALLEST:
        return True
    layer = examples[heaviest]
    count = max(1, min(heaviest[0], int(OPERATIONS / 2 / layer.weight.numel())))
    packed = packed_weight(layer.weight, count)
    with torch.inference_mode():
        inputs = torch.ones(count, layer.in_features)
        plain, fast = _fastest(
            lambda: F.linear(inputs, layer.weight, layer.bias), lambda: run_packed(inputs, packed, layer.bias)
        )
    return fast > SLOWER * plain


def _fastest(*ways: Callable[[], object]) -> list[float]:
    """The shortest time of each way, in seconds. They take turns, so that a change of the machine's speed meets all.

    The CPU time of this thread does not depend on what else the machine does. Windows counts it too coarsely.
    """
    clock = time.perf_counter if sys.platform == "win32" else time.thread_time
    best = [float("inf")] * len(ways)
    for repeat in range(REPEATS + 1):
        for number, way in enumerate(ways):
            start = clock()
            way()
            if repeat:  # the first time prepares
                best[number] = min(best[number], clock() - start)
    return best

"""A backbone and a head as one ONNX graph: from pixels to the probabilities of classes.

PyTorch has two exporters to ONNX. The older one, which traces a run, takes seconds where the newer one takes up to half
a minute, and its graphs compute the same. So it comes first, and the newer one where it fails.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nctransfer import __version__
from nctransfer.backbones.feature_key import FEATURE
from nctransfer.backbones.image_transform import described_steps
from nctransfer.backbones.layers import forward_with_layers
from nctransfer.errors import HeadError

if TYPE_CHECKING:
    from torch import nn

    from nctransfer.backbones.backbone import Backbone
    from nctransfer.heads.head import Head

__all__ = ["EXPORTERS", "INPUT", "OUTPUTS", "check_packages", "graph_of"]

INPUT = "pixels"
OUTPUTS = ("probabilities", "unlikeness")
EXPORTERS = ("tracing", "dynamo")
"""PyTorch's exporters, in the order in which they are tried."""
OLDEST_OF_DYNAMO = 18  # the oldest opset that the newer exporter knows
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
MOST_BYTES = 2**31 - 2**24  # of a graph with its weights in one file, with a little room


def check_packages() -> None:
    """Refuse if the packages that make and run ONNX graphs are not there.

    Raises:
        HeadError: One of them is not installed.
    """
    from importlib.util import find_spec

    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise HeadError(
            f"ONNX graphs need {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed",
            f"pip install {' '.join(PACKAGES)}",
        )


def graph_of(head: Head, backbone: Backbone, opset: int, exporter: str) -> bytes:
    """The graph of a head with its backbone, in float32, with metadata that says how to use it.

    Its input ``pixels`` is ``(batch, 3, height, width)`` uint8, resized and cropped; the graph normalises them. Its
    outputs are ``probabilities`` ``(batch, C)`` and ``unlikeness`` ``(batch,)``, both float32.

    Args:
        head: The head.
        backbone: Its backbone, on the CPU.
        opset: The version of ONNX's operators; the newer exporter knows none below 18.
        exporter: One of :data:`EXPORTERS`.

    Raises:
        HeadError: The weights are too large for a file of ONNX.
        Exception: The exporters raise all kinds of errors for models that they cannot export.
    """
    import onnx

    metadata = _metadata(head, backbone)
    whole = _whole(head, backbone)
    held = sum(tensor.numel() * tensor.element_size() for tensor in whole.state_dict().values())
    if held > MOST_BYTES:
        raise HeadError(f"the weights have {held:,} bytes, and a file of ONNX holds up to {MOST_BYTES:,}")
    size = tuple(backbone.key.transform["input_size"])
    model = _exported(whole, size, opset, exporter)
    model.producer_name, model.producer_version = "nctransfer", __version__
    for node in model.graph.node:  # they say where files lie on this computer
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    onnx.helper.set_model_props(model, metadata)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _whole(head: Head, backbone: Backbone) -> nn.Module:
    """Everything from pixels to answers as one module. A copy of the model has no packed layers."""
    import torch
    from torch import nn

    transform, column = backbone.key.transform, head.origin.column
    model: Any = copy.deepcopy(backbone.model).float().to(memory_format=torch.contiguous_format)
    layers = [] if column == FEATURE else [backbone.layers[backbone.columns.index(column) - 1]]

    class Whole(nn.Module):
        mean: torch.Tensor
        std: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.model = model
            for name in ("mean", "std"):
                self.register_buffer(name, torch.tensor(transform[name]).mul(255).view(1, 3, 1, 1))

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            images = (pixels.float() - self.mean) / self.std
            if layers:
                features = forward_with_layers(self.model, images, layers)[1]
            else:
                features = self.model.forward_head(self.model.forward_features(images), pre_logits=True)
            return head.linear.probabilities(features), head.unlikeness.of(features)

    return Whole().eval().requires_grad_(False)


def _exported(whole: nn.Module, size: tuple[int, ...], opset: int, exporter: str) -> Any:
    """The model as ONNX has it, for batches of any size."""
    import onnx
    import torch

    pixels = torch.zeros(2, *size, dtype=torch.uint8)
    names: dict[str, Any] = {"input_names": [INPUT], "output_names": list(OUTPUTS), "verbose": False}
    with _hushed(), torch.inference_mode(exporter != "dynamo"):
        if exporter == "dynamo":
            batch = {0: torch.export.Dim("batch")}
            wanted = max(opset, OLDEST_OF_DYNAMO)
            made = torch.onnx.export(
                whole, (pixels,), dynamo=True, opset_version=wanted, dynamic_shapes=(batch,), **names
            )
            assert made is not None
            return made.model_proto
        file: Any = io.BytesIO()
        axes = {name: {0: "batch"} for name in (INPUT, *OUTPUTS)}
        torch.onnx.export(whole, (pixels,), file, dynamo=False, opset_version=opset, dynamic_axes=axes, **names)
        return onnx.load_from_string(file.getvalue())


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Without what the exporters print and warn of: parts that they trace as constants. The graph is checked later."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _metadata(head: Head, backbone: Backbone) -> dict[str, str]:
    """What who uses a graph must know, as text: JSON wherever it is more than a word."""
    from nctransfer.heads.abstention import thresholds

    key, origin = backbone.key, head.origin
    limits = thresholds(head.held_out, head.max_error, head.max_lost)
    found: Mapping[str, Any] = {
        "nctransfer": __version__,
        "classes": head.classes,
        "counts": head.counts,
        "preprocessing": {
            "pixels": "RGB, upright, uint8, (batch, 3, height, width), not normalised: the graph does that",
            "steps": described_steps(key.transform),
            **key.transform,
        },
        "thresholds": {
            "probability": limits.probability,
            "unlikeness": limits.unlikeness if math.isfinite(limits.unlikeness) else None,
            "max_error": head.max_error,
            "max_lost": head.max_lost,
        },
        "classifier": head.classifier,
        "unlikeness": head.unlikeness.name,
        "temperature": head.linear.temperature,
        "promise": asdict(head.promise),
        "backbone": key.model,
        "column": origin.column,
        "pool": key.pool,
        "fitted_in": key.dtype,
        "weights": origin.weights or "",
        "weights_digest": key.weights,
        "licence": origin.licence,
        "versions": dict(origin.versions),
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}

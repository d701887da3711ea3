"""What is known about a backbone before it runs: its size, its work per image, and what it was trained on.

A model is built on torch's meta device, which has shapes but no values. So this needs no weights and no images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.backbone import POOLS, cannot_run, set_pool
from nctransfer.backbones.building import build_model
from nctransfer.backbones.feature_key import FEATURE
from nctransfer.backbones.layers import forward_with_layers, layer_indices, layer_name, pool_type
from nctransfer.backbones.names import PIXELS, resolve
from nctransfer.backbones.plugins import import_plugin
from nctransfer.backbones.pretraining import pretrained_on
from nctransfer.errors import NCTransferError

if TYPE_CHECKING:
    from nctransfer.backbones.names import ModelSpec
    from nctransfer.backbones.request import BackboneRequest

__all__ = ["BackboneFacts", "facts_of", "layers_of", "measured"]


@dataclass(frozen=True, kw_only=True)
class BackboneFacts:
    """What is known about a backbone before it runs. A number is ``None`` if the model cannot be built for it.

    Attributes:
        parameters: The number of its parameters, with those of its classifier, as papers count them.
        gmacs: Multiplications with an addition (MACs) for the features of one image of its size, in billions. Those
            of convolutions, linear layers and attention count; sums, activations and normalisations do not.
        width: The dimension d of its features.
        img_size: The width and height of its images in pixels.
        pool: How its last layer becomes one vector, as ``--pool`` has it: ``cls``, ``avg`` ….
        pretrained_on: The data sets on which its weights were trained, in words; the name of the user's file; or
            "nothing" for random weights. Empty if there is no such model.
        licence: The licence of its published weights, or "" if it is not known.
    """

    parameters: int | None = None
    gmacs: float | None = None
    width: int | None = None
    img_size: int | None = None
    pool: str | None = None
    pretrained_on: str = ""
    licence: str = ""


_known: dict[str, BackboneFacts] = {}


def facts_of(request: BackboneRequest, column: str = FEATURE, *, offline: bool = False) -> BackboneFacts:
    """What is known about a backbone before it runs. A second call with the same request costs nothing.

    Args:
        request: The backbone. If there is no such model, or it cannot be built, its facts are ``None``.
        column: The features whose width is wanted: of the last layer, or of one of the request's layers (``layer_3``).
        offline: Whether the hub must not be asked for the description of an ``hf-hub:`` model.

    >>> from nctransfer.backbones.request import BackboneRequest
    >>> facts = facts_of(BackboneRequest("resnet18.tv_in1k"))
    >>> facts.parameters, round(facts.gmacs, 2), facts.width, facts.pool, facts.pretrained_on, facts.licence
    (11689512, 1.81, 512, 'avg', 'ImageNet-1k', 'bsd-3-clause')
    """
    question = f"{request} {column}"
    if question not in _known:
        try:
            if request.plugin:
                import_plugin(request.plugin)
            spec = resolve(request.model, offline)
        except NCTransferError:  # it may be mended until the next call
            return BackboneFacts()
        _known[question] = measured(spec, request, column)
    return _known[question]


def measured(spec: ModelSpec, request: BackboneRequest, column: str = FEATURE) -> BackboneFacts:
    """The facts of a model that a request asks for; see :func:`facts_of`."""
    import torch

    facts = _published(spec, request)
    try:
        with torch.device("meta"):
            model: Any = build_model(spec, request).eval().requires_grad_(False)
        facts = replace(facts, parameters=sum(parameter.numel() for parameter in model.parameters()))
        if request.pool:
            set_pool(model, request.pool)
        facts = replace(facts, pool=_pool(model), **_run(model, request, column))
    except Exception:  # some architectures need values to be built or to be run
        return facts
    return facts


def _published(spec: ModelSpec, request: BackboneRequest) -> BackboneFacts:
    """What timm's description of a model says."""
    size = request.img_size or spec.config.get("input_size", (None,))[-1]
    if request.checkpoint:
        return BackboneFacts(img_size=size, pretrained_on=request.checkpoint.name)
    if request.random_init or spec.name == PIXELS:
        return BackboneFacts(img_size=size, pretrained_on="nothing")
    licence = str(spec.config.get("license") or "")
    return BackboneFacts(img_size=size, pretrained_on=_trained_on(spec), licence=licence)


def _run(model: Any, request: BackboneRequest, column: str) -> dict[str, Any]:
    """Run one image without values: the width of a column, the size of the image, and the work."""
    import torch
    from timm.data import resolve_model_data_config
    from torch.utils.flop_counter import FlopCounterMode

    size = resolve_model_data_config(model, args=request.transform)["input_size"]
    with torch.device("meta"), torch.inference_mode():
        layers = layer_indices(model, request.layers, size, request.model) if request.layers else ()
        with FlopCounterMode(display=False) as counter:
            images = torch.empty(1, *size)
            if layers:
                outputs = forward_with_layers(model, images, layers)
            else:
                outputs = [model.forward_head(model.forward_features(images), pre_logits=True)]
    columns = (FEATURE, *map(layer_name, layers))
    # PyTorch counts a multiplication and an addition as two operations.
    return {
        "gmacs": counter.get_total_flops() / 2e9,
        "width": dict(zip(columns, outputs, strict=True))[column].shape[-1],
        "img_size": size[-1],
    }


def _pool(model: Any) -> str:
    """The usual name of the pooling of a model's last layer."""
    found = pool_type(model)
    return next((usual for usual, name in POOLS.items() if name == found), found)


def _trained_on(spec: ModelSpec) -> str:
    """What published weights were trained on; of a model by other people than timm's, only its name is known."""
    is_timms = ":" not in spec.name or spec.repository.startswith("timm/")
    tag = str(spec.config.get("tag") or "")
    return pretrained_on(spec.architecture, tag) if is_timms and tag else spec.name


def layers_of(request: BackboneRequest, *, offline: bool = False) -> tuple[int, ...]:
    """The layers that a request names by ``all``, ``last-4`` or numbers, in ascending order; none if it names none.

    Raises:
        ModelError: There is no such model, or it has no such layers.
        WeightsError: The description of a model on the hub cannot be had.
    """
    import torch

    if not request.layers:
        return ()
    if request.plugin:
        import_plugin(request.plugin)
    spec = resolve(request.model, offline)
    try:
        with torch.device("meta"):
            return _layers(spec, request)
    except Exception:  # some architectures need values; or the request is wrong
        return _layers(spec, request)


def _layers(spec: ModelSpec, request: BackboneRequest) -> tuple[int, ...]:
    """Build a model to count its layers."""
    import torch
    from timm.data import resolve_model_data_config

    model: Any = build_model(spec, request).eval()
    size = resolve_model_data_config(model, args=request.transform)["input_size"]
    try:
        with torch.inference_mode():
            return layer_indices(model, request.layers or "all", size, request.model)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise cannot_run(request.model, size, error) from error

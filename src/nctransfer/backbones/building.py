"""A backbone built: its model created, its weights loaded strictly."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.backbone import Backbone
from nctransfer.backbones.checkpoint_fitting import (
    classifier_names,
    fit,
    fit_by_position,
    left_at_random,
    random_prints,
    read,
)
from nctransfer.backbones.names import ALIASES, resolve
from nctransfer.backbones.plugins import import_plugin
from nctransfer.backbones.weight_files import Weights, find
from nctransfer.devices import pick_device
from nctransfer.errors import ModelError, WeightsError

if TYPE_CHECKING:
    from torch import nn

    from nctransfer.backbones.hub import Progress
    from nctransfer.backbones.names import ModelSpec
    from nctransfer.backbones.request import BackboneRequest

__all__ = ["load"]

log = logging.getLogger(__name__)

UNLIKELY_SEED = 0x6E63_7472  # of what must not be left in a model once weights are loaded


def load(
    request: BackboneRequest, device: str = "auto", offline: bool = False, progress: Progress | None = None
) -> Backbone:
    """Find the weights, build the model, load it strictly.

    Raises:
        ModelError: No such model, or it does not take what was asked for.
        WeightsError: The weights cannot be had, or do not fit.
        DeviceError: No such device here.
    """
    chosen = pick_device(device)
    plugin = import_plugin(request.plugin) if request.plugin else ""
    spec = resolve(request.model, offline, progress)
    if request.model not in (spec.name, spec.architecture) and not spec.folder:
        log.info("%s is %s", request.model, spec.name)
    if request.random_init:
        weights = Weights("random", f"random, seed {request.seed}")
        model = _create(spec, request)
    else:
        weights = find(spec, request.checkpoint, offline, progress)
        model = _with_weights(spec, request, weights)
    # weights of the user's own are not those of timm's tag
    is_published = weights.kind in ("bundled", "hub", "url", "folder")
    name = spec.name if is_published else spec.architecture if request.model in ALIASES else request.model
    return Backbone(model, weights, request, name, chosen, plugin)


def _with_weights(spec: ModelSpec, request: BackboneRequest, weights: Weights) -> nn.Module:
    """A model with the weights of a file, none of which a feature depends on is left random."""
    path = weights.path
    assert path is not None
    if weights.kind in ("bundled", "checkpoint"):
        model = _create(spec, request)
        state = read(path)
        if weights.kind == "bundled":
            fit_by_position(model, state, path, spec.architecture)
        else:
            fit(model, state, path, spec.architecture, request.allow_missing)
        return model
    drawn = replace(request, seed=UNLIKELY_SEED)  # weights drawn at random by the user's seed are weights too
    prints = random_prints(_create(spec, drawn))
    # a .npz is of the original JAX code, which the model's own loader reads; all else is a state dict
    overlay = {"file": str(path), "source": "file", "custom_load": path.suffix == ".npz"}
    try:
        model = _create(spec, drawn, pretrained=True, pretrained_cfg_overlay=overlay)
    except ModelError:
        raise
    except Exception as error:  # a damaged or hostile file may raise anything
        raise WeightsError(f"the weights {weights.name} of {spec.name} do not load: {error}") from error
    left = set(left_at_random(model, prints))
    if inner := sorted(left - classifier_names(model)):
        raise WeightsError(
            f"{len(inner)} tensors of {spec.name} are not in its weights, and would be random ({inner[0]}, …)",
            "leave out --model-kwargs that add to the model",
        )
    if left:
        log.warning("the classifier of %s is not in its weights, and left out; no feature depends on it", spec.name)
        untyped: Any = model
        untyped.reset_classifier(0)
    return model


def _create(spec: ModelSpec, request: BackboneRequest, **pretrained: Any) -> nn.Module:
    """The model as timm builds it, with the random numbers of the request's seed."""
    import timm
    import torch

    arguments = {**spec.arguments, **request.model_kwargs}
    if request.img_size is not None and spec.config.get("fixed_input_size"):
        arguments["img_size"] = request.img_size
    config = dict(spec.config) if spec.config else None
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(request.seed)  # of the CPU only
            model: nn.Module = timm.create_model(spec.architecture, pretrained_cfg=config, **pretrained, **arguments)
    except Exception as error:  # each architecture refuses in its own way
        given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        if pretrained:  # then it may be the weights
            raise
        size = spec.config.get("input_size", (0,))[-1]
        raise ModelError(
            f"{spec.architecture} cannot be built with {given or 'what describes it'}: {type(error).__name__}: {error}",
            f"without --img-size it takes {size}; --model-kwargs must be what its timm constructor takes",
        ) from error
    return model

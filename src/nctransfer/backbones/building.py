"""Load a backbone: find its weights, build its model, and load every weight that a feature depends on."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.backbone import Backbone
from nctransfer.backbones.checkpoint_fitting import classifier_names, fit, fit_by_position
from nctransfer.backbones.checkpoint_reading import read_state_dict
from nctransfer.backbones.names import ALIASES, PIXELS, resolve
from nctransfer.backbones.plugins import import_plugin
from nctransfer.backbones.tensor_digests import left_at_random, random_values
from nctransfer.backbones.weight_files import Weights, find
from nctransfer.devices import pick_device
from nctransfer.errors import ModelError, WeightsError, counted, join_names

if TYPE_CHECKING:
    from torch import nn

    from nctransfer.backbones.hub import Progress
    from nctransfer.backbones.names import ModelSpec
    from nctransfer.backbones.request import BackboneRequest

__all__ = ["build_model", "load", "make_fast", "own_transform"]

log = logging.getLogger(__name__)

UNLIKELY_SEED = 0x6E63_7472  # of the random values that loaded weights must replace


def load(
    request: BackboneRequest, device: str = "auto", offline: bool = False, progress: Progress | None = None
) -> Backbone:
    """Find the weights of a backbone, build its model, and load the weights into it.

    Args:
        request: The backbone that is asked for.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; see :func:`nctransfer.devices.pick_device`.
        offline: Whether servers must not be asked for weights.
        progress: Called as ``progress(stage, done, total)`` while weights are downloaded.

    Raises:
        ModelError: There is no such model, or it does not take the options of the request.
        WeightsError: The weights cannot be found or downloaded, or do not fit the model.
        DeviceError: There is no such device.
    """
    chosen = pick_device(device)
    plugin = import_plugin(request.plugin) if request.plugin else ""
    spec = resolve(request.model, offline, progress)
    if request.model not in (spec.name, spec.architecture) and not spec.folder:
        log.info("%s is %s", request.model, spec.name)
    if request.random_init and spec.name != PIXELS:
        weights = Weights("random", f"random, seed {request.seed}")
        model = build_model(spec, request)
    else:
        weights = find(spec, request.checkpoint, offline, progress)
        model = _with_weights(spec, request, weights)
    # A tag such as ".in1k" names published weights, so weights of the user's own do not get it.
    is_published = weights.kind in ("bundled", "hub", "url", "folder")
    name = spec.name if is_published else spec.architecture if request.model in ALIASES else request.model
    return Backbone(model, weights, request, name, chosen, plugin)


def _with_weights(spec: ModelSpec, request: BackboneRequest, weights: Weights) -> nn.Module:
    """A model with its weights; every parameter that a feature depends on comes from their file."""
    path = weights.path
    if path is None:
        return build_model(spec, request)  # it has no weights
    if weights.kind in ("bundled", "checkpoint"):
        model = build_model(spec, request)
        state = read_state_dict(path)
        if weights.kind == "bundled":
            fit_by_position(model, state, path, spec.architecture)
        else:
            fit(model, state, path, spec.architecture, request.allow_missing)
        return model
    # timm loads these files itself, and may leave parameters random: those that keep the values of an unlikely seed.
    drawn = replace(request, seed=UNLIKELY_SEED)
    values = random_values(build_model(spec, drawn))
    # A .npz file comes from the original JAX code, and the model's own loader reads it; all others are state dicts.
    overlay = {"file": str(path), "source": "file", "custom_load": path.suffix == ".npz"}
    try:
        model = build_model(spec, drawn, pretrained=True, pretrained_cfg_overlay=overlay)
    except ModelError:
        raise
    except Exception as error:  # a damaged or hostile file may raise anything
        reason = " ".join(str(error).split())  # torch names the tensors on further lines
        raise WeightsError(
            f"the weights {weights.name} of {spec.name} cannot be loaded: {reason}",
            "download them again, or give a file with --checkpoint FILE",
        ) from error
    left = set(left_at_random(model, values))
    if inner := sorted(left - classifier_names(model)):
        raise WeightsError(
            f"{counted(len(inner), 'tensor')} of {spec.name} would be random, because the weights do not hold "
            f"{'it' if len(inner) == 1 else 'them'} ({join_names(inner, 1)})",
            "leave out --model-kwargs that add layers to the model",
        )
    if left:
        log.warning("the weights of %s hold no classifier; features do not depend on it", spec.name)
        untyped: Any = model
        untyped.reset_classifier(0)
    return model


def build_model(spec: ModelSpec, request: BackboneRequest, **pretrained: Any) -> nn.Module:
    """The model as timm builds it, with random values drawn with the request's seed.

    Raises:
        ModelError: The model does not take the options of the request.
    """
    import timm
    import torch

    arguments = {**spec.arguments, **request.model_kwargs}
    if request.img_size is not None and spec.config.get("fixed_input_size"):
        arguments["img_size"] = request.img_size
    config = dict(spec.config) if spec.config else None
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(request.seed)  # for the CPU alone, where the model is built
            model: nn.Module = timm.create_model(spec.architecture, pretrained_cfg=config, **pretrained, **arguments)
    except Exception as error:  # architectures raise all kinds of errors
        given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        if pretrained:  # the weights may be the reason
            raise
        size = spec.config.get("input_size", (0,))[-1]
        raise ModelError(
            f"{spec.architecture} cannot be built with {given or 'its own arguments'}: {type(error).__name__}: {error}",
            f"without --img-size its images have {size} pixels; --model-kwargs must be arguments of timm's constructor",
        ) from error
    return model


def own_transform(spec: ModelSpec, request: BackboneRequest) -> dict[str, Any]:
    """The transform of images as a model describes it, without the settings of the request.

    Raises:
        ModelError: The model does not take the arguments of the request.
    """
    import torch
    from timm.data import resolve_model_data_config

    try:
        with torch.device("meta"):  # without values
            model = build_model(spec, request)
    except ModelError:  # some architectures need values to be built
        model = build_model(spec, request)
    return dict(resolve_model_data_config(model))


def make_fast(backbone: Backbone, compiled_for: int | None = None) -> None:
    """Prepare a backbone to run many images, in ways that change its features by no more than rounding.

    Args:
        backbone: The backbone; it is changed.
        compiled_for: The size of the batches to compile it for; ``None`` for no compilation.
    """
    if backbone.device.type == "cpu":
        backbone.fold()
    if compiled_for is None:
        backbone.pack()
    else:
        backbone.compile(compiled_for)

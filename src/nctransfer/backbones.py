"""Frozen backbones: a timm model with its weights and transform, from images to pooled features of any layer."""

from __future__ import annotations

import contextlib
import copy
import inspect
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer import weights as weights_of
from nctransfer.catalogue import (
    ALIASES,
    DEFAULT_MODEL,
    ModelSpec,
    check_transform,
    import_plugin,
    resolve,
    why_reserved,
)
from nctransfer.devices import pick_device
from nctransfer.errors import DeviceError, ModelError, WeightsError
from nctransfer.folding import fold_batch_norms
from nctransfer.hub import Progress
from nctransfer.store import FEATURE, FeatureKey
from nctransfer.weights import Weights

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL import Image
    from torch import nn

__all__ = ["Backbone", "BackboneRequest", "load"]

log = logging.getLogger(__name__)

DTYPES = ("float32", "bfloat16", "float16")
MOST_ELONGATED = 200  # times as long as wide; the shorter side is what is resized to the model's size
UNLIKELY_SEED = 0x6E63_7472  # of what must not be left in a model once weights are loaded
LAYERS = re.compile(r"all|last-[1-9]\d*|\d+(,\d+)*")
POOLS = {"cls": "token"}  # the field's names for timm's


@dataclass(frozen=True)
class BackboneRequest:
    """A backbone as the user names it.

    Attributes:
        model: A timm name, with or without tag; a short name; ``hf-hub:owner/name``; ``local-dir:folder``.
        checkpoint: A local file of weights, in place of the published ones.
        allow_missing: Whether the checkpoint may lack the classifier.
        random_init: Random weights, as a control.
        seed: Of the random weights.
        dtype: What to compute in: ``float32``, ``bfloat16`` or ``float16``.
        store_dtype: What to store: ``float32`` or ``float16``.
        img_size: Size of the images in place of the model's own.
        mean: Of each colour channel, in place of the model's own.
        std: Likewise.
        crop_pct: Share of the image that the central crop keeps, in place of the model's own.
        interpolation: Of resizing, in place of the model's own.
        pool: How the last layer becomes one vector, where the family has a choice: ``cls``, ``avg``, ``max`` …
        layers: Layers whose outputs are wanted too: ``all``, ``last-N``, or indices as in ``0,3,11``.
        model_kwargs: Further arguments of timm's ``create_model``.
        plugin: A file or module of the user's that is imported first, to register architectures. It runs code.
    """

    model: str = DEFAULT_MODEL
    checkpoint: Path | None = None
    random_init: bool = False
    seed: int = 0
    dtype: str = "float32"
    store_dtype: str = "float32"
    allow_missing: bool = False
    img_size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop_pct: float | None = None
    interpolation: str | None = None
    pool: str | None = None
    layers: str | None = None
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    plugin: str | None = None

    def __post_init__(self) -> None:
        if self.checkpoint and self.random_init:
            raise WeightsError("a checkpoint and random weights were asked for at once", "give one of them")
        for dtype, allowed in ((self.dtype, DTYPES), (self.store_dtype, ("float32", "float16"))):
            if dtype not in allowed:
                raise DeviceError(f"there is no dtype {dtype!r}", f"choose from {', '.join(allowed)}")
        size = {"input_size": (3, self.img_size, self.img_size)} if self.img_size is not None else {}
        check_transform("the transform", {**self.transform, **size})
        if self.layers is not None and not LAYERS.fullmatch(self.layers):
            raise ModelError(f"{self.layers!r} names no layers", "give all, last-N, or indices as in 0,3,11")
        for name in self.model_kwargs:
            if reason := why_reserved(name):
                raise ModelError(f"{name} is not for --model-kwargs", reason)
        try:
            json.dumps(dict(self.model_kwargs))
        except TypeError as error:  # the key of the features could not hold it
            raise ModelError(
                f"--model-kwargs are plain values: {error}", "give numbers, text, True, False, or tuples as (1,2)"
            ) from None

    @property
    def transform(self) -> dict[str, Any]:
        """What of the transform is asked for, in timm's words."""
        names = ("img_size", "mean", "std", "crop_pct", "interpolation")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


class Backbone:
    """A model in ``eval()`` that maps images to pooled features.

    Attributes:
        key: What determines its features.
        columns: The names of what it gives: ``feature``, and ``layer_3`` … for layers.
        weights: Where its weights came from.
        model: The timm model.
        device: Where it runs.
        dtype: What it computes in.
        memory_format: How images lie in memory.
        layers: The indices of the layers that it gives too.
        batch_limit: The most images at once that memory has been found to allow; ``None`` while it allowed all.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: Weights,
        request: BackboneRequest,
        name: str,
        device: torch.device,
        plugin: str = "",
    ) -> None:
        import torch
        from timm.data import create_transform, resolve_model_data_config

        self.model: Any = model.eval().requires_grad_(False)
        self.weights = weights
        self.device = device
        self.dtype: torch.dtype = getattr(torch, request.dtype)
        self.batch_limit: int | None = None
        digest = weights_of.tensor_digest(model.state_dict())
        self._head = None if request.pool else self._linear_head()
        self._set_pool(request.pool)
        config = resolve_model_data_config(model, args=request.transform)
        self.key = FeatureKey(
            model=name,
            weights=digest,
            transform=config,
            pool=request.pool or "pre_logits",
            dtype=request.dtype,
            store_dtype=request.store_dtype,
            model_kwargs=dict(request.model_kwargs),
            plugin=plugin,
        )
        # "prefetcher": up to uint8 pixels; they are normalised here, a batch at a time
        self._transform = create_transform(**config, is_training=False, use_prefetcher=True)
        self._mean, self._std = (
            torch.tensor(config[name], device=device).mul(255).view(1, 3, 1, 1) for name in ("mean", "std")
        )
        self._size = tuple(config["input_size"])
        self.layers = self._indices(request.layers) if request.layers else ()
        self.columns = (FEATURE, *(f"layer_{index}" for index in self.layers))
        self.memory_format: torch.memory_format = torch.channels_last
        self.model = self.model.to(device).to(memory_format=self.memory_format)
        self._compiled: Callable[[torch.Tensor], list[torch.Tensor]] | None = None
        self._whole_batches = 0

    # Making it fast

    def fold(self) -> int:
        """Fold BatchNorms into convolutions (:mod:`nctransfer.folding`); returns how many."""
        import torch

        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (2, *self._size), dtype=torch.uint8, generator=generator)
        return fold_batch_norms(self.model, lambda: torch.cat(self._run(images), dim=1))

    def compile(self, batch_size: int) -> None:
        """Let ``torch.compile`` make kernels for batches of this size; smaller ones are filled up to it."""
        import torch

        self._compiled = torch.compile(self._forward, dynamic=False)
        self._whole_batches = batch_size

    def variant(self, dtype: torch.dtype | None = None, memory_format: torch.memory_format | None = None) -> Backbone:
        """A copy that computes in another dtype (float64 too) or memory format."""
        import torch

        other = copy.copy(self)
        other.dtype = dtype or self.dtype
        other.memory_format = memory_format or self.memory_format
        other._compiled, other._whole_batches = None, 0  # made for the original
        other.model = copy.deepcopy(self.model).to(memory_format=other.memory_format)
        if other.dtype == torch.float64:
            other.model = other.model.double()
        return other

    # Running it

    def preprocess(self, image: Image.Image) -> NDArray[np.uint8]:
        """An RGB image, resized and cropped as the model wants it: ``(3, height, width)`` uint8.

        Raises:
            ValueError: It is so elongated that resizing would take more memory than any image is worth.
        """
        import numpy as np

        if max(image.size) > MOST_ELONGATED * min(image.size):
            raise ValueError(f"too elongated: {image.width}×{image.height} pixels")

        return np.asarray(self._transform(image))

    def __call__(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Pooled features of the last layer before the classifier, and of the layers that were asked for.

        A batch that is too large for the memory is halved, as often as it takes.

        Args:
            pixels: ``(B, 3, height, width)`` uint8, as :meth:`preprocess` gives them.

        Returns:
            ``(B, d)`` float32 for each of :attr:`columns`, on the device.

        Raises:
            ModelError: The model does not give one vector an image.
            DeviceError: The memory does not suffice for one image.
        """
        import torch

        while True:
            size = min(len(pixels), self.batch_limit or len(pixels))
            try:
                parts = [self._run(part) for part in torch.split(pixels, size)]
                break
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                if size == 1:
                    raise DeviceError(f"{self.device} has too little memory for a single image") from error
            self.batch_limit = (size + 1) // 2
            self._whole_batches = min(self._whole_batches, self.batch_limit)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            log.warning("%s has too little memory for %d images at once: %d now", self.device, size, self.batch_limit)
        return dict(zip(self.columns, map(torch.cat, zip(*parts, strict=True)), strict=True))

    def _run(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        import torch

        count = len(pixels)
        if missing := max(0, self._whole_batches - count):
            pixels = torch.cat([pixels, pixels[-1:].expand(missing, -1, -1, -1)])
        images = pixels.to(self.device, non_blocking=True).float().sub_(self._mean).div_(self._std)
        images = images.contiguous(memory_format=self.memory_format)
        if self.dtype == torch.float64:
            images = images.double()
        try:
            with torch.inference_mode(), self._autocast():
                outputs = (self._compiled or self._forward)(images)
        except Exception as error:  # each model refuses in its own way
            if isinstance(error, ModelError) or (isinstance(error, RuntimeError) and _is_out_of_memory(error)):
                raise
            raise self._cannot_run(error) from error
        for output in outputs:
            if not isinstance(output, torch.Tensor) or output.ndim != 2:
                shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
                raise ModelError(
                    f"{self.key.model} gives {shape} for {count} images, not one vector an image",
                    "take a model with pooled features, as nctransfer models lists them",
                )
        return [output[:count].float() for output in outputs]

    def _cannot_run(self, error: Exception) -> ModelError:
        size = "×".join(map(str, self._size[1:]))
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        return ModelError(
            f"{self.key.model} cannot run images of {size}: {reason}", "try without --img-size and --compile"
        )

    def _forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The pooled output, and that of the layers, in one pass."""
        if not self.layers:
            return [self.model.forward_head(self.model.forward_features(images), pre_logits=True)]
        last, layers = self._intermediates(images, list(self.layers))
        return [self.model.forward_head(last, pre_logits=True), *(self._pool(*layer) for layer in layers)]

    def _intermediates(
        self, images: torch.Tensor, indices: Sequence[int] | None
    ) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor | None]]]:
        """The last feature map, and of each layer its map ``(B, d, h, w)`` and prefix tokens ``(B, p, d)``."""
        takes = inspect.signature(self.model.forward_intermediates).parameters
        has_prefix = getattr(self.model, "num_prefix_tokens", 0) and "return_prefix_tokens" in takes
        more = {"return_prefix_tokens": True} if has_prefix else {}
        last, layers = self.model.forward_intermediates(images, indices=indices, output_fmt="NCHW", **more)
        return last, [layer if isinstance(layer, tuple) else (layer, None) for layer in layers]

    def _pool(self, spatial: torch.Tensor, prefix: torch.Tensor | None) -> torch.Tensor:
        """A layer as the model pools its last: the class token, or over all places."""
        import torch

        kind = _pool_type(self.model)
        places = spatial.flatten(2)
        if kind == "token" and prefix is not None and prefix.shape[1]:
            return prefix[:, 0]
        if kind == "max":
            return places.amax(2)
        if kind == "avgmax":
            return (places.mean(2) + places.amax(2)) / 2
        if kind == "catavgmax":
            return torch.cat([places.mean(2), places.amax(2)], dim=1)
        return places.mean(2)

    def _indices(self, wanted: str) -> tuple[int, ...]:
        import torch

        try:
            with torch.inference_mode():
                count = len(self._intermediates(torch.zeros(1, *self._size), None)[1])
        except (AttributeError, TypeError, NotImplementedError) as error:
            raise ModelError(
                f"{self.key.model} does not give the outputs of its layers", "leave out --layers"
            ) from error
        except (RuntimeError, AssertionError, ValueError) as error:
            raise self._cannot_run(error) from error
        if wanted == "all":
            return tuple(range(count))
        if wanted.startswith("last-"):
            return tuple(range(count))[-int(wanted.removeprefix("last-")) :]
        indices = sorted({int(index) for index in wanted.split(",")})
        if indices[-1] >= count:
            raise ModelError(f"{self.key.model} has no layer {indices[-1]}", f"its layers are 0 to {count - 1}")
        return tuple(indices)

    def _set_pool(self, pool: str | None) -> None:
        if pool is None:
            return
        try:
            self.model.reset_classifier(0, POOLS.get(pool, pool))
        except Exception as error:  # each family refuses in its own way
            raise ModelError(
                f"{type(self.model).__name__} has no pooling {pool!r}",
                "ViTs have cls, avg, max, avgmax; convolutional networks avg, max, avgmax, catavgmax",
            ) from error

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        import torch

        if self.dtype in (torch.float32, torch.float64):
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def head(self, dim: int) -> dict[str, torch.Tensor] | None:
        """The classifier as ``weight`` ``(classes, d)`` and ``bias``, if it is one linear map on the features."""
        return self._head if self._head and self._head["weight"].shape[1] == dim else None

    def _linear_head(self) -> dict[str, torch.Tensor] | None:
        from torch import nn

        classifier = self.model.get_classifier() if hasattr(self.model, "get_classifier") else None
        if not isinstance(classifier, nn.Linear):
            return None
        return {name: tensor.detach().cpu().contiguous() for name, tensor in classifier.named_parameters()}


def _pool_type(model: Any) -> str:
    """The name of a model's pooling: an attribute of the model, of its pooling module, or of its head's."""
    for owner in (model, getattr(model, "head", None)):
        pool = getattr(owner, "global_pool", None)
        name = pool if isinstance(pool, str) else getattr(pool, "pool_type", None)
        if isinstance(name, str) and name:
            return name
    return "avg"


def _is_out_of_memory(error: RuntimeError) -> bool:
    import torch

    text = str(error).lower()
    words = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")
    return isinstance(error, torch.OutOfMemoryError) or any(some in text for some in words)


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
        weights = weights_of.find(spec, request.checkpoint, offline, progress)
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
        state = weights_of.read(path)
        if weights.kind == "bundled":
            weights_of.fit_by_position(model, state, path, spec.architecture)
        else:
            weights_of.fit(model, state, path, spec.architecture, request.allow_missing)
        return model
    drawn = replace(request, seed=UNLIKELY_SEED)  # weights drawn at random by the user's seed are weights too
    prints = weights_of.random_prints(_create(spec, drawn))
    # a .npz is of the original JAX code, which the model's own loader reads; all else is a state dict
    overlay = {"file": str(path), "source": "file", "custom_load": path.suffix == ".npz"}
    try:
        model = _create(spec, drawn, pretrained=True, pretrained_cfg_overlay=overlay)
    except ModelError:
        raise
    except Exception as error:  # a damaged or hostile file may raise anything
        raise WeightsError(f"the weights {weights.name} of {spec.name} do not load: {error}") from error
    left = set(weights_of.left_at_random(model, prints))
    if inner := sorted(left - weights_of.classifier_names(model)):
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

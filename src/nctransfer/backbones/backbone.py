"""A running backbone: from images to pooled features."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.feature_key import FEATURE, FeatureKey, format_of
from nctransfer.backbones.folding import fold_batch_norms
from nctransfer.backbones.half_precision import half_model
from nctransfer.backbones.image_transform import image_transform, normalise
from nctransfer.backbones.layers import forward_with_layers, layer_indices, layer_name
from nctransfer.backbones.packing import pack_linear_layers
from nctransfer.backbones.tensor_digests import tensor_digest
from nctransfer.devices import is_out_of_memory
from nctransfer.errors import DeviceError, ModelError, reason_of

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL import Image
    from torch import nn

    from nctransfer.backbones.request import BackboneRequest
    from nctransfer.backbones.weight_files import Weights

__all__ = ["POOLS", "Backbone", "cannot_run", "features_of_values", "set_pool"]

log = logging.getLogger(__name__)

MOST_ELONGATED = 200
"""The largest ratio of an image's sides. Resizing the shorter side to the model's size makes the longer one grow."""
POOLS = {"cls": "token"}
"""The usual names of poolings that timm names otherwise."""


class Backbone:
    """A model in ``eval()`` mode that maps images to pooled features.

    Attributes:
        key: Everything that determines the features.
        columns: The names of the outputs: ``feature``, and ``layer_3`` and so on for layers.
        weights: Where the weights came from.
        model: The timm model.
        device: The device that it runs on.
        dtype: The dtype that it computes in.
        memory_format: The order of an image's values in memory.
        layers: The indices of the layers whose outputs it returns too.
        batch_limit: The largest batch that fits the memory, or ``None`` as long as every batch did.
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
        from timm.data import resolve_model_data_config

        self.model: Any = model.eval().requires_grad_(False)
        self.weights = weights
        self.device = device
        self.dtype: torch.dtype = getattr(torch, request.dtype)
        self.batch_limit: int | None = None
        digest = tensor_digest(model.state_dict())
        self._head = None if request.pool else _linear_head(model)
        if request.pool:
            set_pool(model, request.pool)
        config = resolve_model_data_config(model, args=request.transform)
        self.key = FeatureKey(
            model=name,
            weights=digest,
            transform=config,
            pool=request.pool or "pre_logits",
            dtype=request.dtype,
            format=format_of(request.dtype),
            store_dtype=request.store_dtype,
            model_kwargs=dict(request.model_kwargs),
            plugin=plugin,
        )
        self._transform = image_transform(config)  # it ends at uint8 pixels; _run() normalises them
        self._mean, self._std = (
            torch.tensor(config[name], device=device).mul(255).view(1, 3, 1, 1) for name in ("mean", "std")
        )
        self._size = tuple(config["input_size"])
        self.layers = self._layer_indices(request.layers) if request.layers else ()
        self.columns = (FEATURE, *map(layer_name, self.layers))
        self.memory_format = _memory_format(self.model)
        self.model = self.model.to(device).to(memory_format=self.memory_format)
        self._half = half_model(self.dtype)
        self._compiled: Callable[[torch.Tensor], list[torch.Tensor]] | None = None
        self._whole_batches = 0

    # Making it fast

    def fold(self) -> int:
        """Fold BatchNorms into convolutions, see :mod:`nctransfer.backbones.folding`; returns how many were folded."""
        plain, self._half = self.in_float32(), half_model(self.dtype)
        return fold_batch_norms(self.model, lambda: _trial(plain, self._size))

    def pack(self) -> int:
        """Pack the weights of linear layers, see :mod:`nctransfer.backbones.packing`; returns how many were packed."""
        import torch

        if self.device.type != "cpu" or self.dtype != torch.float32:
            return 0
        return pack_linear_layers(self.model, lambda: _trial(self, self._size))

    def compile(self, batch_size: int) -> None:
        """Let ``torch.compile`` make kernels for batches of this size. Smaller batches are filled up to it."""
        import torch

        if self._half:  # it is made now, so that making it is not compiled
            self._half.of(self.model)
        self._compiled = torch.compile(self._forward, dynamic=False)
        self._whole_batches = batch_size

    def variant(self, dtype: torch.dtype | None = None, memory_format: torch.memory_format | None = None) -> Backbone:
        """A copy that computes in another dtype, which may be float64, or in another memory format."""
        import torch

        other = _computing_in(self, dtype or self.dtype)
        other.memory_format = memory_format or self.memory_format
        other.model = copy.deepcopy(self.model).to(memory_format=other.memory_format)
        if other.dtype == torch.float64:
            other.model = other.model.double()
        return other

    def in_float32(self) -> Backbone:
        """The same model, not a copy, computing in float32."""
        import torch

        return _computing_in(self, torch.float32)

    # Running it

    def preprocess(self, image: Image.Image) -> NDArray[np.uint8]:
        """An RGB image, resized and cropped for the model: ``(3, height, width)`` uint8.

        Raises:
            ValueError: The image is so elongated that resizing it would take too much memory.
        """
        if max(image.size) > MOST_ELONGATED * min(image.size):
            raise ValueError(
                f"too elongated: {image.width}×{image.height} pixels (at most {MOST_ELONGATED} times as long as wide)"
            )
        return self._transform(image)

    def __call__(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Pooled features before the classifier, and pooled outputs of the layers that were asked for.

        A batch that does not fit the memory is halved until it does.

        Args:
            pixels: ``(B, 3, height, width)`` uint8, as :meth:`preprocess` returns them.

        Returns:
            ``(B, d)`` float32 for each of :attr:`columns`, on the device.

        Raises:
            ModelError: The model does not give one vector per image.
            DeviceError: Not even one image fits the memory.
        """
        import torch

        while True:
            size = min(len(pixels), self.batch_limit or len(pixels))
            try:
                parts = [self._run(part) for part in torch.split(pixels, size)]
                break
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    raise DeviceError(
                        f"{self.device} has too little memory for a single image",
                        "give --device cpu, or a smaller --model",
                    ) from error
            self.batch_limit = (size + 1) // 2
            self._whole_batches = min(self._whole_batches, self.batch_limit)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            log.warning(
                "%s has too little memory for %d images at once; going on with %d", self.device, size, self.batch_limit
            )
        return dict(zip(self.columns, map(torch.cat, zip(*parts, strict=True)), strict=True))

    def _run(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        import torch

        count = len(pixels)
        if missing := max(0, self._whole_batches - count):
            pixels = torch.cat([pixels, pixels[-1:].expand(missing, -1, -1, -1)])
        images = normalise(pixels.to(self.device, non_blocking=True), self._mean, self._std)
        images = images.contiguous(memory_format=self.memory_format)
        try:
            with torch.inference_mode():
                run = self._compiled or self._forward
                outputs = self._half.run(run, images) if self._half else run(images.to(self.dtype))
        except Exception as error:  # models raise all kinds of errors
            if isinstance(error, ModelError) or is_out_of_memory(error):
                raise
            raise cannot_run(self.key.model, self._size, error) from error
        for output in outputs:
            if not isinstance(output, torch.Tensor) or output.ndim != 2:
                shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
                raise ModelError(
                    f"{self.key.model} gives {shape} for {count} images, not one vector per image",
                    "give a model with pooled features; nctransfer models lists some",
                )
        return [output[:count].float() for output in outputs]

    def _forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        model = self._half.of(self.model) if self._half else self.model
        if self.layers:
            return forward_with_layers(model, images, list(self.layers))
        return [model.forward_head(model.forward_features(images), pre_logits=True)]

    def _layer_indices(self, wanted: str) -> tuple[int, ...]:
        try:
            return layer_indices(self.model, wanted, self._size, self.key.model)
        except (RuntimeError, AssertionError, ValueError) as error:
            raise cannot_run(self.key.model, self._size, error) from error

    def head(self, dim: int) -> dict[str, torch.Tensor] | None:
        """The classifier's ``weight`` ``(classes, d)`` and ``bias``; ``None`` if it is not one linear map of features.

        Args:
            dim: The width d of the features.
        """
        return self._head if self._head and self._head["weight"].shape[1] == dim else None


def features_of_values(backbone: Backbone, values: torch.Tensor) -> torch.Tensor:
    """The features that a backbone gives in float32, through which gradients flow back to the values of the images.

    Args:
        backbone: The backbone, whose linear layers must not be packed: give a :meth:`Backbone.variant`.
        values: ``(B, 3, height, width)`` float32, from 0 for black to 1, on the device of the backbone.

    Returns:
        ``(B, d)`` float32.

    Raises:
        ModelError: The model cannot run images of this size.
    """
    plain = backbone.in_float32()
    plain.layers = ()
    images = (values * 255 - plain._mean) / plain._std
    try:
        return plain._forward(images.contiguous(memory_format=plain.memory_format))[0]
    except Exception as error:  # models raise all kinds of errors
        if is_out_of_memory(error):
            raise
        raise cannot_run(backbone.key.model, values.shape[1:], error) from error


def _memory_format(model: Any) -> torch.memory_format:
    """Channels last, which is faster, unless the model has a convolution over three axes, which cannot have it."""
    import torch

    has_volumes = any(parameter.ndim > 4 for parameter in model.parameters())
    return torch.contiguous_format if has_volumes else torch.channels_last


def _computing_in(backbone: Backbone, dtype: torch.dtype) -> Backbone:
    """The same model, not a copy, computing in another dtype."""
    other = copy.copy(backbone)
    other.dtype, other._half = dtype, half_model(dtype)
    other._compiled, other._whole_batches = None, 0  # compiled code belongs to the original
    return other


def _trial(backbone: Backbone, size: Sequence[int]) -> torch.Tensor:
    """All outputs of a backbone for two random images, side by side."""
    import torch

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, *size), dtype=torch.uint8, generator=generator)
    return torch.cat(backbone._run(images), dim=1)


def cannot_run(model: str, size: Sequence[int], error: Exception) -> ModelError:
    """The error of a model that fails on images of this size."""
    pixels = "×".join(map(str, size[1:]))
    return ModelError(
        f"{model} cannot run images of {pixels} pixels: {reason_of(error)}", "try without --img-size and --compile"
    )


def _linear_head(model: Any) -> dict[str, torch.Tensor] | None:
    """The parameters of a model's classifier, or ``None`` if it is not one linear layer."""
    from torch import nn

    classifier = model.get_classifier() if hasattr(model, "get_classifier") else None
    if not isinstance(classifier, nn.Linear):
        return None
    return {name: tensor.detach().cpu().contiguous() for name, tensor in classifier.named_parameters()}


def set_pool(model: Any, pool: str) -> None:
    """Take off a model's classifier, and change how its last layer becomes one vector.

    Raises:
        ModelError: The model has no such pooling.
    """
    try:
        model.reset_classifier(0, POOLS.get(pool, pool))
    except Exception as error:  # model families raise all kinds of errors
        raise ModelError(
            f"{type(model).__name__} has no pooling {pool!r}",
            "vision transformers have cls, avg, max and avgmax; convolutional networks avg, max, avgmax and catavgmax",
        ) from error

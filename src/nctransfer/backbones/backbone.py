"""A running backbone: from images to pooled features."""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.checkpoint_fitting import tensor_digest
from nctransfer.backbones.feature_key import FEATURE, FeatureKey
from nctransfer.backbones.folding import fold_batch_norms
from nctransfer.errors import DeviceError, ModelError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL import Image
    from torch import nn

    from nctransfer.backbones.request import BackboneRequest
    from nctransfer.backbones.weight_files import Weights

__all__ = ["Backbone"]

log = logging.getLogger(__name__)

MOST_ELONGATED = 200  # times as long as wide; the shorter side is what is resized to the model's size
POOLS = {"cls": "token"}  # the field's names for timm's


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
        digest = tensor_digest(model.state_dict())
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
        """Fold BatchNorms into convolutions (:mod:`nctransfer.backbones.folding`); returns how many."""
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

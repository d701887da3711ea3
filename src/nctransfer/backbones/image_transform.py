"""From an RGB image to what a model sees: the same values as with timm's transform and normalisation, but faster.

Pillow resizes in one pass along the rows and one along the columns. timm resizes the whole image, and cuts up to half
of it away afterwards; here, a pass leaves out what will be cut away, wherever that does not change rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["described_steps", "image_transform", "normalise", "resize_and_crop"]

FLOAT_BITS = 24  # of the significand; Pillow takes the corners of a box as float32
TALLEST = 1.9  # times as high as wide; of taller images, Pillow resizes the columns first


def image_transform(config: Mapping[str, Any]) -> Callable[[Image.Image], NDArray[np.uint8]]:
    """The transform of a model, from an RGB image to ``(3, height, width)`` uint8, which are not normalised yet.

    Args:
        config: The arguments of timm's ``create_transform``.
    """
    import numpy as np
    from PIL import Image
    from timm.data import create_transform

    # With use_prefetcher, timm's transform ends at uint8 pixels.
    transform = create_transform(**config, is_training=False, use_prefetcher=True)
    steps = list(transform.transforms)
    is_usual = [type(step).__name__ for step in steps] == ["Resize", "CenterCrop", "MaybePILToTensor"]
    if not is_usual or not isinstance(steps[0].size, int) or steps[0].max_size is not None:
        return lambda image: np.asarray(transform(image))
    shorter, (height, width) = steps[0].size, steps[1].size
    resample = getattr(Image.Resampling, steps[0].interpolation.value.upper(), None)

    def usual(image: Image.Image) -> NDArray[np.uint8]:
        short, long = sorted(image.size)
        longer = int(shorter * long / short)
        size = (shorter, longer) if image.width <= image.height else (longer, shorter)
        if resample is None or size[0] < width or size[1] < height:  # timm fills the crop up with black
            return np.asarray(transform(image))
        left, top = round((size[0] - width) / 2.0), round((size[1] - height) / 2.0)
        cropped = resize_and_crop(image, size, (left, top, left + width, top + height), resample)
        return np.array(cropped).transpose(2, 0, 1)  # a copy, since the memory of an image is read-only

    return usual


def described_steps(config: Mapping[str, Any]) -> list[str]:
    """The steps from an image to pixels that are not normalised yet, in the words of timm and torchvision.

    Args:
        config: The arguments of timm's ``create_transform``.

    >>> described_steps({"input_size": (3, 224, 224), "crop_pct": 0.875, "interpolation": "bicubic"})[:2]
    ['Resize(size=256, interpolation=bicubic, max_size=None, antialias=True)', 'CenterCrop(size=(224, 224))']
    """
    from timm.data import create_transform

    return [str(step) for step in create_transform(**config, is_training=False, use_prefetcher=True).transforms]


def resize_and_crop(
    image: Image.Image, size: tuple[int, int], crop: tuple[int, int, int, int], resample: int
) -> Image.Image:
    """The same pixels as ``image.resize(size, resample).crop(crop)``, without computing most of the others.

    Args:
        image: An RGB image.
        size: The width and height of the whole resized image, in the proportions of ``image``.
        crop: Left, top, right and bottom of the part that is wanted, in pixels of the resized image.
        resample: One of Pillow's filters.

    >>> from PIL import Image
    >>> noise = Image.effect_noise((500, 375), 90).convert("RGB")
    >>> part = resize_and_crop(noise, (341, 256), (58, 16, 282, 240), Image.Resampling.BICUBIC)
    >>> part.tobytes() == noise.resize((341, 256), Image.Resampling.BICUBIC).crop((58, 16, 282, 240)).tobytes()
    True
    """
    from PIL import Image

    if resample == Image.Resampling.NEAREST or image.height > TALLEST * image.width:  # computed in another way
        return image.resize(size, resample).crop(crop)
    left, top, right, bottom = crop
    rows = _span(image.height, size[1], top, bottom)
    columns = _span(image.width, size[0], left, right)
    # Pillow makes one pass along the rows, then one along the columns; so do these two calls, each along one axis.
    above = 0
    if rows:  # rows that no wanted pixel depends on: a filter reaches at most 3 pixels, times the scale
        reach = math.ceil(3 * max(1.0, image.height / size[1])) + 1
        above, below = max(0, math.floor(rows[0]) - reach), min(image.height, math.ceil(rows[1]) + reach)
        image = image.crop((0, above, image.width, below))
    if columns:
        image = image.resize((right - left, image.height), resample, (columns[0], 0, columns[1], image.height))
    else:
        image = image.resize((size[0], image.height), resample).crop((left, 0, right, image.height))
    if rows:
        box = (0, rows[0] - above, image.width, rows[1] - above)
        return image.resize((image.width, bottom - top), resample, box)
    return image.resize((image.width, size[1]), resample).crop((0, top, image.width, bottom))


def normalise(pixels: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """``(pixels - mean) / std`` as float32, channels last in memory.

    On the CPU, whole rows of an image are handled at once, and one image after the other while it is in the cache of
    the processor. That takes a quarter of the time, and gives the same values.

    Args:
        pixels: ``(B, 3, height, width)`` uint8.
        mean: ``(1, 3, 1, 1)``, on the same device.
        std: ``(1, 3, 1, 1)``, on the same device.

    >>> import torch
    >>> pixels = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    >>> mean, std = torch.rand(1, 3, 1, 1), torch.rand(1, 3, 1, 1) + 1
    >>> torch.equal(normalise(pixels, mean, std), (pixels - mean) / std)
    True
    """
    import torch

    if pixels.device.type != "cpu":
        return pixels.float().sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)
    count, channels, height, width = pixels.shape
    images = torch.empty((count, height, width, channels))
    mean, std = (one.flatten().repeat(width) for one in (mean, std))  # of all values of a row
    for image, row in zip(images, pixels.permute(0, 2, 3, 1), strict=True):
        rows = image.view(height, width * channels)
        rows.copy_(row.reshape(height, width * channels)).sub_(mean).div_(std)
    return images.permute(0, 3, 1, 2)


def _span(before: int, after: int, first: int, last: int) -> tuple[float, float] | None:
    """Where the pixels ``first`` to ``last`` of a resized axis lie in the original, if float numbers say so exactly.

    Args:
        before: The number of pixels of the original.
        after: The number of pixels of all of the resized axis.
        first: The first pixel that is wanted.
        last: The pixel after the last one.
    """
    scale = Fraction(before, after)
    step = scale.denominator
    is_exact = step & (step - 1) == 0 and before * step < 2**FLOAT_BITS
    return (float(first * scale), float(last * scale)) if is_exact else None

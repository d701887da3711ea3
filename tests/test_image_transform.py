"""What a model sees is what timm's own transform gives, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from timm.data import create_transform

from nctransfer.backbones.image_transform import image_transform, normalise, resize_and_crop

FILTERS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


def noise(width: int, height: int) -> Image.Image:
    generator = np.random.default_rng(width * 10_000 + height)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


def config(size: int | tuple[int, int], **settings: Any) -> dict[str, Any]:
    height, width = (size, size) if isinstance(size, int) else size
    plain = {"interpolation": "bicubic", "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4), "crop_pct": 0.875}
    return {"input_size": (3, height, width), **plain, **settings}


def of_timm(image: Image.Image, settings: dict[str, Any]) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = create_transform(**settings, is_training=False, use_prefetcher=True)(image).numpy()
    return pixels


@given(
    st.integers(1, 260),
    st.integers(1, 260),
    st.sampled_from([8, 32, 56, 64]),
    st.sampled_from([0.875, 0.9, 0.95, 1.0, 1.2]),
    st.sampled_from(FILTERS),
)
def test_any_image(width: int, height: int, size: int, crop_pct: float, interpolation: str) -> None:
    if max(width, height) > 50 * min(width, height):
        return
    settings = config(size, crop_pct=crop_pct, interpolation=interpolation)
    image = noise(width, height)
    assert np.array_equal(image_transform(settings)(image), of_timm(image, settings))


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (32, 32), (256, 256), (224, 300), (341, 256), (200, 700)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_usual_images_at_the_usual_size(size: tuple[int, int], interpolation: str) -> None:
    settings = config(224, interpolation=interpolation)
    found = image_transform(settings)(noise(*size))
    assert found.shape == (3, 224, 224)
    assert found.dtype == np.uint8
    assert np.array_equal(found, of_timm(noise(*size), settings))


@pytest.mark.parametrize(
    "settings",
    [
        config(48, crop_mode="squash"),
        config(48, crop_mode="border"),
        config((48, 64)),
        config((48, 64), crop_mode="squash"),
        config(48, crop_border_pixels=4),
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(90, 60), (60, 90), (30, 200)])
def test_unusual_transforms(settings: dict[str, Any], size: tuple[int, int]) -> None:
    assert np.array_equal(image_transform(settings)(noise(*size)), of_timm(noise(*size), settings))


@given(st.data())
def test_any_part_of_a_resized_image(data: st.DataObject) -> None:
    width, height, shorter = (data.draw(st.integers(1, 130)) for _ in range(3))
    new_width, new_height = (shorter * side // min(width, height) for side in (width, height))
    left, top = data.draw(st.integers(0, new_width - 1)), data.draw(st.integers(0, new_height - 1))
    crop = (left, top, data.draw(st.integers(left + 1, new_width)), data.draw(st.integers(top + 1, new_height)))
    resample = Image.Resampling[data.draw(st.sampled_from(FILTERS)).upper()]
    whole = noise(width, height).resize((new_width, new_height), resample).crop(crop)
    part = resize_and_crop(noise(width, height), (new_width, new_height), crop, resample)
    assert part.size == whole.size
    assert part.tobytes() == whole.tobytes()


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_normalised_pixels(count: int, channels_last: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 20, 30), dtype=torch.uint8, generator=generator)
    if channels_last:
        pixels = pixels.contiguous(memory_format=torch.channels_last)
    mean, std = (torch.tensor(values).mul(255).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.2, 0.3, 0.4)))
    found = normalise(pixels, mean, std)
    assert torch.equal(found, (pixels.float() - mean) / std)
    assert found.is_contiguous(memory_format=torch.channels_last)

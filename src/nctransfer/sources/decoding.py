"""From the bytes of an image to upright RGB pixels."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["decode", "header", "to_ppm"]

# Raster formats only: Pillow hands EPS to Ghostscript, and others are documents or interpreters.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")


def decode(content: bytes) -> Image.Image:
    """An image as RGB, upright, eight bits a channel.

    EXIF rotation is applied; 16-bit grey is scaled, not clipped; what is transparent becomes white; of an
    animation the first frame counts.

    Raises:
        ValueError: The bytes are no image, truncated, or too large; the message says which.
    """
    from PIL import ImageOps

    with _opened(content) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode != "F":
            return _to_rgb(upright)
    raise ValueError("floating-point pixels have no agreed range")


def header(content: bytes) -> tuple[tuple[int, int], str, str]:
    """Size as stored, mode and format of an image, without decoding it.

    Raises:
        ValueError: The bytes are no image, or too large; the message says which.
    """
    with _opened(content) as image:
        return image.size, image.mode, image.format or ""


@contextlib.contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """An image that is not decoded yet; what is wrong with it, also while it is decoded, is a ValueError."""
    from PIL import Image, UnidentifiedImageError

    if not content:
        raise ValueError("the file is empty (0 bytes)")
    try:
        Image.init()  # Pillow loads most of its decoders only then
        formats = [name for name in FORMATS if name in Image.OPEN]
        yield Image.open(io.BytesIO(content), formats=formats)
    except UnidentifiedImageError:
        raise ValueError("no image in a known format") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"too large to be safe: {str(error).partition(',')[0]}") from None
    except Exception as error:  # a decoder may raise anything on a damaged file
        raise ValueError(f"truncated or damaged: {error}") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):  # 16-bit grey; convert("RGB") would clip it at 255
        import numpy as np

        wide = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray((wide // 257).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def to_ppm(image: Image.Image) -> bytes:
    """An image that some library has decoded, as a binary PPM: the same bytes for the same pixels.

    Raises:
        ValueError: Its pixels cannot be had as eight bits a channel.
    """
    from PIL import ImageOps

    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range")
    upright = _to_rgb(ImageOps.exif_transpose(image))
    return b"P6\n%d %d\n255\n" % upright.size + upright.tobytes()

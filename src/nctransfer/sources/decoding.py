"""From the bytes of an image to upright RGB pixels."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["decode", "header", "to_ppm"]

# Raster formats only: Pillow runs Ghostscript for EPS, and other formats are documents or programs.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")
NO_RANGE = "the pixels are floating-point numbers, whose range is unknown"


def decode(content: bytes, enough: int = 0) -> Image.Image:
    """An encoded image as RGB, upright, with eight bits per channel.

    The rotation in EXIF metadata is applied. 16-bit grey is scaled, not clipped. Transparent pixels become white. Of
    an animation, the first frame is taken.

    Args:
        content: The encoded image.
        enough: If given, a JPEG image may be decoded at 1/2, 1/4 or 1/8 of its size, which saves time, if its width and
            height stay at least this many pixels.

    Raises:
        ValueError: The bytes are not an image, truncated, or too large; the message says which.
    """
    from PIL import ImageOps

    with _opened(content) as image:
        if enough:
            image.draft(None, (enough, enough))
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode != "F":
            return _to_rgb(image)
    raise ValueError(NO_RANGE)


def header(content: bytes) -> tuple[tuple[int, int], str, str]:
    """The size of an image as stored, its mode and its format, without decoding it.

    Raises:
        ValueError: The bytes are not an image, or too large; the message says which.
    """
    with _opened(content) as image:
        return image.size, image.mode, image.format or ""


@contextlib.contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """An image that is not decoded yet. Every error in the ``with`` block becomes a ValueError with the reason."""
    from PIL import Image, UnidentifiedImageError

    if not content:
        raise ValueError("the file is empty (0 bytes)")
    try:
        yield Image.open(io.BytesIO(content), formats=_formats())
    except UnidentifiedImageError:
        raise ValueError("not an image in a known format") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"too large to be safe: {str(error).partition(',')[0]}") from None
    except Exception as error:  # decoders raise all kinds of errors for damaged files
        raise ValueError(f"truncated or damaged: {error}") from None


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of the formats that this Pillow reads."""
    from PIL import Image

    Image.init()  # without it, Pillow knows only some of its formats
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _to_rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode == "RGB" and not image.has_transparency_data:
        image.load()
        return image
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
    """A decoded image as a binary PPM file: equal pixels give equal bytes.

    Raises:
        ValueError: The pixels are floating-point numbers, whose range is unknown.
    """
    from PIL import ImageOps

    if image.mode == "F":
        raise ValueError(NO_RANGE)
    upright = _to_rgb(ImageOps.exif_transpose(image))
    return b"P6\n%d %d\n255\n" % upright.size + upright.tobytes()

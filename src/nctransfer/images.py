"""What a labelled image is, wherever it comes from: an entry of a source, bytes, and at last pixels.

A source lists its images without reading them, and hands out their bytes. Every image is bytes until
:func:`decode` makes it RGB, so that a digest of the bytes identifies it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ImageEntry", "ImageSource", "content_digest", "decode", "header", "safe_name", "source_id", "to_ppm"]

# Raster formats only: Pillow hands EPS to Ghostscript, and others are documents or interpreters.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")
SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tga", ".tif", ".tiff", ".webp"}
)


class ImageEntry(NamedTuple):
    """One labelled image of a source, not yet read."""

    id: str
    label: str  # the class name
    split: str  # "" where the source has no splits
    size: int  # bytes; with mtime_ns it tells whether a known digest still holds
    mtime_ns: int


class ImageSource(ABC):
    """A named collection of labelled images.

    Attributes:
        kind: What it is, in words: "folder of class folders", "tar archive" …
        name: What the user called it.
        id: A name that is safe as a folder name and differs between different sources.
        notes: What the reader should know about the listing, filled by :meth:`list`.
    """

    kind: str
    name: str
    id: str
    notes: tuple[str, ...] = ()

    @abstractmethod
    def list(self) -> list[ImageEntry]:
        """All images, in the order in which reading them is fastest.

        Raises:
            DataError: There is no image, or no class.
        """

    @abstractmethod
    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        """For each entry a function that gives its encoded bytes, and raises OSError where it cannot.

        A source that is read piece by piece (a compressed archive, Parquet) reads in the iterator, others in the
        functions. So the iterator belongs to one thread, and the functions may be called in any, soon after.

        Args:
            entries: Some of those of :meth:`list`, in its order.
        """

    def read(self, entry: ImageEntry) -> bytes:
        """The encoded bytes of one image; for many, :meth:`contents` is faster.

        Raises:
            OSError: It cannot be read.
        """
        return next(self.contents([entry]))()


def content_digest(content: bytes) -> str:
    """The digest by which an image is known, whatever its name: BLAKE2b, 128 bits, in hex."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


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


def safe_name(name: str) -> str:
    """A name as part of a file name: letters, digits, ``.``, ``_``, ``-``; never hidden, never long."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip(".")[:64] or "_"


def source_id(path: str | os.PathLike[str], *choices: str) -> str:
    """The id of a source at ``path``, the same by whatever link or detour; ``choices`` tell views of it apart."""
    resolved = Path(path).resolve()
    named = b"\0".join(os.fsencode(part) for part in (str(resolved), *choices))
    return f"{safe_name(resolved.name or 'root')}-{hashlib.blake2b(named, digest_size=4).hexdigest()}"

"""Images that somebody lists one by one: paths of files, on stdin for example, or pictures in memory."""

from __future__ import annotations

import codecs
import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from nctransfer.errors import DataError
from nctransfer.sources.contents import read_file
from nctransfer.sources.decoding import to_ppm
from nctransfer.sources.image_table import ImageTable
from nctransfer.sources.layout import as_unicode, is_image
from nctransfer.sources.source import ImageEntry, ListedSource, Listing
from nctransfer.sources.source_kind import SourceKind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    Given = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]

__all__ = ["IMAGE_FILE", "PATH_LIST", "GivenImages", "paths_in"]

STDIN = "-"
CHUNK = 2**20  # bytes of a list that are read at once


class GivenImages(ListedSource[Mapping[str, Any]]):
    """Images in the order in which they are given. None has a label, and files are looked at only when they are read.

    The id of a file is its path, that of a picture in memory is ``image 0``, ``image 1`` and so on, by its position.
    Only images whose id is not their path have a place: the path or the picture.

    Args:
        images: Paths, which are relative to the working folder; Pillow's images; or arrays of pixels, ``(height, width,
            3)`` uint8, or ``(height, width)`` for grey. They are gone through once.
        name: What the list is called.
    """

    kind = "list of images"

    def __init__(self, images: Iterable[Given], name: str = "images") -> None:
        self.name = self.id = name
        self._images = iter(images)
        self._listing: Listing[Mapping[str, Any]] | None = None

    def scan(self) -> Listing[Mapping[str, Any]]:
        """See :meth:`ListedSource.scan`."""
        if self._listing is None:
            places: dict[str, Any] = {}
            entries = ImageTable.of(self._entries(places))
            if not entries:
                raise DataError(
                    f"the list {self.name!r} holds no images", "give one path per line, or one image or more"
                )
            self._listing = Listing(entries, (), places)
        return self._listing

    def _entries(self, places: dict[str, Any]) -> Iterator[ImageEntry]:
        for number, image in enumerate(self._images):
            id_, place = _named(number, image)
            if place != id_:
                places[id_] = place
            yield ImageEntry(id_, "", "", 0, 0)

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        """See :meth:`ImageSource.contents`."""
        places = self.places
        for entry in entries:
            place = places.get(entry.id, entry.id)
            yield functools.partial(read_file if isinstance(place, str) else _encoded, place)


def _named(number: int, image: Given) -> tuple[str, Any]:
    """The id of an image, and its place: a path, or Pillow's image."""
    if isinstance(image, str | os.PathLike):
        path = os.fspath(image)
        return as_unicode(path), path
    return f"image {number}", _picture(number, image)


def _picture(number: int, image: Any) -> Image.Image:
    """An image in memory as Pillow's.

    Raises:
        DataError: It is neither Pillow's image nor an array of pixels.
    """
    import numpy as np
    from PIL import Image

    if isinstance(image, Image.Image):
        return image
    is_picture = isinstance(image, np.ndarray) and image.dtype == np.uint8 and min(image.shape, default=0) > 0
    if is_picture and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        return Image.fromarray(np.ascontiguousarray(image))
    form = (
        f"an array of shape {image.shape} and type {image.dtype}" if hasattr(image, "dtype") else type(image).__name__
    )
    raise DataError(
        f"image {number} is {form}, not a picture",
        "give the path of a file, a PIL image, or an array (height, width, 3) of type uint8 with values from 0 to 255",
    )


def _encoded(image: Image.Image) -> bytes:
    try:
        return to_ppm(image)
    except ValueError as error:
        raise OSError(str(error)) from error


def paths_in(stream: BinaryIO) -> Iterator[str]:
    r"""The paths in a list: one per line, or separated by null characters as ``find -print0`` writes them.

    >>> import io
    >>> list(paths_in(io.BytesIO(b"\xef\xbb\xbfa/1.jpg\r\n\nb 2.jpg")))
    ['a/1.jpg', 'b 2.jpg']
    >>> list(paths_in(io.BytesIO(b"a\n1.jpg\0b.jpg\0")))
    ['a\n1.jpg', 'b.jpg']
    """
    rest, separator = b"", b""
    start = stream.read(CHUNK).removeprefix(codecs.BOM_UTF8)  # which tools on Windows write
    for chunk in itertools.chain([start] if start else (), iter(functools.partial(stream.read, CHUNK), b"")):
        separator = separator or (b"\0" if b"\0" in chunk else b"\n" if b"\n" in chunk else b"")
        if separator:
            *whole, rest = (rest + chunk).split(separator)
            yield from _paths(whole, separator)
        else:
            rest += chunk
    yield from _paths([rest], separator or b"\n")


def _paths(parts: Iterable[bytes], separator: bytes) -> Iterator[str]:
    for part in parts:
        if path := part.removesuffix(b"\r") if separator == b"\n" else part:
            yield os.fsdecode(path)


IMAGE_FILE = SourceKind(
    name="image",
    recognises=lambda name: is_image(name) and Path(name).is_file(),
    open=lambda name, _options: GivenImages([name], name),
    examples=("1.jpg",),
    summary="one image",
)
PATH_LIST = SourceKind(
    name="list",
    recognises=lambda name: name == STDIN,
    open=lambda name, _options: GivenImages(paths_in(sys.stdin.buffer), name),
    examples=(STDIN,),
    summary="a list of image files on stdin, one path per line",
)

"""Where labelled images come from: a folder of class folders, or the built-in digits.

A source lists its images without reading them, and hands out the bytes of one. Every image, wherever it
comes from, is bytes until :func:`decode` makes it RGB, so that a digest of the bytes identifies it.
"""

from __future__ import annotations

import errno
import functools
import gzip
import hashlib
import importlib.util
import io
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.errors import DataError, counted

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Digits", "ImageEntry", "ImageFolder", "ImageSource", "content_digest", "decode", "open_source"]

# Raster formats only: Pillow hands EPS to Ghostscript, and others are documents or interpreters.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")
SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tga", ".tif", ".tiff", ".webp"}
)
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing"})


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
        name: What the user called it.
        id: A name that is safe as a folder name and differs between different sources.
        notes: What the reader should know about the listing, filled by :meth:`list`.
    """

    name: str
    id: str
    notes: tuple[str, ...] = ()

    @abstractmethod
    def list(self) -> list[ImageEntry]:
        """All images, in order of their ids, without reading one.

        Raises:
            DataError: There is no image, or no class.
        """

    @abstractmethod
    def read(self, entry: ImageEntry) -> bytes:
        """The encoded bytes of one image.

        Raises:
            OSError: It cannot be read.
        """


class Digits(ImageSource):
    """scikit-learn's handwritten digits: 1,797 images of 8×8 pixels in 10 classes.

    The images are read from scikit-learn's own data file; ``import sklearn.datasets`` would take
    seconds. Each becomes a binary PGM, whose bytes no library version changes.
    """

    name = "digits"
    id = "digits-sklearn"

    def list(self) -> list[ImageEntry]:
        """See :meth:`ImageSource.list`."""
        return [
            ImageEntry(f"{index:04d}", str(label), "", len(image), 0) for index, (image, label) in enumerate(_digits())
        ]

    def read(self, entry: ImageEntry) -> bytes:
        """See :meth:`ImageSource.read`."""
        return _digits()[int(entry.id)][0]


@functools.cache
def _digits() -> list[tuple[bytes, int]]:
    import numpy as np

    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("the built-in digits need scikit-learn", "pip install scikit-learn")
    path = Path(spec.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",")
    pixels = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8)  # intensities are 0 to 16
    header = b"P5\n8 8\n255\n"
    return [(header + row.tobytes(), int(label)) for row, label in zip(pixels, table[:, -1], strict=True)]


class ImageFolder(ImageSource):
    """A folder with one folder a class, images at any depth below it.

    If every folder on top is named like a split (``train``, ``val``, ``test`` …) and one holds folders itself,
    the classes are the folders one level deeper. Files and folders whose name begins with a dot are
    passed over.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.root = Path(path)
        resolved = self.root.resolve()
        self.name = str(path)
        digest = hashlib.blake2b(os.fsencode(resolved), digest_size=4).hexdigest()
        self.id = f"{safe_name(resolved.name or 'root')}-{digest}"
        self._paths: dict[str, Path] = {}

    def list(self) -> list[ImageEntry]:
        """See :meth:`ImageSource.list`."""
        folders = sorted(filter(_is_folder, _visible(self.root)), key=lambda item: item.name)
        has_splits = all(item.name.lower() in SPLITS for item in folders) and any(
            _is_folder(child) for item in folders for child in _visible(item.path)
        )
        class_folders = (
            [(split.name, item) for split in folders for item in _visible(split.path) if _is_folder(item)]
            if has_splits
            else [("", item) for item in folders]
        )
        self._paths, others, empty = {}, 0, []
        beside = sum(
            _is_image(item.name) and not _is_folder(item)
            for folder in (str(self.root), *(item.path for item in folders if has_splits))
            for item in _visible(folder)
        )
        entries: list[ImageEntry] = []
        for split, folder in class_folders:
            before = len(entries)
            for path in _files_below(folder):
                if not _is_image(path.name):
                    others += 1
                    continue
                name = _text(path.relative_to(self.root).as_posix())
                if name in self._paths:
                    raise DataError(f"two files are named {name!r} once undecodable bytes are escaped", "rename one")
                size, mtime_ns = _stat(path)
                self._paths[name] = path
                entries.append(ImageEntry(name, _text(folder.name), split, size, mtime_ns))
            if len(entries) == before:
                empty.append(_text(folder.name))
        if not entries:
            raise self._nothing(beside, others, bool(folders))
        notes = []
        if beside:
            notes.append(f"{counted(beside, 'image')} beside the class folders left out: they have no class")
        if others:
            notes.append(f"{counted(others, 'file')} without the suffix of an image left out")
        if empty:
            notes.append(f"{counted(len(empty), 'class folder')} without an image: {', '.join(map(repr, empty[:5]))}")
        self.notes = tuple(notes)
        return sorted(entries)

    def read(self, entry: ImageEntry) -> bytes:
        """See :meth:`ImageSource.read`."""
        path = self._paths[entry.id]
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would never end
            raise OSError(errno.EINVAL, "no regular file")
        return path.read_bytes()

    def _nothing(self, beside: int, others: int, folders: bool) -> DataError:
        if beside:
            found = f"has {counted(beside, 'image')} but no class folders with images"
        elif others or folders:
            found = f"has no images ({counted(others, 'other file')})"
        else:
            found = "is empty"
        return DataError(
            f"the folder {self.name!r} {found}",
            "needed is one folder a class with its images inside, as in pets/cat/1.jpg; "
            f"read are {' '.join(sorted(SUFFIXES))}",
        )


def open_source(data: str | os.PathLike[str]) -> ImageSource:
    """The image source that ``data`` names: ``"digits"``, or a folder of class folders.

    Raises:
        DataError: There is no such source.
    """
    if data == Digits.name:
        return Digits()
    if not os.fspath(data):
        raise DataError("the name of the data is empty")
    path = Path(data)
    hint = "give a folder that holds one folder of images a class, or 'digits', the built-in data"
    try:
        if path.is_dir():
            return ImageFolder(data)
        exists = path.exists()
    except OSError as error:
        raise DataError(f"the folder {str(data)!r} cannot be read: {error.strerror}", hint) from error
    raise DataError(f"{str(data)!r} is {'no folder' if exists else 'not there'}", hint)


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
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not content:
        raise ValueError("the file is empty (0 bytes)")
    try:
        Image.init()  # Pillow loads most of its decoders only then
        formats = [name for name in FORMATS if name in Image.OPEN]
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(content), formats=formats))
        if image.mode != "F":
            return _to_rgb(image)
    except UnidentifiedImageError:
        raise ValueError("no image in a known format") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"too large to be safe: {str(error).partition(',')[0]}") from None
    except Exception as error:  # a decoder may raise anything on a damaged file
        raise ValueError(f"truncated or damaged: {error}") from None
    raise ValueError("floating-point pixels have no agreed range")


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


def safe_name(name: str) -> str:
    """A name as part of a file name: letters, digits, ``.``, ``_``, ``-``; never hidden, never long."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip(".")[:64] or "_"


def _text(name: str) -> str:
    """A file name as valid Unicode: undecodable bytes become escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _visible(path: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as items:
            return [item for item in items if not item.name.startswith(".")]
    except OSError as error:
        raise DataError(f"the folder {str(path)!r} cannot be read: {error.strerror}") from error


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError as error:  # a symlink that leads to itself
        raise _loop(item.path) from error


def _loop(path: str) -> DataError:
    return DataError(
        f"{path!r} is a symlink that leads back to a folder above it or to itself",
        "remove the link: following it would never end",
    )


def _files_below(folder: os.DirEntry[str]) -> Iterator[Path]:
    """Every visible file below ``folder``, symlinks followed, a loop refused."""

    def walk(item: os.DirEntry[str], above: frozenset[tuple[int, int]]) -> Iterator[Path]:
        found = item.stat()
        here = (found.st_dev, found.st_ino)
        if here in above:
            raise _loop(item.path)
        for child in _visible(item.path):
            if _is_folder(child):
                yield from walk(child, above | {here})
            else:
                yield Path(child.path)

    root = Path(folder.path).parent.stat()
    yield from walk(folder, frozenset({(root.st_dev, root.st_ino)}))


def _stat(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:  # a dangling link: reading it will say so
        return -1, -1
    return found.st_size, found.st_mtime_ns

"""A folder of class folders, read a million files at a time."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.errors import DataError
from nctransfer.sources.contents import read_file
from nctransfer.sources.layout import arrange, is_hidden, is_image, splits_on_top
from nctransfer.sources.source import ImageSource, source_id

if TYPE_CHECKING:
    from nctransfer.sources.source import ImageEntry

__all__ = ["ImageFolder", "walk"]


class ImageFolder(ImageSource):
    """A folder with one folder a class, images at any depth below it; see :mod:`nctransfer.sources.layout`.

    Files and folders whose name begins with a dot are passed over.
    """

    kind = "folder of class folders"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.name = os.fspath(path)
        self.id = source_id(path)
        self._renamed: Mapping[str, str] = {}

    def list(self) -> list[ImageEntry]:
        """See :meth:`ImageSource.list`."""
        arranged = arrange(f"the folder {self.name!r}", _upper_folders(self.name), _files(self.name))
        entries = sorted(arranged.entries)
        for one, other in itertools.pairwise(entries):
            if one.id == other.id:
                raise DataError(f"two files are named {one.id!r} once undecodable bytes are escaped", "rename one")
        self.notes, self._renamed = arranged.notes, arranged.renamed
        return entries

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        """See :meth:`ImageSource.contents`."""
        for entry in entries:
            yield functools.partial(read_file, f"{self.name}/{self._renamed.get(entry.id, entry.id)}")


def _stamp(item: os.DirEntry[str]) -> tuple[int, int]:
    """Size and time of a file; (-1, -1) of one that cannot be had: reading it will say so."""
    try:
        found = item.stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def walk(root: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every visible file below ``root`` and its path from there, symlinks followed.

    Raises:
        DataError: A folder cannot be read, or a symlink leads back to one above it.
    """
    pending = [(root, "", frozenset({_identity(root)}))]
    while pending:
        folder, prefix, above = pending.pop()
        below = []
        for item in _visible(folder):
            if _is_folder(item):
                below.append(item)
            else:
                yield prefix + item.name, item
        for item in sorted(below, key=lambda item: item.name, reverse=True):
            here = _identity(item.path)
            if here in above:
                raise _loop(item.path)
            pending.append((item.path, f"{prefix}{item.name}/", above | {here}))


def _files(root: str) -> Iterator[tuple[str, int, int]]:
    for path, item in walk(root):
        yield (path, *(_stamp(item) if is_image(path) else (0, 0)))


def _upper_folders(root: str) -> list[str]:
    """The folders that may be classes or splits: those on top and, below splits, one level deeper."""
    tops = [item.name for item in _visible(root) if _is_folder(item)]
    if not splits_on_top(tops):
        return tops
    return tops + [f"{top}/{item.name}" for top in tops for item in _visible(f"{root}/{top}") if _is_folder(item)]


def _visible(path: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(path) as items:
            for item in items:
                if not is_hidden(item.name):
                    yield item
    except OSError as error:
        raise DataError(f"the folder {path!r} cannot be read: {error.strerror}") from error


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError as error:  # a symlink that leads to itself
        raise _loop(item.path) from error


def _identity(path: str) -> tuple[int, int]:
    try:
        found = Path(path).stat()
    except OSError as error:
        raise DataError(f"the folder {path!r} cannot be read: {error.strerror}") from error
    return found.st_dev, found.st_ino


def _loop(path: str) -> DataError:
    return DataError(
        f"{path!r} is a symlink that leads back to a folder above it or to itself",
        "remove the link: following it would never end",
    )

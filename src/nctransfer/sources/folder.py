"""A folder with one folder of images per class; it may hold millions of files."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.errors import DataError, reason_of
from nctransfer.sources.contents import read_file
from nctransfer.sources.image_table import CHUNK
from nctransfer.sources.layout import FolderImages, arrange, as_unicode, is_hidden, is_image, splits_on_top
from nctransfer.sources.source import ListedSource, Listing, source_id
from nctransfer.sources.source_kind import SourceKind

if TYPE_CHECKING:
    from nctransfer.sources.label_depth import LabelDepth
    from nctransfer.sources.source import ImageEntry
    from nctransfer.sources.source_kind import ReadingOptions

__all__ = ["FLAT_FOLDER", "FOLDER", "ImageFolder", "holds_parquet", "walk"]


MOST_OUTER = 20  # folders of which each holds only the next: more may be a link that leads round in a circle


class ImageFolder(ListedSource[Mapping[str, str]]):
    """A folder with one folder per class, and images at any depth below it; see :mod:`nctransfer.sources.layout`.

    Files and folders whose name begins with a dot are ignored. Only images whose id is not their path have a place:
    the path.

    Args:
        path: The folder.
        labels_optional: Whether images outside the class folders are listed too.
        label_depth: How many folders make a class; see :mod:`nctransfer.sources.layout`. The id does not depend on it.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, labels_optional: bool = False, label_depth: LabelDepth | None = None
    ) -> None:
        self.kind = "folder of images" if labels_optional else "folder of class folders"
        self.name = os.fspath(path)
        self.id = source_id(path)
        self._labels_optional = labels_optional
        self._label_depth = label_depth

    def scan(self) -> Listing[Mapping[str, str]]:
        """See :meth:`ListedSource.scan`."""
        top, folders = _upper_folders(self.name)
        arranged = arrange(
            f"the folder {self.name!r}",
            folders,
            _images(self.name),
            top,
            labels_optional=self._labels_optional,
            label_depth=self._label_depth,
        )
        entries = arranged.entries.sorted()
        if arranged.renamed and (twice := entries.repeated_id()) is not None:
            raise DataError(
                f"two files have the name {twice!r} once bytes that are not UTF-8 are escaped", "rename one of them"
            )
        about = f"all images lie in the folder {as_unicode(top[:-1])!r}, so the classes are the folders in it"
        return Listing(entries, ((about,) if top else ()) + arranged.notes, arranged.renamed)

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        """See :meth:`ImageSource.contents`."""
        for entry in entries:
            path = entry.id
            if "\\" in path:  # an escape, or a part of the name; a listing tells which, and takes long without need
                path = self.places.get(path, path)
            yield functools.partial(read_file, f"{self.name}/{path}")


def _stamps(items: Sequence[os.DirEntry[str]]) -> list[tuple[int, int]]:
    """Size and time of each file, or (-1, -1) if they are unknown; reading the file then says why."""
    try:
        return [(found.st_size, found.st_mtime_ns) for found in [item.stat() for item in items]]
    except OSError:
        return [stamp for item in items for stamp in _stamps([item])] if len(items) > 1 else [(-1, -1)]


def walk(root: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every visible file below ``root``, with its path relative to ``root``. Symbolic links are followed.

    Raises:
        DataError: A folder cannot be read, or a symbolic link leads back to a folder above it.
    """
    for prefix, files in _files(root):
        for item in files:
            yield prefix + item.name, item


def _files(root: str) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """The visible files of each folder, some thousands at a time, with the path of the folder and a slash behind it."""
    pending = [(root, "", frozenset({_identity(root)}))]
    while pending:
        folder, prefix, above = pending.pop()
        below: list[os.DirEntry[str]] = []
        for items in _visible(folder):
            folders = frozenset(_folders(items))
            below += folders
            if len(folders) < len(items):
                yield prefix, [item for item in items if item not in folders] if folders else items
        for item in sorted(below, key=lambda item: item.name, reverse=True):
            here = _identity(item.path)
            if here in above:
                raise _loop(item.path)
            pending.append((item.path, f"{prefix}{item.name}/", above | {here}))


def _images(root: str) -> Iterator[FolderImages]:
    """The images of each folder, some thousands at a time."""
    for prefix, files in _files(root):
        images = [item for item in files if is_image(item.name)]
        sizes, times = zip(*_stamps(images), strict=True) if images else ((), ())
        yield FolderImages(prefix[:-1], [item.name for item in images], sizes, times, len(files) - len(images))


def _upper_folders(root: str) -> tuple[str, list[str]]:
    """The outer folders that say nothing about classes, and those below them that may be classes or splits.

    Of the former, each is alone on its level and has not the name of a split; it holds folders, and no image beside
    them. The latter are the next level and, if these are splits, the level below.
    """
    top, (tops, _) = "", _inside(root)
    while len(tops) == 1 and not splits_on_top(tops) and top.count("/") < MOST_OUTER:
        below, beside = _inside(f"{root}/{top}{tops[0]}")
        if beside or not below:
            break
        top, tops = f"{top}{tops[0]}/", below
    if not splits_on_top(tops):
        return top, tops
    return top, tops + [f"{name}/{item}" for name in tops for item in _inside(f"{root}/{top}{name}")[0]]


def _inside(path: str) -> tuple[list[str], bool]:
    """The folders in a folder, and whether there are images beside them."""
    names: list[str] = []
    has_images = False
    for items in _visible(path):
        folders = frozenset(_folders(items))
        names += [item.name for item in folders]
        has_images = has_images or any(is_image(item.name) and item not in folders for item in items)
    return names, has_images


def _visible(path: str) -> Iterator[list[os.DirEntry[str]]]:
    """What a folder holds, some thousands at a time; hidden files and folders are left out."""
    try:
        with os.scandir(path) as items:
            rest = iter(items)
            while some := list(itertools.islice(rest, CHUNK)):
                yield [item for item in some if not is_hidden(item.name)]
    except OSError as error:
        raise DataError(f"the folder {path!r} cannot be read: {reason_of(error)}") from error


def _folders(items: Sequence[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    try:
        return [item for item in items if item.is_dir()]
    except OSError as error:  # a symbolic link to itself
        raise _loop(str(error.filename)) from error


def _identity(path: str) -> tuple[int, int]:
    try:
        found = Path(path).stat()
    except OSError as error:
        raise DataError(f"the folder {path!r} cannot be read: {reason_of(error)}") from error
    return found.st_dev, found.st_ino


def _loop(path: str) -> DataError:
    return DataError(
        f"{path!r} is a symbolic link to a folder above it or to itself",
        "remove the link, because following it would never end",
    )


def holds_parquet(folder: str) -> bool:
    """Whether a folder holds Parquet files at any depth, but no image in a folder that would be a class.

    Raises:
        DataError: A folder cannot be read.
    """
    found = False
    for path, _ in walk(folder):
        if "/" in path and is_image(path):
            return False
        found = found or path.lower().endswith(".parquet")
    return found


def _has_images_on_top(name: str) -> bool:
    return Path(name).is_dir() and any(
        is_image(item.name) and not _folders([item]) for items in _visible(name) for item in items
    )


def _open(name: str, options: ReadingOptions) -> ImageFolder:
    return ImageFolder(name, labels_optional=options.labels_optional, label_depth=options.label_depth)


FOLDER = SourceKind(
    name="folder",
    recognises=lambda name: Path(name).is_dir() and not holds_parquet(name),
    open=_open,
    takes=("label_depth",),
    examples=("pets/",),
    summary="a folder with one folder of images per class",
    details="Splits may lie above the classes, as in `pets/train/cat/1.jpg`, and finer folders below them: "
    "`--label-depth` makes classes of these.",
)
FLAT_FOLDER = SourceKind(
    name="flat folder",
    recognises=_has_images_on_top,
    open=_open,
    takes=("label_depth",),
    examples=("new_photos/",),
    summary="a folder of images, at any depth",
)

"""Where labelled images come from: whatever a user may have, opened by its name.

A folder of class folders, a tar or zip archive of them, a manifest, Parquet files, the data sets that timm knows by
name, and the built-in digits. Each lists its images without decoding one, see
:class:`nctransfer.sources.source.ImageSource`.
"""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.errors import DataError
from nctransfer.sources.archives import TarArchive, ZipArchive, is_tar, is_zip
from nctransfer.sources.digits import Digits
from nctransfer.sources.folder import ImageFolder, walk
from nctransfer.sources.layout import is_image
from nctransfer.sources.manifest import MANIFESTS, Manifest
from nctransfer.sources.parquet import ParquetFiles, is_parquet
from nctransfer.sources.timm_reader import PREFIXES
from nctransfer.sources.timm_readers import open_reader, prefix_of

if TYPE_CHECKING:
    from nctransfer.sources.source import ImageSource

__all__ = ["ReadingOptions", "open_source"]

ARCHIVES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip")


@dataclass(frozen=True)
class ReadingOptions:
    """What a source cannot know by itself.

    Attributes:
        label_column: Column of the labels, of a manifest, Parquet files or a timm reader.
        image_column: Column of the images, of the same.
        image_root: The folder that the paths of a manifest are relative to, by default its own.
        class_names: Names of coded labels 0, 1, …
        split: Which split a timm reader opens.
        data_dir: Where timm's readers look for data, and download to.
        offline: Never ask a server.
    """

    label_column: str | None = None
    image_column: str | None = None
    image_root: Path | None = None
    class_names: tuple[str, ...] | None = None
    split: str | None = None
    data_dir: Path | None = None
    offline: bool = False


def open_source(data: str | os.PathLike[str], options: ReadingOptions = ReadingOptions()) -> ImageSource:
    """The images that ``data`` names.

    Args:
        data: ``"digits"``; a name of timm's, as ``hfds/cifar10``; a path, or a pattern of Parquet files.
        options: What the source cannot know by itself; what is of no use to it is an error.

    Raises:
        DataError: There is no such source.
    """
    name = os.fspath(data)
    if not name:
        raise DataError("the name of the data is empty", _hint())
    columns = ("label_column", "image_column", "class_names")
    try:
        if name == Digits.name:
            return _refuse(Digits(), options)
        path = Path(name)
        if not path.exists() and prefix_of(name):
            return _reader(name, options)
        if path.is_dir() and not _is_folder_of_parquet(name):
            return _refuse(ImageFolder(data), options)
        if path.is_dir() or _is_pattern_of_parquet(name) or (path.is_file() and is_parquet(path)):
            found = ParquetFiles(name, options.image_column, options.label_column, options.class_names)
            return _refuse(found, options, *columns)
        if path.is_file():
            return _file(path, options, columns)
        raise DataError(f"{name!r} is {'no file or folder' if path.exists() else 'not there'}", _hint())
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError):  # a null character
            raise DataError(f"{name!r} is not there", _hint()) from error
        raise DataError(f"{name!r} cannot be read: {error.strerror}", _hint()) from error


def _file(path: Path, options: ReadingOptions, columns: tuple[str, ...]) -> ImageSource:
    name = str(path)
    with path.open("rb"):  # the questions below take what cannot be read for something else
        pass
    if is_tar(path):
        return _refuse(TarArchive(path), options)
    if is_zip(path):
        return _refuse(ZipArchive(path), options)
    if name.lower().endswith(ARCHIVES):
        raise DataError(f"{name!r} is no whole archive, in spite of its name", "it may be truncated: fetch it again")
    if path.suffix.lower() in MANIFESTS:
        found = Manifest(path, options.image_column, options.label_column, options.image_root, options.class_names)
        return _refuse(found, options, *columns, "image_root")
    raise DataError(f"{name!r} is no folder, archive, manifest or Parquet file", _hint())


def _reader(name: str, options: ReadingOptions) -> ImageSource:
    found = open_reader(
        name,
        split=options.split,
        data_dir=options.data_dir,
        image_column=options.image_column,
        label_column=options.label_column,
        class_names=options.class_names,
        offline=options.offline,
    )
    columns = () if prefix_of(name) == "torch" else ("label_column", "image_column")
    return _refuse(found, options, *columns, "class_names", "data_dir")


def _refuse(source: ImageSource, options: ReadingOptions, *used: str) -> ImageSource:
    """The source, if every option that was given is of use to it."""
    for option in ("label_column", "image_column", "image_root", "class_names", "data_dir"):
        if option not in used and getattr(options, option) is not None:
            flag = f"--{option.replace('_', '-')}"
            raise DataError(f"{source.name!r} ({source.kind}) has no use for {flag}", f"leave out {flag}")
    return source


def _is_pattern_of_parquet(name: str) -> bool:
    return glob.has_magic(name) and name.lower().endswith(".parquet") and not Path(name).exists()


def _is_folder_of_parquet(name: str) -> bool:
    """Whether a folder holds Parquet files, and no image in a folder that would be a class."""
    found = False
    for path, _ in walk(name):
        if "/" in path and is_image(path):
            return False
        found = found or path.lower().endswith(".parquet")
    return found


def _hint() -> str:
    return (
        "give a folder that holds one folder of images a class, an archive of such (tar, zip), a manifest "
        f"({', '.join(MANIFESTS)}), Parquet files, a name of timm's ({', '.join(f'{p}/…' for p in PREFIXES)}), "
        "or 'digits', the built-in data"
    )

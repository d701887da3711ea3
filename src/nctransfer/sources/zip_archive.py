"""Zip archives whose members lie in one folder per class."""

from __future__ import annotations

import errno
import functools
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.errors import DataError, reason_of
from nctransfer.sources.archive import Archive, Members, is_readable_file, is_zip, not_whole
from nctransfer.sources.contents import check_size
from nctransfer.sources.source_kind import SourceKind

if TYPE_CHECKING:
    from nctransfer.sources.source import ImageEntry
    from nctransfer.sources.source_kind import ReadingOptions

__all__ = ["ZIP", "ZipArchive"]

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile cannot limit how much the other methods unpack


class ZipArchive(Archive):
    """A zip archive. The place of an image is the number of its entry in the archive's directory."""

    kind = "zip archive"

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        """See :meth:`ImageSource.contents`."""
        for place in self.places.of(entries):
            yield functools.partial(self._content, self._zip.filelist[place])

    def _members(self) -> tuple[Members, *tuple[str, ...]]:
        members, directory = Members(), self._zip.filelist
        for place in sorted(range(len(directory)), key=lambda place: directory[place].header_offset):
            info = directory[place]
            if info.flag_bits & 1:
                raise DataError(
                    f"the archive {self.name!r} is encrypted: {info.filename!r}", "unpack it, and give the folder"
                )
            mode = stat.S_IFMT(info.external_attr >> 16)
            members.add(
                info.filename.replace("\\", "/"),  # some Windows tools write backslashes, which the format forbids
                is_folder=info.is_dir(),
                is_file=not info.is_dir() and mode in (0, stat.S_IFREG),
                size=info.file_size,
                place=place,
            )
        return (members,)

    @functools.cached_property
    def _zip(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self._path)

    def _content(self, info: zipfile.ZipInfo) -> bytes:
        check_size(info.file_size)
        if info.compress_type not in METHODS:
            raise OSError(errno.ENOTSUP, "nctransfer reads only stored and deflated members of a zip archive")
        try:
            with self._zip.open(info) as file:
                content = file.read(info.file_size)  # limited, because the declared size may be wrong on purpose
        except Exception as error:  # a damaged archive may make the library raise anything
            raise OSError(errno.EIO, reason_of(error)) from error
        if len(content) < info.file_size:
            raise OSError(errno.EIO, "the archive ends before the end of the image")
        return content


def _recognises(name: str) -> bool:
    path = Path(name)
    return is_readable_file(path) and (is_zip(path) or name.lower().endswith(".zip"))


def _open(name: str, options: ReadingOptions) -> ZipArchive:
    path = Path(name)
    if not is_zip(path):
        raise not_whole(path)
    return ZipArchive(path, labels_optional=options.labels_optional, label_depth=options.label_depth)


ZIP = SourceKind(
    name="zip",
    recognises=_recognises,
    open=_open,
    takes=("label_depth",),
    examples=("pets.zip",),
    summary="a zip archive of class folders",
    details="It is read without unpacking it to disk.",
)

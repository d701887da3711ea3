"""Tar and zip archives of class folders, read where they lie: nothing is unpacked."""

from __future__ import annotations

import contextlib
import errno
import functools
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from nctransfer.errors import DataError, counted
from nctransfer.sources.contents import check_size, failing, given
from nctransfer.sources.layout import arrange, common_top, is_hidden
from nctransfer.sources.source import ImageSource, source_id

if TYPE_CHECKING:
    from nctransfer.sources.source import ImageEntry

__all__ = ["TarArchive", "ZipArchive", "is_tar", "is_zip"]

COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstandard
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError)
LONG_HEADERS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
MAX_HEADER = 2**20  # bytes: tarfile reads them as a whole
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile gives the others no bound on what they unpack to
Where = TypeVar("Where")


class _Members(Generic[Where]):
    """What an archive holds, as far as it is safe and visible: path to size and place, in the archive's order."""

    def __init__(self) -> None:
        self.folders: set[str] = set()
        self.files: dict[str, tuple[int, Where]] = {}
        self._outside = self._special = self._again = 0

    def add(self, name: str, is_folder: bool, is_file: bool, size: int, where: Where) -> None:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or re.match("[A-Za-z]:/", name):
            self._outside += 1
        elif any(map(is_hidden, parts)):
            return
        elif not (is_folder or is_file):
            self._special += 1
        else:
            path = "/".join(parts)
            if is_file:
                self._again += self.files.pop(path, None) is not None  # the last counts, and in its own place
                self.files[path] = (size, where)
            self._add_folder(path if is_folder else path.rpartition("/")[0])

    def _add_folder(self, path: str) -> None:
        while path and path not in self.folders:
            self.folders.add(path)
            path = path.rpartition("/")[0]

    def notes(self) -> Iterator[str]:
        if self._special:
            yield f"{counted(self._special, 'link or special file', 'links and special files')} left out"
        if self._outside:
            yield f"{counted(self._outside, 'member')} with an absolute path or '..' left out"
        if self._again:
            yield f"{counted(self._again, 'member')} left out for a later one of the same name"


class _Archive(ImageSource, Generic[Where]):
    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.name = os.fspath(path)
        self.id = source_id(path)
        self._path = Path(path)
        self._places: dict[str, Where] = {}

    def list(self) -> list[ImageEntry]:
        """See :meth:`ImageSource.list`; in the order of the archive."""
        try:
            mtime_ns = self._path.stat().st_mtime_ns
            members, *notes = self._scan()
        except DAMAGE as error:
            raise DataError(
                f"the archive {self.name!r} cannot be read: {_why(error)}", "it may be truncated: fetch it again"
            ) from error
        top = common_top(members.folders)
        arranged = arrange(
            f"the archive {self.name!r}",
            {folder[len(top) :] for folder in members.folders if folder.startswith(top)},
            ((path, size, mtime_ns) for path, (size, _) in members.files.items()),
            top,
            "archive",
        )
        self._places = {
            entry.id: members.files[arranged.renamed.get(entry.id, entry.id)][1] for entry in arranged.entries
        }
        self.notes = (*arranged.notes, *members.notes(), *notes)
        return arranged.entries

    @abstractmethod
    def _scan(self) -> tuple[_Members[Where], *tuple[str, ...]]:
        """What is in the archive, and notes."""

    def _place(self, entry: ImageEntry) -> Where:
        if not self._places:
            self.list()
        return self._places[entry.id]


class TarArchive(_Archive[int]):
    """A tar archive, compressed or not, whose members lie in one folder a class."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._is_compressed = _begins_with(self._path, COMPRESSED)
        self.kind = "compressed tar archive" if self._is_compressed else "tar archive"

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        """See :meth:`ImageSource.contents`: a compressed archive is unpacked by the iterator, once."""
        if self._is_compressed:
            yield from self._in_passing(entries)
        else:
            for entry in entries:
                yield functools.partial(self._at, self._place(entry), entry.size)

    def _scan(self) -> tuple[_Members[int], *tuple[str, ...]]:
        members: _Members[int] = _Members()
        with self._open() as tar:
            for member in _each(tar):
                is_file = member.isreg() and not member.issparse()
                members.add(member.name, member.isdir(), is_file, member.size, member.offset_data)
            assert tar.fileobj is not None
            is_cut = tar.fileobj.tell() <= tar.offset  # an end mark would have been read
        return (members, "the archive has no end mark: it may be truncated") if is_cut else (members,)

    def _open(self) -> tarfile.TarFile:
        return tarfile.open(self._path, tarinfo=_Header)

    def _at(self, offset: int, size: int) -> bytes:
        check_size(size)
        with self._path.open("rb", buffering=0) as file:
            file.seek(offset)
            content = file.read(size)
        if len(content) < size:
            raise OSError(errno.EIO, "the archive ends before it")
        return content

    def _in_passing(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        stream, position, reason = self._stream(), 0, "it is no longer in the archive"
        with contextlib.ExitStack() as stack:
            for entry in entries:
                place = self._place(entry)
                if place <= position:  # not in order: once more from the front
                    stream.close()
                    stream = self._stream()
                stack.callback(stream.close)
                position = place
                try:
                    content = next((read() for offset, read in stream if offset == place), None)
                except DAMAGE as error:
                    reason, content = _why(error), None
                yield failing(reason) if content is None else given(content)

    def _stream(self) -> Generator[tuple[int, Callable[[], bytes]], None, None]:
        with self._open() as tar:
            for member in _each(tar):
                yield member.offset_data, functools.partial(_extract, tar, member)


class ZipArchive(_Archive[zipfile.ZipInfo]):
    """A zip archive whose members lie in one folder a class."""

    kind = "zip archive"

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        """See :meth:`ImageSource.contents`."""
        for entry in entries:
            yield functools.partial(self._content, self._place(entry))

    def _scan(self) -> tuple[_Members[zipfile.ZipInfo], *tuple[str, ...]]:
        members: _Members[zipfile.ZipInfo] = _Members()
        for info in self._zip.infolist():
            if info.flag_bits & 1:
                raise DataError(
                    f"the archive {self.name!r} is encrypted: {info.filename!r}", "unpack it, and name the folder"
                )
            mode = stat.S_IFMT(info.external_attr >> 16)
            is_file = not info.is_dir() and mode in (0, stat.S_IFREG)
            # some tools of Windows write backslashes, which the format forbids
            members.add(info.filename.replace("\\", "/"), info.is_dir(), is_file, info.file_size, info)
        members.files = dict(sorted(members.files.items(), key=lambda item: item[1][1].header_offset))
        return (members,)

    @functools.cached_property
    def _zip(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self._path)

    def _content(self, info: zipfile.ZipInfo) -> bytes:
        check_size(info.file_size)
        if info.compress_type not in METHODS:
            raise OSError(errno.ENOTSUP, "only stored and deflated members of a zip archive are read")
        try:
            with self._zip.open(info) as file:
                content = file.read(info.file_size)  # the bound: the size that is declared may be a lie
        except (*DAMAGE, RuntimeError, NotImplementedError) as error:
            raise OSError(errno.EIO, _why(error)) from error
        if len(content) < info.file_size:
            raise OSError(errno.EIO, "the archive ends before it")
        return content


def is_tar(path: Path) -> bool:
    """Whether a file is a tar archive, compressed or not, by its content."""
    try:
        return tarfile.is_tarfile(path)
    except DAMAGE:
        return False


def is_zip(path: Path) -> bool:
    """Whether a file is a zip archive, by its content."""
    return zipfile.is_zipfile(path)


class _Header(tarfile.TarInfo):
    """A header that is whole, and bounded: tarfile takes a damaged one for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if any(buf):  # else it is the end
                raise tarfile.ReadError(str(error)) from error
            raise
        if header.type in LONG_HEADERS and header.size > MAX_HEADER:
            raise tarfile.ReadError(f"a header of {header.size:,} bytes")
        return header


def _each(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members one after the other, none kept."""
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]
        yield member


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    check_size(member.size)
    file = tar.extractfile(member)
    assert file is not None  # a regular file
    return file.read()


def _begins_with(path: Path, marks: tuple[bytes, ...]) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(8).startswith(marks)
    except OSError:  # listing it will say so
        return False


def _why(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or str(error) or type(error).__name__

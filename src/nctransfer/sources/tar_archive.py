"""Tar archives, compressed or not, whose members lie in one folder per class."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import tarfile
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from nctransfer.errors import reason_of
from nctransfer.sources.archive import Archive, Members, is_readable_file, is_zip, not_whole
from nctransfer.sources.contents import check_size, raising, returning
from nctransfer.sources.source_kind import SourceKind

if TYPE_CHECKING:
    from nctransfer.sources.label_depth import LabelDepth
    from nctransfer.sources.source import ImageEntry
    from nctransfer.sources.source_kind import ReadingOptions

__all__ = ["TAR", "TarArchive"]

SUFFIXES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstandard
LONG_HEADERS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
MAX_HEADER = 2**20  # bytes; tarfile reads a header of these types into memory at once


class TarArchive(Archive):
    """A tar archive, compressed or not. The place of an image is the offset of its bytes before compression."""

    def __init__(
        self, path: str | os.PathLike[str], *, labels_optional: bool = False, label_depth: LabelDepth | None = None
    ) -> None:
        super().__init__(path, labels_optional=labels_optional, label_depth=label_depth)
        self._is_compressed = _begins_with(self._path, COMPRESSED)
        self.kind = "compressed tar archive" if self._is_compressed else "tar archive"

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        """See :meth:`ImageSource.contents`: a compressed archive is decompressed once, while the iterator advances."""
        places = self.places.of(entries)
        if self._is_compressed:
            yield from self._in_one_pass(places)
        else:
            for entry, place in zip(entries, places, strict=True):
                yield functools.partial(self._at, place, entry.size)

    def _members(self) -> tuple[Members, *tuple[str, ...]]:
        members = Members()
        with self._open() as tar:
            for member in _each(tar):
                is_file = member.isreg() and not member.issparse()
                members.add(
                    member.name,
                    is_folder=member.isdir(),
                    is_file=is_file,
                    size=member.size,
                    place=member.offset_data,
                )
            assert tar.fileobj is not None
            is_cut = tar.fileobj.tell() <= tar.offset  # an end mark would have been read
        return (members, "the archive has no end mark, so it may be truncated") if is_cut else (members,)

    def _open(self) -> tarfile.TarFile:
        return tarfile.open(self._path, tarinfo=_Header)

    def _at(self, offset: int, size: int) -> bytes:
        check_size(size)
        with self._path.open("rb", buffering=0) as file:
            file.seek(offset)
            content = file.read(size)
        if len(content) < size:
            raise OSError(errno.EIO, "the archive ends before the end of the image")
        return content

    def _in_one_pass(self, places: Sequence[int]) -> Iterator[Callable[[], bytes]]:
        stream, position, reason = self._stream(), 0, "it is no longer in the archive"
        with contextlib.ExitStack() as stack:
            for place in places:
                if place <= position:  # images were asked for in another order: start again at the front
                    stream.close()
                    stream = self._stream()
                stack.callback(stream.close)
                position = place
                try:
                    content = next((read() for offset, read in stream if offset == place), None)
                except Exception as error:  # a damaged archive may make the library raise anything
                    reason, content = reason_of(error), None
                yield raising(reason) if content is None else returning(content)

    def _stream(self) -> Generator[tuple[int, Callable[[], bytes]], None, None]:
        with self._open() as tar:
            for member in _each(tar):
                yield member.offset_data, functools.partial(_extract, tar, member)


class _Header(tarfile.TarInfo):
    """A header that is complete and of limited size. For tarfile, a damaged header is the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if any(buf):  # a header of zeros is the real end
                raise tarfile.ReadError(str(error)) from error
            raise
        if header.type in LONG_HEADERS and header.size > MAX_HEADER:
            raise tarfile.ReadError(f"a header of {header.size:,} bytes")
        return header


def _each(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members one after the other, without keeping them in memory."""
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]
        yield member


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    check_size(member.size)
    file = tar.extractfile(member)
    assert file is not None  # it is a regular file
    return file.read()


def _begins_with(path: Path, marks: tuple[bytes, ...]) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(8).startswith(marks)
    except OSError:  # listing the archive will raise it again
        return False


def _is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except Exception:  # as above
        return False


def _recognises(name: str) -> bool:
    path = Path(name)
    if not is_readable_file(path):
        return False
    return _is_tar(path) or (name.lower().endswith(SUFFIXES) and not is_zip(path))


def _open(name: str, options: ReadingOptions) -> TarArchive:
    path = Path(name)
    if not _is_tar(path):
        raise not_whole(path)
    return TarArchive(path, labels_optional=options.labels_optional, label_depth=options.label_depth)


TAR = SourceKind(
    name="tar",
    recognises=_recognises,
    open=_open,
    takes=("label_depth",),
    examples=("pets.tar", "pets.tar.gz"),
    summary="a tar archive of class folders",
    details="It may be compressed (gzip, bzip2, xz). It is read without unpacking it to disk.",
)

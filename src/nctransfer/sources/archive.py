"""What tar and zip archives have in common: which members are images, and which are unsafe or hidden."""

from __future__ import annotations

import lzma
import os
import re
import tarfile
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

from nctransfer.errors import DataError, counted, reason_of
from nctransfer.sources.layout import arrange, common_top, is_hidden
from nctransfer.sources.source import ListedSource, Listing, source_id

__all__ = ["DAMAGE", "Archive", "Members", "is_readable_file", "not_whole"]

DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError)
"""What reading a damaged archive may raise."""
Place = TypeVar("Place")


class Members(Generic[Place]):
    """The visible and safe members of an archive.

    Attributes:
        folders: The paths of all folders, also of those that only appear in the path of a file.
        files: The size and the place of each file, by its path and in the order of the archive.
    """

    def __init__(self) -> None:
        self.folders: set[str] = set()
        self.files: dict[str, tuple[int, Place]] = {}
        self._outside = self._special = self._again = 0

    def add(self, name: str, *, is_folder: bool, is_file: bool, size: int, place: Place) -> None:
        """Take one member, unless it is hidden, a link or a special file, or would lie outside the archive."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or re.match("[A-Za-z]:/", name):
            self._outside += 1
        elif any(map(is_hidden, parts)):
            return
        elif size < 0:
            raise ValueError(f"a member of {size} bytes")
        elif not (is_folder or is_file):
            self._special += 1
        else:
            path = "/".join(parts)
            if is_file:
                # If a name occurs twice, the later member counts, and stands where it lies in the archive.
                self._again += self.files.pop(path, None) is not None
                self.files[path] = (size, place)
            self._add_folder(path if is_folder else path.rpartition("/")[0])

    def _add_folder(self, path: str) -> None:
        while path and path not in self.folders:
            self.folders.add(path)
            path = path.rpartition("/")[0]

    def notes(self) -> Iterator[str]:
        """What was left out, in sentences for the user."""
        if self._special:
            yield f"left out {counted(self._special, 'link or special file', 'links and special files')}"
        if self._outside:
            yield f"left out {counted(self._outside, 'member')} with an absolute path or '..' in the path"
        if self._again:
            yield f"left out {counted(self._again, 'member')} because a later one has the same name"


class Archive(ListedSource[Place]):
    """An archive whose members lie in one folder per class. It is read without unpacking it to disk.

    Args:
        path: The archive.
        labels_optional: Whether images outside the class folders are listed too.
    """

    def __init__(self, path: str | os.PathLike[str], *, labels_optional: bool = False) -> None:
        self.name = os.fspath(path)
        self.id = source_id(path)
        self._path = Path(path)
        self._labels_optional = labels_optional

    def scan(self) -> Listing[Place]:
        """See :meth:`ListedSource.scan`; the images are in the order of the archive."""
        try:
            mtime_ns = self._path.stat().st_mtime_ns
            members, *notes = self._members()
        except DataError:
            raise
        except Exception as error:  # a damaged archive may make the libraries raise anything
            raise DataError(
                f"the archive {self.name!r} cannot be read: {reason_of(error)}",
                "it may be truncated: download or copy it again",
            ) from error
        top = common_top(members.folders)
        arranged = arrange(
            f"the archive {self.name!r}",
            {folder[len(top) :] for folder in members.folders if folder.startswith(top)},
            ((path, size, mtime_ns) for path, (size, _) in members.files.items()),
            top,
            "archive",
            labels_optional=self._labels_optional,
        )
        places = {entry.id: members.files[arranged.renamed.get(entry.id, entry.id)][1] for entry in arranged.entries}
        return Listing(arranged.entries, (*arranged.notes, *members.notes(), *notes), places)

    @abstractmethod
    def _members(self) -> tuple[Members[Place], *tuple[str, ...]]:
        """The members of the archive, and further notes for the user."""


def is_readable_file(path: Path) -> bool:
    """Whether there is a file at ``path``.

    Raises:
        OSError: It cannot be read. The tests of ``tarfile`` and ``zipfile`` would only say that it is no archive.
    """
    if not path.is_file():
        return False
    with path.open("rb"):
        return True


def not_whole(path: Path) -> DataError:
    """The error for a file that has the name of an archive, and is none."""
    return DataError(
        f"{str(path)!r} is not a complete archive, in spite of its name",
        "it may be truncated: download or copy it again",
    )

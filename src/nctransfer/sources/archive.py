"""What tar and zip archives have in common: which members are images, and which are unsafe or hidden."""

from __future__ import annotations

import itertools
import operator
import os
import re
import zipfile
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.errors import DataError, counted, reason_of
from nctransfer.sources.arrow_arrays import values_of
from nctransfer.sources.image_table import CHUNK, ImageTable, TableBuilder
from nctransfer.sources.layout import FolderImages, arrange, as_unicode, common_top, is_hidden, is_image
from nctransfer.sources.source import ListedSource, Listing, source_id

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from nctransfer.sources.label_depth import LabelDepth
    from nctransfer.sources.source import ImageEntry

__all__ = ["Archive", "Members", "Places", "is_readable_file", "is_zip", "not_whole"]

LARGEST = 2**63 - 1  # a tar archive can claim more bytes


class Members:
    """The visible and safe members of an archive.

    A file is kept as bytes and numbers, and not as an object of Python, because an archive may have millions.

    Attributes:
        folders: The paths of all folders, also of those that only appear in the path of a file.
    """

    def __init__(self) -> None:
        self.folders: set[str] = set()
        self._files = TableBuilder()
        self._waiting: list[tuple[str, str, str, int, int]] = []
        self._outside = self._special = self._again = 0

    def add(self, name: str, *, is_folder: bool, is_file: bool, size: int, place: int) -> None:
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
            path = as_unicode("/".join(parts))
            folder = path if is_folder else path.rpartition("/")[0]
            self._add_folder(folder)
            if is_file:
                self._waiting.append((path, folder, "", min(size, LARGEST), place))
                if len(self._waiting) == CHUNK:
                    self._store()

    def files(self) -> ImageTable:
        """Each file, in the order of the archive: its path, its folder as the label, and its place as the time.

        If a path occurs twice, the later file counts, and stands where it lies in the archive.
        """
        import numpy as np

        self._store()
        files = self._files.table()
        if files.sorted().repeated_id() is None:
            return files
        rows = {file.id: row for row, file in enumerate(files)}
        self._again = len(files) - len(rows)
        return files.take(np.sort(np.fromiter(rows.values(), np.int64, len(rows))))

    def _store(self) -> None:
        if self._waiting:
            self._files.add(*zip(*self._waiting, strict=True))
            self._waiting.clear()

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


@dataclass(frozen=True, eq=False)
class Places:
    """Where the images of an archive lie.

    Attributes:
        ids: Their ids.
        numbers: A number for each, whose meaning the archive knows, ``(n,)``.
    """

    ids: pa.LargeStringArray
    numbers: NDArray[np.int64]

    def of(self, entries: Sequence[ImageEntry]) -> list[int]:
        """The numbers of some images.

        Raises:
            KeyError: An image is not in the archive.
        """
        from pyarrow import compute

        ids = ImageTable.of(entries).ids
        rows = compute.index_in(ids, value_set=self.ids)
        if rows.null_count:
            raise KeyError(next(id_ for id_, row in zip(ids.to_pylist(), rows.to_pylist(), strict=True) if row is None))
        return self.numbers[values_of(rows)].tolist() if len(rows) else []


class Archive(ListedSource[Places]):
    """An archive whose members lie in one folder per class. It is read without unpacking it to disk.

    Args:
        path: The archive.
        labels_optional: Whether images outside the class folders are listed too.
        label_depth: How many folders make a class; see :mod:`nctransfer.sources.layout`. The id does not depend on it.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, labels_optional: bool = False, label_depth: LabelDepth | None = None
    ) -> None:
        self.name = os.fspath(path)
        self.id = source_id(path)
        self._path = Path(path)
        self._labels_optional = labels_optional
        self._label_depth = label_depth

    def scan(self) -> Listing[Places]:
        """See :meth:`ListedSource.scan`; the images are in the order in which they lie in the archive."""
        import numpy as np

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
        files = members.files()
        arranged = arrange(
            f"the archive {self.name!r}",
            {folder[len(top) :] for folder in members.folders if folder.startswith(top)},
            _by_folder(files),
            top,
            "archive",
            labels_optional=self._labels_optional,
            label_depth=self._label_depth,
        )
        found = arranged.entries
        times = np.full(len(found), mtime_ns, np.int64)
        entries = ImageTable.from_columns(found.ids, found.labels, found.splits, found.sizes, times)
        entries = entries.with_attributes(found.attributes)
        return Listing(entries, (*arranged.notes, *members.notes(), *notes), Places(found.ids, found.times))

    @abstractmethod
    def _members(self) -> tuple[Members, *tuple[str, ...]]:
        """The members of the archive in the order in which they lie in it, and further notes for the user."""


def _by_folder(files: ImageTable) -> Iterator[FolderImages]:
    """The images among files, of one folder after the other, with their places as times; see :meth:`Members.files`."""
    for folder, run in itertools.groupby(files, key=operator.attrgetter("label")):
        start = len(folder) + 1 if folder else 0
        while some := list(itertools.islice(run, CHUNK)):
            images = [file for file in some if is_image(file.id)]
            names = [file.id[start:] for file in images]
            sizes, places = [file.size for file in images], [file.mtime_ns for file in images]
            yield FolderImages(folder, names, sizes, places, len(some) - len(images))


def is_readable_file(path: Path) -> bool:
    """Whether there is a file at ``path``.

    Raises:
        OSError: It cannot be read. The tests of ``tarfile`` and ``zipfile`` would only say that it is no archive.
    """
    if not path.is_file():
        return False
    with path.open("rb"):
        return True


def is_zip(path: Path) -> bool:
    """Whether a file is a zip archive, whole or not."""
    try:
        return zipfile.is_zipfile(path)
    except Exception:  # a damaged archive may make the library raise anything
        return False


def not_whole(path: Path) -> DataError:
    """The error for a file that has the name of an archive, and is none."""
    return DataError(
        f"{str(path)!r} is not a complete archive, in spite of its name",
        "it may be truncated: download or copy it again",
    )

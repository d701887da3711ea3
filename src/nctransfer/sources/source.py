"""A source of labelled images: what it lists, and how an image in it is known."""

from __future__ import annotations

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["ImageEntry", "ImageSource", "content_digest", "safe_name", "source_id"]


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
        kind: What it is, in words: "folder of class folders", "tar archive" …
        name: What the user called it.
        id: A name that is safe as a folder name and differs between different sources.
        notes: What the reader should know about the listing, filled by :meth:`list`.
    """

    kind: str
    name: str
    id: str
    notes: tuple[str, ...] = ()

    @abstractmethod
    def list(self) -> list[ImageEntry]:
        """All images, in the order in which reading them is fastest.

        Raises:
            DataError: There is no image, or no class.
        """

    @abstractmethod
    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        """For each entry a function that gives its encoded bytes, and raises OSError where it cannot.

        A source that is read piece by piece (a compressed archive, Parquet) reads in the iterator, others in the
        functions. So the iterator belongs to one thread, and the functions may be called in any, soon after.

        Args:
            entries: Some of those of :meth:`list`, in its order.
        """

    def read(self, entry: ImageEntry) -> bytes:
        """The encoded bytes of one image; for many, :meth:`contents` is faster.

        Raises:
            OSError: It cannot be read.
        """
        return next(self.contents([entry]))()


def content_digest(content: bytes) -> str:
    """The digest by which an image is known, whatever its name: BLAKE2b, 128 bits, in hex."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def safe_name(name: str) -> str:
    """A name as part of a file name: letters, digits, ``.``, ``_``, ``-``; never hidden, never long."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip(".")[:64] or "_"


def source_id(path: str | os.PathLike[str], *choices: str) -> str:
    """The id of a source at ``path``, the same by whatever link or detour; ``choices`` tell views of it apart."""
    resolved = Path(path).resolve()
    named = b"\0".join(os.fsencode(part) for part in (str(resolved), *choices))
    return f"{safe_name(resolved.name or 'root')}-{hashlib.blake2b(named, digest_size=4).hexdigest()}"

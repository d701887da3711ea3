"""A source of labelled images: it lists them without reading any, and gives their bytes.

Every image is bytes until :func:`nctransfer.sources.decoding.decode` makes pixels of it, so a digest of the bytes
identifies it.
"""

from __future__ import annotations

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from nctransfer.sources.image_table import ImageTable
    from nctransfer.sources.source_kind import ReadingOptions

__all__ = [
    "ImageEntry",
    "ImageSource",
    "ListedSource",
    "Listing",
    "content_digest",
    "digest_number",
    "digest_numbers",
    "safe_name",
    "source_id",
]

Places = TypeVar("Places")


class ImageEntry(NamedTuple):
    """One labelled image of a source, not yet read.

    Attributes:
        id: What identifies the image within its source, for example its path in a folder.
        label: The name of its class.
        split: The name of its split, or "" if the source has no splits.
        size: Its size in bytes. While size and time stay the same, a known digest of the image stays valid.
        mtime_ns: When it was last changed, in nanoseconds.
    """

    id: str
    label: str
    split: str
    size: int
    mtime_ns: int


class ImageSource(ABC):
    """A named collection of labelled images.

    Attributes:
        kind: What it is, in words, for example "folder of class folders" or "tar archive".
        name: The name that the user gave.
        id: An identifier that differs between sources and can be the name of a folder.
        notes: What :meth:`list` left out, in sentences for the user.
        opened_as: The name and the options by which :func:`~nctransfer.sources.opening.open_source` opened it, so that
            another process can open it too; ``None`` if it was made otherwise.
    """

    kind: str
    name: str
    id: str
    notes: tuple[str, ...] = ()
    opened_as: tuple[str, ReadingOptions] | None = None

    @abstractmethod
    def list(self) -> Sequence[ImageEntry]:
        """All images, in the order in which reading them is fastest.

        The sources of this package return an :class:`~nctransfer.sources.image_table.ImageTable`, which takes little
        memory. A source of another package may return a list.

        Raises:
            DataError: The source has no images or no classes, or cannot be read.
        """

    @abstractmethod
    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        """For each entry, a function that returns its encoded bytes, or raises OSError if it cannot be read.

        Sources that must be read in order (compressed archives, Parquet files) read while the iterator advances;
        others read when the function is called. So only one thread may advance the iterator, but any thread may
        call the functions. They should be called soon, because they may hold the image in memory.

        Args:
            entries: Some of the entries that :meth:`list` returned, in the same order.
        """

    def read(self, entry: ImageEntry) -> bytes:
        """The encoded bytes of one image. For many images, :meth:`contents` is faster.

        Raises:
            OSError: It cannot be read.
        """
        return next(self.contents([entry]))()


class Listing(NamedTuple, Generic[Places]):
    """What a source finds when it lists its images.

    Attributes:
        entries: The images.
        notes: What was left out, in sentences for the user.
        places: What reading an image needs besides its entry, in a form that the source chooses.
    """

    entries: ImageTable
    notes: tuple[str, ...]
    places: Places


class ListedSource(ImageSource, Generic[Places]):
    """A source whose listing finds out where each image can be read.

    Reading works without a listing too, for example when the entries were listed by another object: the source then
    lists its images itself when it first needs a place.
    """

    _places: Places | None = None

    def list(self) -> ImageTable:
        """See :meth:`ImageSource.list`."""
        listing = self.scan()
        self.notes, self._places = listing.notes, listing.places
        return listing.entries

    @abstractmethod
    def scan(self) -> Listing[Places]:
        """List the images, and find out where each can be read.

        Raises:
            DataError: The source has no images or no classes, or cannot be read.
        """

    @property
    def places(self) -> Places:
        """The places that the latest listing found."""
        if self._places is None:
            self.list()
        assert self._places is not None
        return self._places


def content_digest(content: bytes) -> str:
    """The digest that identifies an image by its bytes: BLAKE2b with 128 bits, in hexadecimal."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def digest_number(digest: str) -> int:
    """A digest of an image in 64 bits, as sets of features hold it."""
    return int.from_bytes(hashlib.blake2b(digest.encode(), digest_size=8).digest(), signed=True)


def digest_numbers(digests: pa.Array) -> NDArray[np.int64]:
    """The :func:`digest_number` of each digest, ``(n,)``."""
    import numpy as np
    import pyarrow as pa

    numbers = np.empty(len(digests), ">i8")
    for start in range(0, len(digests), 2**14):
        texts = digests[start : start + 2**14].cast(pa.binary()).to_pylist()
        found = b"".join([hashlib.blake2b(text, digest_size=8).digest() for text in texts])
        numbers[start : start + len(texts)] = np.frombuffer(found, ">i8")
    return numbers.astype(np.int64)


def safe_name(name: str) -> str:
    """A name as part of a file name: at most 64 letters, digits, ``.``, ``_`` and ``-``, without a dot at either end.

    >>> safe_name("my pets/2024"), safe_name(".hidden")
    ('my_pets_2024', 'hidden')
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip(".")[:64] or "_"


def source_id(path: str | os.PathLike[str], *choices: str) -> str:
    """The id of a source at ``path``; links and relative paths to the same place give the same id.

    Args:
        path: Where the source lies.
        choices: What else decides which images the source holds, for example the column that names them.
    """
    resolved = Path(path).resolve()
    named = b"\0".join(os.fsencode(part) for part in (str(resolved), *choices))
    return f"{safe_name(resolved.name or 'root')}-{hashlib.blake2b(named, digest_size=4).hexdigest()}"

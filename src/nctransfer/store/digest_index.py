"""The digests of all images of a stored set, in one file: which images are stored is known without opening a part.

Every digest is 32 hexadecimal digits, and the digests of one part follow each other, in the order of its rows. The
manifest says where those of each part begin, and holds a checksum of them.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.store.atomic_files import sync_folder, writing_errors

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["WIDTH", "append_digests", "checksum_of", "read_digests"]

WIDTH = 32


def checksum_of(digests: bytes | memoryview) -> str:
    """The checksum of the digests of one part."""
    return hashlib.blake2b(digests, digest_size=8).hexdigest()


def append_digests(path: Path, digests: Sequence[str], start: int) -> str:
    """Write the digests of one part; returns their checksum. Only one process at a time may do this.

    Args:
        path: The index; it need not exist.
        digests: The digests.
        start: Where they begin, in rows. What follows there is overwritten: a killed process left it.

    Raises:
        StoreError: They cannot be written.
    """
    content = "".join(digests).encode()
    assert len(content) == WIDTH * len(digests), "a digest has 32 digits"
    is_new = not path.exists()
    with writing_errors(path), path.open("xb" if is_new else "r+b") as file:
        file.seek(WIDTH * start)
        file.write(content)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync_folder(path.parent)
    return checksum_of(content)


def read_digests(path: Path, slices: Sequence[tuple[int, int, str]]) -> pa.StringArray:
    """The digests of some parts, one after the other.

    Args:
        path: The index.
        slices: For each part, where its digests begin, how many they are, and their checksum.

    Raises:
        OSError: The file cannot be read.
        ValueError: Some digests are not as they were written.
    """
    import numpy as np
    import pyarrow as pa

    if not slices:
        return pa.array([], pa.string())
    first, last = min(start for start, _, _ in slices), max(start + rows for start, rows, _ in slices)
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size < WIDTH * last:
            raise ValueError("it ends too early")
        file.seek(WIDTH * first)
        content = file.read(WIDTH * (last - first))
    view, found = memoryview(content), []
    for start, rows, checksum in slices:
        piece = view[WIDTH * (start - first) : WIDTH * (start - first + rows)]
        if len(piece) != WIDTH * rows or checksum_of(piece) != checksum:
            raise ValueError("some digests are not as they were written")
        found.append(piece)
    follow = all(one[0] + one[1] == other[0] for one, other in itertools.pairwise(slices))
    joined = content if follow else b"".join(found)
    offsets = np.arange(0, len(joined) + 1, WIDTH, dtype=np.int32)
    return pa.StringArray.from_buffers(len(joined) // WIDTH, pa.py_buffer(offsets), pa.py_buffer(joined))

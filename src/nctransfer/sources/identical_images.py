"""Images with identical bytes: their digests in one block of memory, and the groups of equal ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["Digests", "Groups", "groups_of"]

WIDTH = 16  # bytes of a digest
NONE = bytes(WIDTH)


class Digests(Sequence[bytes]):
    """The digests of some images, 16 bytes each; that of a broken image is empty.

    Args:
        content: The digests, one after the other; 16 zeros stand for an empty one.

    >>> digests = Digests(b"x" * 16 + bytes(16))
    >>> len(digests), digests[0], digests[1]
    (2, b'xxxxxxxxxxxxxxxx', b'')
    """

    def __init__(self, content: bytes | bytearray) -> None:
        self._content = bytes(content)

    def __len__(self) -> int:
        return len(self._content) // WIDTH

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        start = WIDTH * range(len(self))[index]
        found = self._content[start : start + WIDTH]
        return b"" if found == NONE else found

    def groups(self) -> Groups:
        """The images with equal digests."""
        import numpy as np

        return groups_of(np.frombuffer(self._content, f"S{WIDTH}"))  # trailing zeros do not count; there are 16 bytes

    def column(self) -> pa.Array:
        """The digests as an Arrow column of 16 bytes each, where zeros stand for an empty one."""
        import pyarrow as pa

        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(WIDTH), len(self), [None, pa.py_buffer(self._content)])

    @property
    def are_known(self) -> NDArray[np.bool_]:
        """Whether each digest is not empty, ``(n,)``."""
        import numpy as np

        found: NDArray[np.bool_] = np.frombuffer(self._content, f"S{WIDTH}") != b""
        return found


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of images, each of two or more. They are in the order of their first image.

    Attributes:
        rows: The numbers of the images, group after group and ascending within a group.
        starts: Where each group starts among ``rows``.
    """

    rows: NDArray[np.intp]
    starts: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[list[int]]:
        for group in range(len(self)):
            yield self[group].tolist()

    def __getitem__(self, group: int) -> NDArray[np.intp]:
        stop = self.starts[group + 1] if group + 1 < len(self) else len(self.rows)
        return self.rows[self.starts[group] : stop]

    @property
    def sizes(self) -> NDArray[np.intp]:
        """The number of images in each group."""
        import numpy as np

        return np.diff(self.starts, append=len(self.rows))

    def differ(self, codes: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Whether the images of each group differ in something, of which every image has a code."""
        import numpy as np

        if not len(self):
            return np.zeros(0, bool)
        values = codes[self.rows]
        found: NDArray[np.bool_] = np.minimum.reduceat(values, self.starts) < np.maximum.reduceat(values, self.starts)
        return found

    def distinct(self, codes: NDArray[np.integer]) -> int:
        """How many different codes there are in each group, summed over the groups."""
        import numpy as np

        groups = np.repeat(np.arange(len(self)), self.sizes)
        values = codes[self.rows].astype(np.int64)
        return len(np.unique(groups * (int(values.max(initial=0)) + 1) + values))


def groups_of(digests: NDArray[np.bytes_]) -> Groups:
    """The numbers of images whose digests are equal; empty digests belong to no group.

    >>> import numpy as np
    >>> list(groups_of(np.array([b"x", b"y", b"", b"x", b""])))
    [[0, 3]]
    """
    import numpy as np

    order = np.argsort(digests, kind="stable")
    order = order[np.searchsorted(digests, b"", "right", sorter=order) :]
    ordered = digests[order]
    is_new = np.concatenate([np.ones(min(1, len(order)), bool), ordered[1:] != ordered[:-1]])
    starts = np.flatnonzero(is_new)
    sizes = np.diff(starts, append=len(order))
    starts, sizes = starts[sizes > 1], sizes[sizes > 1]
    by_first = np.argsort(order[starts], kind="stable")
    starts, sizes = starts[by_first], sizes[by_first]
    ends = np.cumsum(sizes)
    places = np.arange(sizes.sum()) + np.repeat(starts - (ends - sizes), sizes)
    return Groups(order[places], ends - sizes)

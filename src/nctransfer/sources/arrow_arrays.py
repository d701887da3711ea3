"""Arrow arrays from Python's and NumPy's values and back, without pandas.

``pa.array``, ``to_numpy`` and ``as_py`` ask pandas what it thinks of the values, and importing it for that takes 0.3
seconds and 60 MB.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["coded", "encoded", "flat", "integers", "strings", "strings_of", "values_of"]


def encoded(texts: Sequence[str]) -> tuple[bytes, Iterable[int]]:
    """Texts in UTF-8, one after the other, and the number of bytes of each."""
    joined = "".join(texts)
    if joined.isascii():
        return joined.encode(), map(len, texts)
    parts = [text.encode() for text in texts]
    return b"".join(parts), map(len, parts)


def strings(texts: Sequence[str]) -> pa.LargeStringArray:
    """Texts as an Arrow array.

    >>> strings(["a", "é"]).to_pylist()
    ['a', 'é']
    """
    import numpy as np

    data, lengths = encoded(texts)
    return strings_of(data, np.fromiter(lengths, np.int64, len(texts)))


def strings_of(data: Any, lengths: NDArray[np.int64]) -> pa.LargeStringArray:
    """The Arrow array of texts that lie one after the other in a buffer of UTF-8, from the bytes of each."""
    import numpy as np
    import pyarrow as pa

    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return pa.LargeStringArray.from_buffers(len(lengths), pa.py_buffer(offsets), pa.py_buffer(data))


def integers(values: NDArray[Any]) -> pa.Array:
    """NumPy's integers or floats as an Arrow array of the same type, which shares their memory.

    >>> import numpy as np
    >>> integers(np.array([3, 1], np.int32)).type
    DataType(int32)
    """
    import numpy as np
    import pyarrow as pa

    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def coded(codes: NDArray[np.int32], names: Sequence[str]) -> pa.DictionaryArray:
    """Texts of which many are equal, as a dictionary: for each row the number of its text in ``names``.

    >>> import numpy as np
    >>> coded(np.array([1, 0, 1], np.int32), ["cat", "dog"]).to_pylist()
    ['dog', 'cat', 'dog']
    """
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(integers(codes), strings(names).cast(pa.string()))


def flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    import pyarrow as pa

    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def values_of(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """The numbers of a column without nulls, as NumPy's array, which shares its memory and cannot be written."""
    import numpy as np

    found: NDArray[Any] = np.from_dlpack(flat(column))
    return found

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

__all__ = [
    "are_in",
    "as_flags",
    "coded",
    "codes_and_names",
    "encoded",
    "flat",
    "integers",
    "places_in",
    "same_text",
    "strings",
    "strings_of",
    "text_bytes",
    "values_of",
]


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


def as_flags(mask: pa.BooleanArray | pa.ChunkedArray) -> NDArray[np.bool_]:
    """A mask as a numpy array; null counts as false."""
    import numpy as np
    from pyarrow import compute

    flags = np.zeros(len(mask), bool)
    flags[values_of(compute.indices_nonzero(mask))] = True
    return flags


def places_in(values: pa.Array | pa.ChunkedArray, among: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """The first position of each value among others, ``(n,)``; −1 if it is not among them."""
    import numpy as np
    from pyarrow import compute

    there = flat(among).cast(values.type)
    found = flat(compute.index_in(values, value_set=there))
    places = np.full(len(values), -1, np.int64)
    places[as_flags(found.is_valid())] = values_of(found.drop_null())
    return places


def are_in(values: pa.Array | pa.ChunkedArray, among: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
    """Whether each value is among others, ``(n,)``."""
    from pyarrow import compute

    return as_flags(compute.is_in(values, value_set=flat(among).cast(values.type)))


def same_text(text: str, times: int) -> pa.LargeStringArray:
    """One text many times."""
    import numpy as np
    import pyarrow as pa

    encoded = text.encode()
    offsets = np.arange(times + 1) * len(encoded)
    return pa.LargeStringArray.from_buffers(times, pa.py_buffer(offsets), pa.py_buffer(encoded * times))


def text_bytes(texts: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The lengths of the texts of an array in bytes, ``(n,)``, and the bytes of all of them, one after the other."""
    import numpy as np
    import pyarrow as pa

    held = texts.cast(pa.large_binary())
    offsets, content = held.buffers()[1:]
    ends = np.frombuffer(offsets, np.int64, len(held) + 1, held.offset * 8) if len(held) else np.zeros(1, np.int64)
    found = np.frombuffer(content, np.uint8) if content is not None and content.size else np.zeros(0, np.uint8)
    return np.diff(ends), found[ends[0] : ends[-1]]


def codes_and_names(texts: pa.Array | pa.ChunkedArray) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Texts as codes ``(n,)``, and the sorted names that the codes stand for; names that no text has are left out."""
    import numpy as np
    import pyarrow as pa

    held = flat(texts)
    if not pa.types.is_dictionary(held.type):
        held = held.dictionary_encode()
    given = held.dictionary.to_pylist()
    numbers = values_of(held.indices).astype(np.int64)
    used = np.bincount(numbers, minlength=len(given)) > 0
    names = sorted({name for name, is_used in zip(given, used.tolist(), strict=True) if is_used})
    code = {name: number for number, name in enumerate(names)}
    return np.array([code.get(name, -1) for name in given], np.int64)[numbers], tuple(names)

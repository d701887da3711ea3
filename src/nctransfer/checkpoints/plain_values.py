"""Results as plain JSON values, and back, to the last bit.

Numbers, text, ``None`` and lists are themselves. Everything else is an object with one key that says what it is, so
that reading it back builds only the classes that are listed here, from their own fields.
"""

from __future__ import annotations

import base64
import dataclasses
import math
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nctransfer.evaluation.fewshot_results import FewShotRow
from nctransfer.evaluation.leaks import Leaks
from nctransfer.evaluation.tally import Counts
from nctransfer.features.sample_content import Duplicates
from nctransfer.neural_collapse.collapse_report import ClassCollapse, PairCollapse

if TYPE_CHECKING:
    import torch

__all__ = ["from_plain", "to_plain"]

CLASSES: Mapping[str, Any] = {
    one.__name__: one for one in (ClassCollapse, Counts, Duplicates, FewShotRow, Leaks, PairCollapse)
}
DTYPES = ("float64", "int64")
LARGEST = 2**26  # bytes of one tensor


def to_plain(value: Any) -> Any:
    """A value as JSON holds it.

    Raises:
        TypeError: It holds something that cannot be read back.

    >>> to_plain({("a", 1): (0.5, math.inf)})
    {'map': [[{'tuple': ['a', 1]}, {'tuple': [0.5, {'float': 'inf'}]}]]}
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, list):
        return [to_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {"map": [[to_plain(key), to_plain(one)] for key, one in value.items()]}
    name = type(value).__name__
    if CLASSES.get(name) is type(value):
        return {name: [to_plain(getattr(value, field)) for field in _fields(type(value))]}
    if isinstance(value, tuple):
        return {"tuple": [to_plain(one) for one in value]}
    if name == "Tensor":
        return {"tensor": _from_tensor(value)}
    raise TypeError(f"a {name} cannot be kept")


def from_plain(value: Any) -> Any:
    """The value that :func:`to_plain` was given; mappings come back as dictionaries.

    Raises:
        ValueError: It is not what :func:`to_plain` gives.

    >>> from_plain(to_plain({("a", 1): (0.5, math.inf)}))
    {('a', 1): (0.5, inf)}
    """
    if value is None or isinstance(value, bool | int | str | float):
        return value
    if isinstance(value, list):
        return [from_plain(one) for one in value]
    try:
        ((kind, content),) = value.items()
        if kind == "float":
            return {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}[content]
        if kind == "tuple":
            return tuple(from_plain(one) for one in content)
        if kind == "map":
            return {from_plain(key): from_plain(one) for key, one in content}
        if kind == "tensor":
            return _to_tensor(*content)
        fields = _fields(CLASSES[kind])
        return CLASSES[kind](**dict(zip(fields, map(from_plain, content), strict=True)))
    except (AttributeError, KeyError, TypeError, zlib.error) as error:
        raise ValueError("this is no kept value") from error


def _fields(kind: Any) -> tuple[str, ...]:
    return getattr(kind, "_fields", None) or tuple(field.name for field in dataclasses.fields(kind))


def _from_tensor(tensor: torch.Tensor) -> list[Any]:
    import numpy as np

    array = tensor.contiguous().numpy()
    if array.dtype.name not in DTYPES or array.nbytes > LARGEST or not np.isfinite(array).all():
        raise TypeError(f"such a tensor of {array.nbytes:,} bytes and dtype {array.dtype.name} cannot be kept")
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return [array.dtype.name, list(array.shape), base64.b64encode(zlib.compress(little.tobytes(), 1)).decode()]


def _to_tensor(dtype: str, shape: list[int], text: str) -> torch.Tensor:
    import numpy as np
    import torch

    if dtype not in DTYPES or not all(type(size) is int and 0 <= size <= LARGEST for size in shape):
        raise ValueError("this is no kept tensor")
    size = math.prod(shape) * 8
    if size > LARGEST:
        raise ValueError("the tensor is too large")
    unpacking = zlib.decompressobj()
    content = unpacking.decompress(base64.b64decode(text, validate=True), size + 1)
    if len(content) != size or not unpacking.eof:
        raise ValueError("the tensor is not whole")
    array = np.frombuffer(content, np.dtype(dtype).newbyteorder("<")).astype(dtype).reshape(shape)
    if not np.isfinite(array).all():
        raise ValueError("the tensor holds values that are not finite")
    return torch.from_numpy(array)

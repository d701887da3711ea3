"""Arrays as text that a page can hold: base64 of little-endian numbers."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MOST_EXACT", "EncodedArray", "encoded"]

MOST_EXACT = 250_000
"""Numbers, at most, that a page holds in single precision; of more, it holds them in half precision."""
LARGEST_HALF = 32768.0

EncodedArray = dict[str, str | float]
Kind = Literal["float32", "int32", "real"]


def encoded(values: NDArray[Any], kind: Kind) -> EncodedArray:
    """An array as a value of JSON: ``type``, ``scale`` and ``data``, its rows one after the other.

    Half-precision numbers are divided by ``scale``, a power of two, so that the largest one fits. Their relative error
    is at most 2⁻¹¹, unless they are smaller than the largest one by a factor of more than 10⁸.

    Args:
        values: Numbers.
        kind: How they are written. ``real``: as float32 up to :data:`MOST_EXACT` of them, as float16 beyond.

    >>> import numpy as np
    >>> encoded(np.array([1.0, 0.5]), "real")
    {'type': 'float32', 'scale': 1.0, 'data': 'AACAPwAAAD8='}
    """
    import numpy as np

    if kind == "int32":
        return _written(values.astype("<i4"), "int32")
    if kind == "float32" or values.size <= MOST_EXACT:
        return _written(values.astype("<f4"), "float32")
    finite = np.abs(values[np.isfinite(values)])
    largest = float(finite.max()) if finite.size else 0.0
    scale = 2.0 ** math.ceil(math.log2(largest / LARGEST_HALF)) if largest > 0 else 1.0
    return _written((values / scale).astype("<f2"), "float16", scale)


def _written(values: NDArray[np.generic], name: str, scale: float = 1.0) -> EncodedArray:
    return {"type": name, "scale": scale, "data": base64.b64encode(values.tobytes()).decode("ascii")}

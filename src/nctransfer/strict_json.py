"""JSON that somebody else may have written: what Python would take beyond the standard is refused."""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["parse_json"]


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Args:
        text: The text; bytes are in UTF-8.

    Raises:
        ValueError: It is not JSON, a number is NaN or too large, a name occurs twice in an object, or the nesting is
            too deep.

    >>> parse_json('{"images": [3, 0.5]}')
    {'images': [3, 0.5]}
    >>> parse_json('{"images": 1e400}')
    Traceback (most recent call last):
    ValueError: the number 1e400 is too large
    """
    try:
        return json.loads(
            text.decode() if isinstance(text, bytes) else text,
            parse_constant=_refused,
            parse_float=_finite,
            object_pairs_hook=_without_repeats,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"the number {text[:20]} is too large")
    return number


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice in an object")
    return found

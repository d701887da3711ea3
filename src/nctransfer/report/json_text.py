"""Results as JSON, in full precision."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from nctransfer.escaping import escaped_json
from nctransfer.report.format import Format, Page, Presentation

__all__ = ["JSON", "json_line", "to_json"]


def to_json(value: Any, ascii_only: bool = False) -> str:
    """JSON in full precision; infinite is ``"inf"``, what is not a number ``null``."""
    return _dumped(value, ascii_only, indent=2)


def json_line(value: Any, ascii_only: bool = False) -> str:
    """The same in one line, without its end."""
    return _dumped(value, ascii_only, indent=None)


def _dumped(value: Any, ascii_only: bool, indent: int | None) -> str:
    return escaped_json(json.dumps(_strict(value), indent=indent, ensure_ascii=ascii_only, allow_nan=False))


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def _render(result: Presentation, page: Page) -> str:
    return to_json(result.data, ascii_only=page.is_ascii) + "\n"


JSON = Format(name="json", meaning="everything, in full precision", suffixes=(".json",), render=_render)

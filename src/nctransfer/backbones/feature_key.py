"""The key of the cache: everything that changes a feature."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["FEATURE", "FORMAT", "FeatureKey", "json_digest"]

FEATURE = "feature"  # the column of the pooled output
FORMAT = 2  # of the rows; in the key, so that another format is another set


@dataclass(frozen=True)
class FeatureKey:
    """Everything that changes the numbers of a row, and nothing else.

    Attributes:
        model: timm's name with tag.
        weights: Digest of the weights' tensors.
        transform: Image size, mean, std, interpolation, crop.
        pool: How the output became one vector.
        dtype: What it was computed in.
        store_dtype: What it is stored in.
        model_kwargs: Further arguments of the model.
        plugin: Digest of the file that registers the architecture, if it is not timm's.
        format: Version of the rows and of the decoding of images.
    """

    model: str
    weights: str
    transform: Mapping[str, Any]
    pool: str = "pre_logits"
    dtype: str = "float32"
    store_dtype: str = "float32"
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    plugin: str = ""
    format: int = FORMAT

    @property
    def digest(self) -> str:
        """Eight hex digits that differ where any field does."""
        return json_digest(asdict(self))


def json_digest(value: Any, digits: int = 8) -> str:
    """A short digest of a value that JSON can hold, in hex."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=digits // 2).hexdigest()

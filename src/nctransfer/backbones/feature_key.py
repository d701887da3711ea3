"""The key of stored features: everything about a backbone that changes their values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nctransfer.checked_values import CheckedValues

__all__ = ["FEATURE", "FORMAT", "FeatureKey", "format_of", "json_digest"]

FEATURE = "feature"
"""The column of the pooled features before the classifier."""
FORMAT = 2
"""The version of stored rows and of the decoding of images. It is part of the key, so a new version is a new set."""
FORMAT_OF_HALVES = 3
"""The version of the features that bfloat16 and float16 give: now their weights have 16 bits too."""


@dataclass(frozen=True, kw_only=True)
class FeatureKey:
    """Everything that changes the values of a feature, and nothing else.

    Attributes:
        model: timm's name with its tag.
        weights: The digest of the tensors of the weights.
        transform: Image size, mean, standard deviation, interpolation and crop.
        pool: How the last layer becomes one vector: ``pre_logits`` is the model's own way.
        dtype: The dtype that features are computed in.
        store_dtype: The dtype that features are stored in.
        model_kwargs: Further arguments of the model.
        plugin: The digest of the file that registers the architecture, or "" if it is timm's own.
        format: See :func:`format_of`.
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
        """Eight hexadecimal digits that change if any field changes."""
        return json_digest(asdict(self))

    @classmethod
    def from_json(cls, values: Any) -> FeatureKey:
        """The key that JSON describes, which somebody else may have written.

        Raises:
            ValueError: It does not describe a key; the message says why.
        """
        given = CheckedValues(values, "the backbone")
        key = cls(
            model=given.text("model"),
            weights=given.text("weights"),
            transform=given.mapping("transform"),
            pool=given.text("pool"),
            dtype=given.text("dtype"),
            store_dtype=given.text("store_dtype"),
            model_kwargs=given.mapping("model_kwargs"),
            plugin=given.text("plugin"),
            format=given.whole("format", least=1),
        )
        given.end()
        return key


def format_of(dtype: str) -> int:
    """The version of features that are computed in a dtype; see :data:`FORMAT` and :data:`FORMAT_OF_HALVES`."""
    return FORMAT if dtype == "float32" else FORMAT_OF_HALVES


def json_digest(value: Any, digits: int = 8) -> str:
    """A short digest of a value that JSON can represent, in hexadecimal."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=digits // 2).hexdigest()

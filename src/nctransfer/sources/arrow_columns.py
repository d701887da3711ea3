"""Which columns of an Arrow table hold images and labels, and of what type they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Columns",
    "class_label",
    "find_image_column",
    "find_label_column",
    "hub_features",
    "is_binary_type",
    "is_image_struct",
    "is_text_type",
    "no_column",
    "stored_type",
]

LABEL_COLUMNS = ("label", "class", "fine_label")
IMAGE_COLUMNS = ("image", "img")


@dataclass(frozen=True)
class Columns:
    """Which columns of the files say what."""

    image: str
    is_struct: bool  # {bytes, path}, not bytes alone
    label: str
    names: Sequence[str] | None  # of the codes in the label column
    split: str | None


def hub_features(schema: pa.Schema) -> dict[str, Any]:
    """What the metadata of a Hugging Face data set says of each column."""
    """What the Hugging Face metadata say about the columns; nothing if they are not as expected."""
    try:
        described = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return described if isinstance(described, dict) else {}


def _kind(feature: Any) -> object:
    return feature.get("_type") if isinstance(feature, dict) else None


def class_label(feature: Any) -> list[str] | None:
    """The class names of a feature, if it is a ``ClassLabel``."""
    names = feature.get("names") if _kind(feature) == "ClassLabel" else None
    return [str(name) for name in names] if isinstance(names, list) else None


def find_image_column(path: Path, schema: pa.Schema, features: dict[str, Any]) -> str:
    """The column of images.

    Raises:
        DataError: There is none, or several might be meant.
    """
    found = [name for name in schema.names if _kind(features.get(name)) == "Image"]
    found = found or [field.name for field in schema if is_image_struct(field.type)]
    found = found or [field.name for field in schema if is_binary_type(field.type)]
    usual = [name for name in IMAGE_COLUMNS if name in found]
    if len(found) == 1 or usual:
        return (usual or found)[0]
    what = f"several columns of images: {', '.join(found)}" if found else "no column of images ({bytes, path} or bytes)"
    raise no_column(path, schema, what, "image")


def find_label_column(path: Path, schema: pa.Schema, features: dict[str, Any]) -> str:
    """The column of labels.

    Raises:
        DataError: There is none, or several might be meant.
    """
    for name in LABEL_COLUMNS:
        if name in schema.names:
            return name
    found = [name for name in schema.names if _kind(features.get(name)) == "ClassLabel"]
    if len(found) == 1:
        return str(found[0])
    what = f"several columns of classes: {', '.join(found)}" if found else "no column of labels (label, class)"
    raise no_column(path, schema, what, "label")


def no_column(path: Path, schema: pa.Schema, what: str, option: str) -> DataError:
    """The error for a column that was not found."""
    return DataError(
        f"{str(path)!r} has {what}", f"its columns: {', '.join(schema.names)}; name one by --{option}-column"
    )


def stored_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values: of a dictionary that of its entries."""
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_text_type(kind: pa.DataType) -> bool:
    """Whether values are text, in any of Arrow's layouts."""
    import pyarrow as pa

    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def is_binary_type(kind: pa.DataType) -> bool:
    """Whether values are bytes, in any of Arrow's layouts."""
    import pyarrow as pa

    return any(test(kind) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view))


def is_image_struct(kind: pa.DataType) -> bool:
    """Whether values are Hugging Face's images: a struct of bytes and path."""
    import pyarrow as pa

    if not pa.types.is_struct(kind):
        return False
    index = kind.get_field_index("bytes")
    return index >= 0 and is_binary_type(kind.field(index).type)

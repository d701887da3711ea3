"""Which columns of an Arrow table hold images and labels, and what type their values have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nctransfer.errors import DataError, join_names
from nctransfer.strict_json import parse_json

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Columns",
    "LabelColumn",
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


class LabelColumn(NamedTuple):
    """A column of labels.

    Attributes:
        column: Its name.
        names: Names of the classes with the codes 0, 1, …; ``None`` if the labels are names, or codes without names.
    """

    column: str
    names: Sequence[str] | None


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a Parquet file that are read.

    Attributes:
        image: Column of the images.
        is_struct: Whether the images are structs ``{bytes, path}``; otherwise they are bytes.
        labels: Columns of the labels; usually one, none if there are no labels. Of several, a class has all names.
        split: Column of the splits, or ``None`` if there is none.
    """

    image: str
    is_struct: bool
    labels: tuple[LabelColumn, ...]
    split: str | None


def hub_features(schema: pa.Schema) -> dict[str, Any]:
    """What the Hugging Face metadata say about each column; empty if there are none, or they cannot be understood."""
    try:
        described = parse_json((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return described if isinstance(described, dict) else {}


def _kind(feature: Any) -> object:
    return feature.get("_type") if isinstance(feature, dict) else None


def class_label(feature: Any) -> list[str] | None:
    """The class names in a description from :func:`hub_features`, or ``None`` if it is not a ``ClassLabel``."""
    names = feature.get("names") if _kind(feature) == "ClassLabel" else None
    return [str(name) for name in names] if isinstance(names, list) else None


def find_image_column(path: Path, schema: pa.Schema, features: dict[str, Any]) -> str:
    """The column of the images.

    Raises:
        DataError: No column holds images, or several do and none has the usual name.
    """
    found = [name for name in schema.names if _kind(features.get(name)) == "Image"]
    found = found or [field.name for field in schema if is_image_struct(field.type)]
    found = found or [field.name for field in schema if is_binary_type(field.type)]
    usual = [name for name in IMAGE_COLUMNS if name in found]
    if len(found) == 1 or usual:
        return (usual or found)[0]
    what = (
        f"several columns of images: {join_names(found)}" if found else "no column of images ({bytes, path} or bytes)"
    )
    raise no_column(path, schema, what, "image")


def find_label_column(path: Path, schema: pa.Schema, features: dict[str, Any]) -> str:
    """The column of the labels.

    Raises:
        DataError: No column holds labels, or several do and none has a usual name.
    """
    for name in LABEL_COLUMNS:
        if name in schema.names:
            return name
    found = [name for name in schema.names if _kind(features.get(name)) == "ClassLabel"]
    if len(found) == 1:
        return str(found[0])
    what = f"several columns of labels: {join_names(found)}" if found else "no column of labels (label or class)"
    raise no_column(path, schema, what, "label")


def no_column(path: Path, schema: pa.Schema, what: str, option: str) -> DataError:
    """The error for a column that is missing, or does not hold what it should.

    Args:
        path: The file.
        schema: Its columns.
        what: What the file has instead, for example "no column of images".
        option: "image" or "label", for the hint.
    """
    return DataError(
        f"{str(path)!r} has {what}", f"its columns are {', '.join(schema.names)}; choose one with --{option}-column"
    )


def stored_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values in a column; for a dictionary-encoded column, the type of the dictionary's entries."""
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_text_type(kind: pa.DataType) -> bool:
    """Whether the values are text, in any of Arrow's layouts (string, large string, string view)."""
    import pyarrow as pa

    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def is_binary_type(kind: pa.DataType) -> bool:
    """Whether the values are bytes, in any of Arrow's layouts (binary, large binary, binary view)."""
    import pyarrow as pa

    return any(test(kind) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view))


def is_image_struct(kind: pa.DataType) -> bool:
    """Whether the values are images as Hugging Face stores them: structs with a field ``bytes``."""
    import pyarrow as pa

    if not pa.types.is_struct(kind):
        return False
    index = kind.get_field_index("bytes")
    return index >= 0 and is_binary_type(kind.field(index).type)

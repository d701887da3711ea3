"""What could be the class of an image: how many classes its folders make at each depth, and its attributes."""

from __future__ import annotations

import re
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from nctransfer.sources.arrow_arrays import values_of
from nctransfer.sources.attribute_columns import joined_texts

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from nctransfer.sources.image_table import ImageTable

__all__ = ["AttributeCount", "LevelCount", "count_attributes", "count_levels"]

MOST_SHOWN = 3  # values of an attribute


class LevelCount(NamedTuple):
    """The classes of one label depth.

    Attributes:
        depth: How many folders make a class.
        classes: The number of classes.
        smallest: The number of images in the smallest.
        median: The median number of images per class.
        largest: The number of images in the largest.
        example: The first class by name that lies as deep as any.
    """

    depth: int
    classes: int
    smallest: int
    median: float
    largest: int
    example: str


class AttributeCount(NamedTuple):
    """The values of one attribute.

    Attributes:
        name: Its name.
        values: The number of different values.
        missing: The number of images without a value.
        most: The values of the most images, and the number of images of each.
    """

    name: str
    values: int
    missing: int
    most: tuple[tuple[str, int], ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary for JSON."""
        return self._asdict() | {"most": [{"value": value, "images": images} for value, images in self.most]}


def count_levels(images: ImageTable) -> tuple[LevelCount, ...]:
    """The classes that folders make at depth 1, 2, …; none if no image lies deeper than in one folder."""
    found: list[LevelCount] = []
    attributes, columns = images.attributes, list[Any]()
    while (column := attributes.get(f"folder-{len(columns) + 1}")) is not None:
        columns.append(column)
        classes = joined_texts(columns, may_lack=True)
        names, counts = _counted(classes)
        if len(counts):
            deepest = max(name.count("/") for name in names)
            example = min(name for name in names if name.count("/") == deepest)
            middle = float(median(counts.tolist()))
            found.append(LevelCount(len(columns), len(counts), int(counts.min()), middle, int(counts.max()), example))
    return tuple(found)


def count_attributes(images: ImageTable) -> tuple[AttributeCount, ...]:
    """The values of each attribute, by name."""
    found = []
    for name, column in sorted(images.attributes.items(), key=lambda item: _in_order(item[0])):
        values, counts = _counted(column)
        most = sorted(zip(counts.tolist(), values, strict=True), key=lambda item: (-item[0], item[1]))[:MOST_SHOWN]
        missing = len(column) - int(counts.sum())
        found.append(AttributeCount(name, len(values), missing, tuple((value, count) for count, value in most)))
    return tuple(found)


def _counted(column: pa.DictionaryArray) -> tuple[list[str], NDArray[np.int64]]:
    """The different texts of a column that are not empty, and how many rows have each."""
    import numpy as np

    texts = column.dictionary.to_pylist()
    counts = np.bincount(values_of(column.indices), minlength=len(texts))
    used = [number for number in np.flatnonzero(counts).tolist() if texts[number]]
    return [texts[number] for number in used], counts[used]


def _in_order(name: str) -> tuple[Any, ...]:
    """Numbers in names are in the order of their value."""
    return tuple((int(part[:18]), part) if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name))

"""The attributes of a table of images: which there are, and classes made of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nctransfer.errors import FeaturesError, did_you_mean, join_names
from nctransfer.sources.arrow_arrays import coded, values_of
from nctransfer.sources.attributes import RULE

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from nctransfer.sources.image_table import ImageTable

__all__ = [
    "attributes_of",
    "column_names",
    "has_text",
    "joined_texts",
    "relabelled",
    "texts_at",
    "texts_of",
    "unknown_attribute",
]

SPLIT = "split"


def attributes_of(images: ImageTable) -> dict[str, pa.DictionaryArray]:
    """The attributes of images, by name. The split is one of them if there are splits."""
    found = images.attributes
    if SPLIT not in found and any((splits := images.splits).dictionary.to_pylist()):
        found[SPLIT] = splits
    return found


def column_names(label_column: str, there: Collection[str]) -> tuple[str, ...]:
    """The columns of which classes are made: the one with this name, or several that commas separate.

    >>> column_names("species, breed", {"species", "breed"}), column_names("a,b", {"a,b"})
    (('species', 'breed'), ('a,b',))
    """
    if label_column in there:
        return (label_column,)
    return tuple(dict.fromkeys(part.strip() for part in label_column.split(",")))


def relabelled(images: ImageTable, label_column: str, of: str) -> ImageTable:
    """The same images with the classes that attributes say: of the two ``species,breed``, a class ``cat/Siamese``.

    Args:
        images: The images.
        label_column: The name of an attribute, or several names that commas separate.
        of: Whose images these are, for messages.

    Raises:
        FeaturesError: There is no such attribute.
    """
    there = attributes_of(images)
    names = column_names(label_column, there)
    for name in names:
        if name not in there:
            raise unknown_attribute(name, there, of)
    are_folders = all(name.startswith("folder-") for name in names)  # an image that lies less deep has some of them
    return images.with_labels(joined_texts([there[name] for name in names], may_lack=are_folders))


def joined_texts(columns: Sequence[pa.DictionaryArray], *, may_lack: bool = False) -> pa.DictionaryArray:
    """The texts of several columns joined by "/", row by row.

    Args:
        columns: The columns.
        may_lack: Whether a text that is empty is passed over; otherwise "" stands where one of them is empty.
    """
    import numpy as np

    if len(columns) == 1:
        return columns[0]
    texts = [column.dictionary.to_pylist() for column in columns]
    numbers = [values_of(column.indices) for column in columns]
    codes = np.zeros(len(numbers[0]), np.int64)
    for known, column_codes in zip(texts, numbers, strict=True):  # sorting pairs would take ten times as long
        _, first, codes = np.unique(codes * max(1, len(known)) + column_codes, return_index=True, return_inverse=True)
    groups = zip(*(column_codes[first].tolist() for column_codes in numbers), strict=True)
    parts = ([known[number] for known, number in zip(texts, group, strict=True)] for group in groups)
    names = ["/".join(filter(None, texts)) if may_lack or all(texts) else "" for texts in parts]
    code = {
        name: number for number, name in enumerate(dict.fromkeys(names))
    }  # "a/b" and "c" give what "a" and "b/c" do
    return coded(np.array([code[name] for name in names], np.int32)[codes], list(code))


def unknown_attribute(name: str, there: Iterable[str], of: str) -> FeaturesError:
    """The error for an attribute that images do not have."""
    names = sorted(there)
    if names in ([], [SPLIT]):  # as in a listing by a version that kept no attributes
        return FeaturesError(
            f"the images of {of} have no attribute {name!r}, nor any other" + (" but their split" if names else ""),
            f"{RULE}; if an earlier version listed the images, run the same nctransfer extract again: it adds their "
            "attributes, and runs no image anew",
        )
    hint = f"{did_you_mean(name, names)} the attributes are {join_names(list(map(repr, names)), 20)}; {RULE}"
    return FeaturesError(f"the images of {of} have no attribute {name!r}", hint.strip())


def texts_at(column: pa.DictionaryArray, places: NDArray[np.integer[Any]]) -> pa.DictionaryArray:
    """The texts at some positions of a column, "" for the position −1."""
    import numpy as np

    codes = np.concatenate([np.zeros(1, np.int32), values_of(column.indices) + np.int32(1)])
    return coded(codes[places + 1], ["", *column.dictionary.to_pylist()])


def texts_of(column: pa.DictionaryArray) -> tuple[str, ...]:
    """The texts of a column, row by row; equal ones are one object."""
    texts = column.dictionary.to_pylist()
    return tuple(map(texts.__getitem__, values_of(column.indices).tolist()))


def has_text(column: pa.DictionaryArray) -> NDArray[np.bool_]:
    """Whether each row of a column has a text, ``(n,)``."""
    import numpy as np

    known = np.array(list(map(bool, column.dictionary.to_pylist())), bool)
    return known[values_of(column.indices)] if len(known) else np.zeros(len(column), bool)

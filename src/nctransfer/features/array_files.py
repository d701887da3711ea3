"""Features made elsewhere, from NumPy's ``.npz`` and from ``.safetensors`` files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.errors import FeaturesError
from nctransfer.features.file_contents import (
    CLASSES,
    FEATURES,
    IDS,
    LABELS,
    NAME_THEM,
    SPLITS,
    Contents,
    pickled_error,
    reading_errors,
)
from nctransfer.sources.attribute_columns import column_names
from nctransfer.sources.attributes import attribute_text
from nctransfer.strict_json import parse_json

if TYPE_CHECKING:
    import zipfile

    import torch
    from numpy.typing import NDArray

    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.sources.selection import Selection

__all__ = ["read_npz", "read_safetensors"]

PLAUSIBLE_BYTES = 2**30  # an array up to this size is read however well it is compressed
PLAUSIBLE_RATIO = 100  # a larger array that is compressed better than this cannot be features: it would fill the memory


@dataclass(frozen=True, kw_only=True)
class _Array:
    """An array of a file that has not been read yet.

    Attributes:
        shape: Its shape.
        dtype: Its type, for messages.
        kind: Its kind, in the letters of NumPy's ``dtype.kind``.
        read: Reads its values.
    """

    shape: tuple[int, ...]
    dtype: str
    kind: str
    read: Callable[[], NDArray[Any]]


def read_npz(
    path: str | Path,
    label_column: str | None = None,
    feature_column: str | None = None,
    selection: Selection | None = None,
    class_names: Sequence[str] | None = None,
    attributes: Sequence[str] = (),
) -> FeatureSet:
    """Features from a file of ``numpy.savez`` or ``numpy.savez_compressed``.

    Args:
        path: The file.
        label_column: The array of class names or codes. By default ``label``, ``labels``, ``y`` or ``targets``; if
            there is none of these, the only vector of names or whole numbers with one entry per row of the features.
        feature_column: The matrix of features. By default ``feature``, ``features``, ``x``, ``X`` or ``embeddings``;
            if there is none of these, the only matrix of floats.
        selection: Which rows are wanted. The arrays ``ids`` (or ``id``) and ``split`` are used if the file has them.
        class_names: The names of labels 0, 1, …, if the labels are whole numbers; by default those in the array
            ``classes`` or ``class_names``, if there is one.
        attributes: The vectors of text, whole numbers or booleans that the features shall come with.

    Raises:
        FeaturesError: There is no such file or array, it is pickled or implausibly large, or a value is not finite.
    """
    import zipfile

    expected = "expected a file of numpy.savez with features and labels"
    with reading_errors(path, "npz", expected), zipfile.ZipFile(path) as archive:
        if any(name.endswith(".pkl") for name in archive.namelist()):  # a file of torch.save
            raise pickled_error(Path(path))
        arrays = {
            member.filename.removesuffix(".npy"): _npy(archive, member)
            for member in archive.infolist()
            if member.filename.endswith(".npy")
        }
        contents = _contents(path, arrays, label_column, feature_column, attributes)
    return contents.selected(path, selection, class_names)


def _npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> _Array:
    """One array, of which only the header has been read."""
    import numpy as np

    name = member.filename.removesuffix(".npy")
    with archive.open(member) as file:
        if np.lib.format.read_magic(file) == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        content = member.file_size - file.tell()

    def read() -> NDArray[Any]:
        if math.prod(shape) * dtype.itemsize != content:
            raise FeaturesError(f"the array {name!r} is damaged: {content:,} bytes cannot be {shape} of {dtype}")
        packed = Path(archive.filename or "").stat().st_size
        if content > max(PLAUSIBLE_BYTES, PLAUSIBLE_RATIO * packed):
            raise FeaturesError(
                f"the array {name!r} would take {content / 2**30:,.1f} GiB, from a file of {packed / 2**20:,.1f} MiB",
                "if these are features, save them by numpy.savez, which does not compress",
            )
        with archive.open(member) as file:
            array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
            return array

    kind = "O" if dtype.hasobject else dtype.kind
    return _Array(shape=shape, dtype=str(dtype), kind=kind, read=read)


def read_safetensors(
    path: str | Path,
    label_column: str | None = None,
    feature_column: str | None = None,
    selection: Selection | None = None,
    class_names: Sequence[str] | None = None,
    attributes: Sequence[str] = (),
) -> FeatureSet:
    """Features from a ``.safetensors`` file.

    Tensors hold no text. So ``ids``, ``split`` and ``classes`` may also be JSON lists in the file's metadata.

    Args:
        path: The file.
        label_column: The tensor of labels; by default it is found as :func:`read_npz` finds it.
        feature_column: The matrix of features; by default it is found as :func:`read_npz` finds it.
        selection: Which rows are wanted; by default all.
        class_names: The names of labels 0, 1, …; by default those that the file has.
        attributes: The vectors that the features shall come with, which may also be lists in the metadata.

    Raises:
        FeaturesError: There is no such file or tensor, or a value is not finite.
    """
    from safetensors import safe_open

    expected = "expected a file of tensors with features and labels"
    with (
        reading_errors(path, "safetensors", expected),
        safe_open(path, framework="pt") as file,  # as PyTorch's tensors, since NumPy does not have bfloat16
    ):
        arrays = _texts(file.metadata() or {}, attributes) | {name: _tensor(file, name) for name in sorted(file.keys())}
        contents = _contents(path, arrays, label_column, feature_column, attributes)
    return contents.selected(path, selection, class_names)


def _tensor(file: Any, name: str) -> _Array:
    header = file.get_slice(name)
    dtype = header.get_dtype()
    kind = "b" if dtype == "BOOL" else {"B": "f", "I": "i", "U": "u", "C": "c"}.get(dtype[0], "f")

    def read() -> NDArray[Any]:
        tensor: torch.Tensor = file.get_tensor(name)
        array: NDArray[Any] = (tensor.float() if kind == "f" and dtype != "F64" else tensor).numpy()
        return array

    return _Array(shape=tuple(header.get_shape()), dtype=dtype, kind=kind, read=read)


def _texts(metadata: Mapping[str, str], attributes: Sequence[str]) -> dict[str, _Array]:
    """The JSON lists in the metadata as arrays of names."""

    def array(values: list[Any]) -> Callable[[], NDArray[Any]]:
        import numpy as np

        return lambda: np.array([str(value) for value in values], dtype=object)

    found: dict[str, _Array] = {}
    parts = (part for name in attributes for part in column_names(name, ()))
    for name in (*IDS, *SPLITS, *CLASSES, *attributes, *parts):
        with suppress(ValueError):  # an entry of this name may be something else than JSON
            values = parse_json(metadata.get(name, ""))
            if isinstance(values, list):
                found[name] = _Array(shape=(len(values),), dtype="text", kind="U", read=array(values))
    return found


def _contents(
    path: str | Path,
    arrays: Mapping[str, _Array],
    label_column: str | None,
    feature_column: str | None,
    attributes: Sequence[str],
) -> Contents:
    """Find the arrays of features, labels, ids, splits and class names, and read only these."""
    find = _Finder(path, arrays)
    feature = find.features(feature_column)
    rows = arrays[feature].shape[0]
    wanted = column_names(label_column, arrays) if label_column else (None,)
    labels = [find.labels(name, rows, feature) for name in wanted]
    words = [_words(arrays[label], label) for label in labels]
    are_codes = len(labels) == 1 and arrays[labels[0]].kind in "iu"
    names = find.class_names() if are_codes else None
    ids, split = find.one_per_row(IDS, rows), find.one_per_row(SPLITS, rows)
    return Contents(
        feature=feature,
        label=",".join(labels),
        matrix=arrays[feature].read(),
        labels=words[0] if len(words) == 1 else ["/".join(parts) for parts in zip(*words, strict=True)],
        are_codes=are_codes,
        class_names=_words(arrays[names], names) if names else None,
        ids=_words(arrays[ids], ids) if ids else None,
        splits=_words(arrays[split], split) if split else [""] * rows,
        attributes={
            name: _attribute(arrays[find.attribute(name, rows)], name)
            for given in attributes
            for name in column_names(given, arrays)
        },
    )


class _Finder:
    """Finds the arrays of a file by their names, else by their shapes and types."""

    def __init__(self, path: str | Path, arrays: Mapping[str, _Array]) -> None:
        self._path = path
        self._arrays = arrays

    def features(self, wanted: str | None) -> str:
        """The matrix of features."""
        floats = [name for name, array in self._arrays.items() if len(array.shape) == 2 and array.kind == "f"]
        name = self._one(wanted, FEATURES, floats, lambda array: len(array.shape) == 2, "matrix of features")
        if self._arrays[name].kind == "O":
            raise _objects(name)
        return name

    def labels(self, wanted: str | None, rows: int, features: str) -> str:
        """The vector of labels."""
        known = {features, *IDS, *SPLITS, *(name for name in CLASSES if self._is_text(name))}
        fitting = [
            name
            for name, array in self._arrays.items()
            if name not in known and array.shape == (rows,) and array.kind in "iuUSO"
        ]
        return self._one(wanted, LABELS, fitting, lambda array: array.shape == (rows,), f"vector of {rows:,} labels")

    def class_names(self) -> str | None:
        """The names of codes, if the file has them."""
        return next(filter(self._is_text, CLASSES), None)

    def one_per_row(self, names: Sequence[str], rows: int) -> str | None:
        """The array with one of these names and one entry per row, if there is one."""
        name = next((name for name in names if name in self._arrays), None)
        if name and self._arrays[name].shape != (rows,):
            raise self._error(f"the array {name!r} does not have one entry for each of the {rows:,} rows")
        return name

    def attribute(self, name: str, rows: int) -> str:
        """The vector with this name and one entry per row."""
        if self.one_per_row((name,), rows) is None:
            raise self._error(f"{str(self._path)!r} has no vector named {name!r}")
        return name

    def _is_text(self, name: str) -> bool:
        array = self._arrays.get(name)
        return array is not None and len(array.shape) == 1 and array.kind in "USO"

    def _one(
        self,
        wanted: str | None,
        names: Sequence[str],
        others: Sequence[str],
        fits: Callable[[_Array], bool],
        what: str,
    ) -> str:
        """The wanted array; by default the one with a usual name, or else the only other array that fits."""
        usual = [name for name in ([wanted] if wanted else names) if name in self._arrays]
        fitting = [name for name in usual if fits(self._arrays[name])]
        if not usual and not wanted:
            fitting = list(others)
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise self._error(f"{' and '.join(map(repr, fitting[:5]))} might each be the {what}")
        raise self._error(f"{str(self._path)!r} has no {what}" + (f" named {wanted!r}" if wanted else ""))

    def _error(self, message: str) -> FeaturesError:
        there = [f"{name!r} {array.shape} {array.dtype}" for name, array in self._arrays.items()]
        listed = ", ".join(there[:10]) + (" …" if len(there) > 10 else "")
        return FeaturesError(f"{message}; its arrays: {listed or 'none'}", NAME_THEM)


def _words(array: _Array, name: str) -> list[str]:
    """An array of names or whole numbers as text."""
    if array.kind == "O":
        raise _objects(name)
    if array.kind not in "iuUS":
        raise FeaturesError(
            f"the array {name!r} holds {array.dtype}, not names or whole numbers", "save codes as integers"
        )
    values = array.read().tolist()
    return [value.decode() for value in values] if array.kind == "S" else [str(value) for value in values]


def _attribute(array: _Array, name: str) -> list[str]:
    """An array of text, whole numbers or booleans as attributes."""
    if array.kind == "b":
        return ["true" if value else "false" for value in array.read().tolist()]
    return [attribute_text(word) or "" for word in _words(array, name)]


def _objects(name: str) -> FeaturesError:
    return FeaturesError(
        f"the array {name!r} holds Python objects: reading them could run any code, and is refused",
        "save names as text, numpy.array(names, dtype=str), and vectors as one matrix of floats",
    )

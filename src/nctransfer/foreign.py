"""Features made elsewhere, read from files: Parquet, NumPy's ``.npz``, ``.safetensors``.

A file gives a matrix of features, one label a row, and perhaps ids, splits and the names of coded labels. Nothing
in it is unpickled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nctransfer.errors import FeaturesError, counted
from nctransfer.features import FeatureInfo, Features, FeatureSet, FeatureStream, Selection, coded

if TYPE_CHECKING:
    import zipfile

    import pyarrow as pa
    import torch
    from numpy.typing import NDArray

__all__ = ["read_features", "read_npz", "read_parquet", "read_safetensors", "stream_features", "vectors"]

FEATURES = ("feature", "features", "x", "X", "embeddings")
LABELS = ("label", "labels", "y", "targets")
IDS, SPLITS, CLASSES = ("ids", "id"), ("split",), ("classes", "class_names")

PLAUSIBLE_BYTES = 2**30  # up to here an array is read however well it is compressed
PLAUSIBLE_RATIO = 100  # what is larger, and compressed better, is a bomb rather than features

NAME_THEM = "name them by --feature-column and --label-column"


# Any file


def read_features(
    path: str | Path,
    label_column: str | None = None,
    feature_column: str | None = None,
    selection: Selection | None = None,
    class_names: Sequence[str] | None = None,
) -> FeatureSet:
    """Features made elsewhere: a Parquet, ``.npz`` or ``.safetensors`` file, or a folder of Parquet files.

    The first bytes of a file say what it is; where they do not, its suffix.

    Args:
        path: The file or folder.
        label_column: The column or array of labels; by default found by its name.
        feature_column: The column or array of features; likewise.
        selection: Which rows are wanted.
        class_names: The names of labels 0, 1, …, where these are whole numbers.

    Raises:
        FeaturesError: There is no such file, or it cannot be used.
    """
    readers = {"npz": read_npz, "safetensors": read_safetensors, "Parquet": read_parquet}
    return readers[_format(Path(path))](path, label_column, feature_column, selection, class_names)


def _format(path: Path) -> str:
    try:
        if path.is_dir():
            return "Parquet"
        if path.exists() and not path.is_file():  # reading a pipe would never end
            raise FeaturesError(f"{str(path)!r} is neither a file nor a folder")
        with path.open("rb") as file:
            start = file.read(16)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FeaturesError(f"{str(path)!r} cannot be read: {reason}") from error
    if start.startswith(b"\x93NUMPY"):
        raise FeaturesError(
            f"{str(path)!r} is a single array, without labels",
            "save both in one file: numpy.savez('features.npz', features=features, labels=labels)",
        )
    if start[4:9] == b"\0\0\0\0{":  # eight bytes of length, and JSON
        return "safetensors"
    if start.startswith(b"\x80"):
        raise _pickled(path)
    by_suffix = {".npz": "npz", ".safetensors": "safetensors"}.get(path.suffix.lower(), "Parquet")
    known = {b"PAR1": "Parquet", b"PK\x03\x04": "npz", b"PK\x05\x06": "npz"}
    return known.get(start[:4], by_suffix)


def _pickled(path: Path) -> FeaturesError:
    return FeaturesError(
        f"{str(path)!r} is pickled: reading it could run any code, and is refused",
        "save the arrays by numpy.savez or safetensors, or a table as Parquet",
    )


@contextmanager
def _reading(path: str | Path, kind: str, needed: str) -> Iterator[None]:
    """Whatever a library raises on a file, as an error that names the file."""
    try:
        yield
    except FeaturesError:
        raise
    except Exception as error:  # a reader may raise anything on a damaged file
        reason = getattr(error, "strerror", None) or str(error).strip().rpartition("': ")[2] or type(error).__name__
        raise FeaturesError(f"{str(path)!r} cannot be read as {kind}: {reason}", needed) from error


class _Contents(NamedTuple):
    """What a file gives, in the order of its rows."""

    names: tuple[str, str]  # of the columns or arrays of features and of labels
    matrix: NDArray[Any] | None  # None if it is streamed
    labels: Sequence[str]
    are_codes: bool
    class_names: Sequence[str] | None
    ids: Sequence[str] | None
    splits: Sequence[str]

    def selected(self, path: str | Path, selection: Selection | None, class_names: Sequence[str] | None) -> FeatureSet:
        """The wanted rows as a set; ``class_names`` go before those of the file."""
        assert self.matrix is not None
        labels, chosen, info = self.chosen(path, selection, class_names)
        if selection is None or not labels:
            return FeatureSet.from_arrays(self.matrix, labels, self.ids, info)
        ids = self.ids or [str(i) for i in range(len(labels))]
        return FeatureSet.from_arrays(self.matrix[chosen], [labels[i] for i in chosen], [ids[i] for i in chosen], info)

    def chosen(
        self, path: str | Path, selection: Selection | None, class_names: Sequence[str] | None
    ) -> tuple[Sequence[str], list[int], FeatureInfo]:
        """The class names of all rows, the rows that are wanted, and what they are."""
        feature, label = self.names
        names = self.class_names if class_names is None else class_names
        labels = self.labels if names is None else _decoded(self.labels, self.are_codes, names, label)
        info = FeatureInfo(str(path), data=Path(path).name, path=str(path), layer=feature)
        if selection is None or not labels:
            return labels, list(range(len(labels))), info
        ids = self.ids or [str(i) for i in range(len(labels))]
        return labels, selection.apply(ids, labels, self.splits).tolist(), replace(info, split=selection.split)


def _decoded(labels: Sequence[str], are_codes: bool, names: Sequence[str], column: str) -> list[str]:
    """The class names that codes stand for."""
    if not are_codes:
        raise FeaturesError(
            f"the labels {column!r} are no whole numbers that class names could stand for",
            "leave the class names out, or name the labels that are codes by --label-column",
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise FeaturesError(f"the class name {twice!r} stands for two codes", "class names must be distinct")
    for row, code in enumerate(map(int, labels)):
        if not 0 <= code < len(names):
            raise FeaturesError(
                f"the label {code} in row {row:,} of {column!r} has no name among {counted(len(names), 'class name')}",
                "the first name stands for code 0, the next for code 1, and so on: give one for each code",
            )
    return [names[int(code)] for code in labels]


# Parquet


def read_parquet(
    path: str | Path,
    label_column: str | None = None,
    feature_column: str | None = None,
    selection: Selection | None = None,
    class_names: Sequence[str] | None = None,
) -> FeatureSet:
    """Features from a Parquet file, or a folder of them.

    Args:
        path: The file or folder.
        label_column: Class names or codes; by default ``class`` if there is such a column, else ``label``.
        feature_column: Vectors as list, fixed-size list or tensor, of any float type; by default ``feature``.
        selection: Which rows are wanted. Columns ``id`` and ``split`` are used if they are there.
        class_names: The names of labels 0, 1, …, where these are whole numbers.

    Raises:
        FeaturesError: No such file or column, rows of unequal length, nulls, or values not finite.
    """
    table = _parquet_table(path, label_column, feature_column, ("id", "split"), with_features=True)
    return table.contents(vectors(table.columns[table.feature], table.feature)).selected(path, selection, class_names)


def stream_features(
    path: str | Path,
    label_column: str | None = None,
    feature_column: str | None = None,
    selection: Selection | None = None,
    class_names: Sequence[str] | None = None,
) -> Features:
    """As :func:`read_features`, but Parquet is not held in memory: its rows are read a batch at a time, each time."""
    import torch

    if _format(Path(path)) != "Parquet":
        return read_features(path, label_column, feature_column, selection, class_names)
    extra = ("id", "split") if selection and selection.max_per_class else ("split",)
    table = _parquet_table(path, label_column, feature_column, extra, with_features=False)
    contents = table.contents(None)
    labels, chosen, info = contents.chosen(path, selection, class_names)
    codes, classes = coded([labels[i] for i in chosen])
    if not len(codes):
        raise FeaturesError(f"{str(path)!r} has no rows")
    of_rows = torch.full((len(labels),), -1)
    of_rows[torch.tensor(chosen)] = codes

    def read() -> Iterator[NDArray[Any]]:
        import pyarrow as pa
        from pyarrow import parquet

        with _reading(path, "Parquet", "it may have changed while it was being read"):
            for file in table.files:
                with parquet.ParquetFile(file, buffer_size=2**20, pre_buffer=False) as opened:  # or all of it is held
                    for batch in opened.iter_batches(1024, columns=[table.feature]):
                        yield vectors(pa.chunked_array([batch.column(0)]), table.feature)

    first = next(iter(read()))
    return FeatureStream(of_rows, classes, first.shape[1], info, read)


class _Table(NamedTuple):
    """The columns of a Parquet file or folder that were asked for."""

    feature: str
    label: str
    columns: pa.Table
    files: list[Path]

    def contents(self, matrix: NDArray[Any] | None) -> _Contents:
        import pyarrow as pa

        column = self.columns[self.label]
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        extra = {
            name: _strings(self.columns[name], name) for name in ("id", "split") if name in self.columns.column_names
        }
        return _Contents(
            (self.feature, self.label),
            matrix,
            _strings(column, self.label),
            pa.types.is_integer(kind),
            None,
            extra.get("id"),
            extra.get("split") or [""] * len(self.columns),
        )


def _parquet_table(
    path: str | Path, label: str | None, feature: str | None, extra: Sequence[str], with_features: bool
) -> _Table:
    import pyarrow as pa
    from pyarrow import parquet

    needed = "needed is a Parquet file, or a folder of nothing but such files, with a label and a vector column"
    feature = feature or "feature"
    files = _files(Path(path))
    with _reading(path, "Parquet", needed):
        names = parquet.read_schema(files[0]).names
        label = label or ("class" if "class" in names else "label")
        for column in (label, feature):
            if column not in names:
                raise FeaturesError(
                    f"{str(path)!r} has no column {column!r}; it has {', '.join(map(repr, names)) or 'none'}",
                    "name the columns by --label-column and --feature-column",
                )
        wanted = [label, *([feature] if with_features else []), *(name for name in extra if name in names)]
        tables = [parquet.ParquetFile(file).read(columns=list(dict.fromkeys(wanted))) for file in files]
        return _Table(feature, label, pa.concat_tables(tables, promote_options="permissive"), files)


def _files(path: Path) -> list[Path]:
    """The files of a folder in the order of their names, but hidden ones and those that note something; or a file."""
    if not path.is_dir():
        return [path]
    found = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file() and not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
    ]
    if not found:
        raise FeaturesError(f"the folder {str(path)!r} holds no files", "needed are Parquet files of features")
    return found


def vectors(column: pa.ChunkedArray, name: str) -> NDArray[Any]:
    """A column of vectors as a matrix ``(n, d)``, float64 if it was that, else float32.

    Raises:
        FeaturesError: It holds no vectors, a null, or rows of unequal length.
    """
    import numpy as np
    import pyarrow as pa

    chunks: list[NDArray[Any]] = []
    for chunk in column.chunks:
        if isinstance(chunk, pa.ExtensionArray):
            chunk = chunk.storage
        kind = chunk.type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
            raise FeaturesError(f"the column {name!r} holds {kind}, not vectors")
        values = chunk.flatten()
        if chunk.null_count or values.null_count:
            first = sum(map(len, chunks)) + _first_null(chunk)
            raise FeaturesError(
                f"the column {name!r} holds nulls, the first in row {first:,}",
                "leave these samples out, or mend what made them",
            )
        if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
            raise FeaturesError(f"the column {name!r} holds vectors of {values.type}, not of numbers")
        if len(chunk) == 0:
            continue
        if not pa.types.is_fixed_size_list(kind):
            lengths = np.from_dlpack(chunk.value_lengths())  # to_numpy would import pandas
            if (lengths != lengths[0]).any():
                raise FeaturesError(
                    f"the vectors of {name!r} are of unequal length: {lengths.min()} to {lengths.max()}"
                )
        kept = np.float64 if values.type == pa.float64() else np.float32
        chunks.append(np.from_dlpack(values).astype(kept, copy=False).reshape(len(chunk), -1))
    widths = sorted({chunk.shape[1] for chunk in chunks})
    if len(widths) > 1:
        raise FeaturesError(f"the vectors of {name!r} are of unequal length: {widths[0]} to {widths[-1]}")
    return np.concatenate(chunks) if chunks else np.empty((0, 0), np.float32)


def _first_null(chunk: pa.Array) -> int:
    """The first row of a column of vectors that is null, or holds a null."""
    from pyarrow import compute

    inside = compute.filter(compute.list_parent_indices(chunk), chunk.flatten().is_null())
    rows = [chunk.is_null().index(True).as_py(), *inside[:1].to_pylist()]
    return int(min(row for row in rows if row >= 0))


def _strings(column: pa.ChunkedArray, name: str) -> list[str]:
    import pyarrow as pa
    from pyarrow import compute

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise FeaturesError(f"the column {name!r} holds {kind}, not names or whole numbers")
    if column.null_count:
        first = compute.index(column.is_null(), True).as_py()
        raise FeaturesError(f"the column {name!r} holds {column.null_count:,} nulls, the first in row {first:,}")
    return [str(value) for value in column.to_pylist()]


# Named arrays


class _Array(NamedTuple):
    """An array of a file, not yet read."""

    shape: tuple[int, ...]
    dtype: str
    kind: str  # as NumPy's dtype.kind
    read: Callable[[], NDArray[Any]]


def read_npz(
    path: str | Path,
    label_column: str | None = None,
    feature_column: str | None = None,
    selection: Selection | None = None,
    class_names: Sequence[str] | None = None,
) -> FeatureSet:
    """Features from a file of ``numpy.savez`` or ``numpy.savez_compressed``.

    Args:
        path: The file.
        label_column: The array of class names or codes; by default ``label``, ``labels``, ``y`` or ``targets``, else
            the only vector of names or whole numbers that has one for each row of the features.
        feature_column: The matrix; by default ``feature``, ``features``, ``x``, ``X`` or ``embeddings``, else the only
            matrix of floats.
        selection: Which rows are wanted. Arrays ``ids`` or ``id``, and ``split`` are used if they are there.
        class_names: The names of labels 0, 1, …, where these are whole numbers; by default the array ``classes`` or
            ``class_names`` if there is one.

    Raises:
        FeaturesError: There is no such file or array, it is pickled or implausibly large, or values are not finite.
    """
    import zipfile

    needed = "needed is a file of numpy.savez with features and labels"
    with _reading(path, "npz", needed), zipfile.ZipFile(path) as archive:
        if any(name.endswith(".pkl") for name in archive.namelist()):  # a file of torch.save
            raise _pickled(Path(path))
        arrays = {
            member.filename.removesuffix(".npy"): _npy(archive, member)
            for member in archive.infolist()
            if member.filename.endswith(".npy")
        }
        contents = _contents(path, arrays, label_column, feature_column)
    return contents.selected(path, selection, class_names)


def _npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> _Array:
    """The header of one array; its values only when they are read."""
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

    return _Array(shape, str(dtype), "O" if dtype.hasobject else dtype.kind, read)


def read_safetensors(
    path: str | Path,
    label_column: str | None = None,
    feature_column: str | None = None,
    selection: Selection | None = None,
    class_names: Sequence[str] | None = None,
) -> FeatureSet:
    """Features from a ``.safetensors`` file, arrays found as :func:`read_npz` finds them.

    Tensors hold no text. So ids, ``split`` and ``classes`` may also be lists in JSON in the file's metadata.

    Args:
        path: The file.
        label_column: See :func:`read_npz`.
        feature_column: See :func:`read_npz`.
        selection: See :func:`read_npz`.
        class_names: See :func:`read_npz`.

    Raises:
        FeaturesError: There is no such file or array, or values are not finite.
    """
    from safetensors import safe_open

    needed = "needed is a file of tensors of features and labels"
    with _reading(path, "safetensors", needed), safe_open(path, framework="pt") as file:  # NumPy knows no bfloat16
        arrays = _texts(file.metadata() or {}) | {name: _tensor(file, name) for name in sorted(file.keys())}
        contents = _contents(path, arrays, label_column, feature_column)
    return contents.selected(path, selection, class_names)


def _tensor(file: Any, name: str) -> _Array:
    header = file.get_slice(name)
    dtype = header.get_dtype()
    kind = "b" if dtype == "BOOL" else {"B": "f", "I": "i", "U": "u", "C": "c"}.get(dtype[0], "f")

    def read() -> NDArray[Any]:
        tensor: torch.Tensor = file.get_tensor(name)
        array: NDArray[Any] = (tensor.float() if kind == "f" and dtype != "F64" else tensor).numpy()
        return array

    return _Array(tuple(header.get_shape()), dtype, kind, read)


def _texts(metadata: Mapping[str, str]) -> dict[str, _Array]:
    """Lists of names in the metadata as arrays."""

    def array(values: list[Any]) -> Callable[[], NDArray[Any]]:
        import numpy as np

        return lambda: np.array([str(value) for value in values], dtype=object)

    found: dict[str, _Array] = {}
    for name in (*IDS, *SPLITS, *CLASSES):
        with suppress(ValueError):  # other things may go by the same name
            values = json.loads(metadata.get(name, ""))
            if isinstance(values, list):
                found[name] = _Array((len(values),), "text", "U", array(values))
    return found


def _contents(
    path: str | Path, arrays: Mapping[str, _Array], label_column: str | None, feature_column: str | None
) -> _Contents:
    """Find the arrays that are needed, and read no others."""
    find = _Finder(path, arrays)
    feature = find.features(feature_column)
    rows = arrays[feature].shape[0]
    label = find.labels(label_column, rows, feature)
    are_codes = arrays[label].kind in "iu"
    names = find.class_names() if are_codes else None
    ids, split = find.one_a_row(IDS, rows), find.one_a_row(SPLITS, rows)
    return _Contents(
        (feature, label),
        arrays[feature].read(),
        _words(arrays[label], label),
        are_codes,
        _words(arrays[names], names) if names else None,
        _words(arrays[ids], ids) if ids else None,
        _words(arrays[split], split) if split else [""] * rows,
    )


class _Finder:
    """Which array of a file is what."""

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

    def one_a_row(self, names: Sequence[str], rows: int) -> str | None:
        """The array of one of these names, if there is one."""
        name = next((name for name in names if name in self._arrays), None)
        if name and self._arrays[name].shape != (rows,):
            raise self._error(f"the array {name!r} does not have one entry for each of {rows:,} rows")
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
        """The array that is wanted; else the one of a usual name; else the only other that fits."""
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
    """Names, or whole numbers as text."""
    if array.kind == "O":
        raise _objects(name)
    if array.kind not in "iuUS":
        raise FeaturesError(
            f"the array {name!r} holds {array.dtype}, not names or whole numbers", "save codes as integers"
        )
    values = array.read().tolist()
    return [value.decode() for value in values] if array.kind == "S" else [str(value) for value in values]


def _objects(name: str) -> FeaturesError:
    return FeaturesError(
        f"the array {name!r} holds Python objects: reading them could run any code, and is refused",
        "save names as text, numpy.array(names, dtype=str), and vectors as one matrix of floats",
    )

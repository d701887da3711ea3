"""Features made elsewhere, from Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nctransfer.errors import FeaturesError
from nctransfer.features.file_contents import Contents, reading_errors

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.sources.selection import Selection

__all__ = ["parquet_table", "read_parquet", "vectors"]


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
    table = parquet_table(path, label_column, feature_column, ("id", "split"), with_features=True)
    return table.contents(vectors(table.columns[table.feature], table.feature)).selected(path, selection, class_names)


class _Table(NamedTuple):
    """The columns of a Parquet file or folder that were asked for."""

    feature: str
    label: str
    columns: pa.Table
    files: list[Path]

    def contents(self, matrix: NDArray[Any] | None) -> Contents:
        import pyarrow as pa

        column = self.columns[self.label]
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        extra = {
            name: _strings(self.columns[name], name) for name in ("id", "split") if name in self.columns.column_names
        }
        return Contents(
            (self.feature, self.label),
            matrix,
            _strings(column, self.label),
            pa.types.is_integer(kind),
            None,
            extra.get("id"),
            extra.get("split") or [""] * len(self.columns),
        )


def parquet_table(
    path: str | Path, label: str | None, feature: str | None, extra: Sequence[str], with_features: bool
) -> _Table:
    """The label column of Parquet files, other columns that are there, and the features if they are wanted."""
    import pyarrow as pa
    from pyarrow import parquet

    needed = "needed is a Parquet file, or a folder of nothing but such files, with a label and a vector column"
    feature = feature or "feature"
    files = _files(Path(path))
    with reading_errors(path, "Parquet", needed):
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

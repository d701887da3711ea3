"""Features made elsewhere, from Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.errors import FeaturesError, did_you_mean, join_names
from nctransfer.features.file_contents import Contents, reading_errors
from nctransfer.sources.arrow_columns import is_text_type, stored_type
from nctransfer.sources.attribute_columns import column_names
from nctransfer.sources.attributes import attribute_text

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.sources.selection import Selection

__all__ = ["ParquetTable", "parquet_files", "parquet_table", "read_parquet", "vectors"]


def read_parquet(
    path: str | Path,
    label_column: str | None = None,
    feature_column: str | None = None,
    selection: Selection | None = None,
    class_names: Sequence[str] | None = None,
    attributes: Sequence[str] = (),
) -> FeatureSet:
    """Features from a Parquet file, or from a folder of Parquet files.

    Args:
        path: The file or folder.
        label_column: The column of class names or codes; by default ``class`` if there is one, else ``label``. Several
            columns that commas separate make classes such as ``cat/Siamese``.
        feature_column: The column of vectors; by default ``feature``. It may be of any list or tensor type, with
            numbers of any type.
        selection: Which rows are wanted. Columns ``id`` and ``split`` are used if there are such columns.
        class_names: The names of labels 0, 1, …, if the labels are whole numbers.
        attributes: The columns of text, whole numbers or booleans that the features shall come with.

    Raises:
        FeaturesError: There is no such file or column, rows are of unequal length, or a value is null or not finite.
    """
    files = parquet_files(Path(path))
    others = ("id", "split", *attributes, *(part for name in attributes for part in column_names(name, ())))
    table = parquet_table(path, files, label_column, feature_column, others, with_features=True)
    matrix = vectors(table.columns[table.feature], table.feature)
    return table.contents(matrix, attributes).selected(path, selection, class_names)


@dataclass(frozen=True, kw_only=True)
class ParquetTable:
    """Columns of Parquet files.

    Attributes:
        feature: The name of the column of vectors.
        labels: The names of the columns of labels; usually one.
        columns: The columns that have been read, by name.
        names: The names of all columns.
    """

    feature: str
    labels: tuple[str, ...]
    columns: pa.Table
    names: tuple[str, ...]

    def contents(self, matrix: NDArray[Any] | None, attributes: Sequence[str] = ()) -> Contents:
        """The labels, ids and splits, with the features ``(n, d)`` if they have been read, and wanted attributes.

        Raises:
            FeaturesError: A column holds nulls, or neither text nor whole numbers; or there is no such attribute.
        """
        import pyarrow as pa

        names = [_strings(self.columns[label], label) for label in self.labels]
        kinds = [stored_type(self.columns[label].type) for label in self.labels]
        others = {name: _strings(self.columns[name], name) for name in ("id", "split") if self._has(name)}
        return Contents(
            feature=self.feature,
            label=",".join(self.labels),
            matrix=matrix,
            labels=names[0] if len(names) == 1 else ["/".join(parts) for parts in zip(*names, strict=True)],
            are_codes=len(kinds) == 1 and pa.types.is_integer(kinds[0]),
            class_names=None,
            ids=others.get("id"),
            splits=others.get("split") or [""] * len(self.columns),
            attributes={
                name: self._attribute(name) for given in attributes for name in column_names(given, self.names)
            },
        )

    def _attribute(self, name: str) -> list[str]:
        """A column as texts, "" for null."""
        if not self._has(name):
            raise FeaturesError(
                f"the features have no column {name!r}; they have {join_names(list(map(repr, self.names)), 20)}",
                did_you_mean(name, self.names) or "name a column of the Parquet files",
            )
        texts = list(map(attribute_text, self.columns[name].to_pylist()))
        if None in texts:
            kind = stored_type(self.columns[name].type)
            raise FeaturesError(f"the column {name!r} holds {kind}, not text, whole numbers or booleans")
        return [text or "" for text in texts]

    def _has(self, name: str) -> bool:
        return name in self.columns.column_names


def parquet_table(
    path: str | Path,
    files: Sequence[Path],
    label: str | None,
    feature: str | None,
    others: Sequence[str],
    with_features: bool,
) -> ParquetTable:
    """The column of labels of Parquet files, with other columns if there are such, and the features if wanted.

    Args:
        path: What the files are called in errors.
        files: The files, whose rows follow each other.
        label: The column of labels, or several that commas separate; by default ``class`` if there is one, else
            ``label``.
        feature: The column of vectors; by default ``feature``.
        others: Further columns that are read if they exist.
        with_features: Whether the vectors are read too.

    Raises:
        FeaturesError: A file cannot be read, or there is no such column.
    """
    import pyarrow as pa
    from pyarrow import parquet

    expected = "expected a Parquet file, or a folder of Parquet files alone, with a column of labels and one of vectors"
    feature = feature or "feature"
    with reading_errors(path, "Parquet", expected):
        names = parquet.read_schema(files[0]).names
        labels = column_names(label or ("class" if "class" in names else "label"), names)
        for column in (*labels, feature):
            if column not in names:
                raise FeaturesError(
                    f"{str(path)!r} has no column {column!r}; it has {', '.join(map(repr, names)) or 'none'}",
                    "name the columns by --label-column and --feature-column",
                )
        wanted = [*labels, *([feature] if with_features else []), *(name for name in others if name in names)]
        tables = [parquet.ParquetFile(file).read(list(dict.fromkeys(wanted))) for file in files]
        columns = pa.concat_tables([_with_plain_text(table, feature) for table in tables], promote_options="permissive")
    return ParquetTable(feature=feature, labels=labels, columns=columns, names=tuple(names))


def parquet_files(path: Path) -> list[Path]:
    """The files of a folder, sorted by name; for a file, the file itself.

    Names that begin with a dot or an underscore are left out: other tools put notes there.

    Raises:
        FeaturesError: The folder holds no files.
    """
    if not path.is_dir():
        return [path]
    found = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file() and not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
    ]
    if not found:
        raise FeaturesError(f"the folder {str(path)!r} holds no files", "expected Parquet files of features")
    return found


def _with_plain_text(table: pa.Table, feature: str) -> pa.Table:
    """The table with text in one layout: files whose text is in different layouts can be joined only then."""
    import pyarrow as pa

    for index, field in enumerate(table.schema):
        if field.name != feature and is_text_type(stored_type(field.type)):
            table = table.set_column(index, field.name, table[index].cast(pa.large_string()))
    return table


def vectors(column: pa.ChunkedArray, name: str) -> NDArray[Any]:
    """A column of vectors as a matrix ``(n, d)``, float64 if the column is, else float32.

    Args:
        column: Lists or tensors of numbers.
        name: What the column is called in errors.

    Raises:
        FeaturesError: The column does not hold vectors, holds nulls, or its rows are empty or of unequal length.
    """
    import numpy as np
    import pyarrow as pa

    chunks: list[NDArray[Any]] = []
    for chunk in map(_as_lists, column.chunks):
        is_fixed = pa.types.is_fixed_size_list(chunk.type)
        if not (is_fixed or pa.types.is_list(chunk.type) or pa.types.is_large_list(chunk.type)):
            raise FeaturesError(f"the column {name!r} holds {chunk.type}, not vectors")
        values = chunk.flatten()
        if chunk.null_count or values.null_count:
            first = sum(map(len, chunks)) + _first_null(chunk)
            raise FeaturesError(
                f"the column {name!r} holds nulls, the first in row {first:,}",
                "leave these samples out, or correct the program that wrote them",
            )
        if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
            raise FeaturesError(f"the column {name!r} holds vectors of {values.type}, not of numbers")
        if len(chunk) == 0:
            continue
        if not is_fixed:
            lengths = np.from_dlpack(chunk.value_lengths())  # to_numpy would import pandas
            if (lengths != lengths[0]).any():
                raise _unequal_lengths(name, lengths.min(), lengths.max())
        kept = np.float64 if values.type == pa.float64() else np.float32
        chunks.append(np.from_dlpack(values).astype(kept, copy=False).reshape(len(chunk), -1))
    widths = sorted({chunk.shape[1] for chunk in chunks})
    if len(widths) > 1:
        raise _unequal_lengths(name, widths[0], widths[-1])
    if widths == [0]:
        shape = (sum(map(len, chunks)), 0)
        raise FeaturesError(
            f"the vectors in the column {name!r} are empty, of shape {shape}", "correct the program that wrote them"
        )
    return np.concatenate(chunks) if chunks else np.empty((0, 0), np.float32)


def _as_lists(chunk: pa.Array) -> pa.Array:
    """Tensors and views of lists as plain lists; anything else as it is."""
    import pyarrow as pa

    if isinstance(chunk, pa.ExtensionArray):
        chunk = chunk.storage
    if pa.types.is_list_view(chunk.type) or pa.types.is_large_list_view(chunk.type):
        chunk = chunk.cast(pa.large_list(chunk.type.value_type))
    return chunk


def _unequal_lengths(name: str, least: int, most: int) -> FeaturesError:
    return FeaturesError(f"the vectors of {name!r} are of unequal length: {least} to {most}")


def _first_null(chunk: pa.Array) -> int:
    """The first row of a column of vectors that is null, or holds a null."""
    from pyarrow import compute

    inside = compute.filter(compute.list_parent_indices(chunk), chunk.flatten().is_null())
    rows = [chunk.is_null().index(True).as_py(), *inside[:1].to_pylist()]
    return int(min(row for row in rows if row >= 0))


def _strings(column: pa.ChunkedArray, name: str) -> list[str]:
    """A column of text or whole numbers as text."""
    import pyarrow as pa
    from pyarrow import compute

    kind = stored_type(column.type)
    if not (pa.types.is_integer(kind) or is_text_type(kind)):
        raise FeaturesError(f"the column {name!r} holds {kind}, not names or whole numbers")
    if column.null_count:
        first = compute.index(column.is_null(), True).as_py()
        raise FeaturesError(f"the column {name!r} holds {column.null_count:,} nulls, the first in row {first:,}")
    return [str(value) for value in column.to_pylist()]

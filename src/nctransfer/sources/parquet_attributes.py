"""The attributes of the images in Parquet files: every further column of text, whole numbers or booleans."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.sources.arrow_arrays import values_of
from nctransfer.sources.arrow_columns import class_label, hub_features, is_text_type, stored_type
from nctransfer.sources.attributes import MOST_COLUMNS, MOST_LETTERS, MOST_NAME, AttributeColumn, attribute_text
from nctransfer.sources.row_groups import open_parquet, unreadable

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from pyarrow import parquet

__all__ = ["BATCH_ROWS", "ParquetAttributes"]

BATCH_ROWS = 2**16


class ParquetAttributes:
    """The further columns of Parquet files, file by file. A file that lacks a column has no text in it."""

    def __init__(self) -> None:
        self._columns: dict[str, AttributeColumn] = {}
        self._useless: set[str] = set()
        self._rows = 0

    def add_file(self, path: Path, without: Collection[str], left_out: Sequence[int]) -> None:
        """Take the columns of the next file.

        Args:
            path: The file.
            without: The columns that are something else, such as the images.
            left_out: The numbers of the rows that are no images of the source, in ascending order.

        Raises:
            DataError: The file cannot be read.
        """
        import numpy as np
        import pyarrow as pa

        skipped = np.array(left_out, np.int64)
        with open_parquet(path) as file:
            schema, start = file.schema_arrow, 0
            names = self.begin(schema, without)
            described = hub_features(schema)
            known = {name: found for name in names if (found := class_label(described.get(name))) is not None}
        with open_parquet(path, [name for name in names if is_text_type(schema.field(name).type)]) as file:
            try:
                for batch, rows in self._batches(file, names):
                    inside = skipped[slice(*np.searchsorted(skipped, (start, start + rows)))]
                    self.add(batch, np.delete(np.arange(rows), inside - start), known)
                    start += rows
            except (pa.ArrowException, OSError) as error:
                raise unreadable(path, error) from error

    def columns(self) -> dict[str, pa.DictionaryArray]:
        """The attributes, by name. Nothing may be added afterwards."""
        for column in self._columns.values():
            column.fill(self._rows)
        return {name: column.coded() for name, column in self._columns.items()}

    def begin(self, schema: pa.Schema, without: Collection[str]) -> list[str]:
        """The columns of a table that may be attributes, of which :meth:`add` takes the rows then."""
        fitting = [
            field.name
            for field in schema
            if field.name not in without and schema.names.count(field.name) == 1 and _may_be_attribute(field.type)
        ]
        known = self._columns.keys() | self._useless
        new = [name for name in fitting if 0 < len(name) <= MOST_NAME and name not in known]
        for name in new[: MOST_COLUMNS - len(self._columns)]:
            self._columns[name] = AttributeColumn()
        return [name for name in fitting if name in self._columns]

    def _batches(self, file: parquet.ParquetFile, names: Sequence[str]) -> Iterator[tuple[Mapping[str, pa.Array], int]]:
        """Columns of a file in batches, by name, and the number of rows of each batch."""
        for group in range(file.num_row_groups):
            described = file.metadata.row_group(group)
            for index in range(described.num_columns):
                chunk = described.column(index)
                if chunk.total_uncompressed_size > MOST_LETTERS * 4 * described.num_rows + 2**20:
                    self._drop(chunk.path_in_schema)  # documents: they are not even read
            here = [name for name in names if name in self._columns]
            if not here:
                yield {}, described.num_rows
                continue
            for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=here):
                yield {name: batch.column(name) for name in here if name in self._columns}, len(batch)

    def add(
        self, batch: Mapping[str, pa.Array], rows: NDArray[np.integer[Any]], known: Mapping[str, Sequence[str]]
    ) -> None:
        """Take the columns of the next rows.

        Args:
            batch: The columns by name.
            rows: The numbers of the rows that are images of the source, in ascending order.
            known: The names of codes, for columns that hold codes.
        """
        for name, values in batch.items():
            if (column := self._columns.get(name)) is None:
                continue
            column.fill(self._rows)
            texts, codes = _coded(values)
            names = known.get(name)
            words = [attribute_text(text) if names is None else _name_of(text, names) for text in texts]
            column.add_many(words, codes[rows].tolist())
            if not column.is_kept:
                self._drop(name)
        self._rows += len(rows)

    def _drop(self, name: str) -> None:
        if self._columns.pop(name, None) is not None:
            self._useless.add(name)


def _may_be_attribute(kind: pa.DataType) -> bool:
    import pyarrow as pa

    stored = stored_type(kind)
    return is_text_type(stored) or pa.types.is_integer(stored) or pa.types.is_boolean(stored)


def _coded(values: pa.Array) -> tuple[list[Any], NDArray[np.int32]]:
    """The different values of a column, and the number of each row's value among them."""
    import pyarrow as pa

    if is_text_type(values.type):
        values = values.cast(pa.large_string())  # not all of Arrow's layouts of text can be encoded
    held = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    different = [*held.dictionary.to_pylist(), None]
    return different, values_of(held.indices.cast(pa.int32()).fill_null(len(different) - 1))


def _name_of(code: Any, names: Sequence[str]) -> str:
    """The name of a code of Hugging Face's ``ClassLabel``; "" for −1, which stands for an unknown one."""
    return names[code] if isinstance(code, int) and 0 <= code < len(names) else ""

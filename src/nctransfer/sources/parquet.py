"""Parquet files with encoded images and their labels, as on the Hugging Face hub."""

from __future__ import annotations

import glob
import itertools
import os
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.errors import DataError, counted
from nctransfer.sources.arrow_columns import (
    Columns,
    LabelColumn,
    class_label,
    find_image_column,
    find_label_column,
    hub_features,
    is_binary_type,
    is_image_struct,
    is_text_type,
    no_column,
    stored_type,
)
from nctransfer.sources.attribute_columns import column_names
from nctransfer.sources.folder import holds_parquet, walk
from nctransfer.sources.image_table import ImageTable
from nctransfer.sources.label_codes import distinct_names, name_of_code
from nctransfer.sources.layout import as_unicode, splits_on_top
from nctransfer.sources.parquet_attributes import ParquetAttributes
from nctransfer.sources.row_groups import open_parquet, read_rows, unreadable
from nctransfer.sources.source import ImageEntry, ListedSource, Listing, source_id
from nctransfer.sources.source_kind import SourceKind

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

    from nctransfer.sources.source_kind import ReadingOptions

__all__ = ["PARQUET", "ParquetFiles", "is_parquet"]

LISTED_ROWS = 2**16  # number of labels in memory at once


class ParquetFiles(ListedSource[Mapping[str, tuple[Path, Columns]]]):
    """Parquet files with a column of encoded images and a column of labels.

    The id of an image is the path of its file without the suffix, and the number of its row. A place belongs to the
    part before the row: the file and its columns.

    Args:
        path: A file, a folder that holds some at any depth, or a pattern such as ``data/train-*.parquet``.
        image_column: The column of the images, which are ``{bytes, path}`` or bytes. Default: the only such column.
        label_column: The column of the labels, or several that commas separate: of ``species,breed``, classes such as
            ``cat/Siamese``. All further columns are attributes of the images. Default: ``label``, ``class``,
            ``fine_label``, or the only column that the Hugging Face metadata describe as classes.
        class_names: Names of the classes whose labels are the codes 0, 1, … They replace those in the metadata.
        split_column: The column of the splits. Default: ``split``, if it holds text; else the name of the file says it.
        labels_optional: Whether there may be no column of labels, or no label in some rows.
    """

    kind = "Parquet files"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        image_column: str | None = None,
        label_column: str | None = None,
        class_names: Sequence[str] | None = None,
        split_column: str | None = None,
        labels_optional: bool = False,
    ) -> None:
        self.name = os.fspath(path)
        self.id = source_id(path, *([f"image={image_column}"] if image_column else []))
        self._asked = (image_column, label_column)
        self._class_names = class_names
        self._split_column = split_column
        self._labels_optional = labels_optional

    def scan(self) -> Listing[Mapping[str, tuple[Path, Columns]]]:
        """See :meth:`ListedSource.scan`; reads the labels, not the images."""
        files = _find_files(self.name)
        if not files:
            raise DataError(f"{self.name!r} has no Parquet files", "expected files named *.parquet")
        places: dict[str, tuple[Path, Columns]] = {}
        left_out: dict[str, array[int]] = {}

        def listed() -> Iterator[ImageEntry]:
            for stem, path in files.items():
                with open_parquet(path) as file:
                    columns = self._choose(path, file.schema_arrow)
                    places[stem], left_out[stem] = (path, columns), array("q")
                    yield from _rows(stem, path, file, columns, self._labels_optional, left_out[stem])

        entries = ImageTable.of(listed())
        if len({tuple(one.names is None for one in columns.labels) for _, columns in places.values()} - {()}) > 1:
            raise DataError(
                f"some Parquet files of {self.name!r} name their classes, and others do not",
                "give the names of all classes with --class-names, or read the files separately",
            )
        unlabelled = sum(map(len, left_out.values()))
        if not entries:
            if self._labels_optional:
                raise DataError(f"{self.name!r} has no images", "give Parquet files with rows")
            raise DataError(f"{self.name!r} has no labelled images ({counted(unlabelled, 'row')} without a label)")
        notes = (f"left out {counted(unlabelled, 'image')} without a label",) if unlabelled else ()
        return Listing(_with_attributes(entries, places, left_out), notes, places)

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        """See :meth:`ImageSource.contents`: the iterator reads a few images ahead."""
        rows = ((stem, int(row)) for stem, _, row in (entry.id.rpartition("/") for entry in entries))
        for stem, group in itertools.groupby(rows, key=lambda row: row[0]):
            yield from read_rows(*self.places[stem], [row for _, row in group])

    def _choose(self, path: Path, schema: pa.Schema) -> Columns:
        image_column, label_column = self._asked
        features = hub_features(schema)
        image = image_column or find_image_column(path, schema, features)
        if image not in schema.names:
            raise no_column(path, schema, f"no column {image!r}", "image")
        kind = schema.field(image).type
        is_struct = is_image_struct(kind)
        if not (is_struct or is_binary_type(kind)):
            raise no_column(path, schema, f"values of type {kind} in the column {image!r}, not images", "image")
        labels: tuple[LabelColumn, ...] = ()
        try:
            asked = column_names(label_column, schema.names) if label_column else ()
            found = asked or (find_label_column(path, schema, features),)
            if len(found) > 1 and self._class_names is not None:
                raise DataError(
                    f"the codes of {counted(len(found), 'label column')} cannot share one list of names",
                    "leave out --class-names, or name one label column",
                )
            labels = tuple(LabelColumn(name, self._names(path, schema, name, features)) for name in found)
        except DataError:
            if label_column is not None or not self._labels_optional:
                raise
        split: str | None = self._split_column or "split"
        if split not in schema.names or not is_text_type(stored_type(schema.field(split).type)):
            if self._split_column:
                raise no_column(path, schema, f"no column {split!r} of text", "split")
            split = None
        others = (image, *(one.column for one in labels))
        return Columns(image=image, is_struct=is_struct, labels=labels, split=None if split in others else split)

    def _names(self, path: Path, schema: pa.Schema, label: str, features: dict[str, Any]) -> Sequence[str] | None:
        """The names of the classes whose labels are codes; ``None`` if the labels are names, or nobody names the codes.

        Raises:
            DataError: There is no such column, it does not hold labels, or it holds names where codes are expected.
        """
        import pyarrow as pa

        if label not in schema.names:
            raise no_column(path, schema, f"no column {label!r}", "label")
        kind = stored_type(schema.field(label).type)
        if pa.types.is_boolean(kind) or not (pa.types.is_integer(kind) or is_text_type(kind)):
            raise no_column(
                path, schema, f"values of type {kind} in the column {label!r}, not names or codes of classes", "label"
            )
        if is_text_type(kind):
            if self._class_names is not None:
                raise DataError(f"the labels in {str(path)!r} are names, not codes", "leave out --class-names")
            return None
        described = class_label(features.get(label))
        if self._class_names is not None or described is None:
            return self._class_names
        return distinct_names(described)


def is_parquet(path: Path) -> bool:
    """Whether a file is a Parquet file, by its name or its first bytes."""
    if path.suffix.lower() == ".parquet":
        return True
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError:
        return False


def _find_files(name: str) -> dict[str, Path]:
    """The files, by their path relative to the root and without the suffix."""
    path = Path(name)
    if path.is_dir():
        found = sorted(relative for relative, _ in walk(name) if relative.lower().endswith(".parquet"))
    elif path.exists():
        path, found = path.parent, [path.name]
    else:
        matches = sorted(match for match in glob.glob(name, recursive=True) if Path(match).is_file())  # noqa: PTH207
        path = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
        found = [Path(match).relative_to(path).as_posix() for match in matches]
    return {as_unicode(relative.removesuffix(".parquet")): path / relative for relative in found}


def _rows(
    stem: str,
    path: Path,
    file: parquet.ParquetFile,
    columns: Columns,
    labels_optional: bool,
    left_out: array[int],
) -> Iterator[ImageEntry]:
    """The images of a file; the numbers of the rows without a label are added to ``left_out``."""
    import pyarrow as pa

    found = path.stat()
    split = _split_of(stem)
    row = 0
    try:
        for labels, splits in _labels_and_splits(file, columns):
            for codes, part in zip(labels, splits or itertools.repeat(split), strict=False):
                label = _label(codes, columns, row, path)
                if label or labels_optional:
                    yield ImageEntry(f"{stem}/{row:07d}", label, part or "", found.st_size, found.st_mtime_ns)
                else:
                    left_out.append(row)
                row += 1
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error


def _label(codes: Sequence[str | int | None], columns: Columns, row: int, path: Path) -> str:
    """The class of a row: the names in its columns of labels, joined by "/"; "" if one of them has none."""
    names = []
    for code, known in zip(codes, columns.labels, strict=True):
        if code is None or code in ("", -1):
            return ""
        where = f"row {row} of {str(path)!r}"
        names.append(code if isinstance(code, str) else name_of_code(code, known.names, where))
    return "/".join(names) if all(names) else ""


def _labels_and_splits(
    file: parquet.ParquetFile, columns: Columns
) -> Iterator[tuple[Iterable[Sequence[str | int | None]], Sequence[str | None] | None]]:
    """The labels and the split of each row, in batches; the splits are ``None`` if the file has none."""
    names = [one.column for one in columns.labels]
    wanted = [*names, *([columns.split] if columns.split else [])]
    if not wanted:
        for start in range(0, file.metadata.num_rows, LISTED_ROWS):
            yield [()] * min(LISTED_ROWS, file.metadata.num_rows - start), None
        return
    for batch in file.iter_batches(batch_size=LISTED_ROWS, columns=wanted):
        splits = batch.column(columns.split).to_pylist() if columns.split else None
        labels = [batch.column(name).to_pylist() for name in names]
        yield zip(*labels, strict=True) if labels else [()] * len(batch), splits


def _with_attributes(
    entries: ImageTable, places: Mapping[str, tuple[Path, Columns]], left_out: Mapping[str, Sequence[int]]
) -> ImageTable:
    """The same images, with the further columns of their files."""
    further, single = ParquetAttributes(), {one.labels[0].column for _, one in places.values() if len(one.labels) == 1}
    for stem, (path, columns) in places.items():
        further.add_file(path, {columns.image, columns.split or "", *single}, left_out[stem])
    attributes = further.columns()
    if attributes and len(single) == 1:
        attributes[single.pop()] = entries.labels
    return entries.with_attributes(attributes)


def _split_of(stem: str) -> str:
    """The split that the name of a file says, as on the hub, or the name of a folder above it; "" if none does."""
    for part in reversed(stem.split("/")):
        words = [word for word in re.split(r"[^A-Za-z]+", part) if splits_on_top([word])]
        if len(words) == 1:
            return words[0]
    return ""


def _recognises(name: str) -> bool:
    path = Path(name)
    if path.is_dir():
        return holds_parquet(name)
    if path.exists():
        return path.is_file() and is_parquet(path)
    return glob.has_magic(name) and name.lower().endswith(".parquet")


def _open(name: str, options: ReadingOptions) -> ParquetFiles:
    return ParquetFiles(
        name,
        image_column=options.image_column,
        label_column=options.label_column,
        class_names=options.class_names,
        split_column=options.split_column,
        labels_optional=options.labels_optional,
    )


PARQUET = SourceKind(
    name="parquet",
    recognises=_recognises,
    open=_open,
    takes=("label_column", "image_column", "split_column", "class_names"),
    examples=("pets.parquet", "parquet/", "'data/*.parquet'"),
    summary="Parquet files with encoded images and labels, as on the Hugging Face hub",
    details="Class names come from the metadata of the files or from `--class-names`.",
)

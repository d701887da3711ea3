"""Parquet files with encoded images and their labels, as on the Hugging Face hub."""

from __future__ import annotations

import bisect
import glob
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.errors import DataError, counted, reason_of
from nctransfer.sources.arrow_columns import (
    Columns,
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
from nctransfer.sources.contents import failing, given
from nctransfer.sources.folder import holds_parquet, walk
from nctransfer.sources.labels import named, unlike
from nctransfer.sources.layout import splits_on_top, text
from nctransfer.sources.source import ImageEntry, ListedSource, Listing, source_id
from nctransfer.sources.source_kind import SourceKind

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

    from nctransfer.sources.source_kind import ReadingOptions

__all__ = ["PARQUET", "ParquetFiles", "is_parquet"]

BATCH_BYTES = 8 * 2**20  # size of the images in memory at once
OUTSIDE = "the Parquet file holds only the path of the image, not the image"
LISTED_ROWS = 2**16  # number of labels in memory at once


class ParquetFiles(ListedSource[tuple[Path, Columns]]):
    """Parquet files with a column of encoded images and a column of labels.

    The id of an image is the path of its file without the suffix, and the number of its row. A place belongs to the
    part before the row: the file and its columns.

    Args:
        path: A file, a folder that holds some at any depth, or a pattern such as ``data/train-*.parquet``.
        image_column: The column of the images, which are ``{bytes, path}`` or bytes. Default: the only such column.
        label_column: The column of the labels. Default: ``label``, ``class``, ``fine_label``, or the only column
            that the Hugging Face metadata describe as classes.
        class_names: Names of the classes whose labels are the codes 0, 1, … They replace those in the metadata.
    """

    kind = "Parquet files"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        image_column: str | None = None,
        label_column: str | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.name = os.fspath(path)
        self.id = source_id(path, *([f"image={image_column}"] if image_column else []))
        self._asked = (image_column, label_column)
        self._class_names = class_names

    def scan(self) -> Listing[tuple[Path, Columns]]:
        """See :meth:`ListedSource.scan`; reads the labels, not the images."""
        files = _find_files(self.name)
        if not files:
            raise DataError(f"{self.name!r} has no Parquet files", "expected files named *.parquet")
        places: dict[str, tuple[Path, Columns]] = {}
        entries: list[ImageEntry] = []
        rows = 0
        for stem, path in files.items():
            with _opened(path) as file:
                columns = self._choose(path, file.schema_arrow)
                places[stem] = path, columns
                entries += _rows(stem, path, file, columns)
                rows += file.metadata.num_rows
        if len({columns.names is None for _, columns in places.values()}) > 1:
            raise DataError(
                f"some Parquet files of {self.name!r} name their classes, and others do not",
                "give the names of all classes with --class-names, or read the files separately",
            )
        unlabelled = rows - len(entries)
        if not entries:
            raise DataError(f"{self.name!r} has no labelled images ({counted(unlabelled, 'row')} without a label)")
        notes = (f"left out {counted(unlabelled, 'image')} without a label",) if unlabelled else ()
        return Listing(entries, notes, places)

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        """See :meth:`ImageSource.contents`: the iterator reads a few images ahead."""
        rows = ((stem, int(row)) for stem, _, row in (entry.id.rpartition("/") for entry in entries))
        for stem, group in itertools.groupby(rows, key=lambda row: row[0]):
            yield from _contents(*self.places[stem], [row for _, row in group])

    def _choose(self, path: Path, schema: pa.Schema) -> Columns:
        import pyarrow as pa

        image_column, label_column = self._asked
        features = hub_features(schema)
        image = image_column or find_image_column(path, schema, features)
        label = label_column or find_label_column(path, schema, features)
        for what, column in (("image", image), ("label", label)):
            if column not in schema.names:
                raise no_column(path, schema, f"no column {column!r}", what)
        kind = schema.field(image).type
        is_struct = is_image_struct(kind)
        if not (is_struct or is_binary_type(kind)):
            raise no_column(path, schema, f"values of type {kind} in the column {image!r}, not images", "image")
        names = self._class_names
        if names is None and (described := class_label(features.get(label))) is not None:
            names = unlike(described)
        kind = stored_type(schema.field(label).type)
        if pa.types.is_boolean(kind) or not (pa.types.is_integer(kind) or is_text_type(kind)):
            raise no_column(
                path, schema, f"values of type {kind} in the column {label!r}, not names or codes of classes", "label"
            )
        if is_text_type(kind):
            if self._class_names is not None:
                raise DataError(f"the labels in {str(path)!r} are names, not codes", "leave out --class-names")
            names = None
        split = "split" if "split" in schema.names and is_text_type(stored_type(schema.field("split").type)) else None
        return Columns(
            image=image,
            is_struct=is_struct,
            label=label,
            names=names,
            split=split if split not in (image, label) else None,
        )


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
    return {text(relative.removesuffix(".parquet")): path / relative for relative in found}


def _opened(path: Path) -> parquet.ParquetFile:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        # With a buffer, and without reading ahead, the file is not held in memory as a whole.
        return parquet.ParquetFile(path, buffer_size=2**20, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _rows(stem: str, path: Path, file: parquet.ParquetFile, columns: Columns) -> Iterator[ImageEntry]:
    import pyarrow as pa

    found = path.stat()
    split = _split_of(stem)
    wanted = [columns.label, *([columns.split] if columns.split else [])]
    row = 0
    try:
        for batch in file.iter_batches(batch_size=LISTED_ROWS, columns=wanted):
            labels = batch.column(columns.label).to_pylist()
            splits = batch.column(columns.split).to_pylist() if columns.split else itertools.repeat(split)
            for code, part in zip(labels, splits, strict=False):
                if code is not None and code != "" and code != -1:
                    where = f"row {row} of {str(path)!r}"
                    label = code if isinstance(code, str) else named(code, columns.names, where)
                    yield ImageEntry(f"{stem}/{row:07d}", label, part or "", found.st_size, found.st_mtime_ns)
                row += 1
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _contents(path: Path, columns: Columns, rows: Sequence[int]) -> Iterator[Callable[[], bytes]]:
    """The images of some rows of one file, row group by row group."""
    try:
        file = _opened(path)
    except DataError as error:
        yield from itertools.repeat(failing(error.message), len(rows))
        return
    with file:
        groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
        starts = list(itertools.accumulate((group.num_rows for group in groups), initial=0))
        for index, run in _runs(rows, starts):
            yield from _group_contents(file, columns, index, [row - starts[index] for row in run])


def _runs(rows: Iterable[int], starts: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Each row group with the rows to read from it. Rows that do not ascend start a new run."""
    group, run = 0, list[int]()
    for row in rows:
        here = bisect.bisect_right(starts, row) - 1
        if run and (here != group or row <= run[-1]):
            yield group, run
            run = []
        group = here
        run.append(row)
    if run:
        yield group, run


def _group_contents(
    file: parquet.ParquetFile, columns: Columns, group: int, rows: Sequence[int]
) -> Iterator[Callable[[], bytes]]:
    """The images in some rows of one row group. The rows ascend, so that a few images are in memory at a time."""
    import pyarrow as pa

    done, start = 0, 0
    try:
        for batch in _image_batches(file, columns, group):
            while done < len(rows) and rows[done] < start + len(batch):
                content = batch[rows[done] - start].as_py()
                done += 1
                yield failing(OUTSIDE) if content is None else given(content)
            start += len(batch)
            if done == len(rows):
                return
        reason = "the file has fewer rows than when it was listed"
    except (pa.ArrowException, OSError, IndexError) as error:
        reason = f"row group {group} cannot be read: {error}"
    yield from itertools.repeat(failing(reason), len(rows) - done)


def _image_batches(file: parquet.ParquetFile, columns: Columns, group: int) -> Iterator[pa.Array]:
    """The encoded images of one row group, in batches of at most about ``BATCH_BYTES``."""
    about = file.metadata.row_group(group)
    parts = (about.column(index) for index in range(about.num_columns))
    size = sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] == columns.image)
    rows = max(1, min(1024, BATCH_BYTES * about.num_rows // max(1, size)))
    leaf = f"{columns.image}.bytes" if columns.is_struct else columns.image
    for batch in file.iter_batches(batch_size=rows, row_groups=[group], columns=[leaf]):
        column = batch.column(0)
        yield column.flatten()[0] if columns.is_struct else column  # flatten() makes the bytes null where the struct is


def _split_of(stem: str) -> str:
    """The split that the name of a file says, as on the hub, or the name of a folder above it; "" if none does."""
    for part in reversed(stem.split("/")):
        words = [word for word in re.split(r"[^A-Za-z]+", part) if splits_on_top([word])]
        if len(words) == 1:
            return words[0]
    return ""


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{str(path)!r} cannot be read as Parquet: {reason_of(error)}",
        "it may be truncated: download or copy it again",
    )


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
    )


PARQUET = SourceKind(
    name="parquet",
    recognises=_recognises,
    open=_open,
    takes=("label_column", "image_column", "class_names"),
    examples=("pets.parquet", "parquet/", "'data/*.parquet'"),
    summary="Parquet files with encoded images and labels, as on the Hugging Face hub",
    details="Class names come from the metadata of the files or from `--class-names`.",
)

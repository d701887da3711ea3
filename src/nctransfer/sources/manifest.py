"""A manifest: a table with the path and the class of each image."""

from __future__ import annotations

import functools
import itertools
import logging
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nctransfer.errors import DataError, counted
from nctransfer.sources.attribute_columns import column_names
from nctransfer.sources.attributes import RowAttributes
from nctransfer.sources.contents import read_file
from nctransfer.sources.image_table import ImageTable
from nctransfer.sources.label_codes import name_of_code
from nctransfer.sources.layout import is_image
from nctransfer.sources.manifest_rows import PLAIN, Row, line_error, manifest_rows
from nctransfer.sources.source import ImageEntry, ImageSource, source_id
from nctransfer.sources.source_kind import SourceKind

if TYPE_CHECKING:
    from nctransfer.sources.source_kind import ReadingOptions

__all__ = ["MANIFEST", "SUFFIXES", "Manifest"]

log = logging.getLogger(__name__)

SUFFIXES = (".csv", ".tsv", ".jsonl")
IMAGE_COLUMNS = ("path", "image", "file", "filename", "file_name")
LABEL_COLUMNS = ("label", "class")


class _Columns(NamedTuple):
    """The columns of a manifest that are read: the paths, the labels, and the splits if there are any."""

    image: str
    labels: tuple[str, ...]
    split: str | None


class Manifest(ImageSource):
    """A ``.csv``, ``.tsv``, ``.jsonl`` or ``.txt`` file with the path and class of each image, and perhaps its split.

    Class names are kept as they are written: ``001`` and ``NA`` are names like any other. Only the apostrophe that
    guards a table against formulas, as in ``'=cat``, is taken off.

    Args:
        path: The file.
        image_column: Column of the paths. Default: ``path``, ``image``, ``file``, ``filename`` or ``file_name``.
        label_column: Column of the classes, or several that commas separate: of ``species,breed``, classes such as
            ``cat/Siamese``. Default: ``label`` or ``class``. All other columns are attributes of the images.
        image_root: Folder that the paths are relative to; no path may lead out of it. Default: the manifest's folder.
        class_names: Names of the classes, if the column of classes holds the codes 0, 1, … instead of names.
        split_column: Column of the splits. Default: ``split``, if there is one.
        no_header: Whether the first line is an image too. The columns are then called ``1``, ``2``, …; by default the
            first is that of the paths, and the second that of the classes. In a table with column names, such numbers
            stand for a column too.
        labels_optional: Whether there may be no column of classes, or no class in some lines.

    Raises:
        DataError: It is said of lines of JSON that they have no header.
    """

    kind = "manifest"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        image_column: str | None = None,
        label_column: str | None = None,
        image_root: Path | None = None,
        class_names: Sequence[str] | None = None,
        split_column: str | None = None,
        no_header: bool = False,
        labels_optional: bool = False,
    ) -> None:
        self.name = os.fspath(path)
        # The id depends on the options that decide which image a line stands for, not on the names of the classes.
        choices = [f"root={image_root.resolve()}"] if image_root else []
        self.id = source_id(path, *choices, *([f"image={image_column}"] if image_column else []))
        self._path = Path(path)
        self._root = os.path.abspath(image_root or self._path.parent)  # noqa: PTH100 - resolve() would follow links
        self._columns = (image_column, label_column, split_column)
        self._no_header = no_header
        if no_header and self._path.suffix.lower() == ".jsonl":
            raise DataError(f"{self.name!r} has lines of JSON, which name their columns", "leave out --no-header")
        self._class_names = class_names
        self._labels_optional = labels_optional

    def list(self) -> ImageTable:
        """See :meth:`ImageSource.list`; the images are in the order of their paths."""
        if not Path(self._root).is_dir():
            raise DataError(
                f"the folder {self._root!r} does not exist",
                "give the folder that the paths are relative to: --image-root",
            )
        lines, rows = array("q"), manifest_rows(self._path, no_header=self._no_header)
        if (first := next(rows, None)) is None:
            raise DataError(
                f"the manifest {self.name!r} has no rows",
                "expected a line of column names, and one line per image; without column names, give --no-header",
            )
        columns = self._choose(first[1])
        further = RowAttributes({columns.image, columns.split, *(columns.labels if len(columns.labels) == 1 else ())})
        every = ImageTable.of(self._listed(itertools.chain([first], rows), columns, lines, further))
        if attributes := further.columns():
            every = every.with_attributes(
                attributes | ({columns.labels[0]: every.labels} if len(columns.labels) == 1 else {})
            )
        entries = _once(every, lines, self._agree)
        if not (entries.sizes.any() or entries.times.any()):
            raise DataError(
                f"none of the {counted(len(entries), 'image')} of {self.name!r} exists in {self._root!r}",
                "give the folder that the paths are relative to: --image-root",
            )
        _warn_of_a_header(self.name, Path(self._root, every[0].id), no_header=self._no_header)
        again = len(every) - len(entries)
        said = f"left out {counted(again, 'line')} because an earlier one names the same image"
        self.notes = (said,) if again else ()
        return entries

    def _choose(self, row: Mapping[str, Any]) -> _Columns:
        """The columns that are read, by those of the first row."""
        usual = (("1",), ("2",)) if self._no_header else (IMAGE_COLUMNS, LABEL_COLUMNS)
        asked_image, asked, asked_split = self._columns
        image = self._column("image", row, usual[0], asked_image)
        if asked is not None:
            labels = tuple(self._column("label", row, (), name) for name in column_names(asked, row))
        elif self._labels_optional and not any(_find(name, row) for name in usual[1]):
            labels = usual[1][:1]
        else:
            labels = (self._column("label", row, usual[1], None),)
        if len(labels) > 1 and self._class_names is not None:
            raise DataError(
                f"the codes of {counted(len(labels), 'label column')} cannot share one list of names",
                "leave out --class-names, or name one label column",
            )
        split = _find("split", row) if asked_split is None else self._column("split", row, (), asked_split)
        return _Columns(image, labels, split)

    def _listed(
        self, rows: Iterable[Row], columns: _Columns, lines: array[int], further: RowAttributes
    ) -> Iterator[ImageEntry]:
        """What each line says; its number is added to ``lines``, and its other columns to the attributes."""
        for line, row in rows:
            lines.append(line)
            yield self._entry(line, row, columns)
            further.add(row)

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        """See :meth:`ImageSource.contents`."""
        for entry in entries:
            yield functools.partial(read_file, f"{self._root}/{entry.id}")

    def _entry(self, line: int, row: Mapping[str, Any], columns: _Columns) -> ImageEntry:
        path = self._inside(line, self._value(line, row, columns.image))
        try:
            found = Path(self._root, path).stat()
        except OSError:  # reading the image will say why
            size, mtime_ns = 0, 0
        except ValueError as error:
            raise self._error(line, f"{path!r} is not a path: {error}") from error
        else:
            size, mtime_ns = found.st_size, found.st_mtime_ns
        names = [self._label(line, row, column) for column in columns.labels]
        split = str(row.get(columns.split) or "") if columns.split else ""
        return ImageEntry(path, "/".join(names) if all(names) else "", split, size, mtime_ns)

    def _label(self, line: int, row: Mapping[str, Any], column: str) -> str:
        """The name of the class in a line; "" if labels are optional and there is none."""
        value = row.get(column)
        if self._labels_optional and (value is None or (isinstance(value, str) and not value.strip())):
            return ""
        name = self._value(line, row, column)
        if self._class_names is not None:
            if not (name.isascii() and name.isdigit() and len(name) < 10):
                raise self._error(
                    line, f"the label {name!r} is not a code", "with --class-names, labels must be 0, 1, …"
                )
            name = name_of_code(int(name), self._class_names, self._where(line))
        return name

    def _inside(self, line: int, given: str) -> str:
        """A path relative to the root, without ``.`` and ``..``."""
        path = os.path.relpath(os.path.join(self._root, given), self._root)  # noqa: PTH118
        if path == ".." or path.startswith(f"..{os.sep}") or os.path.isabs(path):  # noqa: PTH117
            raise self._error(
                line,
                f"{given!r} lies outside the folder {self._root!r}",
                "give the folder that the paths are relative to: --image-root",
            )
        return Path(path).as_posix()

    def _value(self, line: int, row: Mapping[str, Any], column: str) -> str:
        value = row.get(column)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if value is not None and not isinstance(value, str):
            raise self._error(line, f"expected text in the column {column!r}, got {value!r}")
        if not value or not value.strip():
            raise self._error(line, f"the column {column!r} is empty")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:  # JSON can hold half of a surrogate pair
                raise self._error(line, f"the column {column!r} holds invalid Unicode: {value!r}") from None
        return value

    def _column(self, what: str, row: Mapping[str, Any], names: Sequence[str], asked: str | None) -> str:
        if asked is not None and asked in row:
            return asked
        if asked is not None and asked.isascii() and asked.isdigit() and 1 <= int(asked[:9]) <= len(row):
            return list(row)[int(asked[:9]) - 1]
        for name in names if asked is None else ():
            if found := _find(name, row):
                return found
        missing = f"no column {asked!r}" if asked is not None else f"no {what} column ({' or '.join(names)})"
        hint = f"its columns are {', '.join(map(str, row))}; choose one with --{what}-column"
        if not self._no_header and any(map(self._is_there, row)):
            hint = "its first line is an image and no line of column names: give --no-header"
        raise DataError(f"the manifest {self.name!r} has {missing}", hint)

    def _is_there(self, name: str) -> bool:
        """Whether the name of a column is in truth the path of a file."""
        try:
            return "." in name and Path(self._root, name).is_file()
        except (OSError, ValueError):
            return False

    def _agree(self, line: int, known: ImageEntry, entry: ImageEntry) -> None:
        for what, one, other in (("labels", known.label, entry.label), ("splits", known.split, entry.split)):
            if one != other:
                raise self._error(line, f"{entry.id!r} has two {what}: {one!r} and {other!r}")

    def _where(self, line: int) -> str:
        return f"line {line} of {self.name!r}"

    def _error(self, line: int, message: str, hint: str = "") -> DataError:
        return line_error(self._path, line, message, hint)


def _warn_of_a_header(manifest: str, first: Path, *, no_header: bool) -> None:
    """Warn if the first line was read as an image and looks like column names. Other images are known to exist."""
    if no_header and not is_image(first.name) and not first.exists():
        log.warning(
            "the first line of %r names no image that exists (%r), and others do: if it is a line of column names, "
            "leave out --no-header",
            manifest,
            first.name,
        )


def _once(images: ImageTable, lines: Sequence[int], agree: Callable[[int, ImageEntry, ImageEntry], None]) -> ImageTable:
    """Each image once, in the order of their paths.

    Args:
        images: What each line says.
        lines: The number of each line.
        agree: Called with a line, the first entry of its image and its own; raises an error if they differ.

    Raises:
        DataError: Two lines name the same image and differ.
    """
    import numpy as np

    ordered = images.sorted()
    if ordered.repeated_id() is None:
        return ordered
    known: dict[str, tuple[int, ImageEntry]] = {}
    for row, (line, entry) in enumerate(zip(lines, images, strict=True)):
        agree(line, known.setdefault(entry.id, (row, entry))[1], entry)
    return images.take(np.array([row for row, _ in known.values()])).sorted()


def _find(name: str, columns: Iterable[str]) -> str | None:
    """The column with that name, or else the one whose name differs only in upper and lower case."""
    return next((column for column in sorted(columns, key=name.__ne__) if column.lower() == name), None)


def _open(name: str, options: ReadingOptions) -> Manifest:
    from nctransfer.sources.registry import describe_sources

    if Path(name).suffix.lower() == PLAIN and not options.no_header:
        raise DataError(
            f"{name!r} is not a file that nctransfer can read images from",
            "if each of its lines has the path of an image and a class, give --no-header; else give one of: "
            + describe_sources(options.labels_optional),
        )
    return Manifest(
        Path(name),
        image_column=options.image_column,
        label_column=options.label_column,
        image_root=options.image_root,
        class_names=options.class_names,
        split_column=options.split_column,
        no_header=options.no_header,
        labels_optional=options.labels_optional,
    )


MANIFEST = SourceKind(
    name="manifest",
    recognises=lambda name: Path(name).suffix.lower() in (*SUFFIXES, PLAIN) and Path(name).is_file(),
    open=_open,
    takes=("label_column", "image_column", "split_column", "no_header", "class_names", "image_root"),
    examples=("pets.csv", "pets.tsv", "pets.jsonl"),
    summary="a manifest, which is a table with the path and the class of each image",
    details="Its columns are `path`, `label` and, if there are splits, `split`. Paths are relative to the manifest, "
    "or to `--image-root`. A list without column names, which may also be `pets.txt`, needs `--no-header`.",
)

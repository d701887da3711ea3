"""A manifest: a table that names image files and their classes."""

from __future__ import annotations

import csv
import functools
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from nctransfer.errors import DataError, counted
from nctransfer.sources.contents import read_file
from nctransfer.sources.labels import named
from nctransfer.sources.source import ImageEntry, ImageSource, source_id

__all__ = ["MANIFESTS", "Manifest"]

MANIFESTS = (".csv", ".tsv", ".jsonl")
IMAGE_COLUMNS = ("path", "image", "file", "filename", "file_name")
LABEL_COLUMNS = ("label", "class")
Row = tuple[int, Mapping[str, Any]]  # line, value by column


class Manifest(ImageSource):
    """A ``.csv``, ``.tsv`` or ``.jsonl`` file with the path and the class of each image, and perhaps its split.

    Names are kept as they are written: ``001`` and ``NA`` are names.

    Args:
        path: The file.
        image_column: Column of the paths, by default ``path``, ``image``, ``file``, ``filename`` or ``file_name``.
        label_column: Column of the classes, by default ``label`` or ``class``.
        image_root: The folder that paths are relative to and must not leave, by default that of the manifest.
        class_names: Names of the codes 0, 1, … that stand in place of classes.
    """

    kind = "manifest"

    def __init__(
        self,
        path: str | os.PathLike[str],
        image_column: str | None = None,
        label_column: str | None = None,
        image_root: Path | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.name = os.fspath(path)
        # what decides which image a line stands for is part of the id, unlike what it is called
        choices = [f"root={image_root.resolve()}"] if image_root else []
        self.id = source_id(path, *choices, *([f"image={image_column}"] if image_column else []))
        self._path = Path(path)
        self._root = os.path.abspath(image_root or self._path.parent)  # noqa: PTH100 - links stay as they are named
        self._columns = (image_column, label_column)
        self._class_names = class_names

    def list(self) -> list[ImageEntry]:
        """See :meth:`ImageSource.list`; in order of the paths."""
        if not Path(self._root).is_dir():
            raise DataError(f"the folder {self._root!r} is not there", "needed is the folder that the paths lie in")
        entries: dict[str, ImageEntry] = {}
        again = 0
        rows = self._rows()
        first = next(rows, None)
        if first is None:
            raise DataError(f"the manifest {self.name!r} has no rows", "needed is one line an image")
        image = self._column("image", first[1], IMAGE_COLUMNS, self._columns[0])
        label = self._column("label", first[1], LABEL_COLUMNS, self._columns[1])
        split = _find("split", first[1])
        for line, row in itertools.chain([first], rows):
            entry = self._entry(line, row, image, label, split)
            known = entries.setdefault(entry.id, entry)
            if known is not entry:
                self._agree(line, known, entry)
                again += 1
        if all(entry.mtime_ns == 0 for entry in entries.values()):
            raise DataError(
                f"none of the {counted(len(entries), 'image')} of {self.name!r} is there: looked in {self._root!r}",
                "name the folder that the paths are relative to: --image-root",
            )
        self.notes = (f"{counted(again, 'line')} left out for an earlier one of the same image",) if again else ()
        return sorted(entries.values())

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        """See :meth:`ImageSource.contents`."""
        for entry in entries:
            yield functools.partial(read_file, f"{self._root}/{entry.id}")

    def _entry(self, line: int, row: Mapping[str, Any], image: str, label: str, split: str | None) -> ImageEntry:
        path = self._inside(line, self._value(line, row, image))
        try:
            found = Path(self._root, path).stat()
        except OSError:  # reading it will say so
            size, mtime_ns = 0, 0
        except ValueError as error:
            raise self._error(line, f"{path!r} is no path: {error}") from error
        else:
            size, mtime_ns = found.st_size, found.st_mtime_ns
        name = self._value(line, row, label)
        if self._class_names is not None:
            if not (name.isascii() and name.isdigit() and len(name) < 10):
                raise self._error(line, f"the label {name!r} is no code", "with class names, labels are 0, 1, …")
            name = named(int(name), self._class_names, self._where(line))
        return ImageEntry(path, name, str(row.get(split) or "") if split else "", size, mtime_ns)

    def _inside(self, line: int, given: str) -> str:
        """A path relative to the root, as it is written: no ``..``, no detour."""
        path = os.path.relpath(os.path.join(self._root, given), self._root)  # noqa: PTH118
        if path == ".." or path.startswith(f"..{os.sep}") or os.path.isabs(path):  # noqa: PTH117
            raise self._error(
                line,
                f"{given!r} lies outside the folder {self._root!r}",
                "name the folder that the paths are relative to: --image-root",
            )
        return Path(path).as_posix()

    def _value(self, line: int, row: Mapping[str, Any], column: str) -> str:
        value = row.get(column)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if value is not None and not isinstance(value, str):
            raise self._error(line, f"{column} is {value!r}, and needed is text")
        if not value or not value.strip():
            raise self._error(line, f"{column} is empty")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:  # JSON can write half a character
                raise self._error(line, f"{column} is no valid text: {value!r}") from None
        return value

    def _column(self, what: str, row: Mapping[str, Any], names: Sequence[str], asked: str | None) -> str:
        if asked is not None and asked in row:
            return asked
        for name in names if asked is None else ():
            if found := _find(name, row):
                return found
        missing = f"no column {asked!r}" if asked is not None else f"no column of the {what} ({', '.join(names)})"
        raise DataError(
            f"the manifest {self.name!r} has {missing}",
            f"its columns: {', '.join(map(str, row))}; name one by --{what}-column",
        )

    def _rows(self) -> Iterator[Row]:
        suffix = self._path.suffix.lower()
        try:
            with self._path.open(encoding="utf-8-sig", newline="") as file:
                yield from (
                    self._json(file) if suffix == ".jsonl" else self._table(file, "\t" if suffix == ".tsv" else ",")
                )
        except OSError as error:
            raise DataError(f"the manifest {self.name!r} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise DataError(f"the manifest {self.name!r} is not UTF-8", "save it as UTF-8") from error

    def _table(self, file: TextIO, delimiter: str) -> Iterator[Row]:
        reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
        header: list[str] | None = None
        try:
            for values in reader:
                if header is None:
                    header = [value.strip() for value in values]
                    if len(set(header)) < len(header):
                        raise self._error(1, f"a column stands there twice: {', '.join(header)}")
                elif values and len(values) != len(header):
                    raise self._error(
                        reader.line_num,
                        f"{counted(len(values), 'value')} for {counted(len(header), 'column')}",
                        'a name with the separator in it is written in quotes: "a, b"',
                    )
                elif values:
                    yield reader.line_num, dict(zip(header, values, strict=True))
        except csv.Error as error:
            raise self._error(reader.line_num, str(error)) from error

    def _json(self, file: TextIO) -> Iterator[Row]:
        for line, content in enumerate(file, 1):
            if not content.strip():
                continue
            try:
                row = json.loads(content)
            except (ValueError, RecursionError) as error:
                raise self._error(line, f"no JSON: {error}") from error
            if not isinstance(row, dict):
                raise self._error(line, "no JSON object", 'needed is {"path": …, "label": …}')
            yield line, row

    def _agree(self, line: int, known: ImageEntry, entry: ImageEntry) -> None:
        for what, one, other in (("labels", known.label, entry.label), ("splits", known.split, entry.split)):
            if one != other:
                raise self._error(line, f"{entry.id!r} stands there with two {what}: {one!r} and {other!r}")

    def _where(self, line: int) -> str:
        return f"line {line} of {self.name!r}"

    def _error(self, line: int, message: str, hint: str = "") -> DataError:
        return DataError(f"{self._where(line)}: {message}", hint)


def _find(name: str, columns: Iterable[str]) -> str | None:
    """The column of that name, else in other case."""
    return next((column for column in sorted(columns, key=name.__ne__) if column.lower() == name), None)

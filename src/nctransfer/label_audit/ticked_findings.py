"""Findings that a person agrees with, as the page of a report exports them, and what they change in the labels."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nctransfer.errors import DataError, SettingError, counted, join_names, reason_of
from nctransfer.escaping import unguarded
from nctransfer.label_audit.flags import DUPLICATE, KINDS, OUTLIER
from nctransfer.paths import read_list

__all__ = ["Decisions", "TickedFinding", "decide", "read_ticked"]

COLUMNS = ("path", "suggested", "kind")  # that the file needs; it may have others
DELIMITERS = (",", ";", "\t")  # some spreadsheets save a CSV file with semicolons
NAMED = 3  # ids in a message, at most
HOW_TO = "give the file that the page of nctransfer report exports, or a CSV with these columns"


@dataclass(frozen=True, kw_only=True)
class TickedFinding:
    """One row of the file.

    Attributes:
        line: Its line in the file.
        path: The id of the image, as it is written.
        suggested: The class that the image gets, as it is written; "" for none.
        kinds: What was found, for example ``("label",)``.
    """

    line: int
    path: str
    suggested: str
    kinds: tuple[str, ...]

    @property
    def leaves_out(self) -> bool:
        """Whether the image is left out: a duplicate or an outlier without a suggested class."""
        return not self.suggested and (DUPLICATE in self.kinds or OUTLIER in self.kinds)


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """What the ticked findings change.

    Attributes:
        labels: The new label of each image whose label changes.
        left_out: The images that are left out.
        new_classes: Classes of new labels that no image had before.
    """

    labels: Mapping[str, str]
    left_out: frozenset[str] = frozenset()
    new_classes: tuple[str, ...] = ()


def read_ticked(path: str | os.PathLike[str]) -> tuple[TickedFinding, ...]:
    """Read the findings that were ticked in the page of a report and exported from it.

    Args:
        path: A CSV file in UTF-8 with the columns ``path``, ``suggested`` and ``kind``; others are ignored.

    Raises:
        DataError: The file cannot be read, has not these columns, or has a row that says nothing that can be done.
    """
    file = Path(path)
    try:
        text = read_list(file)
    except OSError as error:
        raise DataError(
            f"the ticked findings {str(file)!r} cannot be read: {reason_of(error)}", "give another --ticked"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"the ticked findings {str(file)!r} are not UTF-8", "save the file as CSV in UTF-8") from error
    header, rows = _table(text, file)
    places = [header.index(column) for column in COLUMNS]
    return tuple(_finding(line, [row[place] for place in places], file) for line, row in rows)


def _table(text: str, file: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of the columns, and the rows with their lines."""
    header: list[str] = []
    for delimiter in DELIMITERS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            rows = [(reader.line_num, row) for row in reader if row]
        except csv.Error as error:
            raise DataError(f"{str(file)!r}, line {reader.line_num}: {error}", HOW_TO) from error
        found = [name.strip() for name in rows[0][1]] if rows else []
        if set(COLUMNS) <= set(found):
            for line, row in rows[1:]:
                if len(row) != len(found):
                    raise DataError(
                        f"{str(file)!r}, line {line}: expected {counted(len(found), 'value')}, one per column, "
                        f"got {len(row)}",
                        'put a value that contains the separator in quotes: "a, b"',
                    )
            return found, rows[1:]
        header = header or found
    missing = ", ".join(column for column in COLUMNS if column not in header)
    raise DataError(
        f"the ticked findings {str(file)!r} have no column {missing}; the columns are {', '.join(header) or 'none'}",
        HOW_TO,
    )


def _finding(line: int, values: Sequence[str], file: Path) -> TickedFinding:
    path, suggested, kind = values
    kinds = tuple(kind.split())
    found = TickedFinding(line=line, path=path, suggested=suggested if suggested.strip() else "", kinds=kinds)
    if unknown := [name for name in kinds if name not in KINDS]:
        raise DataError(
            f"{str(file)!r}, line {line}: expected the kind {', '.join(KINDS[:-1])} or {KINDS[-1]}, got {unknown[0]!r}",
            HOW_TO,
        )
    if not found.suggested and not found.leaves_out:
        raise DataError(
            f"{str(file)!r}, line {line}: no class is suggested for {path!r}",
            "write the right class into the column suggested, or delete the line",
        )
    return found


def decide(ticked: Sequence[TickedFinding], labels: Mapping[str, str]) -> Decisions:
    """What ticked findings change: an image gets the suggested class, or is left out if there is none.

    An image with both kinds of findings is left out.

    Args:
        ticked: The findings.
        labels: The given label of every image, by its id.

    Raises:
        SettingError: A finding names an image that is not among these, or two findings suggest different classes.

    >>> ticked = [TickedFinding(line=2, path="a/1.png", suggested="b", kinds=("label",))]
    >>> decide(ticked, {"a/1.png": "a", "b/1.png": "b"}).labels
    {'a/1.png': 'b'}
    """
    classes = frozenset(labels.values())
    ids = [_as_known(one.path, labels) for one in ticked]
    unknown = [name for name in dict.fromkeys(ids) if name not in labels]
    if unknown:
        raise SettingError(
            f"{counted(len(unknown), 'ticked image is', 'ticked images are')} not among the "
            f"{counted(len(labels), 'image')} of the audit: {join_names(unknown, NAMED)}",
            "audit the images that the report was made of; their names are the column path",
        )
    left_out = frozenset(name for name, one in zip(ids, ticked, strict=True) if one.leaves_out)
    chosen: dict[str, str] = {}
    for name, one in zip(ids, ticked, strict=True):
        if name in left_out:
            continue
        suggested = _as_known(one.suggested, classes)
        if chosen.setdefault(name, suggested) != suggested:
            raise SettingError(
                f"two classes are suggested for {name!r}: {chosen[name]!r} and {suggested!r}, line {one.line}",
                "keep one of the two lines",
            )
    changed = {name: label for name, label in chosen.items() if label != labels[name]}
    new = tuple(dict.fromkeys(label for label in changed.values() if label not in classes))
    return Decisions(labels=changed, left_out=left_out, new_classes=new)


def _as_known(text: str, known: Collection[str]) -> str:
    """A value without the apostrophe that guards against formulas, unless it is a known name with it."""
    return text if text in known else unguarded(text)

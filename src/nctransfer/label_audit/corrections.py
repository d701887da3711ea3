"""A table of all audited images, to correct labels in by hand; ``--data`` reads it as a manifest."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.errors import NCTransferError, SettingError, reason_of
from nctransfer.escaping import escaped_json, guarded
from nctransfer.label_audit.ticked_findings import Decisions, TickedFinding, decide
from nctransfer.paths import is_folder, is_something_else
from nctransfer.sources.manifest import SUFFIXES
from nctransfer.store.atomic_files import replace_file

if TYPE_CHECKING:
    from nctransfer.label_audit.flags import AuditResult

__all__ = ["check_corrections", "write_corrections"]

COLUMNS = ("path", "label", "kind", "suggested", "expected_precision", "like")


def check_corrections(path: Path, overwrite: bool) -> None:
    """Refuse a table that could not be written, or that exists: somebody may have corrected labels in it.

    Args:
        path: The file.
        overwrite: Whether a file that exists is replaced.

    Raises:
        SettingError: The suffix of the file names no format of manifests.
        NCTransferError: The file exists, or cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise SettingError(
            f"{str(path)!r} is not the name of a manifest", f"end the name by one of: {', '.join(SUFFIXES)}"
        )
    if is_folder(path) or is_something_else(path):
        raise NCTransferError(f"{str(path)!r} cannot be written: it is not a file", "give another --corrections")
    if not is_folder(path.absolute().parent):
        raise NCTransferError(
            f"{str(path)!r} cannot be written: its folder does not exist",
            "create the folder, or give another --corrections",
        )
    if os.path.lexists(path) and not overwrite:
        raise NCTransferError(
            f"{str(path)!r} exists already, and may hold labels that were corrected by hand",
            "give another --corrections, or --overwrite to replace it",
        )


def write_corrections(
    found: AuditResult,
    path: str | os.PathLike[str],
    overwrite: bool = False,
    ticked: Sequence[TickedFinding] = (),
) -> Decisions:
    """Write every audited image with its label, those with flags first, as a manifest.

    The columns are ``path`` (the id of the image), ``label`` (the column to correct: the given label, or the suggested
    class of a ticked finding), ``kind`` (its flags), ``suggested``, ``expected_precision`` and ``like`` (the image that
    it duplicates).

    Args:
        found: The audit.
        path: The file, whose suffix is ``.csv``, ``.tsv`` or ``.jsonl``.
        overwrite: Whether a file that exists is replaced.
        ticked: Findings that a person agrees with, see :func:`~nctransfer.label_audit.ticked_findings.read_ticked`.
            Their images get the suggested class; duplicates and outliers without a suggested class are left out.

    Returns:
        What the ticked findings changed.

    Raises:
        SettingError: The suffix of the file names no format of manifests, a ticked image is not in the audit, or two
            classes are suggested for it.
        NCTransferError: The file exists or cannot be written, or a name cannot be written in UTF-8.
    """
    file = Path(path)
    check_corrections(file, overwrite)
    decisions = decide(ticked, found.labels)
    rows = [
        row | {"label": decisions.labels.get(row["path"], row["label"])}
        for row in _rows(found)
        if row["path"] not in decisions.left_out
    ]
    suffix = file.suffix.lower()
    text = _json_lines(rows) if suffix == ".jsonl" else _table(rows, "\t" if suffix == ".tsv" else ",")
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        raise NCTransferError(
            f"the name {error.object[max(0, error.start - 20) : error.end + 20]!r} cannot be written in UTF-8",
            "rename the file or the class",
        ) from error
    try:
        replace_file(file, lambda opened: opened.write(content))
    except OSError as error:
        raise NCTransferError(
            f"{str(file)!r} cannot be written: {reason_of(error)}", "give another --corrections"
        ) from error
    return decisions


def _rows(found: AuditResult) -> list[dict[str, str]]:
    """One row per image; those with flags first, in the order of the flags."""
    rows: dict[str, dict[str, str]] = {}
    for flag in found.flags:
        row = rows.setdefault(flag.id, dict.fromkeys(COLUMNS, "") | {"path": flag.id, "label": flag.given})
        row["kind"] = f"{row['kind']} {flag.kind}".strip()
        row["suggested"] = row["suggested"] or flag.suggested or ""
        if flag.expected_precision is not None and not row["expected_precision"]:
            row["expected_precision"] = f"{flag.expected_precision:.3f}"
        if flag.kind == "duplicate":
            row["like"] = flag.neighbours[0]
    for name, label in found.labels.items():
        rows.setdefault(name, dict.fromkeys(COLUMNS, "") | {"path": name, "label": label})
    return list(rows.values())


def _table(rows: list[dict[str, str]], delimiter: str) -> str:
    text = io.StringIO()
    # all values in quotes, so that a name that begins with a space keeps it
    writer = csv.DictWriter(text, COLUMNS, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: guarded(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _json_lines(rows: list[dict[str, str]]) -> str:
    return "".join(escaped_json(json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)

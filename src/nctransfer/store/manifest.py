"""The manifest of a stored set: a value that says what the set is and which parts it holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.feature_key import FEATURE, FeatureKey
from nctransfer.errors import SetChangedError, StoreError, reason_of
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.store.atomic_files import as_json, check_content_is_to_blame, file_sha256
from nctransfer.store.digest_index import read_digests
from nctransfer.store.journal import DamagedJournalError, read_records

if TYPE_CHECKING:
    import pyarrow as pa

    from nctransfer.sources.selection import Selection

__all__ = [
    "FORMAT",
    "NAME",
    "PART",
    "Manifest",
    "Part",
    "manifest_error",
    "manifest_with",
    "read_manifest",
    "what_it_is",
]

NAME = "manifest.jsonl"
PART = re.compile(r"part-[0-9a-f]{32}\.parquet")
INDEX = re.compile(r"digests-[0-9a-f]{16}\.bin")
MOST_ROWS = 2**40  # of a set, also of those that it holds no longer
FORMAT = 1
"""The version of the files of a set. A set of another version is not read."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One Parquet file of rows. It is written once and never changed.

    Attributes:
        rows: The number of rows.
        columns: The columns of vectors, and the width of each.
        bytes: The size of the file.
        mtime_ns: When the file was last modified.
        sha256: The digest of the file's content; the name of the file begins with it.
        start: Where the digests of its images begin in the index of the set, in rows.
        checksum: The checksum of these digests.
    """

    rows: int
    columns: Mapping[str, int]
    bytes: int
    mtime_ns: int
    sha256: str
    start: int
    checksum: str

    def damage(self, path: Path, thorough: bool = False) -> str:
        """How the file at ``path`` differs from this record; empty if it does not.

        A file whose size and time are as recorded is taken as whole; ``thorough`` compares the digest as well.

        Raises:
            StoreError: The file cannot be read, and may be whole.
        """
        try:
            stat = path.stat()
            if stat.st_size != self.bytes:
                return f"{stat.st_size:,} bytes instead of {self.bytes:,}"
            if (thorough or stat.st_mtime_ns != self.mtime_ns) and file_sha256(path) != self.sha256:
                return "its content was altered"
        except OSError as error:
            check_content_is_to_blame(path, error)
            return reason_of(error)
        return ""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a stored set is and which parts it held when its manifest was read.

    Another process may extract into the set at any time. So whoever reads rows reads the manifest once, and works with
    the parts that it lists: a part that has been replaced since is gone from the disk, and is never mistaken for
    another.

    Attributes:
        folder: The folder of the set.
        key: What the features depend on.
        about: Names for the reader: ``weights`` and ``data``.
        index: The name of the file that holds the digests of all rows; it changes when the manifest is made anew.
        parts: The parts by the names of their files.
        unusable: Why some images gave no features, by digest; by id if the image could not be read.
        end: The byte at which the last record ends that was read.
        indexed: The number of digests in the index; it also counts those of parts that are no longer listed.
    """

    folder: Path
    key: FeatureKey
    about: Mapping[str, str]
    index: str = ""
    parts: Mapping[str, Part] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)
    end: int = 0
    indexed: int = 0

    @property
    def id(self) -> str:
        """``<model>-<key>/<source>``."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def path(self) -> Path:
        """The journal that the manifest is read from."""
        return self.folder / NAME

    @property
    def rows_path(self) -> Path:
        """The folder of the parts."""
        return self.folder / "rows"

    @property
    def columns(self) -> dict[str, int]:
        """The columns of vectors that at least one part has, and their widths."""
        return {name: dim for part in self.parts.values() for name, dim in part.columns.items()}

    @property
    def rows(self) -> int:
        """The number of rows in all parts."""
        return sum(part.rows for part in self.parts.values())

    @property
    def bytes(self) -> int:
        """The size of all parts."""
        return sum(part.bytes for part in self.parts.values())

    def parts_with(self, columns: Iterable[str]) -> list[str]:
        """The names of the parts that have all these columns."""
        wanted = set(columns)
        return [name for name, part in self.parts.items() if wanted <= part.columns.keys()]

    def digests(self, names: Iterable[str]) -> pa.StringArray:
        """The digests of the images whose rows these parts hold, in the order of the rows.

        Raises:
            SetChangedError: The manifest has been made anew since it was read.
            StoreError: The index of digests is damaged.
        """
        slices = [(part.start, part.rows, part.checksum) for part in map(self.parts.__getitem__, names)]
        try:
            return read_digests(self.folder / self.index, slices)
        except (OSError, ValueError) as error:
            if read_manifest(self.folder, self.key, self.about).index != self.index:
                raise SetChangedError(
                    f"the manifest of {self.id} was made anew while it was being read",
                    "nothing is damaged: run the same command again",
                ) from error
            reason = reason_of(error) if isinstance(error, OSError) else str(error)
            raise manifest_error(self, f"its index {self.index} is damaged: {reason}") from error

    def unlisted(self) -> list[Path]:
        """The files of rows that are not listed: a killed process left them, or one is about to list them."""
        return [path for path in sorted(self.rows_path.glob("part-*.parquet")) if path.name not in self.parts]

    def damaged(self, thorough: bool = False) -> dict[str, str]:
        """The parts whose files are not as they were written, and what is wrong with each.

        Parts that another process has replaced since the manifest was read are not damaged. See :meth:`Part.damage`.
        """
        found = {name: part.damage(self.rows_path / name, thorough) for name, part in self.parts.items()}
        return {name: reason for name, reason in found.items() if reason and self.is_still_listed(name)}

    def is_still_listed(self, name: str) -> bool:
        """Whether the manifest on disk, read again, lists the same part under this name."""
        now = read_manifest(self.folder, self.key, self.about).parts.get(name)
        return now is not None and now.sha256 == self.parts[name].sha256

    def info(self, selection: Selection, column: str = FEATURE, missing: int = 0) -> FeatureInfo:
        """The description of the features that a selection and a column give; some wanted images may be missing."""
        return FeatureInfo(
            self.id,
            model=self.key.model,
            weights=f"{self.about.get('weights', 'unknown')} (digest {self.key.weights[:8]})",
            data=self.about.get("data"),
            split=selection.split,
            layer=column,
            path=str(self.rows_path),
            missing=missing,
            key=self.key,
        )

    def to_dict(self) -> dict[str, Any]:
        """A description of the set and of what it holds, as a dictionary for JSON."""
        return {
            "id": self.id,
            "path": str(self.rows_path),
            **self.about,
            "rows": self.rows,
            "columns": self.columns,
            "parts": len(self.parts),
            "bytes": self.bytes,
            "unusable": len(self.unusable),
            "key": asdict(self.key),
        }


def what_it_is(manifest: Manifest) -> dict[str, Any]:
    """The record that a journal begins with: what the set is."""
    return {
        "format": FORMAT,
        "key": as_json(asdict(manifest.key)),
        "about": dict(manifest.about),
        "index": manifest.index,
    }


def read_manifest(folder: Path, key: FeatureKey, about: Mapping[str, str]) -> Manifest:
    """The manifest in a folder as it is now; without parts if the set has not been begun.

    Raises:
        StoreError: The manifest is damaged or lost, or is that of another key or version.
    """
    nothing = Manifest(folder=folder, key=key, about=dict(about))
    try:
        records, end = read_records(nothing.path)
    except FileNotFoundError:
        records, end = [], 0
    except OSError as error:
        raise manifest_error(nothing, reason_of(error)) from error
    except DamagedJournalError as error:
        raise manifest_error(nothing, str(error)) from error
    if not end and any(nothing.rows_path.glob("part-*.parquet")):  # a set begins with its manifest
        raise manifest_error(nothing, "it is lost, or of an earlier version")
    return manifest_with(nothing, records, end)


def manifest_with(manifest: Manifest, records: list[dict[str, Any]], end: int) -> Manifest:
    """The manifest after further records of its journal, which end at the byte ``end``.

    Raises:
        StoreError: A record is not one of a manifest, or of another key or version.
    """
    about, index, indexed = manifest.about, manifest.index, manifest.indexed
    parts, unusable = dict(manifest.parts), dict(manifest.unusable)
    try:
        for record in records:
            if "format" in record:
                if record["format"] != FORMAT:
                    raise ValueError(f"it is of format {record['format']!r}; this version reads format {FORMAT}")
                if record["key"] != as_json(asdict(manifest.key)):
                    raise ValueError("it is that of another backbone")
                about = {str(name): str(text) for name, text in record["about"].items()}
                index = _name(record["index"], INDEX)
            elif "part" in record:
                parts[_name(record["part"], PART)] = part = _part(record)
                indexed = max(indexed, part.start + part.rows)
            elif "drop" in record:
                for name in record["drop"]:
                    parts.pop(name, None)
            else:
                unusable |= {str(name): str(reason) for name, reason in record["unusable"].items()}
        if not index and end:
            raise ValueError("it does not begin with what the set is")
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        reason = str(error) if type(error) is ValueError else "a record makes no sense"
        raise manifest_error(manifest, reason) from error
    return Manifest(
        folder=manifest.folder,
        key=manifest.key,
        about=about,
        index=index,
        parts=parts,
        unusable=unusable,
        end=end,
        indexed=indexed,
    )


def manifest_error(manifest: Manifest, reason: str) -> StoreError:
    """The error for a manifest that cannot be used."""
    return StoreError(
        f"the manifest of {manifest.id} cannot be used: {reason}",
        f"run nctransfer cache repair {manifest.id}: it makes the manifest anew from the rows that are whole",
    )


def _part(record: Mapping[str, Any]) -> Part:
    """The part that a record describes; a file of rows is named by its content, so no record leads to another file."""
    part = Part(**{name: record[name] for name in Part.__dataclass_fields__})
    numbers = (part.rows, part.bytes, part.mtime_ns, part.start, *part.columns.values())
    if not all(type(number) is int and number < 2**63 for number in numbers):
        raise TypeError
    if min(part.rows, part.bytes, part.start) < 0 or part.start + part.rows > MOST_ROWS:
        raise TypeError
    if not isinstance(part.sha256, str) or not isinstance(part.checksum, str):
        raise TypeError
    return part


def _name(name: str, form: re.Pattern[str]) -> str:
    """The name of a file of a set, refused if it has another form and so may lead elsewhere."""
    if not form.fullmatch(name):
        raise TypeError
    return name

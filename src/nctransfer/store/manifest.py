"""The manifest of a stored set: a value that says what the set is and which parts it holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.feature_key import FEATURE
from nctransfer.errors import reason_of
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.store.atomic_files import as_json, file_sha256, read_json, write_json

if TYPE_CHECKING:
    from nctransfer.backbones.feature_key import FeatureKey
    from nctransfer.sources.selection import Selection

__all__ = ["Manifest", "Part", "read_manifest"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One Parquet file of rows. It is written once and never changed.

    Attributes:
        rows: The number of rows.
        columns: The columns of vectors, and the width of each.
        bytes: The size of the file.
        mtime_ns: When the file was last modified.
        sha256: The digest of the file's content.
    """

    rows: int
    columns: Mapping[str, int]
    bytes: int
    mtime_ns: int
    sha256: str

    def damage(self, path: Path, thorough: bool = False) -> str:
        """How the file at ``path`` differs from this record; empty if it does not.

        A file whose size and time are as recorded is taken as whole; ``thorough`` compares the digest as well.
        """
        try:
            stat = path.stat()
            if stat.st_size != self.bytes:
                return f"{stat.st_size:,} bytes instead of {self.bytes:,}"
            if (thorough or stat.st_mtime_ns != self.mtime_ns) and file_sha256(path) != self.sha256:
                return "its content was altered"
        except OSError as error:
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
        parts: The parts by the names of their files.
    """

    folder: Path
    key: FeatureKey
    about: Mapping[str, str]
    parts: Mapping[str, Part]

    @property
    def id(self) -> str:
        """``<model>-<key>/<source>``."""
        return f"{self.folder.parent.name}/{self.folder.name}"

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

    def write(self) -> None:
        """Replace the manifest on disk."""
        parts = {name: asdict(part) for name, part in self.parts.items()}
        write_json(self.folder / "manifest.json", {"key": asdict(self.key), "about": dict(self.about), "parts": parts})

    def info(self, selection: Selection, column: str = FEATURE) -> FeatureInfo:
        """The description of the features that a selection and a column give."""
        return FeatureInfo(
            self.id,
            model=self.key.model,
            weights=f"{self.about.get('weights', 'unknown')} (digest {self.key.weights[:8]})",
            data=self.about.get("data"),
            split=selection.split,
            layer=column,
            path=str(self.rows_path),
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
            "key": asdict(self.key),
        }


def read_manifest(folder: Path, key: FeatureKey, about: Mapping[str, str]) -> Manifest:
    """The manifest in a folder as it is now; without parts if there is none, or it is that of another key.

    Records of parts that make no sense are left out: the next extraction writes them anew.
    """
    content = read_json(folder / "manifest.json")
    records = content.get("parts") if content.get("key") == as_json(asdict(key)) else None
    parts = {
        name: part
        for name, record in (records.items() if isinstance(records, dict) else ())
        if name == Path(name).name and (part := _part(record))
    }
    return Manifest(folder=folder, key=key, about=dict(about), parts=parts)


def _part(record: Any) -> Part | None:
    """The part that a record in JSON describes; ``None`` if the record makes no sense."""
    try:
        part = Part(**{name: record[name] for name in ("rows", "columns", "bytes", "mtime_ns", "sha256")})
        numbers = (part.rows, part.bytes, part.mtime_ns, *part.columns.values())
    except (TypeError, KeyError, AttributeError):
        return None
    is_sound = isinstance(part.sha256, str) and all(isinstance(number, int) for number in numbers)
    return part if is_sound else None

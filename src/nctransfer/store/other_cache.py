"""Another cache folder, filled by another worker and perhaps by somebody else: nothing in it is believed unchecked.

A link could lead to any file of this computer, and reading a pipe would never end. So a set with anything in its folder
that is neither a file nor a folder is refused as a whole. Nothing is ever written to the other folder.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from nctransfer.backbones.feature_key import format_of
from nctransfer.errors import StoreError, reason_of
from nctransfer.store.manifest import NAME, PART, Manifest, read_manifest
from nctransfer.store.set_identity import set_identity

if TYPE_CHECKING:
    from nctransfer.backbones.feature_key import FeatureKey

__all__ = ["OtherCache", "OtherSet", "RefusedError", "open_plainly"]

SOURCE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


class RefusedError(Exception):
    """Something in another cache is not taken over; the text says why."""


@dataclass(frozen=True, kw_only=True)
class OtherSet:
    """A stored set in another cache.

    Attributes:
        folder: Its folder.
        key: What its features depend on.
        about: Names for the reader: ``weights`` and ``data``.
        manifest: What it says it holds; without parts if its manifest cannot be used.
        parts: The files of rows in it, also those that the manifest does not list.
        damage: Why its manifest cannot be used; empty if it can.
    """

    folder: Path
    key: FeatureKey
    about: dict[str, str]
    manifest: Manifest
    parts: tuple[Path, ...]
    damage: str = ""


class OtherCache:
    """A cache folder that is only read.

    Args:
        root: The folder. It may be a link; nothing in it may.

    Raises:
        StoreError: It is no cache.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        if not root.is_dir():
            raise StoreError(f"{str(root)!r} is not a folder", "give the folder of a cache that a worker has filled")
        if not any((root / name).is_dir() for name in ("features", "sources", "keys")):
            raise StoreError(
                f"{str(root)!r} is not a cache: it holds neither features/ nor sources/",
                "give the folder that was the worker's --cache-dir or NCTRANSFER_CACHE",
            )

    def folders(self) -> list[Path]:
        """The folders of sets.

        Raises:
            StoreError: They cannot be listed.
        """
        try:
            features = self.root / "features"
            backbones = sorted(features.iterdir()) if features.is_dir() else []
            return [
                path
                for backbone in backbones
                if backbone.is_dir()
                for path in sorted(backbone.iterdir())
                if path.is_symlink() or path.is_dir()
            ]
        except OSError as error:
            raise StoreError(f"{str(self.root)!r} cannot be read: {reason_of(error)}") from error

    def open(self, folder: Path) -> OtherSet | None:
        """The set in one of :meth:`folders`; ``None`` if nothing has been stored in it.

        Raises:
            RefusedError: It cannot be used.
        """
        try:
            for above in (self.root / "features", folder.parent, folder):
                _check_plain(above)
            files = [path for path in _walk(folder) if path.name != ".lock"]
        except OSError as error:
            raise RefusedError(f"it cannot be read: {reason_of(error)}") from error
        parts = tuple(path for path in files if path.parent.name == "rows" and path.suffix == ".parquet")
        if not parts and folder / NAME not in files:
            return None
        if not SOURCE.fullmatch(folder.name):
            raise RefusedError("its folder has a name that no source has")
        if old := [path.name for path in parts if not PART.fullmatch(path.name)]:
            raise RefusedError(
                f"{old[0]} has no name that this version gives; if an earlier one wrote it, run "
                f"nctransfer cache repair --cache-dir {self.root}"
            )
        return self._identified(folder, parts)

    def _identified(self, folder: Path, parts: tuple[Path, ...]) -> OtherSet:
        found = set_identity(folder)
        if found is None:
            raise RefusedError("neither its manifest nor its rows say what it is")
        key, about = found
        if key.format != format_of(key.dtype):
            raise RefusedError(
                f"another version of nctransfer extracted it (format {key.format}; this one has format "
                f"{format_of(key.dtype)})"
            )
        damage, manifest = "", Manifest(folder=folder, key=key, about=about)
        try:
            manifest = read_manifest(folder, key, about)
            manifest.digests(manifest.parts)
        except StoreError as error:
            damage, manifest = error.message, Manifest(folder=folder, key=key, about=about)
        # the worker may have written and listed a part since the folder was walked through
        new = [folder / "rows" / name for name in manifest.parts.keys() - {path.name for path in parts}]
        parts += tuple(path for path in sorted(new) if PART.fullmatch(path.name) and _is_file(path))
        return OtherSet(folder=folder, key=key, about=about, manifest=manifest, parts=parts, damage=damage)

    def file(self, *names: str) -> Path | None:
        """A file of the cache; ``None`` if there is none.

        Raises:
            RefusedError: It is a link, a pipe or a device.
        """
        path = self.root.joinpath(*names)
        try:
            for number in range(len(names) - 1):
                _check_plain(self.root.joinpath(*names[: number + 1]))
            path.lstat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RefusedError(f"it cannot be read: {reason_of(error)}") from error
        if not _is_file(path):
            raise RefusedError("it is a link or not a file, and links are not followed")
        return path


def open_plainly(path: Path) -> IO[bytes]:
    """Open a file for reading, but no link and nothing that is not a file.

    Raises:
        OSError: It cannot be opened.
        RefusedError: It is not a file.
    """
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    file = os.fdopen(number, "rb")
    if not stat.S_ISREG(os.fstat(number).st_mode):
        file.close()
        raise RefusedError("it is not a file")
    return file


def _is_file(path: Path) -> bool:
    """Whether there is a file, and not a link to one."""
    return path.is_file() and not path.is_symlink()


def _check_plain(folder: Path) -> None:
    """Refuse a folder that is a link."""
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise RefusedError(f"{folder.name} is a link or not a folder, and links are not followed")


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a folder.

    Raises:
        RefusedError: Something there is neither a file nor a folder.
    """
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path)
        else:
            raise RefusedError(f"{entry.name} is a link or not a file, and links are not followed")

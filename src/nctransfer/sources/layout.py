"""What a labelled image is, wherever it comes from: an entry of a source, bytes, and at last pixels.

A source lists its images without reading them, and hands out their bytes. Every image is bytes until
:func:`decode` makes it RGB, so that a digest of the bytes identifies it.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from nctransfer.errors import DataError, counted
from nctransfer.sources.source import ImageEntry

__all__ = ["Arranged", "arrange", "common_top", "is_hidden", "is_image", "splits_on_top", "text"]

SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tga", ".tif", ".tiff", ".webp"}
)
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing"})


class Arranged(NamedTuple):
    """Files as labelled images.

    Attributes:
        entries: The images, in the order of the files.
        notes: What was left out.
        renamed: The true path by the id, where that is not the path itself.
    """

    entries: list[ImageEntry]
    notes: tuple[str, ...]
    renamed: Mapping[str, str]


def arrange(
    what: str, folders: Collection[str], files: Iterable[tuple[str, int, int]], top: str = "", holder: str = "folder"
) -> Arranged:
    """Files as labelled images, by where they lie.

    Args:
        what: The source, for messages: "the folder 'pets'".
        folders: The folders below ``top``, the upper two levels at least, as ``train`` and ``train/cat``.
        files: Path, size and time of each file, hidden ones left out.
        top: What all paths begin with and says nothing, as ``pets/``.
        holder: What "folder" or "archive" the hint speaks of.

    Raises:
        DataError: No file is an image in a class folder.
    """
    has_splits = splits_on_top(folder.partition("/")[0] for folder in folders) and any("/" in name for name in folders)
    depth = 2 if has_splits else 1
    entries, renamed, beside, others = [], {}, 0, 0
    used: set[tuple[str, ...]] = set()
    for path, size, mtime_ns in files:
        parts = path[len(top) :].split("/", depth)
        if not is_image(path):
            others += len(parts) > depth
        elif len(parts) <= depth:
            beside += 1
        else:
            name, label = text(path), sys.intern(text(parts[depth - 1]))
            used.add(tuple(parts[:depth]))
            entries.append(ImageEntry(name, label, text(parts[0]) if has_splits else "", size, mtime_ns))
            if name != path:
                renamed[name] = path
    if not entries:
        raise _nothing(what, holder, beside, others, bool(folders))
    classes = sorted(names for folder in folders if len(names := tuple(folder.split("/"))) == depth)
    empty = [text(names[-1]) for names in classes if names not in used]
    notes = []
    if beside:
        notes.append(f"{counted(beside, 'image')} beside the class folders left out: they have no class")
    if others:
        notes.append(f"{counted(others, 'file')} without the suffix of an image left out")
    if empty:
        notes.append(f"{counted(len(empty), 'class folder')} without an image: {', '.join(map(repr, empty[:5]))}")
    return Arranged(entries, tuple(notes), renamed)


def common_top(folders: Collection[str]) -> str:
    """The folders that an archive wraps everything in, as ``pets/``: each alone on its level, and no class or split."""
    top = ""
    while True:
        below = {folder[len(top) :] for folder in folders if folder.startswith(top)}
        first = {folder.partition("/")[0] for folder in below} - {""}
        if len(first) != 1 or splits_on_top(first) or not any("/" in folder for folder in below):
            return top
        top += f"{first.pop()}/"


def splits_on_top(names: Iterable[str]) -> bool:
    """Whether there are names, and all of them are those of splits."""
    names = list(names)
    return bool(names) and all(name.lower() in SPLITS for name in names)


def is_image(name: str) -> bool:
    """Whether a file is named like an image."""
    return name[name.rfind(".") :].lower() in SUFFIXES  # a Path each would take seconds a million


def is_hidden(name: str) -> bool:
    """Whether a file or folder is passed over."""
    return name.startswith(".") or name == "__MACOSX"  # where macOS puts its own things in an archive


def text(name: str) -> str:
    """A file name as valid Unicode: undecodable bytes become escapes."""
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _nothing(what: str, holder: str, beside: int, others: int, folders: bool) -> DataError:
    if beside:
        found = f"has {counted(beside, 'image')} but no class folders with images"
    elif others or folders:
        found = f"has no images ({counted(others, 'other file')})"
    else:
        found = "is empty"
    return DataError(
        f"{what} {found}",
        f"needed is {'' if holder == 'folder' else f'an {holder} of '}one folder a class with its images inside, "
        f"as in pets/cat/1.jpg; read are {' '.join(sorted(SUFFIXES))}",
    )

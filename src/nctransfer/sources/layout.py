"""Which files are images, and what their folders say about classes and splits.

The layout is ``class/image.jpg``, or ``split/class/image.jpg`` if all folders on top have the names of splits. Images
may lie in further folders below their class. Where labels are optional, images may also lie on top or directly in the
folder of a split; they have no label then.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from nctransfer.errors import DataError, counted, join_names
from nctransfer.sources.source import ImageEntry

__all__ = ["Arranged", "arrange", "as_unicode", "common_top", "is_hidden", "is_image", "splits_on_top"]

SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tga", ".tif", ".tiff", ".webp"}
)
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing"})


class Arranged(NamedTuple):
    """Files as labelled images.

    Attributes:
        entries: The images, in the order of the files.
        notes: What was left out, in sentences for the user.
        renamed: The path of each image whose id is not its path, by the id.
    """

    entries: list[ImageEntry]
    notes: tuple[str, ...]
    renamed: Mapping[str, str]


def arrange(
    what: str,
    folders: Collection[str],
    files: Iterable[tuple[str, int, int]],
    top: str = "",
    holder: str = "folder",
    *,
    labels_optional: bool = False,
) -> Arranged:
    """Files as labelled images, whose classes and splits are the names of their folders.

    Args:
        what: The source, for messages, for example "the folder 'pets'".
        folders: The paths of folders relative to ``top``, at least the upper two levels: ``train``, ``train/cat``.
        files: Path, size and time of each file that is not hidden.
        top: A prefix of all paths that says nothing about classes, for example ``pets/``.
        holder: What the source is, for the hint: "folder" or "archive".
        labels_optional: Whether images outside the class folders are taken too, with the label "".

    Raises:
        DataError: No file is an image, or none is in a class folder and labels are not optional.
    """
    has_splits = splits_on_top(folder.partition("/")[0] for folder in folders)
    has_splits = has_splits and (labels_optional or any("/" in name for name in folders))
    depth = 2 if has_splits else 1
    entries, renamed, beside, others = [], {}, 0, 0
    used: set[tuple[str, ...]] = set()
    for path, size, mtime_ns in files:
        parts = path[len(top) :].split("/", depth)
        is_in_class = len(parts) > depth
        if not is_image(path):
            others += is_in_class or labels_optional
        elif not (is_in_class or labels_optional):
            beside += 1
        else:
            name, label, split = as_unicode(path), "", ""
            if is_in_class:
                label = sys.intern(as_unicode(parts[depth - 1]))
                used.add(tuple(parts[:depth]))
            if has_splits and len(parts) > 1:
                split = as_unicode(parts[0])
            entries.append(ImageEntry(name, label, split, size, mtime_ns))
            if name != path:
                renamed[name] = path
    if not entries:
        raise _nothing(what, holder, beside, others, bool(folders), labels_optional)
    notes = []
    if beside:
        notes.append(f"left out {counted(beside, 'image')} outside the class folders, because they have no class")
    if others:
        notes.append(f"left out {counted(others, 'file')} whose names do not end like those of images")
    if not labels_optional:
        classes = sorted(names for folder in folders if len(names := tuple(folder.split("/"))) == depth)
        notes += _about_empty([as_unicode(names[-1]) for names in classes if names not in used])
    return Arranged(entries, tuple(notes), renamed)


def common_top(folders: Collection[str]) -> str:
    """The outer folders of an archive, which say nothing about classes, for example ``pets/``.

    These are folders that are alone on their level and hold further folders, unless they have the name of a split.

    >>> common_top({"pets", "pets/cat", "pets/dog"}), common_top({"train", "train/cat"})
    ('pets/', '')
    """
    top = ""
    while True:
        below = {folder[len(top) :] for folder in folders if folder.startswith(top)}
        first = {folder.partition("/")[0] for folder in below} - {""}
        if len(first) != 1 or splits_on_top(first) or not any("/" in folder for folder in below):
            return top
        top += f"{first.pop()}/"


def splits_on_top(names: Iterable[str]) -> bool:
    """Whether there are names and all of them are usual names of splits, such as ``train`` or ``test``."""
    names = list(names)
    return bool(names) and all(name.lower() in SPLITS for name in names)


def is_image(name: str) -> bool:
    """Whether the name of a file ends like that of an image."""
    return name[name.rfind(".") :].lower() in SUFFIXES  # pathlib would take seconds for a million names


def is_hidden(name: str) -> bool:
    """Whether a file or folder is ignored: its name begins with a dot, or macOS added it to an archive."""
    return name.startswith(".") or name == "__MACOSX"


def as_unicode(name: str) -> str:
    r"""A file name as valid Unicode; bytes that are not UTF-8 are escaped, as in ``caf\xe9``."""
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _about_empty(classes: Sequence[str]) -> Iterator[str]:
    """A note about class folders that hold no image."""
    if classes:
        names = join_names(list(map(repr, classes)))
        yield f"left out {counted(len(classes), 'class folder')} without images: {names}"


def _nothing(what: str, holder: str, beside: int, others: int, folders: bool, labels_optional: bool) -> DataError:
    if beside:
        found = f"has {counted(beside, 'image')}, but none of them in a class folder"
    elif others or folders:
        found = f"has no images, but {counted(others, 'other file')}"
    else:
        found = "is empty"
    needed = "images" if labels_optional else "one folder of images per class, as in pets/cat/1.jpg"
    return DataError(
        f"{what} {found}",
        f"expected {'a folder' if holder == 'folder' else f'an {holder}'} with {needed}; names of images end in "
        f"{' '.join(sorted(SUFFIXES))}",
    )

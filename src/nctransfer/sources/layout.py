"""Which files are images, and what their folders say about classes and splits.

The layout is ``class/image.jpg``, or ``split/class/image.jpg`` if all folders on top have the names of splits. Images
may lie in further folders below their class, and a label depth can make classes of these: at depth 2, the image
``Fruit/Apple/1.jpg`` is of the class ``Fruit/Apple``. If there is one outer folder with folders in it, and no image
beside them, the classes are the folders in it. Where labels are optional, images may also lie on top or directly in the
folder of a split; they have no label then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.errors import DataError, counted, join_names
from nctransfer.sources.attributes import FolderAttributes
from nctransfer.sources.image_table import TableBuilder
from nctransfer.sources.label_depth import class_of_folders, depth_notes

if TYPE_CHECKING:
    from nctransfer.sources.image_table import ImageTable
    from nctransfer.sources.label_depth import LabelDepth

__all__ = ["Arranged", "FolderImages", "arrange", "as_unicode", "common_top", "is_hidden", "is_image", "splits_on_top"]

SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tga", ".tif", ".tiff", ".webp"}
)
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing"})


class FolderImages(NamedTuple):
    """Images that lie in one folder: all of them, or some thousands.

    Attributes:
        folder: The path of the folder, such as ``train/cat``; "" for the outermost.
        names: The names of the images.
        sizes: Their sizes in bytes.
        times: When they were last changed, in nanoseconds.
        others: The number of visible files beside them that are no images.
    """

    folder: str
    names: Sequence[str]
    sizes: Sequence[int]
    times: Sequence[int]
    others: int


class Arranged(NamedTuple):
    """Files as labelled images.

    Attributes:
        entries: The images, in the order of the files.
        notes: What was left out, in sentences for the user.
        renamed: The path of each image whose id is not its path, by the id.
    """

    entries: ImageTable
    notes: tuple[str, ...]
    renamed: Mapping[str, str]


def arrange(
    what: str,
    folders: Collection[str],
    images: Iterable[FolderImages],
    top: str = "",
    holder: str = "folder",
    *,
    labels_optional: bool = False,
    label_depth: LabelDepth | None = None,
) -> Arranged:
    """Files as labelled images, whose classes and splits are the names of their folders.

    Args:
        what: The source, for messages, for example "the folder 'pets'".
        folders: The paths of folders relative to ``top``, at least the upper two levels: ``train``, ``train/cat``.
        images: The images of each folder. A folder may come more than once.
        top: A prefix of all paths that says nothing about classes, for example ``pets/``.
        holder: What the source is, for the hint: "folder" or "archive".
        labels_optional: Whether images outside the class folders are taken too, with the label "".
        label_depth: How many folders below the split make a class; see
            :func:`~nctransfer.sources.label_depth.class_of_folders`. Default: one; a note says which others there are.

    Raises:
        DataError: No file is an image, or none is in a class folder and labels are not optional.
    """
    has_splits = splits_on_top(folder.partition("/")[0] for folder in folders)
    has_splits = has_splits and (labels_optional or any("/" in name for name in folders))
    above = 1 if has_splits else 0
    table, levels, beside, others = TableBuilder(), FolderAttributes(), 0, 0
    renamed: dict[str, str] = {}
    used: set[tuple[str, ...]] = set()
    for folder, names, sizes, times, other_files in images:
        parts = folder[len(top) :].split("/") if len(folder) >= len(top) and folder else []
        below = list(map(as_unicode, parts[above:]))
        if below or labels_optional:
            others += other_files
        else:
            beside += len(names)
            continue
        if below and names:
            used.add(tuple(parts[: above + 1]))
        split = as_unicode(parts[0]) if has_splits and parts else ""
        ids = _ids(f"{folder}/" if folder else "", names, renamed)
        table.add_equal(ids, class_of_folders(below, label_depth), split, sizes, times)
        levels.add(below, len(names))
    if not len(table):
        raise _nothing(what, holder, beside, others, bool(folders), labels_optional)
    notes = []
    if beside:
        notes.append(f"left out {counted(beside, 'image')} outside the class folders, because they have no class")
    if others:
        notes.append(f"left out {counted(others, 'file')} whose names do not end like those of images")
    if not labels_optional:
        classes = sorted(names for folder in folders if len(names := tuple(folder.split("/"))) == above + 1)
        notes += _about_empty([as_unicode(names[-1]) for names in classes if names not in used])
        notes += depth_notes(levels.classes(), label_depth, levels.shallower_than(label_depth))
    return Arranged(table.table().with_attributes(levels.columns()), tuple(notes), renamed)


def _ids(prefix: str, names: Sequence[str], renamed: dict[str, str]) -> list[str]:
    """The ids of the images in a folder; notes those that are not paths."""
    paths = [prefix + name for name in names]
    if prefix.isascii() and "".join(names).isascii():
        return paths
    ids = list(map(as_unicode, paths))
    renamed.update((id_, path) for id_, path in zip(ids, paths, strict=True) if id_ != path)
    return ids


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
    suffix = name[name.rfind(".") :]  # pathlib would take seconds for a million names
    return suffix in SUFFIXES or suffix.lower() in SUFFIXES


def is_hidden(name: str) -> bool:
    """Whether a file or folder is ignored: its name begins with a dot, or macOS added it to an archive."""
    return name[:1] == "." or name == "__MACOSX"


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

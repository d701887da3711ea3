"""How many of the folders that an image lies in make its class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from nctransfer.errors import SettingError, counted

__all__ = ["MORE_CLASSES", "LabelDepth", "checked_depth", "class_of_folders", "depth_notes"]

LabelDepth: TypeAlias = int | Literal["leaf"]
MORE_CLASSES = (
    "data with more classes, or --label-depth 2 if their folders lie one deeper (nctransfer data shows the levels)"
)


def checked_depth(value: int | str) -> LabelDepth:
    """A depth that somebody has given: a number from 1 on, or ``leaf`` for all folders.

    Raises:
        SettingError: It is neither.

    >>> checked_depth("2"), checked_depth("leaf")
    (2, 'leaf')
    """
    if value == "leaf":
        return "leaf"
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
        raise SettingError(f"the label depth {value!r} is neither a number from 1 on nor 'leaf'", "give 2, or leaf")
    return int(text)


def class_of_folders(folders: Sequence[str], depth: LabelDepth | None) -> str:
    """The class of an image, of the folders that it lies in, from the outermost on: their names joined by "/".

    An image that lies less deep is of the class of its own folder.

    >>> class_of_folders(["Fruit", "Apple", "Gala"], 2), class_of_folders(["Fruit"], 2)
    ('Fruit/Apple', 'Fruit')
    """
    return "/".join(folders if depth == "leaf" else folders[: depth or 1])


def depth_notes(classes: Sequence[int], depth: LabelDepth | None, shallower: int) -> Iterator[str]:
    """What a user should know about the depth that was taken, in sentences.

    Args:
        classes: The number of classes at depth 1, 2, …
        depth: The depth that was asked for.
        shallower: The number of images that lie less deep.
    """
    if depth is None:
        finer = [number for number in range(1, len(classes)) if classes[number] > classes[number - 1]]
        if finer:
            ways = [f"--label-depth {number + 1} makes {classes[number]:,}" for number in finer[:3]]
            ways[0] += " classes of them"
            held = "holds" if classes[0] == 1 else "hold"
            yield f"{counted(classes[0], 'class folder')} {held} finer folders: {', '.join(ways)}"
    elif depth == "leaf":
        return
    elif not any(number >= depth for number in range(1, len(classes) + 1)):
        deepest = counted(len(classes), "folder")
        yield f"no image lies deeper than {deepest}, so --label-depth {depth} makes the classes of --label-depth leaf"
    elif shallower:
        yield f"{counted(shallower, 'image')} in fewer than {depth} folders: the class of each is its own folder"

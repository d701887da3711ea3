"""What can go wrong, as one tree.

::

    NCTransferError            every error that nctransfer raises on purpose
    ├── DataError              the images: no folder, no classes, a symlink loop
    │   └── BrokenImagesError  some images could not be read; the others are stored
    ├── ModelError             the backbone: unknown name, no pooled features
    │   └── WeightsError       its weights: not at hand, not fitting, unsafe
    ├── DeviceError            the device or dtype that was asked for is not there
    ├── EngineError            what runs the images: Ray is not installed, its workers die
    ├── StoreError             the cache: not writable, disk full, a damaged file
    │   └── SetChangedError    another process changed a stored set while it was read
    ├── FeaturesError          the features: not found, not finite, no such column
    │   └── IncompleteError    some wanted images are not stored
    ├── HeadError              a saved head: damaged, of a newer format, not for this backbone
    ├── SettingError           a value that is wrong whatever the material: 1 way, an unknown classifier
    ├── EpisodeError           the task: more ways than classes, too few samples
    └── PluginError            another package's entry: it cannot be loaded, or its name is taken

A message says what was given and what was needed; ``hint`` says what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = [
    "BrokenImage",
    "BrokenImagesError",
    "DataError",
    "DeviceError",
    "EngineError",
    "EpisodeError",
    "FeaturesError",
    "HeadError",
    "IncompleteError",
    "ModelError",
    "NCTransferError",
    "PluginError",
    "SetChangedError",
    "SettingError",
    "StoreError",
    "WeightsError",
    "counted",
    "did_you_mean",
    "join_names",
    "reason_of",
    "short_text",
]


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number and its noun, as messages say them.

    >>> counted(1, "image"), counted(2000, "class", "classes")
    ('1 image', '2,000 classes')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def join_names(names: Sequence[object], most: int = 5) -> str:
    """The first names of a list, and an ellipsis if there are more.

    >>> join_names(["cat", "dog"]), join_names(["a", "b", "c"], most=2)
    ('cat, dog', 'a, b, …')
    """
    return ", ".join(map(str, names[:most])) + (", …" if len(names) > most else "")


def short_text(text: str, most: int) -> str:
    """A name that fits: if it has more than so many characters, its middle is left out.

    >>> short_text("short", 12), short_text("a name that is rather long", 12)
    ('short', 'a name…long')
    """
    if len(text) <= most:
        return text
    before = -(-most * 3 // 5)
    return f"{text[: before - 1].rstrip()}…{text[len(text) - (most - before) :].lstrip()}"


def did_you_mean(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """A question that names what was perhaps meant by a wrong name; empty if no name is similar.

    Args:
        name: The wrong name.
        names: The right names.
        cutoff: How similar a name must be, from 0 to 1.

    >>> did_you_mean("colapse", ["collapse", "fewshot"]), did_you_mean("x", ["collapse", "fewshot"])
    ("did you mean 'collapse'?", '')
    """
    near = difflib.get_close_matches(name, list(dict.fromkeys(names)), n=3, cutoff=cutoff)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else ""


def reason_of(error: BaseException) -> str:
    """Why an exception was raised, in one line: the system's words, else its first line, else its class.

    >>> reason_of(FileNotFoundError(2, "No such file or directory")), reason_of(KeyError())
    ('No such file or directory', 'KeyError')
    """
    words = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0]
    return words or type(error).__name__


class NCTransferError(Exception):
    """An error of the user's material, with a ``hint`` at what to do next (may be empty)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class DataError(NCTransferError):
    """The data source cannot be used as labelled images."""


class BrokenImage(NamedTuple):
    """An image that gave no features, and why."""

    id: str
    reason: str


class BrokenImagesError(DataError):
    """Some images gave no features; those of the others are stored.

    ``broken`` lists them.
    """

    def __init__(self, broken: Sequence[BrokenImage], stored: int) -> None:
        super().__init__(
            f"{counted(len(broken), 'image')} could not be used; the features of the other {stored:,} are stored",
            "mend or remove them and run again, or go on without them by --skip-broken",
        )
        self.broken = tuple(broken)


class ModelError(NCTransferError):
    """The backbone cannot be used."""


class WeightsError(ModelError):
    """The weights cannot be had, do not fit, or are not safe to read."""


class DeviceError(NCTransferError):
    """The device or dtype that was asked for is not available here."""


class EngineError(NCTransferError):
    """The engine that runs images cannot be used, or failed."""


class StoreError(NCTransferError):
    """The cache cannot be read or written."""


class SetChangedError(StoreError):
    """Another process changed a stored set while it was read; nothing is damaged, and reading it again helps."""


class FeaturesError(NCTransferError):
    """The features cannot be found or used."""


class IncompleteError(FeaturesError):
    """Some of the wanted images are not stored, so that numbers would not be those of the images that are wanted."""


class HeadError(NCTransferError):
    """A saved head cannot be read, written or used."""


class SettingError(NCTransferError):
    """A value is wrong, or two do not go together, whatever the images and features are.

    On the command line it is wrong usage, with exit code 2.
    """


class EpisodeError(NCTransferError):
    """The few-shot task does not fit the features."""


class PluginError(NCTransferError):
    """What another package adds to nctransfer cannot be used."""

"""Open what the user names as data, for example a folder, an archive or a data set of timm.

The kinds of data source are in :mod:`nctransfer.sources.registry`.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.errors import DataError, reason_of
from nctransfer.sources.registry import SOURCES, UNLABELLED, describe_sources
from nctransfer.sources.source_kind import ReadingOptions

if TYPE_CHECKING:
    from nctransfer.sources.source import ImageSource
    from nctransfer.sources.source_kind import SourceKind

__all__ = ["open_source"]

FOR_EVERY_KIND = ("split", "offline", "labels_optional")  # options that no kind refuses


def open_source(data: str | os.PathLike[str], options: ReadingOptions | None = None) -> ImageSource:
    """The images that ``data`` names.

    Args:
        data: For example ``"digits"``, ``"pets/"``, ``"pets.zip"`` or ``"hfds/cifar10"``.
        options: What the source cannot know by itself. An option that this kind of source does not use is an error.

    Raises:
        DataError: There is no such source, or an option does not apply to it.
        PluginError: The kind of source comes from another package, and cannot be used.
    """
    name, options = os.fspath(data), options or ReadingOptions()
    if not name:
        raise DataError("the name of the data is empty", _hint(options))
    if not _can_be_a_path(name):
        raise DataError(f"{name!r} does not exist", _hint(options))
    try:
        for kind in itertools.chain(UNLABELLED if options.labels_optional else (), SOURCES.values()):
            if kind.recognises(name):
                source = kind.open(name, options)
                _check_options(source, kind, options)
                source.opened_as = name, options
                return source
        problem = _why_not_recognised(Path(name))
    except OSError as error:
        raise DataError(f"{name!r} cannot be read: {reason_of(error)}", _hint(options)) from error
    raise DataError(f"{name!r} {problem}", _hint(options))


def _can_be_a_path(name: str) -> bool:
    """Whether the operating system takes a name: without null characters, and in the encoding of file names."""
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def _check_options(source: ImageSource, kind: SourceKind, options: ReadingOptions) -> None:
    """Refuse options that this kind of source does not use."""
    for name, usual in ((field.name, field.default) for field in fields(options)):
        if name not in (*kind.takes, *FOR_EVERY_KIND) and getattr(options, name) != usual:
            flag = f"--{name.replace('_', '-')}"
            instead = "; --label-depth makes classes of folders" * (
                name == "label_column" and "label_depth" in kind.takes
            )
            raise DataError(f"{flag} does not apply to {source.name!r} ({source.kind})", f"leave out {flag}{instead}")


def _why_not_recognised(path: Path) -> str:
    if path.is_file():
        return "is not a file that nctransfer can read images from"
    return "is neither a file nor a folder" if path.exists() else "does not exist"


def _hint(options: ReadingOptions) -> str:
    return f"give one of: {describe_sources(options.labels_optional)}"

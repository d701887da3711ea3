"""Files that a user names to be written, refused before the work if they could not be."""

from __future__ import annotations

import os
from pathlib import Path

from nctransfer.errors import NCTransferError
from nctransfer.paths import is_folder, is_something_else

__all__ = ["LONGEST_NAME", "check_new_file", "unwritable"]

LONGEST_NAME = 230  # bytes; file systems take 255, and a file has a longer name while it is written


def check_new_file(path: Path, overwrite: bool, what: str, error: type[NCTransferError] = NCTransferError) -> None:
    """Refuse a file that could not be written, or that exists and is not to be replaced.

    Args:
        path: The file.
        overwrite: Whether a file that exists is replaced.
        what: What will be written, for messages.
        error: The type of the error.

    Raises:
        NCTransferError: The file exists, or is not a file; or its folder does not exist.
    """
    if is_folder(path):
        raise unwritable(path, "it is a folder", error)
    if not is_folder(path.absolute().parent):
        raise unwritable(path, "its folder does not exist", error)
    target = Path(os.path.realpath(path))
    if not is_folder(target.parent):
        raise unwritable(path, f"it is a link to {str(target)!r}, in a folder that does not exist", error)
    if is_something_else(path):  # a device would be replaced by a file
        raise unwritable(path, "it is not a file", error)
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise unwritable(path, "its name is too long", error)
    if os.path.lexists(path) and not overwrite:
        raise error(
            f"{str(path)!r} exists already, and {what} would replace it",
            "give another name, or --overwrite (overwrite=True) to replace it",
        )


def unwritable(path: Path, reason: str, error: type[NCTransferError] = NCTransferError) -> NCTransferError:
    """The error of a file that cannot be written."""
    return error(f"{str(path)!r} cannot be written: {reason}", "give another file, in a folder that exists")

"""A head in a file: written whole or not at all, and checked before it is used."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from nctransfer.checked_values import check_text
from nctransfer.errors import HeadError, reason_of
from nctransfer.heads.head import Head
from nctransfer.heads.head_content import NewerFormatError, from_bytes, header_bytes, to_bytes
from nctransfer.paths import expanded, is_folder, is_something_else
from nctransfer.store.atomic_files import replace_file
from nctransfer.store.new_files import check_new_file, unwritable

__all__ = ["check_class_names", "load_head", "save_head"]

MOST_BYTES = 2**32
"""The largest file that is read. A head for 20,000 classes and a width of 4,096 takes a tenth of it."""


def save_head(head: Head, path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Write a head into one file, whole or not at all. What would not be loaded again is not written.

    Args:
        head: The head.
        path: The file. Its suffix is ``.head`` by habit.
        overwrite: Whether a file that exists is replaced.

    Raises:
        HeadError: The file exists or cannot be written, or a class name is not plain text.
    """
    file = expanded(path)
    check_new_file(file, overwrite, "the head", HeadError)
    try:
        content = to_bytes(head)
        from_bytes(content)
    except ValueError as error:
        raise HeadError(
            f"the head cannot be saved: {error}",
            "class names must be plain text and differ from each other, and numbers finite",
        ) from error
    try:
        replace_file(file, lambda opened: opened.write(content))
    except OSError as error:
        raise unwritable(file, reason_of(error), HeadError) from error


def check_class_names(classes: Iterable[str]) -> None:
    """Refuse class names that no file of a head may hold.

    Raises:
        HeadError: A name has a control character or a line break.
    """
    try:
        for name in classes:
            check_text(name, "the class name")
    except ValueError as error:
        raise HeadError(f"the head cannot be saved: {error}", "rename the class") from error


def load_head(path: str | os.PathLike[str]) -> Head:
    """Read a head, and check everything in it before it is used. Nothing in the file is run.

    A digest detects damage. It is not a signature: it does not say who wrote the file.

    Args:
        path: A file that :meth:`~nctransfer.heads.head.Head.save` or ``nctransfer fit`` wrote.

    Raises:
        HeadError: There is no such file, it is not a head, it is damaged, or a newer version of nctransfer wrote it.
    """
    file = expanded(path)
    try:
        return from_bytes(_content(file))
    except NewerFormatError as error:
        raise HeadError(
            f"{str(file)!r} is a head of a newer format: {error}", "upgrade: pip install --upgrade nctransfer"
        ) from error
    except ValueError as error:
        raise HeadError(
            f"{str(file)!r} cannot be used as a head: {error}",
            "copy it again from where it came, or make it anew by nctransfer fit",
        ) from error


def _content(path: Path) -> bytes:
    """The bytes of a file that may be a head."""
    if is_folder(path):
        raise HeadError(f"{str(path)!r} is a folder, not a head", "give the head first, then the images")
    try:
        if is_something_else(path):  # reading a pipe would never end
            raise ValueError("it is not a file")
        with path.open("rb") as file:
            header_bytes(file.read(8))
            if (size := os.fstat(file.fileno()).st_size) > MOST_BYTES:
                raise ValueError(f"it is larger than {MOST_BYTES:,} bytes")
            file.seek(0)
            return file.read(size)
    except FileNotFoundError as error:
        raise HeadError(f"there is no head {str(path)!r}", f"nctransfer fit -o {path.name} makes one") from error
    except OSError as error:
        raise HeadError(f"{str(path)!r} cannot be read: {reason_of(error)}") from error

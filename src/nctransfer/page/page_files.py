"""Pages in files: checked before the work, and written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.errors import SettingError, reason_of
from nctransfer.page.rendering import render_page
from nctransfer.store.atomic_files import replace_file
from nctransfer.store.new_files import check_new_file, unwritable

if TYPE_CHECKING:
    from nctransfer.page.blocks import PageContent

__all__ = ["check_page_file", "write_page"]

SUFFIXES = (".html", ".htm")


def check_page_file(path: Path, overwrite: bool) -> None:
    """Refuse a file that a page could not be written into, or that no browser would open.

    Args:
        path: The file.
        overwrite: Whether a file that exists is replaced.

    Raises:
        SettingError: The suffix is not that of a page.
        NCTransferError: The file exists, or is not a file; or its folder does not exist.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise SettingError(f"{str(path)!r} does not end in .html, as a page does", f"name it {path.name}.html")
    check_new_file(path, overwrite, "the report")


def write_page(page: PageContent, path: Path) -> int:
    """Write a page whole or not at all; returns its size in bytes.

    Raises:
        NCTransferError: It cannot be written.
    """
    content = render_page(page).encode("utf-8", "backslashreplace")
    try:
        replace_file(path, lambda file: file.write(content))
    except OSError as error:
        raise unwritable(path, reason_of(error)) from error
    return len(content)

"""The files that a command writes, checked before the work and written after it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.errors import NCTransferError, SettingError, reason_of
from nctransfer.figures.figure_files import check_figure, save_figure
from nctransfer.paths import is_folder, is_something_else
from nctransfer.store.atomic_files import replace_file
from nctransfer.store.new_files import LONGEST_NAME

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

__all__ = ["OutputFiles"]


class OutputFiles:
    """The files of one command, each named by an option.

    Args:
        paths: The path that each option gives, such as ``--output``; ``None`` if the option was not given.
    """

    def __init__(self, paths: Mapping[str, Path | None]) -> None:
        self._paths = {option: path for option, path in paths.items() if path is not None}

    def check(self) -> None:
        """Refuse before the work what could not be written after it.

        Raises:
            NCTransferError: Two options name the same file, a path is a folder or in a folder that does not exist, or
                ``--figure`` names no known format.
        """
        absolute = [path.absolute() for path in self._paths.values()]
        if len(set(absolute)) < len(absolute):
            raise SettingError(
                f"two results would be written to {str(absolute[0])!r}",
                f"give {' and '.join(self._paths)} different files",
            )
        for option, path in self._paths.items():
            if is_folder(path):
                raise NCTransferError(f"{str(path)!r} cannot be written: it is a folder", f"give another {option}")
            if not is_folder(path.absolute().parent):
                raise NCTransferError(
                    f"{str(path)!r} cannot be written: its folder does not exist",
                    f"create the folder, or give another {option}",
                )
            if len(os.fsencode(path.name)) > LONGEST_NAME:
                raise NCTransferError(
                    f"{str(path)!r} cannot be written: its name is too long", f"give a shorter {option}"
                )
            if option == "--figure":
                check_figure(path)

    def text(self, option: str, text: str) -> None:
        """Write text in UTF-8."""
        self._write(option, lambda path: path.write_text(text, encoding="utf-8", errors="backslashreplace"))

    def page(self, option: str, text: str) -> None:
        """Write a page whole or not at all; to a device or a pipe, as it is."""
        content = text.encode("utf-8", "backslashreplace")

        def write(path: Path) -> None:
            if is_something_else(path):
                path.write_bytes(content)
            else:
                replace_file(path, lambda file: file.write(content))

        self._write(option, write)

    def parquet(self, option: str, make: Callable[[], pa.Table]) -> None:
        """Write a table as Parquet, if the option was given."""
        from pyarrow import parquet

        def write(path: Path) -> None:
            table = make()
            # an open file, since Arrow deletes the file of a path when writing fails, even if it is a device
            with path.open("wb") as file:
                parquet.write_table(table, file)

        self._write(option, write)

    def figure(self, option: str, make: Callable[[], Figure]) -> None:
        """Draw a figure, if the option was given."""
        self._write(option, lambda path: save_figure(make(), path))

    def _write(self, option: str, write: Callable[[Path], object]) -> None:
        if (path := self._paths.get(option)) is None:
            return
        try:
            write(path)
        except (OSError, ValueError) as error:  # a null character is a ValueError
            raise NCTransferError(
                f"{str(path)!r} cannot be written: {reason_of(error)}", f"give another {option}"
            ) from error

"""Figures as files: the same bytes for the same numbers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.errors import SettingError
from nctransfer.figures.alternative_text import described_svg
from nctransfer.figures.style import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "check_figure", "save_figure", "svg_of"]

FORMATS = (".svg", ".png", ".pdf")


def check_figure(path: Path) -> None:
    """That a figure can be saved under this name.

    Raises:
        SettingError: The suffix is of no known format.
    """
    if path.suffix.lower() not in FORMATS:
        raise SettingError(f"the figure {str(path)!r} has no known format", f"name it {', '.join(FORMATS)}")


def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure in the format that the suffix says; the same figure is the same file.

    An SVG file holds a title and a description for readers who cannot see it.

    Raises:
        OSError: It cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind == "svg":
        path.write_bytes(described_svg(svg_of(figure), figure))
        return
    with style():
        figure.savefig(path, bbox_inches="tight", metadata={"CreationDate": None} if kind == "pdf" else None)


def svg_of(figure: Figure, *, transparent: bool = False) -> bytes:
    """A figure as SVG, as matplotlib writes it.

    Args:
        figure: The figure.
        transparent: Whether it and its axes have no background.
    """
    content = io.BytesIO()
    with style():
        figure.savefig(content, format="svg", bbox_inches="tight", metadata={"Date": None}, transparent=transparent)
    return content.getvalue()

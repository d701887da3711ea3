"""What all figures share: colours, formats, numbers on axes. Matplotlib is imported only to draw one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.errors import SettingError

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "FORMATS", "any_script", "check_figure", "plain_numbers", "plain_text", "save_figure"]

FORMATS = (".svg", ".png", ".pdf")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")  # Okabe, Ito: for all eyes


def check_figure(path: Path) -> None:
    """That a figure can be saved in the format that a path names.

    Raises:
        SettingError: The suffix is of no known format.
    """
    if path.suffix.lower() not in FORMATS:
        raise SettingError(f"the figure {str(path)!r} has no known format", f"name it {', '.join(FORMATS)}")


def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure in the format that the suffix says; the same figure is the same file.

    Raises:
        OSError: It cannot be written.
    """
    import matplotlib as mpl

    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower())
    with mpl.rc_context({"svg.hashsalt": "nctransfer", "svg.fonttype": "none"}), any_script():
        figure.savefig(path, dpi=150, bbox_inches="tight", metadata=undated)


@contextmanager
def any_script() -> Iterator[None]:
    """No warnings about names in a script that the font lacks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        yield


def plain_numbers(axis: Axis, subs: Sequence[float] = (1, 1.5, 2, 3, 5, 7)) -> None:
    """Label a logarithmic axis by plain numbers, not by powers: these multiples of each power of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def plain_text(text: str) -> str:
    """Text that matplotlib can draw and does not read as mathematics."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text).replace("$", r"\$")

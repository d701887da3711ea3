"""The option ``--figure``, which every command with a figure has.

A command passes the path to its :class:`~nctransfer.cli.terminal.Terminal` among the files that it writes, which checks
it before the work, and draws by ``terminal.files.figure("--figure", lambda: some_figure(found))`` after it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from nctransfer.cli.expanding import panel_option

__all__ = ["FigureFile"]

FigureFile = Annotated[
    Path | None,
    panel_option(
        "--figure",
        panel="Output",
        metavar="FILE",
        help="Draw the result into this .svg, .png or .pdf file.",
    ),
]
"""A parameter of a command: the file that the figure is drawn into."""

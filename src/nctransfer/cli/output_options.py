"""Options that say where to compute, where the cache is, and how results are printed. Every command has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from nctransfer.cli.choices import choice_of, listed
from nctransfer.cli.expanding import panel_option
from nctransfer.report.format import Format
from nctransfer.report.registry import FORMATS, format_of_file

__all__ = ["OutputOptions", "PrintOptions"]

_RUN, _OUTPUT = "How to run", "Output"


@dataclass(frozen=True)
class PrintOptions:
    """Where to compute, where the cache is, what to print; for commands whose ``--output`` is not their table."""

    device: Annotated[
        str,
        panel_option(
            "--device",
            panel=_RUN,
            help="Where to compute: cpu, cuda, cuda:1, mps, or auto for the first accelerator, else the CPU.",
        ),
    ] = "auto"
    cache_dir: Annotated[
        Path | None,
        panel_option(
            "--cache-dir",
            panel=_RUN,
            metavar="FOLDER",
            help="The folder in which features are stored.",
            show_default="$NCTRANSFER_CACHE, else the platform's cache folder",
        ),
    ] = None
    format: Annotated[
        str | None,
        panel_option(
            "--format",
            "-f",
            panel=_OUTPUT,
            metavar="NAME",
            callback=choice_of(FORMATS),
            help=f"How results are printed: {listed(FORMATS)}.",
            show_default="table",
        ),
    ] = None
    quiet: Annotated[
        bool,
        panel_option("--quiet", "-q", panel=_OUTPUT, help="Print no progress and no notes.", show_default=False),
    ] = False
    verbose: Annotated[
        bool,
        panel_option(
            "--verbose", panel=_OUTPUT, help="Print more notes, about how things are computed.", show_default=False
        ),
    ] = False

    @property
    def output(self) -> Path | None:
        """The file that the table is written to; ``None`` for stdout."""
        return None

    @property
    def chosen_format(self) -> Format:
        """The format that results are printed in."""
        if self.format is not None:
            return FORMATS[self.format]
        return (format_of_file(self.output) if self.output else None) or FORMATS["table"]


@dataclass(frozen=True)
class OutputOptions(PrintOptions):
    """The same with ``--output`` for the table."""

    output: Annotated[
        Path | None,
        panel_option(
            "--output",
            "-o",
            panel=_OUTPUT,
            metavar="FILE",
            help="Write the results to this file. Without --format, its suffix chooses the format, for example .json.",
            show_default="stdout",
        ),
    ] = None

"""``nctransfer data``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated

import typer

from nctransfer.cli.data_options import OfflineOption, ReadingFlags, SelectionOptions, WorkersOption
from nctransfer.cli.expanding import examples
from nctransfer.cli.output_options import OutputOptions
from nctransfer.cli.terminal import Terminal

if TYPE_CHECKING:
    from nctransfer.sources.data_report import DataReport
    from nctransfer.sources.leakage import Overlap
    from nctransfer.sources.source import ImageSource

log = logging.getLogger("nctransfer.cli")


@examples("nctransfer data pets/", "nctransfer data pets/ birds/")
def data(
    name: Annotated[
        str,
        typer.Argument(metavar="D", help="The data: a folder of class folders, or any other source that --data takes."),
    ],
    chosen: SelectionOptions,
    reading: ReadingFlags,
    output: OutputOptions,
    other: Annotated[
        str | None,
        typer.Argument(
            metavar="D2",
            help="A second data source, to find the images of D that are also in it. All of its images are compared.",
            show_default=False,
        ),
    ] = None,
    workers: WorkersOption = None,
    fast: Annotated[
        bool,
        typer.Option(
            "--fast",
            rich_help_panel="How to run",
            help="Read only the headers of images. Truncated images are not found then.",
            show_default=False,
        ),
    ] = False,
    offline: OfflineOption = False,
) -> None:
    """Show what a data source holds: classes, splits, sizes, broken images, duplicates and leaks.

    Broken images and duplicates are findings, not errors: the exit code is 0. Options such as --split and --classes
    choose images of D alone.
    """
    with Terminal(output) as terminal:
        from nctransfer.report.data_sheets import data_sheets
        from nctransfer.sources.inventory import inspect
        from nctransfer.sources.opening import open_source

        source = open_source(name, reading.reading(chosen.split, offline))
        # opened before the first is inspected, so that a wrong name is an error at once
        another = open_source(other, reading.reading(None, offline)) if other is not None else None
        report = inspect(
            source,
            selection=chosen.selection(),
            headers_only=fast,
            workers=workers,
            progress=terminal.progress,
        )
        overlap = _overlap(report, another, workers, terminal) if another else None
        shown = report.to_dict() | ({"overlap": overlap.to_dict()} if overlap else {})
        terminal.show(data_sheets(report, overlap), shown, lambda: report.to_frame(overlap), chosen.seed)


def _overlap(report: DataReport, another: ImageSource, workers: int | None, terminal: Terminal) -> Overlap:
    """Which images are in both sources."""
    from nctransfer.errors import counted
    from nctransfer.sources.inventory import inspect
    from nctransfer.sources.leakage import compare

    # only the digests of the other's images are needed, so their headers are enough
    theirs = inspect(another, headers_only=True, workers=workers, progress=terminal.progress)
    overlap = compare(report, theirs)
    for note in theirs.notes:
        log.warning("%s: %s", another.name, note)
    if theirs.broken:
        log.warning("%s: %s could not be read", another.name, counted(len(theirs.broken), "image"))
    return overlap

"""``nctransfer data``."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from nctransfer.cli.options import OutputOptions, ReadingFlags, SelectionOptions
from nctransfer.cli.terminal import Terminal

log = logging.getLogger("nctransfer.cli")


def data(
    name: Annotated[
        str,
        typer.Argument(metavar="D", help="A folder of class folders, or any other source that --data takes."),
    ],
    chosen: SelectionOptions,
    reading: ReadingFlags,
    output: OutputOptions,
    other: Annotated[
        str | None,
        typer.Argument(
            metavar="D2", help="Another source: which images of D are in it too. It is read whole.", show_default=False
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", rich_help_panel="How to run", min=1, help="Threads that read and decode images."),
    ] = None,
    fast: Annotated[
        bool,
        typer.Option(
            "--fast",
            rich_help_panel="How to run",
            help="Read only the headers of images: truncated ones are not found.",
            show_default=False,
        ),
    ] = False,
    offline: Annotated[
        bool,
        typer.Option("--offline", rich_help_panel="How to run", help="Never ask a server.", show_default=False),
    ] = False,
) -> None:
    """Tell what a data source holds: classes, splits, sizes, broken images, duplicates and leaks.

    These are findings, not errors: the exit code is 0. The options choose images of D alone.
    """
    with Terminal(output) as terminal:
        from nctransfer.errors import counted
        from nctransfer.report.data_sheets import data_sheets
        from nctransfer.sources.inventory import inspect
        from nctransfer.sources.leakage import compare
        from nctransfer.sources.opening import open_source

        source = open_source(name, reading.reading(chosen.split, offline))
        another = (
            open_source(other, reading.reading(None, offline)) if other is not None else None
        )  # a wrong name is said early
        report = inspect(
            source,
            selection=chosen.selection(),
            headers_only=fast,
            workers=workers,
            progress=terminal.progress,
        )
        overlap = None
        if another:
            # for its digests alone: headers are enough
            theirs = inspect(another, headers_only=True, workers=workers, progress=terminal.progress)
            overlap = compare(report, theirs)
            for note in theirs.notes:
                log.warning("%s: %s", another.name, note)
            if theirs.broken:
                log.warning("%s: %s could not be read", another.name, counted(len(theirs.broken), "image"))
        shown = report.to_dict() | ({"overlap": overlap.to_dict()} if overlap else {})
        terminal.show(data_sheets(report, overlap), shown, lambda: report.to_frame(overlap), chosen.seed)

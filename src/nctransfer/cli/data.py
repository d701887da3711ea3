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
            help="Read only the headers of images. Truncated images and look-alikes are not found then.",
            show_default=False,
        ),
    ] = False,
    look_alikes: Annotated[
        bool | None,
        typer.Option(
            "--look-alikes/--no-look-alikes",
            rich_help_panel="How to run",
            help="Find images that look alike: saved again, resized, mirrored or cropped. It decodes the images of D2 "
            "too, and compares ten thousand images in less than a minute.",
            show_default="on, unless --fast is given",
        ),
    ] = None,
    offline: OfflineOption = False,
) -> None:
    """Show what a data source holds: classes, splits, sizes, broken images, duplicates, look-alikes and leaks.

    Broken images, duplicates and look-alikes are findings, not errors: the exit code is 0. Options such as --split and
    --classes choose images of D alone.
    """
    with Terminal(output) as terminal:
        from nctransfer.report.data_sheets import data_sheets
        from nctransfer.sources.inventory import inspect
        from nctransfer.sources.leakage import compare
        from nctransfer.sources.opening import open_source
        from nctransfer.sources.similar_images import find_look_alikes

        alike = not fast if look_alikes is None else look_alikes
        source = open_source(name, reading.reading(chosen.split, offline))
        # opened before the first is inspected, so that a wrong name is an error at once
        another = open_source(other, reading.reading(None, offline)) if other is not None else None
        report = inspect(
            source,
            selection=chosen.selection(),
            headers_only=fast,
            fingerprints=alike,
            workers=workers,
            progress=terminal.progress,
        )
        theirs = _inspected(another, alike, workers, terminal) if another else None
        overlap = compare(report, theirs) if theirs else None
        found = None
        if alike:
            found = find_look_alikes(report, theirs, workers=workers, progress=terminal.progress)
        shown = (
            report.to_dict()
            | ({"overlap": overlap.to_dict()} if overlap else {})
            | ({"look_alikes": found.to_dict()} if found else {})
        )
        sheets = data_sheets(report, overlap, found)
        terminal.show(sheets, shown, lambda: report.to_frame(overlap, found), chosen.seed)


def _inspected(another: ImageSource, alike: bool, workers: int | None, terminal: Terminal) -> DataReport:
    """What is in the other source."""
    from nctransfer.errors import counted
    from nctransfer.sources.inventory import inspect

    # without look-alikes, only the digests of the other's images are needed, so their headers are enough
    theirs = inspect(another, headers_only=not alike, fingerprints=alike, workers=workers, progress=terminal.progress)
    for note in theirs.notes:
        log.warning("%s: %s", another.name, note)
    if theirs.broken:
        log.warning("%s: %s could not be read", another.name, counted(len(theirs.broken), "image"))
    return theirs

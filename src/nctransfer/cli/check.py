"""``nctransfer check``."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from nctransfer.cli.options import BackboneOptions, OutputOptions, ReadingFlags
from nctransfer.cli.terminal import Terminal

log = logging.getLogger("nctransfer.cli")


def check(
    backbone: BackboneOptions,
    reading: ReadingFlags,
    output: OutputOptions,
    data: Annotated[
        str | None,
        typer.Option("--data", "-d", rich_help_panel="Data", help="Images to try, as for extract."),
    ] = None,
    split: Annotated[str | None, typer.Option("--split", rich_help_panel="Data", help="Only this split.")] = None,
    images: Annotated[int, typer.Option("--images", "-n", min=2, help="How many.")] = 32,
    seed: Annotated[
        int, typer.Option("--seed", rich_help_panel="How to run", min=0, max=2**63 - 1, help="Of random weights.")
    ] = 0,
    offline: Annotated[
        bool,
        typer.Option("--offline", rich_help_panel="How to run", help="Never ask a server.", show_default=False),
    ] = False,
) -> None:
    """Check the numerics of a backbone: does a feature depend on the batch, the dtype, the memory format?"""
    with Terminal(output) as terminal:
        from nctransfer.backbones import numerics
        from nctransfer.backbones.building import load
        from nctransfer.backbones.names import DEFAULT_MODEL
        from nctransfer.report.backbone_sheets import numerics_sheet
        from nctransfer.sources.digits import Digits
        from nctransfer.sources.opening import open_source
        from nctransfer.sources.selection import Selection

        if backbone.model is None:
            log.info("no --model: %s, whose weights are at hand", DEFAULT_MODEL)
        source = open_source(Digits.name if data is None else data, reading.reading(split, offline))
        loaded = load(backbone.request(seed), output.device, offline, terminal.progress)
        report = numerics.check(loaded, source, images, Selection(split))
        shown = report.to_dict()
        terminal.show([numerics_sheet(report, source.name)], shown, shown["differences"], seed)

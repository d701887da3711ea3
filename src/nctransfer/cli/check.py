"""``nctransfer check``."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from nctransfer.cli.backbone_options import BackboneOptions
from nctransfer.cli.data_options import DataOption, OfflineOption, ReadingFlags, SeedOption, SplitOption
from nctransfer.cli.expanding import examples
from nctransfer.cli.output_options import OutputOptions
from nctransfer.cli.terminal import Terminal

log = logging.getLogger("nctransfer.cli")


@examples("nctransfer check --model tf_efficientnet_lite0 --images 8")
def check(
    backbone: BackboneOptions,
    reading: ReadingFlags,
    output: OutputOptions,
    data: DataOption = None,
    split: SplitOption = None,
    images: Annotated[int, typer.Option("--images", "-n", metavar="N", min=2, help="Number of images to run.")] = 32,
    seed: SeedOption = 0,
    offline: OfflineOption = False,
) -> None:
    """Check whether features depend on the batch size, the number type or the memory format.

    Without --data, the images are the built-in digits.
    """
    with Terminal(output) as terminal:
        from nctransfer.backbones import numerics
        from nctransfer.backbones.building import load
        from nctransfer.backbones.names import DEFAULT_MODEL
        from nctransfer.report.backbone_sheets import numerics_sheet
        from nctransfer.sources.digits import Digits
        from nctransfer.sources.opening import open_source
        from nctransfer.sources.selection import Selection

        if backbone.model is None:
            log.info("no --model: taking %s, whose weights are installed", DEFAULT_MODEL)
        source = open_source(Digits.name if data is None else data, reading.reading(split, offline))
        loaded = load(backbone.request(seed), output.device, offline, terminal.progress)
        report = numerics.check(loaded, source, images, Selection(split))
        shown = report.to_dict()
        terminal.show([numerics_sheet(report, source.name)], shown, shown["differences"], seed)

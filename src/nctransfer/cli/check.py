"""``nctransfer check``."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from nctransfer.cli.backbone_options import BackboneOptions
from nctransfer.cli.complexity_options import ComplexityOptions
from nctransfer.cli.data_options import DataOption, OfflineOption, ReadingFlags, SelectionOptions
from nctransfer.cli.expanding import examples
from nctransfer.cli.output_options import OutputOptions
from nctransfer.cli.terminal import Terminal

log = logging.getLogger("nctransfer.cli")


@examples(
    "nctransfer check --model tf_efficientnet_lite0 --images 8",
    "nctransfer check --model tf_efficientnet_lite0 --images 8 --complexity",
)
def check(
    backbone: BackboneOptions,
    reading: ReadingFlags,
    chosen: SelectionOptions,
    output: OutputOptions,
    complexity: ComplexityOptions,
    data: DataOption = None,
    images: Annotated[
        int,
        typer.Option(
            "--images", "-n", metavar="N", min=2, help="Number of images to run; with --complexity, the most it takes."
        ),
    ] = 32,
    offline: OfflineOption = False,
) -> None:
    """Check whether features depend on the batch size, the number type or the memory format.

    Without --data, the images are the built-in digits.
    """
    with Terminal(output) as terminal:
        from nctransfer.backbones import numerics
        from nctransfer.backbones.building import load
        from nctransfer.backbones.geometric_complexity import PROBES, TARGET, geometric_complexity
        from nctransfer.backbones.names import DEFAULT_MODEL
        from nctransfer.report.backbone_sheets import numerics_sheet
        from nctransfer.report.complexity_sheets import complexity_sheet
        from nctransfer.sources.digits import Digits
        from nctransfer.sources.opening import open_source

        complexity.check()
        if backbone.model is None:
            log.info("no --model: taking %s, whose weights are installed", DEFAULT_MODEL)
        source = open_source(Digits.name if data is None else data, reading.reading(chosen.split, offline))
        loaded = load(backbone.request(chosen.seed), output.device, offline, terminal.progress)
        selection = chosen.selection()
        report = numerics.check(loaded, source, images, selection)
        shown, sheets = report.to_dict(), [numerics_sheet(report, source.name)]
        rows = shown["differences"]
        if complexity.complexity:
            found = geometric_complexity(
                loaded,
                source,
                images,
                selection,
                probes=PROBES if complexity.probes is None else complexity.probes,
                target=TARGET if complexity.complexity_error is None else complexity.complexity_error,
                seed=chosen.seed,
                progress=terminal.progress,
            )
            shown["complexity"] = found.to_dict()
            rows = [*rows, *found.to_rows()]
            sheets.append(complexity_sheet(found))
        terminal.show(sheets, shown, rows, chosen.seed)

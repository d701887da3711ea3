"""``nctransfer collapse``."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from nctransfer.cli.options import BackboneOptions, OutputOptions, ReadingFlags, SelectionOptions, SourceOptions
from nctransfer.cli.sources import FeatureColumn, FeaturesArgument, Wanted, features_for
from nctransfer.cli.terminal import Terminal

log = logging.getLogger("nctransfer.cli")


def collapse(
    backbone: BackboneOptions,
    source: SourceOptions,
    reading: ReadingFlags,
    chosen: SelectionOptions,
    output: OutputOptions,
    features: FeaturesArgument = None,
    pairs: Annotated[int, typer.Option("--pairs", min=0, help="How many of the closest pairs of classes.")] = 5,
    feature_column: FeatureColumn = None,
) -> None:
    """Measure how tightly the classes cluster, and print the collapse diagnostics."""
    with Terminal(output) as terminal:
        from nctransfer import measures
        from nctransfer.tables import collapse_sheets

        given = features_for(features, Wanted(backbone, source, reading, chosen), feature_column, output, terminal)
        report = measures.collapse(given, pairs=pairs, device=output.device)
        for note in report.notes:
            log.warning("%s", note)
        terminal.show(collapse_sheets(report), report.to_dict(), report.to_frame, chosen.seed)

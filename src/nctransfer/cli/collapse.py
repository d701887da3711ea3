"""``nctransfer collapse``."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from nctransfer.cli.options import OutputOptions, SelectionOptions, SourceOptions
from nctransfer.cli.sources import features_for
from nctransfer.cli.terminal import Terminal

log = logging.getLogger("nctransfer.cli")

FeaturesArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="FEATURES",
        help="A stored set (the beginning of its id will do), or a Parquet file or folder. Without: the set used last.",
        show_default=False,
    ),
]
LabelColumn = Annotated[
    str | None,
    typer.Option("--label-column", rich_help_panel="Data", help="Of a Parquet file: class names or codes."),
]
FeatureColumn = Annotated[
    str, typer.Option("--feature-column", rich_help_panel="Data", help="Of a Parquet file: the vectors.")
]


def collapse(
    source: SourceOptions,
    chosen: SelectionOptions,
    output: OutputOptions,
    features: FeaturesArgument = None,
    pairs: Annotated[int, typer.Option("--pairs", min=0, help="How many of the closest pairs of classes.")] = 5,
    label_column: LabelColumn = None,
    feature_column: FeatureColumn = "feature",
) -> None:
    """Measure how tightly the classes cluster, and print the collapse diagnostics."""
    with Terminal(output) as terminal:
        from nctransfer import measures
        from nctransfer.tables import collapse_sheets

        given = features_for(features, source, chosen, output, terminal, label_column, feature_column)
        report = measures.collapse(given, pairs=pairs, device=output.device)
        for note in report.notes:
            log.warning("%s", note)
        terminal.show(collapse_sheets(report), report.to_dict(), report.to_frame, chosen.seed)

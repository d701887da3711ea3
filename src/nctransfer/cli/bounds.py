"""``nctransfer bounds``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from nctransfer.cli.chosen_features import FeatureColumn, FeaturesArgument, Wanted, again_if_changed, stream_for
from nctransfer.cli.options import BackboneOptions, OutputOptions, ReadingFlags, SelectionOptions, SourceOptions
from nctransfer.cli.parsing import numbers
from nctransfer.cli.terminal import Terminal

if TYPE_CHECKING:
    from nctransfer.neural_collapse.bounds import BoundTable


def bounds(
    backbone: BackboneOptions,
    source: SourceOptions,
    reading: ReadingFlags,
    chosen: SelectionOptions,
    output: OutputOptions,
    features: FeaturesArgument = None,
    ways: Annotated[str, typer.Option("--ways", "-w", help="Classes a task: 5, or 5,10.")] = "5",
    shots: Annotated[
        str, typer.Option("--shots", "-s", help="Support samples a class: 1,5,inf.")
    ] = "1,5,10,50,500,inf",
    feature_column: FeatureColumn = None,
) -> None:
    """Bound the few-shot error of nearest class centres by the geometry of the classes."""
    all_ways, all_shots = numbers(ways, "--ways"), _shots(shots)
    with Terminal(output) as terminal:
        from nctransfer.neural_collapse.bounds import bound_table
        from nctransfer.neural_collapse.class_statistics import ClassStatistics
        from nctransfer.report.theory_sheets import bounds_sheet

        def measure() -> BoundTable:
            given = stream_for(features, Wanted(backbone, source, reading, chosen), feature_column, output, terminal)
            return bound_table(ClassStatistics.of(given, output.device), given.describe(), all_ways, all_shots)

        found = again_if_changed(measure)
        terminal.show([bounds_sheet(found)], found.to_dict(), found.to_frame, chosen.seed)


def _shots(text: str) -> list[float]:
    found: list[float] = []
    for part in text.split(","):
        found += [math.inf] if part == "inf" else numbers(part, "--shots")
    return found

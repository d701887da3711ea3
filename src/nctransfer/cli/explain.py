"""``nctransfer explain``."""

from __future__ import annotations

from typing import Annotated

import typer

from nctransfer.cli.chosen_features import FeatureColumn, FeaturesArgument, Wanted, features_for
from nctransfer.cli.options import BackboneOptions, OutputOptions, ReadingFlags, SelectionOptions, SourceOptions
from nctransfer.cli.parsing import numbers
from nctransfer.cli.terminal import Terminal


def explain(
    backbone: BackboneOptions,
    source: SourceOptions,
    reading: ReadingFlags,
    chosen: SelectionOptions,
    output: OutputOptions,
    class_a: Annotated[str, typer.Argument(metavar="CLASS_A", help="The name of a class.", show_default=False)],
    class_b: Annotated[str, typer.Argument(metavar="CLASS_B", help="Of another.", show_default=False)],
    features: FeaturesArgument = None,
    shots: Annotated[str, typer.Option("--shots", "-s", help="Support samples a class: 1, or 1,5.")] = "1,5,10",
    episodes: Annotated[int, typer.Option("--episodes", "-e", min=2, help="Of the measured accuracy.")] = 10_000,
    feature_column: FeatureColumn = None,
) -> None:
    """Say why two classes are confused: distance, spread, direction, or too few shots."""
    all_shots = numbers(shots, "--shots")
    with Terminal(output) as terminal:
        from nctransfer.evaluation import pair_explanation
        from nctransfer.report.theory_sheets import pair_sheet

        given = features_for(features, Wanted(backbone, source, reading, chosen), feature_column, output, terminal)
        found = pair_explanation.explain(
            given, class_a, class_b, all_shots, episodes=episodes, seed=chosen.seed, device=output.device
        )
        terminal.show([pair_sheet(found)], found.to_dict(), found.to_frame, chosen.seed)

"""``nctransfer fewshot``."""

from __future__ import annotations

from typing import Annotated

import typer

from nctransfer.cli.options import (
    BackboneOptions,
    OutputOptions,
    ReadingFlags,
    SelectionOptions,
    SourceOptions,
    numbers,
)
from nctransfer.cli.sources import FeatureColumn, FeaturesArgument, Wanted, features_for
from nctransfer.cli.terminal import Terminal


def fewshot(
    backbone: BackboneOptions,
    source: SourceOptions,
    reading: ReadingFlags,
    chosen: SelectionOptions,
    output: OutputOptions,
    features: FeaturesArgument = None,
    ways: Annotated[str, typer.Option("--ways", "-w", help="Classes an episode: 5, or 5,10,20.")] = "5",
    shots: Annotated[str, typer.Option("--shots", "-s", help="Support samples a class: 1, or 1,5.")] = "1",
    queries: Annotated[int, typer.Option("--queries", min=1, help="Query samples a class.")] = 15,
    episodes: Annotated[int, typer.Option("--episodes", "-e", min=2, help="Episodes of each task.")] = 10_000,
    classifier: Annotated[str, typer.Option("--classifier", "-c", help="ridge, ncc, or ridge,ncc.")] = "ridge,ncc",
    feature_column: FeatureColumn = None,
) -> None:
    """Measure n-way k-shot accuracy over many random episodes."""
    all_ways, all_shots = numbers(ways, "--ways"), numbers(shots, "--shots")
    with Terminal(output) as terminal:
        from nctransfer import evaluation
        from nctransfer.tables import fewshot_sheet

        given = features_for(features, Wanted(backbone, source, reading, chosen), feature_column, output, terminal)
        result = evaluation.fewshot(
            given,
            all_ways,
            all_shots,
            queries=queries,
            episodes=episodes,
            classifiers=classifier.split(","),
            seed=chosen.seed,
            device=output.device,
            progress=terminal.progress,
        )
        terminal.show([fewshot_sheet(result)], result.to_dict(), result.to_frame, chosen.seed)

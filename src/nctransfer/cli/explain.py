"""``nctransfer explain``."""

from __future__ import annotations

from typing import Annotated

import typer

from nctransfer.cli.backbone_options import BackboneOptions
from nctransfer.cli.chosen_features import ChosenFeatures, Wanted
from nctransfer.cli.data_options import ImageOptions, ReadingFlags, StoredSelectionOptions
from nctransfer.cli.expanding import examples
from nctransfer.cli.feature_arguments import DropDuplicates, FeatureColumn, FeaturesArgument
from nctransfer.cli.figure_option import FigureFile
from nctransfer.cli.output_options import OutputOptions
from nctransfer.cli.parsing import numbers
from nctransfer.cli.terminal import Terminal


@examples("nctransfer explain cat dog --shots 1,5", "nctransfer explain cat dog --figure pair.svg")
def explain(
    backbone: BackboneOptions,
    images: ImageOptions,
    reading: ReadingFlags,
    chosen: StoredSelectionOptions,
    output: OutputOptions,
    class_a: Annotated[str, typer.Argument(metavar="CLASS_A", help="The name of a class.", show_default=False)],
    class_b: Annotated[str, typer.Argument(metavar="CLASS_B", help="The name of another class.", show_default=False)],
    features: FeaturesArgument = None,
    shots: Annotated[
        str, typer.Option("--shots", "-s", metavar="N,…", help="Labelled examples per class. Several: 1,5,10.")
    ] = "1,5,10",
    episodes: Annotated[
        int,
        typer.Option(
            "--episodes", "-e", metavar="N", min=2, help="Number of random episodes that the accuracy is measured on."
        ),
    ] = 10_000,
    figure: FigureFile = None,
    feature_column: FeatureColumn = None,
    drop_duplicates: DropDuplicates = False,
) -> None:
    """Explain why two classes are confused: their distance, spread, direction, or too few examples."""
    all_shots = numbers(shots, "--shots", least=1)
    with Terminal(output, {"--figure": figure}) as terminal:
        from nctransfer.evaluation import pair_explanation
        from nctransfer.figures.pair_figure import pair_figure
        from nctransfer.report.theory_sheets import pair_sheet

        wanted = Wanted(backbone, images, reading, chosen)
        given = ChosenFeatures(wanted, feature_column, output, terminal, drop_duplicates).read(features)
        found = pair_explanation.explain(
            given, class_a, class_b, all_shots, episodes=episodes, seed=chosen.seed, device=output.device
        )
        terminal.files.figure("--figure", lambda: pair_figure(found))
        terminal.show([pair_sheet(found)], found.to_dict(), found.to_frame, chosen.seed)

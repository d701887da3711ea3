"""``nctransfer expect``."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal, cast

import typer

from nctransfer.cli.backbone_options import BackboneOptions
from nctransfer.cli.choices import listed
from nctransfer.cli.chosen_features import ChosenFeatures, Wanted
from nctransfer.cli.data_options import ImageOptions, ReadingFlags, StoredSelectionOptions
from nctransfer.cli.expanding import examples
from nctransfer.cli.feature_arguments import DropDuplicates, FeatureColumn, FeaturesArgument
from nctransfer.cli.figure_option import FigureFile
from nctransfer.cli.output_options import OutputOptions
from nctransfer.cli.parsing import numbers
from nctransfer.cli.terminal import Terminal
from nctransfer.episodes.registry import CLASSIFIERS

WAYS, SHOTS = (2, 5, 10, 20), (1, 2, 5, 10, 20, 50)  # by default, as far as there are classes and samples

_WITH_REFERENCE = [
    name for name, one in CLASSIFIERS.own.items() if one.expected is not None and one.expected.needs_reference_mean
]


@examples("nctransfer expect --ways 2,5 --shots 1,5,15")
def expect(
    backbone: BackboneOptions,
    images: ImageOptions,
    reading: ReadingFlags,
    chosen: StoredSelectionOptions,
    output: OutputOptions,
    features: FeaturesArgument = None,
    ways: Annotated[
        str | None,
        typer.Option(
            "--ways",
            "-w",
            metavar="N,…",
            help="Classes per task. Several: 2,5,10.",
            show_default=f"{','.join(map(str, WAYS))}, as far as there are classes",
        ),
    ] = None,
    shots: Annotated[
        str | None,
        typer.Option(
            "--shots",
            "-s",
            metavar="N,…",
            help="Labelled examples per class. Several: 1,5,50.",
            show_default=f"{','.join(map(str, SHOTS))}, as far as there are samples",
        ),
    ] = None,
    classifier: Annotated[
        str,
        typer.Option(
            "--classifier",
            "-c",
            metavar="NAME",
            help=f"The classifier: {listed(CLASSIFIERS, lambda one: one.expected is not None)}. With --center-on "
            f"only: {', '.join(_WITH_REFERENCE)}.",
        ),
    ] = "ncc",
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar="resampled|normal",
            help="How class centres vary with the choice of labelled examples: resampled takes the samples themselves "
            "and is unbiased; normal assumes normal distributions (ncc only).",
        ),
    ] = "resampled",
    center_on: Annotated[
        str | None,
        typer.Option(
            "--center-on", metavar="FEATURES", help="Subtract the mean of these features first.", show_default="nothing"
        ),
    ] = None,
    l2_normalise: Annotated[
        bool, typer.Option("--l2-normalise", help="Scale every feature vector to unit length.", show_default=False)
    ] = False,
    figure: FigureFile = None,
    feature_column: FeatureColumn = None,
    drop_duplicates: DropDuplicates = False,
) -> None:
    """Compute the expected few-shot accuracy: the mean over all episodes, without drawing any."""
    all_ways = None if ways is None else numbers(ways, "--ways", least=2)
    all_shots = None if shots is None else numbers(shots, "--shots", least=1)
    if method not in ("resampled", "normal"):
        raise typer.BadParameter(f"expected resampled or normal, got {method!r}", param_hint="--method")
    with Terminal(output, {"--figure": figure}) as terminal:
        from nctransfer.episodes.episode import EpisodeSpec
        from nctransfer.episodes.requirements import check
        from nctransfer.evaluation import expected_accuracy
        from nctransfer.figures.expect_figure import expect_figure
        from nctransfer.report.theory_sheets import expected_sheet

        chooser = ChosenFeatures(
            Wanted(backbone, images, reading, chosen), feature_column, output, terminal, drop_duplicates
        )
        expected_accuracy.form_of(classifier, method, center_on is not None)  # an error comes before any image is run
        largest = EpisodeSpec(max(all_ways or [2]), max(all_shots or [1]), 1, chosen.seed)
        given = dataclasses.replace(chooser, rehearse=lambda labels: check(labels, largest)).read(features)
        reference = chooser.named_only().read(center_on) if center_on is not None else None
        most_ways, most_shots = max(2, len(given.classes)), max(1, int(given.counts.min()) - 1)
        found = expected_accuracy.expect(
            given,
            all_ways or [size for size in WAYS if size <= most_ways],
            all_shots or [number for number in SHOTS if number <= most_shots],
            classifier=classifier,
            method=cast(Literal["resampled", "normal"], method),
            center_on=reference,
            l2_normalise=l2_normalise,
            seed=chosen.seed,
            device=output.device,
            progress=terminal.progress,
        )
        terminal.files.figure("--figure", lambda: expect_figure(found))
        terminal.show([expected_sheet(found)], found.to_dict(), found.to_frame, chosen.seed)

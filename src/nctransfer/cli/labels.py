"""``nctransfer labels``."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from nctransfer.cli.backbone_options import BackboneOptions
from nctransfer.cli.choices import listed
from nctransfer.cli.chosen_features import ChosenFeatures, Wanted
from nctransfer.cli.data_options import ImageOptions, ReadingFlags, StoredSelectionOptions
from nctransfer.cli.expanding import examples
from nctransfer.cli.feature_arguments import DropDuplicates, FeatureColumn, FeaturesArgument
from nctransfer.cli.figure_option import FigureFile
from nctransfer.cli.output_options import OutputOptions
from nctransfer.cli.parsing import percents, ridge_penalty
from nctransfer.cli.terminal import Terminal
from nctransfer.episodes.classifier import RIDGE_LAMBDA
from nctransfer.episodes.registry import CLASSIFIERS, is_inductive


@examples(
    "nctransfer labels --target 90%,95%",
    "nctransfer labels --data pets/ --target 80% --classifier ridge,ncc",
)
def labels(
    backbone: BackboneOptions,
    images: ImageOptions,
    reading: ReadingFlags,
    chosen: StoredSelectionOptions,
    output: OutputOptions,
    features: FeaturesArgument = None,
    target: Annotated[
        str,
        typer.Option(
            "--target",
            "-t",
            metavar="PERCENT,…",
            help="The accuracy to reach on all classes at once. Several: 90%,95%. 0.9 and 90 mean the same as 90%.",
        ),
    ] = "90%,95%",
    classifier: Annotated[
        str,
        typer.Option(
            "--classifier",
            "-c",
            metavar="NAME,…|all",
            help=f"The classifiers: {listed(CLASSIFIERS, is_inductive, with_others=True)}; or all.",
        ),
    ] = "ridge",
    most_shots: Annotated[
        int | None,
        typer.Option(
            "--most-shots",
            metavar="N",
            min=1,
            help="Measure the learning curve up to this many labelled images per class.",
            show_default="four fifths of the images of the smallest class",
        ),
    ] = None,
    drop_small: Annotated[
        bool,
        typer.Option(
            "--drop-small",
            help="Leave out classes with too few images for the learning curve. Without this option they are an error.",
            show_default=False,
        ),
    ] = False,
    ridge_lambda: Annotated[
        str,
        typer.Option(
            "--ridge-lambda",
            metavar="VALUE|loo|paper",
            help="The penalty of ridge, in units of the mean squared length of the centred support; loo chooses it by "
            "leave-one-out; paper takes √(classes·shots), which depends on the scale of the features.",
        ),
    ] = f"{RIDGE_LAMBDA:g}",
    l2_normalise: Annotated[
        bool, typer.Option("--l2-normalise", help="Scale every feature vector to unit length.", show_default=False)
    ] = False,
    figure: FigureFile = None,
    feature_column: FeatureColumn = None,
    drop_duplicates: DropDuplicates = False,
) -> None:
    """Find out how many labelled images per class reach an accuracy, on all classes at once.

    Beyond the images at hand the learning curve is extrapolated, and the answer is a range.
    """
    targets, penalty = percents(target, "--target"), ridge_penalty(ridge_lambda)
    names = classifier.split(",")
    with Terminal(output, {"--figure": figure}) as terminal:
        from nctransfer.evaluation import label_counts
        from nctransfer.evaluation.learning_curve import curve_task
        from nctransfer.figures.labels_figure import labels_figure
        from nctransfer.report.labels_sheets import labels_sheets

        curve: dict[str, Any] = {
            "classifiers": names,
            "most_shots": most_shots,
            "ridge_lambda": penalty,
            "drop_small": drop_small,
        }
        chooser = ChosenFeatures(
            Wanted(backbone, images, reading, chosen), feature_column, output, terminal, drop_duplicates
        )
        given = dataclasses.replace(chooser, rehearse=lambda entries: curve_task(entries, **curve)).read(features)
        found = label_counts.labels(
            given,
            targets,
            **curve,
            l2_normalise=l2_normalise,
            seed=chosen.seed,
            device=output.device,
            progress=terminal.progress,
        )
        terminal.files.figure("--figure", lambda: labels_figure(found))
        terminal.show(labels_sheets(found), found.to_dict(), found.to_frame, chosen.seed)

"""``nctransfer fit``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nctransfer.cli.abstention_options import AbstentionOptions
from nctransfer.cli.backbone_options import BackboneOptions
from nctransfer.cli.chosen_features import ChosenFeatures, Wanted
from nctransfer.cli.data_options import ImageOptions, ReadingFlags, StoredSelectionOptions
from nctransfer.cli.expanding import examples
from nctransfer.cli.feature_arguments import DropDuplicates, FeatureColumn, FeaturesArgument
from nctransfer.cli.figure_option import FigureFile
from nctransfer.cli.output_options import PrintOptions
from nctransfer.cli.terminal import Terminal

if TYPE_CHECKING:
    from nctransfer.features.feature_set import FeatureSet

log = logging.getLogger(__name__)


@examples(
    "nctransfer fit --output digits.head",
    "nctransfer fit --data pets/ --output pets.head --max-error 10%",
)
def fit(
    backbone: BackboneOptions,
    images: ImageOptions,
    reading: ReadingFlags,
    chosen: StoredSelectionOptions,
    printing: PrintOptions,
    abstention: AbstentionOptions,
    features: FeaturesArgument = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="HEAD",
            help="Write the head to this file, for nctransfer predict and export. Without it, the command only says "
            "what to expect of a head.",
            show_default="no file",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file of --output if it exists.", show_default=False)
    ] = False,
    classifier: Annotated[
        str,
        typer.Option(
            "--classifier",
            "-c",
            metavar="NAME",
            help="The classifier: ridge, ncc (nearest class centre), cosine, logistic, proxies (nearest of several "
            "means per class), or auto for the one of the first four that is most accurate by leave-one-out.",
        ),
    ] = "auto",
    drop_small: Annotated[
        bool,
        typer.Option(
            "--drop-small",
            help="Leave out classes of one image. Without this option they are an error.",
            show_default=False,
        ),
    ] = False,
    more_labels: Annotated[
        bool,
        typer.Option(
            "--more-labels/--no-more-labels",
            help="Estimate what twice as many labelled images would give. It takes most of the time of this command.",
        ),
    ] = True,
    figure: FigureFile = None,
    feature_column: FeatureColumn = None,
    drop_duplicates: DropDuplicates = False,
) -> None:
    """Fit a classifier to frozen features, and say what to expect of it on other images of these classes.

    The file of --output holds the classifier, how its answers are judged, and the name of its backbone. It holds no
    image and no code.
    """
    limits = abstention.limits()
    with Terminal(printing, {"--output": output, "--figure": figure}) as terminal:
        from nctransfer.errors import HeadError
        from nctransfer.figures.fit_figure import fit_figure
        from nctransfer.heads import fitting
        from nctransfer.heads.head_files import check_class_names
        from nctransfer.report.fit_sheets import fit_sheets
        from nctransfer.store.new_files import check_new_file

        fitting.check_classifier(classifier)
        abstention.check()
        if output is not None:
            check_new_file(output, overwrite, "the head", HeadError)

        def rehearse(entries: FeatureSet) -> None:
            chosen, _ = fitting.enough_images(entries, drop_small)
            if output is not None:
                check_class_names(chosen.classes)

        chooser = ChosenFeatures(
            Wanted(backbone, images, reading, chosen), feature_column, printing, terminal, drop_duplicates, rehearse
        )
        found = fitting.fit(
            chooser.read(features),
            classifier,
            **limits,
            drop_small=drop_small,
            more_labels=more_labels,
            compare=True,
            device=printing.device,
            progress=terminal.progress,
        )
        for warning in found.warnings:
            log.warning("%s", warning)
        if output is None:
            log.info("no --output: the head is not kept")
        else:
            found.head.save(output, overwrite)
        terminal.files.figure("--figure", lambda: fit_figure(found))
        terminal.show(
            fit_sheets(found, None if output is None else str(output)),
            {**found.to_dict(), "path": None if output is None else str(output)},
            found.to_frame,
            chosen.seed,
        )

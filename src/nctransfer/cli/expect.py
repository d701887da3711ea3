"""``nctransfer expect``."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal, cast

import typer

from nctransfer.cli.chosen_features import FeatureColumn, FeaturesArgument, Wanted, features_for
from nctransfer.cli.options import BackboneOptions, OutputOptions, ReadingFlags, SelectionOptions, SourceOptions
from nctransfer.cli.parsing import numbers
from nctransfer.cli.terminal import Terminal


def expect(
    backbone: BackboneOptions,
    source: SourceOptions,
    reading: ReadingFlags,
    chosen: SelectionOptions,
    output: OutputOptions,
    features: FeaturesArgument = None,
    ways: Annotated[
        str | None,
        typer.Option(
            "--ways",
            "-w",
            help="Classes a task: 5, or 2,5,10.",
            show_default="2,5,10,20, as far as there are classes",
        ),
    ] = None,
    shots: Annotated[
        str | None,
        typer.Option(
            "--shots",
            "-s",
            help="Support samples a class: 1, or 1,5,50.",
            show_default="1,2,5,10,20,50, as far as there are samples",
        ),
    ] = None,
    classifier: Annotated[
        str, typer.Option("--classifier", "-c", help="ncc, cosine, or simpleshot (with --center-on).")
    ] = "ncc",
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar="resampled|normal",
            help="Resampled supports, unbiased; or normal ones, by moments: what theory says, of ncc.",
        ),
    ] = "resampled",
    center_on: Annotated[
        str | None,
        typer.Option("--center-on", metavar="FEATURES", help="Take the mean of these off first.", show_default=False),
    ] = None,
    l2_normalise: Annotated[
        bool, typer.Option("--l2-normalise", help="Scale features to unit length.", show_default=False)
    ] = False,
    feature_column: FeatureColumn = None,
) -> None:
    """Compute the mean few-shot accuracy over all episodes, ways by shots, without drawing one."""
    all_ways = None if ways is None else numbers(ways, "--ways")
    all_shots = None if shots is None else numbers(shots, "--shots")
    if method not in ("resampled", "normal"):
        raise typer.BadParameter(f"{method!r} is neither resampled nor normal", param_hint="--method")
    wanted = Wanted(backbone, source, reading, chosen)
    rest = dataclasses.replace(wanted, backbone=BackboneOptions(), source=SourceOptions())
    with Terminal(output) as terminal:
        from nctransfer.evaluation import expected_accuracy
        from nctransfer.report.theory_sheets import expected_sheet

        given = features_for(features, wanted, feature_column, output, terminal)
        reference = features_for(center_on, rest, feature_column, output, terminal) if center_on is not None else None
        most = max(2, len(given.classes)), max(1, int(given.counts.min()) - 1)
        found = expected_accuracy.expect(
            given,
            all_ways or [size for size in (2, 5, 10, 20) if size <= most[0]],
            all_shots or [number for number in (1, 2, 5, 10, 20, 50) if number <= most[1]],
            classifier=classifier,
            method=cast(Literal["resampled", "normal"], method),
            center_on=reference,
            l2_normalise=l2_normalise,
            seed=chosen.seed,
            device=output.device,
            progress=terminal.progress,
        )
        terminal.show([expected_sheet(found)], found.to_dict(), found.to_frame, chosen.seed)

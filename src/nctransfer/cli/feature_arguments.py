"""Arguments and options by which a command names features."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "AuditedFeatures",
    "DropDuplicates",
    "FeatureColumn",
    "FeaturesArgument",
    "FeaturesArguments",
    "RankedFeatures",
    "ReportedFeatures",
]

_ONE = (
    "The features: a stored set, by its id or the beginning of it, or a file of features in Parquet (or a folder of "
    "such files), .npz or .safetensors."
)

FeaturesArgument = Annotated[
    str | None, typer.Argument(metavar="FEATURES", help=_ONE, show_default="the set used last")
]
FeaturesArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FEATURES",
        help=f"{_ONE} Several are compared side by side.",
        show_default="the set used last",
    ),
]
AuditedFeatures = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FEATURES",
        help=f"{_ONE} Several, of the same images and other backbones, decide together.",
        show_default="the set used last",
    ),
]
RankedFeatures = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FEATURES",
        help="Rank features that are there already: stored sets, by their ids or the beginnings of them, or files of "
        "features in Parquet (or folders of such files), .npz or .safetensors. Each is a candidate.",
        show_default="run backbones over the images of --data",
    ),
]
ReportedFeatures = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FEATURES",
        help=f"{_ONE} The page is about the first; several, of the same images and other backbones, are ranked.",
        show_default="the set used last",
    ),
]
FeatureColumn = Annotated[
    str | None,
    typer.Option(
        "--feature-column",
        rich_help_panel="Data",
        metavar="NAME",
        help="The column with the feature vectors: in a stored set also an inner layer, such as layer_3.",
        show_default="feature",
    ),
]
DropDuplicates = Annotated[
    bool,
    typer.Option(
        "--drop-duplicates",
        rich_help_panel="Data",
        help="Leave out samples with the same features as an earlier one, as copies of an image have.",
        show_default=False,
    ),
]

"""Options of ``nctransfer collapse``: what is shown, which classifier, and which other samples."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from nctransfer.cli.parsing import number_or_all

__all__ = ["HeadOptions", "SamplesOptions", "ShowOptions"]

_COMPARE, _HEAD, _SHOW = "Comparison", "Classifier", "What to show"


@dataclasses.dataclass(frozen=True)
class ShowOptions:
    """How much of a report is shown."""

    all_measures: Annotated[
        bool,
        typer.Option(
            "--all", rich_help_panel=_SHOW, help="Show every measure, not only the usual ones.", show_default=False
        ),
    ] = False
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", rich_help_panel=_SHOW, help="Also show how each measure is defined.", show_default=False
        ),
    ] = False
    pairs: Annotated[
        str,
        typer.Option(
            "--pairs", rich_help_panel=_SHOW, metavar="N|all", help="Number of the closest pairs of classes to list."
        ),
    ] = "5"
    save_pairs: Annotated[
        Path | None,
        typer.Option(
            "--save-pairs",
            rich_help_panel=_SHOW,
            metavar="FILE",
            help="Write the measures of every pair of classes to this Parquet file.",
        ),
    ] = None

    @property
    def most_pairs(self) -> int | None:
        """The number of pairs to list; ``None`` for all."""
        return number_or_all(self.pairs, "--pairs")

    @property
    def computed_pairs(self) -> int | None:
        """The number of pairs to compute; ``None`` for all."""
        return None if self.save_pairs else self.most_pairs


@dataclasses.dataclass(frozen=True)
class HeadOptions:
    """Which classifier NC3 and NC4 are measured with."""

    head: Annotated[
        bool,
        typer.Option(
            "--head",
            rich_help_panel=_HEAD,
            help="Measure NC3 and NC4 with the backbone's own classifier.",
            show_default=False,
        ),
    ] = False
    head_names: Annotated[
        Path | None,
        typer.Option(
            "--head-names",
            rich_help_panel=_HEAD,
            metavar="FILE",
            help="The names of the classes of --head, in its order: one name per line.",
        ),
    ] = None
    fit_head: Annotated[
        str | None,
        typer.Option(
            "--fit-head",
            rich_help_panel=_HEAD,
            metavar="ridge",
            help="Measure NC3 and NC4 with a ridge regression that is fitted to these features.",
        ),
    ] = None

    @property
    def is_given(self) -> bool:
        """Whether a classifier was asked for."""
        return self.head or self.fit_head is not None


@dataclasses.dataclass(frozen=True)
class SamplesOptions:
    """The samples that the backbone was trained on, and others of the same classes."""

    source_train: Annotated[
        str | None,
        typer.Option(
            "--source-train",
            rich_help_panel=_COMPARE,
            metavar="FEATURES",
            help="Features of the samples that the backbone was trained on.",
        ),
    ] = None
    source_test: Annotated[
        str | None,
        typer.Option(
            "--source-test",
            rich_help_panel=_COMPARE,
            metavar="FEATURES",
            help="Features of other samples of the classes that the backbone was trained on.",
        ),
    ] = None

    @property
    def is_given(self) -> bool:
        """Whether either was named."""
        return self.source_train is not None or self.source_test is not None

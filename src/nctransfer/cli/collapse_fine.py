"""``nctransfer collapse --fine-column``: fine classes inside coarse ones."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nctransfer.cli.chosen_features import ChosenFeatures
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["FineOptions", "show_fine"]


@dataclasses.dataclass(frozen=True)
class FineOptions:
    """Which fine classes are looked for inside classes."""

    fine_column: Annotated[
        str | None,
        typer.Option(
            "--fine-column",
            rich_help_panel="Comparison",
            metavar="COLUMN",
            help="Show how well the finer classes that this column of a manifest or table of images names are told "
            "apart inside their class, for example breeds inside species. Several columns can be given, separated by "
            "commas. With --layers, by layer.",
        ),
    ] = None

    def check(self, others: Mapping[str, bool]) -> None:
        """Refuse options that have no effect.

        Args:
            others: Whether each other option was given, by name.

        Raises:
            SettingError: One was.
        """
        from nctransfer.errors import SettingError

        if self.fine_column is None:
            return
        for option, is_given in others.items():
            if is_given:
                raise SettingError(
                    f"{option} has no effect with --fine-column", f"leave out {option}, or --fine-column"
                )


def show_fine(given: ChosenFeatures, name: str | None, column: str) -> None:
    """Measure, and print."""
    from nctransfer.cli.chosen_features import again_if_changed
    from nctransfer.figures.fine_figure import fine_figure
    from nctransfer.neural_collapse.inside_classes import fine_structure
    from nctransfer.report.fine_sheets import fine_sheets

    seed, progress = given.wanted.chosen.seed, given.terminal.progress
    found = again_if_changed(lambda: fine_structure(_layers(given, name, column), column, seed=seed, progress=progress))
    given.terminal.files.figure("--figure", lambda: fine_figure(found))
    given.terminal.show(fine_sheets(found), found.to_dict(), found.to_frame, seed)


def _layers(given: ChosenFeatures, name: str | None, column: str) -> Mapping[str, FeatureSet]:
    """The layers that are asked for, and the pooled output last, in memory; without ``--layers``, that alone."""
    from nctransfer.cli.chosen_layers import read_layers

    if given.wanted.backbone.layers is None:
        return {given.column or "feature": given.read(name, attributes=(column,))}
    return read_layers(name, given, attributes=(column,))

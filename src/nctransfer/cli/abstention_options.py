"""Options of ``nctransfer fit`` that say which images a head does not answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from nctransfer.cli.expanding import panel_option
from nctransfer.cli.parsing import share
from nctransfer.heads.unlikeness_kinds import RELATIVE, UNLIKENESSES, check_unlikeness

__all__ = ["AbstentionOptions"]

_PANEL = "Images without an answer"


@dataclass(frozen=True)
class AbstentionOptions:
    """Which images a head holds back."""

    max_error: Annotated[
        str | None,
        panel_option(
            "--max-error",
            panel=_PANEL,
            metavar="PERCENT",
            help="The largest share of wrong answers among the images that predict answers: it holds back images "
            "that lie between two classes. predict --max-error replaces it.",
            show_default="answer them all",
        ),
    ] = None
    max_lost: Annotated[
        str,
        panel_option(
            "--max-lost",
            panel=_PANEL,
            metavar="PERCENT",
            help="The share of images of these classes that predict may hold back as unlike every class. More finds "
            "more images of other things. predict --max-lost replaces it.",
        ),
    ] = "5%"
    unlikeness: Annotated[
        str,
        panel_option(
            "--unlikeness",
            panel=_PANEL,
            metavar="NAME",
            help="How predict finds images that are unlike every class: "
            f"{', '.join(f'{name} ({kind.meaning})' for name, kind in UNLIKENESSES.items())}. nctransfer ood measures "
            "which finds more.",
        ),
    ] = RELATIVE

    def limits(self) -> dict[str, Any]:
        """The settings of the library.

        Raises:
            typer.BadParameter: A share is not one.
        """
        return {
            "max_error": None if self.max_error is None else share(self.max_error, "--max-error"),
            "max_lost": share(self.max_lost, "--max-lost", may_be_zero=True),
            "unlikeness": self.unlikeness,
        }

    def check(self) -> None:
        """Refuse an unlikeness that there is not.

        Raises:
            SettingError: There is none of that name.
        """
        check_unlikeness(self.unlikeness)

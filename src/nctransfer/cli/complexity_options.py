"""Options of ``nctransfer check`` for the geometric complexity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from nctransfer.errors import SettingError

__all__ = ["ComplexityOptions"]

_COMPLEXITY = "Complexity"


@dataclass(frozen=True)
class ComplexityOptions:
    """Whether and how exactly the geometric complexity is measured."""

    complexity: Annotated[
        bool,
        typer.Option(
            "--complexity",
            rich_help_panel=_COMPLEXITY,
            help="Also measure the geometric complexity: how much the features change with the image.",
            show_default=False,
        ),
    ] = False
    probes: Annotated[
        int | None,
        typer.Option(
            "--probes",
            rich_help_panel=_COMPLEXITY,
            metavar="N",
            min=1,
            help="Random vectors per image for --complexity, each with one backward pass.  [default: 4]",
            show_default=False,
        ),
    ] = None
    complexity_error: Annotated[
        float | None,
        typer.Option(
            "--complexity-error",
            rich_help_panel=_COMPLEXITY,
            metavar="SHARE",
            min=0.0,
            help="Take no more images once the relative standard error of the complexity is below this share; 0 takes "
            "all images of --images.  [default: 0.05]",
            show_default=False,
        ),
    ] = None

    def check(self) -> None:
        """Refuse options without effect.

        Raises:
            SettingError: An option of the complexity is given without ``--complexity``.
        """
        for flag, value in (("--probes", self.probes), ("--complexity-error", self.complexity_error)):
            if value is not None and not self.complexity:
                raise SettingError(
                    f"{flag} has no effect without --complexity", f"add --complexity, or leave out {flag}"
                )

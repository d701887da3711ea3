"""``nctransfer models``."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from nctransfer.cli.options import OutputOptions
from nctransfer.cli.terminal import Terminal


def models(
    output: OutputOptions,
    pattern: Annotated[
        str | None,
        typer.Argument(
            metavar="PATTERN",
            help="Part of a name, or with wildcards. Without: models with a short name, or at hand.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """List timm's pretrained models, and whose weights are at hand."""
    with Terminal(output) as terminal:
        from nctransfer.backbones.listing import list_models
        from nctransfer.report.backbone_sheets import models_sheet

        found = list_models(pattern)
        rows = [dataclasses.asdict(model) for model in found]
        terminal.show([models_sheet(found)], {"models": rows}, rows)

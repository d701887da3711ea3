"""``nctransfer models``."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from nctransfer.cli.expanding import examples
from nctransfer.cli.output_options import OutputOptions
from nctransfer.cli.terminal import Terminal


@examples("nctransfer models resnet18", "nctransfer models 'vit_small*dino*'")
def models(
    output: OutputOptions,
    pattern: Annotated[
        str | None,
        typer.Argument(
            metavar="PATTERN",
            help="A part of a model name, or a pattern with wildcards such as 'vit_*'.",
            show_default="models with a short name, and those whose weights are on this computer",
        ),
    ] = None,
) -> None:
    """List timm's pretrained models, and which of their weights are on this computer."""
    with Terminal(output) as terminal:
        from nctransfer.backbones.listing import list_models
        from nctransfer.report.backbone_sheets import models_sheet

        found = list_models(pattern)
        rows = [dataclasses.asdict(model) for model in found]
        terminal.show([models_sheet(found)], {"models": rows}, rows)

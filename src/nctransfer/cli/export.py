"""``nctransfer export``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from nctransfer.cli.backbone_options import PluginOption
from nctransfer.cli.data_options import DataOption, OfflineOption, ReadingFlags, SplitOption
from nctransfer.cli.expanding import examples
from nctransfer.cli.output_options import PrintOptions
from nctransfer.cli.terminal import Terminal

log = logging.getLogger("nctransfer.cli")


@examples(
    "nctransfer export pets.head --output pets.onnx",
    "nctransfer export pets.head --data pets/ --output pets.onnx --overwrite",
)
def export(
    printing: PrintOptions,
    reading: ReadingFlags,
    head: Annotated[Path, typer.Argument(metavar="HEAD", help="The head: a file that nctransfer fit wrote.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Write the graph to this file, such as pets.onnx.")
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file of --output if it exists.", show_default=False)
    ] = False,
    data: DataOption = None,
    split: SplitOption = None,
    images: Annotated[
        int,
        typer.Option(
            "--images",
            "-n",
            metavar="N",
            min=1,
            help="Number of images of --data on which the graph is compared with PyTorch before it is written.",
        ),
    ] = 64,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            rich_help_panel="Backbone",
            metavar="FILE",
            help="The file of the backbone's weights, if the head was fitted with weights of your own; or the folder "
            "of a local-dir: model.",
            show_default="the published weights",
        ),
    ] = None,
    plugin: PluginOption = None,
    opset: Annotated[
        int, typer.Option("--opset", metavar="N", help="Version of ONNX's operators, from 14 to 20.")
    ] = 17,
    offline: OfflineOption = False,
) -> None:
    """Write a head and its backbone into one ONNX file, from pixels to probabilities.

    It needs the packages onnx, onnxruntime and onnxscript. Give the training images with --data, so that the graph is
    compared with PyTorch on them. Without --data, it is compared on random pixels.
    """
    with Terminal(printing, {"--output": output}) as terminal:
        from nctransfer.errors import SettingError
        from nctransfer.heads.head_files import load_head
        from nctransfer.heads.onnx_export import check_export, export_onnx
        from nctransfer.report.export_sheets import export_sheet

        if printing.device not in ("auto", "cpu"):
            raise SettingError(
                f"the graph is compared with PyTorch on the CPU, and --device asks for {printing.device!r}",
                "leave out --device",
            )
        if output.resolve() == head.resolve():
            raise SettingError(f"the graph would replace the head {str(head)!r}", "give another --output")
        check_export(output, opset, overwrite)
        given = load_head(head)
        if data is None:
            log.info("no --data: the graph is compared with PyTorch on random pixels")
        found = export_onnx(
            given,
            output,
            data,
            checkpoint=checkpoint,
            plugin=plugin,
            most_images=images,
            reading=reading.reading(split, offline),
            opset=opset,
            overwrite=overwrite,
            offline=offline,
            progress=terminal.progress,
        )
        shown = found.to_dict()
        terminal.show([export_sheet(found)], shown, [shown])

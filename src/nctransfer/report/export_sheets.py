"""The sheet of an export to ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.errors import counted
from nctransfer.report.sheet import Sheet
from nctransfer.report.wording import format_number

if TYPE_CHECKING:
    from nctransfer.heads.onnx_export import OnnxExport

__all__ = ["export_sheet"]


def export_sheet(found: OnnxExport) -> Sheet:
    """What was written, and how it compares with PyTorch."""
    channels, height, width = found.input_size
    images = counted(found.images, "image")
    known = "" if found.trained_on is None else f", {found.trained_on:,} of which the head was fitted on"
    rows = [
        ["probabilities", f"(batch, {found.classes})", format_number(found.differences.probability)],
        ["unlikeness", "(batch)", format_number(found.differences.unlikeness)],
    ]
    return Sheet(
        "Export to ONNX",
        ["output", "shape", ">largest difference from PyTorch"],
        rows,
        {
            "file": f"{found.path} ({found.bytes / 1e6:,.1f} MB, opset {found.opset})",
            "backbone": found.model,
            "input": f"pixels (batch, {channels}, {height}, {width}), uint8",
            "compared on": f"{images} of {found.data}{known}",
            "same class": f"{found.differences.same_class:.1%} of the images",
        },
        "The input holds images that are resized and cropped, but not normalised. The metadata of the file holds the "
        "steps, the class names in the order of the probabilities, and the thresholds. The difference of the "
        "unlikeness is relative to its largest value.",
    )

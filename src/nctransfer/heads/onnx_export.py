"""A head with its backbone in an ONNX file, which is compared with PyTorch before it is written."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.errors import HeadError, NCTransferError, SettingError, reason_of
from nctransfer.heads.backbone_match import backbone_for
from nctransfer.heads.onnx_check import LARGEST, CheckedImages, Differences, compare, random_images, some_images
from nctransfer.heads.onnx_graph import EXPORTERS, check_packages, graph_of
from nctransfer.paths import expanded
from nctransfer.sources.opening import open_source
from nctransfer.sources.source_kind import ReadingOptions
from nctransfer.store.atomic_files import replace_file
from nctransfer.store.new_files import check_new_file

if TYPE_CHECKING:
    from nctransfer.backbones.backbone import Backbone
    from nctransfer.backbones.hub import Progress
    from nctransfer.heads.head import Head

__all__ = ["MOST_IMAGES", "OPSET", "OnnxExport", "check_export", "export_onnx", "write_onnx"]

log = logging.getLogger(__name__)

OPSET = 17
MOST_IMAGES = 64
OLDEST, NEWEST = 14, 20  # opsets that PyTorch's exporter knows; attention needs 14


@dataclass(frozen=True, kw_only=True)
class OnnxExport:
    """What was written, and how it compares with PyTorch.

    Attributes:
        path: The file.
        bytes: Its size.
        model: The backbone.
        classes: The number of classes.
        opset: The version of ONNX's operators.
        input_size: The channels, height and width of the images.
        images: The number of images on which the graph was compared with PyTorch.
        data: Where they come from.
        trained_on: How many of them the head was fitted on; ``None`` if that is not known.
        differences: How much the graph differs from PyTorch at most.
    """

    path: Path
    bytes: int
    model: str
    classes: int
    opset: int
    input_size: tuple[int, ...]
    images: int
    data: str
    trained_on: int | None
    differences: Differences

    def to_dict(self) -> dict[str, Any]:
        """All fields as a dictionary for JSON."""
        return {**asdict(self), "path": str(self.path), "tolerance": LARGEST}


def export_onnx(
    head: Head,
    path: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    plugin: str | None = None,
    most_images: int = MOST_IMAGES,
    reading: ReadingOptions | None = None,
    opset: int = OPSET,
    overwrite: bool = False,
    offline: bool = False,
    progress: Progress | None = None,
) -> OnnxExport:
    """Write a head and its backbone as one ONNX graph, after comparing the graph with PyTorch.

    The input ``pixels`` of the graph is ``(batch, 3, height, width)`` uint8, resized and cropped as its metadata says;
    the outputs are ``probabilities`` ``(batch, C)`` and ``unlikeness`` ``(batch,)``. The graph computes in float32,
    even if the head was fitted on features in bfloat16 or float16. It needs the packages of ``nctransfer[onnx]``.

    Args:
        head: The head.
        path: The file.
        images: Images to compare on, best those that the head was fitted on: any source that ``extract`` takes.
            Default: random pixels.
        checkpoint: The file of the backbone's weights, if they are not published.
        plugin: The Python file or module that registers the architecture, if there was one.
        most_images: How many of the images to compare on.
        reading: How to read the images, for example the names of columns.
        opset: The version of ONNX's operators, from 14 to 20.
        overwrite: Whether a file that exists is replaced.
        offline: If true, no server is ever asked for weights.
        progress: Called as ``progress(stage, done, total)`` while weights are downloaded.

    Raises:
        HeadError: A package is missing, the file exists or cannot be written, the model cannot be exported, or the
            graph differs from PyTorch by more than 1e-4.
        ModelError: The backbone is not the one that the head was fitted with.
        WeightsError: The weights are missing, or are not those that the head was fitted with.
        DataError: The images cannot be read.
        SettingError: There is no such opset.
    """
    file = expanded(path)
    check_export(file, opset, overwrite)
    how = replace(reading or ReadingOptions(), offline=offline, labels_optional=True)
    source = None if images is None else open_source(images, how)
    backbone = backbone_for(
        head,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        plugin=plugin,
        device="cpu",
        offline=offline,
        progress=progress,
    )
    compared = random_images(backbone) if source is None else some_images(source, head, backbone, most_images)
    return write_onnx(head, backbone, file, compared, opset)


def check_export(path: Path, opset: int, overwrite: bool) -> None:
    """Refuse before the work what could not be done or written after it.

    Raises:
        HeadError: A package is missing, or the file exists or cannot be written.
        SettingError: There is no such opset.
    """
    if not OLDEST <= opset <= NEWEST:
        raise SettingError(f"there is no opset {opset} to export with", f"give --opset {OLDEST} to {NEWEST}")
    check_packages()
    check_new_file(path, overwrite, "the graph", HeadError)


def write_onnx(head: Head, backbone: Backbone, path: Path, compared: CheckedImages, opset: int = OPSET) -> OnnxExport:
    """Make the graph, compare it with PyTorch, and write it whole or not at all.

    Args:
        head: The head.
        backbone: Its backbone, on the CPU.
        path: The file; it is replaced if it exists.
        compared: The images on which the graph is compared.
        opset: The version of ONNX's operators.

    Raises:
        HeadError: The model cannot be exported, the graph differs too much, or the file cannot be written.
    """
    import onnx

    if backbone.key.dtype != "float32":
        log.warning(
            "the head was fitted on features that were computed in %s; the graph computes in float32, which is more "
            "exact, so its answers differ a little from those of nctransfer predict",
            backbone.key.dtype,
        )
    graph, differences = _checked_graph(head, backbone, compared, opset)
    try:
        replace_file(path, lambda file: file.write(graph))
    except OSError as error:
        raise HeadError(f"{str(path)!r} cannot be written: {reason_of(error)}", "give another --output") from error
    return OnnxExport(
        path=path,
        bytes=len(graph),
        model=backbone.key.model,
        classes=len(head.classes),
        opset=onnx.load_from_string(graph).opset_import[0].version,
        input_size=tuple(backbone.key.transform["input_size"]),
        images=len(compared.pixels),
        data=compared.name,
        trained_on=compared.trained_on,
        differences=differences,
    )


def _checked_graph(head: Head, backbone: Backbone, compared: CheckedImages, opset: int) -> tuple[bytes, Differences]:
    """A graph that computes what PyTorch computes, by the first exporter that makes one."""
    reasons = []
    for exporter in EXPORTERS:
        try:
            graph = graph_of(head, backbone, opset, exporter)
            differences = compare(graph, head, backbone, compared.pixels)
        except NCTransferError:
            raise
        except Exception as error:  # exporters and models raise all kinds of errors
            reasons.append(f"by {exporter}: {reason_of(error)}")
            log.debug("no graph by PyTorch's exporter %s: %s", exporter, reason_of(error))
            continue
        if differences.are_small:
            return graph, differences
        reasons.append(
            f"by {exporter}: probabilities differ from PyTorch's by up to {differences.probability:.2g}, and the "
            f"unlikeness by {differences.unlikeness:.2g} of its size (at most {LARGEST:g} is accepted)"
        )
    raise HeadError(
        f"{backbone.key.model} cannot be exported to ONNX; nothing is written. {'; '.join(reasons)}",
        "try another --opset, or predict by nctransfer predict",
    )

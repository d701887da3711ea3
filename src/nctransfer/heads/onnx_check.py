"""Whether an ONNX graph computes what PyTorch computes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.errors import DataError, counted, reason_of
from nctransfer.heads.onnx_graph import INPUT
from nctransfer.sources.decoding import decode
from nctransfer.sources.image_table import ImageTable
from nctransfer.sources.source import content_digest, digest_number

if TYPE_CHECKING:
    import torch

    from nctransfer.backbones.backbone import Backbone
    from nctransfer.heads.head import Head
    from nctransfer.sources.source import ImageSource

__all__ = ["LARGEST", "CheckedImages", "Differences", "compare", "random_images", "some_images"]

log = logging.getLogger(__name__)

LARGEST = 1e-4
"""How much a probability of a graph may differ from PyTorch's; and an unlikeness, in units of the largest one."""
FIRST_BATCHES = (1, 2)  # a graph for batches of one size fails at the next
BATCH = 16


@dataclass(frozen=True, kw_only=True)
class CheckedImages:
    """Images on which a graph is compared with PyTorch.

    Attributes:
        pixels: ``(n, 3, height, width)`` uint8.
        name: Where they come from.
        trained_on: How many of them the head was fitted on; ``None`` if that is not known.
    """

    pixels: torch.Tensor
    name: str
    trained_on: int | None = None


@dataclass(frozen=True, kw_only=True)
class Differences:
    """How much a graph differs from PyTorch at most.

    Attributes:
        probability: In the probability of a class.
        unlikeness: In the unlikeness, in units of its largest magnitude.
        same_class: The share of images with the same predicted class.
    """

    probability: float
    unlikeness: float
    same_class: float

    @property
    def are_small(self) -> bool:
        """Whether neither is above :data:`LARGEST`; a NaN is not small."""
        return self.probability <= LARGEST and self.unlikeness <= LARGEST


def some_images(source: ImageSource, head: Head, backbone: Backbone, count: int) -> CheckedImages:
    """Images of a source, spread evenly over its listing. Broken ones are left out.

    Args:
        source: The source.
        head: The head, which knows the digests of its training images.
        backbone: Resizes and crops the images.
        count: How many images are wanted.

    Raises:
        DataError: None of the images can be read.
    """
    import numpy as np
    import torch

    entries = ImageTable.of(source.list())
    chosen = entries.take(np.unique(np.linspace(0, len(entries) - 1, count).astype(int)))
    known = None if head.images is None else set(head.images.tolist())
    pixels, digests, reason = [], [], ""
    for entry, read in zip(chosen, source.contents(chosen), strict=True):
        try:
            content = read()
            pixels.append(backbone.preprocess(decode(content)))
        except (OSError, ValueError) as error:
            reason = f"{entry.id!r}: {reason_of(error)}"
            log.warning("the image %s is left out: %s", repr(entry.id), reason_of(error))
            continue
        digests.append(digest_number(content_digest(content)))
    if not pixels:
        raise DataError(f"none of {counted(len(chosen), 'image')} of {source.name!r} can be used ({reason})")
    return CheckedImages(
        pixels=torch.from_numpy(np.stack(pixels)),
        name=source.name,
        trained_on=None if known is None else sum(digest in known for digest in digests),
    )


def random_images(backbone: Backbone, count: int = 8) -> CheckedImages:
    """Random pixels: every second image is noise, the others are coarse patches of colour."""
    import torch

    drawn = torch.Generator().manual_seed(0)
    size = tuple(backbone.key.transform["input_size"])
    noise = torch.rand(count, *size, generator=drawn)
    patches = torch.rand(count, 3, 4, 4, generator=drawn)
    noise[1::2] = torch.nn.functional.interpolate(patches, size=size[1:], mode="bilinear")[1::2]
    return CheckedImages(pixels=(noise * 255).to(torch.uint8), name="random pixels")


def compare(graph: bytes, head: Head, backbone: Backbone, pixels: torch.Tensor) -> Differences:
    """Run images through a graph and through PyTorch in float32, and compare the answers.

    Args:
        graph: The graph.
        head: The head.
        backbone: Its backbone.
        pixels: ``(n, 3, height, width)`` uint8.

    Raises:
        Exception: onnxruntime raises all kinds of errors for graphs that it cannot run.
    """
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    plain = backbone.in_float32()
    answers, expected = [], []
    for part in _batches(pixels):
        answers.append([torch.from_numpy(one) for one in session.run(None, {INPUT: part.numpy()})])
        features = plain(part)[head.origin.column].cpu()
        expected.append([head.linear.probabilities(features), head.unlikeness.of(features)])
    probability, unlikeness = map(torch.cat, zip(*answers, strict=True))
    right, scale = map(torch.cat, zip(*expected, strict=True))
    return Differences(
        probability=float((probability - right).abs().max()),
        unlikeness=float((unlikeness - scale).abs().max() / scale.abs().max().clamp_min(1e-30)),
        same_class=float((probability.argmax(dim=1) == right.argmax(dim=1)).double().mean()),
    )


def _batches(pixels: torch.Tensor) -> list[torch.Tensor]:
    """The images in batches of at least two sizes; a few images are taken more than once for that."""
    import torch

    first = sum(FIRST_BATCHES)
    if len(pixels) < first:
        pixels = pixels.repeat(first, 1, 1, 1)[:first]
    parts = torch.split(pixels[:first], [*FIRST_BATCHES])
    return [*parts, *(torch.split(pixels[first:], BATCH) if len(pixels) > first else ())]

"""What bfloat16 and float16 change: the first batch runs in float32 too, and a note compares the two."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nctransfer.backbones.numerics import from_float32
from nctransfer.errors import counted

if TYPE_CHECKING:
    import torch

    from nctransfer.backbones.backbone import Backbone

__all__ = ["note_precision"]

log = logging.getLogger(__name__)

MUCH = 0.1
"""From this median change on, the note is a warning."""


def note_precision(backbone: Backbone, pixels: torch.Tensor, features: torch.Tensor) -> None:
    """Log how much the features of a batch differ from those in float32.

    Args:
        backbone: The backbone, which computes in bfloat16 or float16.
        pixels: The images of the batch; see :meth:`Backbone.__call__`.
        features: What it gave for them.
    """
    if not _is_fast(backbone):
        log.warning("PyTorch has no fast %s on this processor; float32 may be faster", backbone.key.dtype)
    found = from_float32(backbone, pixels, features)
    dtype, images = backbone.key.dtype, counted(len(pixels), "image")
    if found.largest is None or found.median is None or found.same_neighbour is None:
        log.warning("%s cannot be compared with float32 on the first %s: %s", dtype, images, found.reason)
        return
    neighbours = f"; {found.same_neighbour:.0%} of them keep their nearest neighbour" if len(pixels) > 2 else ""
    log.log(
        logging.WARNING if found.median >= MUCH else logging.INFO,
        "%s changed the features of the first %s by %.2g%% in the median, and by %.2g%% at most%s "
        "(nctransfer check with the same options shows more)",
        dtype,
        images,
        100 * found.median,
        100 * found.largest,
        neighbours,
    )


def _is_fast(backbone: Backbone) -> bool:
    """Whether the device is fast at the dtype, as far as PyTorch tells."""
    import torch

    short = {"bfloat16": "bf16", "float16": "fp16"}.get(backbone.key.dtype)
    question = getattr(torch.ops.mkldnn, f"_is_mkldnn_{short}_supported", None)
    return backbone.device.type != "cpu" or question is None or bool(question())

"""Some images of a source, as a backbone wants them: evenly over the listing, or at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.errors import DataError, reason_of
from nctransfer.sources.decoding import decode
from nctransfer.sources.image_table import ImageTable
from nctransfer.sources.selection import Selection

if TYPE_CHECKING:
    import torch

    from nctransfer.backbones.backbone import Backbone
    from nctransfer.sources.source import ImageSource

__all__ = ["chosen_pixels"]


def chosen_pixels(
    backbone: Backbone, source: ImageSource, images: int, selection: Selection | None = None, seed: int | None = None
) -> torch.Tensor:
    """Some images of a source, ``(images, 3, height, width)`` uint8; all of them if there are fewer.

    Args:
        backbone: What prepares the images.
        source: Where the images come from.
        images: How many images to take.
        selection: Which images of the source may be taken. Default: all.
        seed: The seed of the draw and of the order of the images; ``None`` spreads them evenly over the listing.

    Raises:
        DataError: The source has fewer than 2 images, or one of the images cannot be decoded.
    """
    import numpy as np
    import torch

    entries = (selection or Selection()).choose(ImageTable.of(source.list()))
    if len(entries) < 2:
        raise DataError(f"{source.name} has fewer than 2 images to compare", "give --data with more images")
    if seed is None:
        rows = np.unique(np.linspace(0, len(entries) - 1, images).astype(int))
        order = np.arange(len(rows))
    else:
        drawn = np.random.default_rng(seed).permutation(len(entries))[:images]
        rows, order = np.unique(drawn, return_inverse=True)  # a source is read in the order of its listing
    chosen = entries.take(rows)
    prepared = []
    for entry, content in zip(chosen, source.contents(chosen), strict=True):
        try:
            prepared.append(backbone.preprocess(decode(content())))
        except (OSError, ValueError) as error:
            raise DataError(
                f"the image {entry.id!r} cannot be used: {reason_of(error)}", "remove it, or give other --data"
            ) from error
    return torch.from_numpy(np.stack(prepared)[order])

"""The images as points in a plane, and what may not be concluded from where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nctransfer.errors import counted
from nctransfer.page.blocks import Block, ImageMapView, Notice, Paragraph, Section

if TYPE_CHECKING:
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.maps.image_map import ImageMap

__all__ = ["image_map_section"]


def image_map_section(image_map: ImageMap, features: FeatureSet, closest: Sequence[int] = ()) -> Section:
    """The map of the images, with how much of the features its positions keep.

    Args:
        image_map: The map.
        features: The feature set that it is of.
        closest: The classes of the closest pairs, the closest first; they have colours at first.
    """
    shown, images = len(image_map.rows), len(features)
    caption = (
        f"{shown:,} of {images:,} images, the same random share of every class" if shown < images else "All images"
    )
    blocks: list[Block] = [Paragraph(text=_advice(image_map, features.dim))]
    if image_map.umap_x is not None:
        blocks.append(Notice(text=_about_umap(image_map)))
    blocks.append(
        ImageMapView(
            map=image_map,
            alt=(
                f"Scatter plot of {counted(shown, 'image')} of {counted(len(features.classes), 'class', 'classes')}. "
                f"Of the nearest images of an image, {image_map.kept.neighbours:.0%} are also among its nearest "
                "points. The classes that lie closest are listed in the class map."
            ),
            caption=f"{caption}. The neighbours of an image are its nearest images by all features, not in the plane.",
            closest=tuple(closest),
        )
    )
    return Section(
        id="image-map",
        title="Image map",
        says=(
            f"It shows the images as points, placed by two of the {features.dim:,} dimensions of their features: those "
            "in which the images differ most, or those in which the classes that you choose lie."
        ),
        not_says=(
            "It does not show how far apart images are: two points side by side may be far apart in the other "
            "dimensions, so trust the listed neighbours and the class map rather than the picture."
        ),
        blocks=tuple(blocks),
    )


def _advice(image_map: ImageMap, width: int) -> str:
    number = image_map.neighbours.shape[1]
    return (
        f"The first two principal axes hold {sum(image_map.shares):.1%} of the variance of {width:,} dimensions. Of "
        f"the {number} nearest images of an image, {image_map.kept.neighbours:.0%} are also among its {number} nearest "
        "points here. To compare two classes, choose their plane: there the horizontal position shows exactly where "
        "an image lies on the line from the mean of one class to the mean of the other."
    )


def _about_umap(image_map: ImageMap) -> str:
    said = (
        "The layout by UMAP shows who is near whom, and nothing else: the distances between groups, their sizes and "
        "their densities mean nothing, and another seed gives another picture."
    )
    if image_map.umap_kept is not None:
        said += (
            f" Of the nearest images of an image, {image_map.umap_kept.neighbours:.0%} are also among the nearest "
            "points there."
        )
    return said

"""What the script of a page works with: one JSON value of names, images, matrices, maps and findings."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from nctransfer.page.blocks import FindingList, ImageMapView, ImageStrip, Matrix, PairCard, Table
from nctransfer.page.encoded_arrays import encoded
from nctransfer.page.visible_text import visible

if TYPE_CHECKING:
    from nctransfer.maps.class_planes import ClassPlanes
    from nctransfer.maps.image_map import ImageMap, Kept
    from nctransfer.page.blocks import Block, PageContent

__all__ = ["blocks_of", "images_of", "json_for_page", "page_data"]

CSV_COLUMNS = ("path", "label", "kind", "suggested", "like", "expected_precision")
SMALL = 2.0**-40  # lengths between it and its inverse have squares that fit into float32
ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&"}


def page_data(content: PageContent) -> dict[str, Any]:
    """All that the script of the page needs. Matrices, maps and findings stand in the order of their blocks."""
    blocks = list(blocks_of(content))
    images = sorted({image for block in blocks for image in images_of(block)})
    labels = [-1] * len(images) if content.image_labels is None else [int(content.image_labels[i]) for i in images]
    return {
        "classes": [visible(name) for name in content.classes],
        "counts": [int(count) for count in content.counts],
        "images": {
            "numbers": images,
            "ids": [visible(content.image_ids[image]) for image in images],
            "labels": labels,
        },
        "thumbnails": {
            str(image): base64.b64encode(content.thumbnails[image]).decode("ascii")
            for image in images
            if image in content.thumbnails
        },
        "matrices": [_matrix(block) for block in blocks if isinstance(block, Matrix)],
        "maps": [_image_map(block) for block in blocks if isinstance(block, ImageMapView)],
        "findings": [_findings(block) for block in blocks if isinstance(block, FindingList)],
    }


def json_for_page(value: object) -> str:
    """A value as JSON of ASCII characters in which no markup can begin."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).translate(ESCAPES)


def blocks_of(content: PageContent) -> Iterator[Block]:
    """The blocks of all sections."""
    for section in content.sections:
        yield from section.blocks


def images_of(block: Block) -> Iterable[int]:
    """The numbers of the images that a block shows."""
    match block:
        case ImageStrip():
            return block.images
        case PairCard():
            return (*block.images_a, *block.images_b)
        case FindingList():
            numbers = (image for one in block.findings for image in (one.image, *one.neighbours))
            return [image for image in numbers if image is not None]
        case ImageMapView():
            return {*block.map.rows.tolist(), *block.map.neighbours.ravel().tolist()}
        case Table():
            return [int(row[column]) for row in block.rows for column in block.image_columns if row[column]]
        case _:
            return ()


def _matrix(block: Matrix) -> dict[str, Any]:
    return {"kind": block.kind, "codes": [int(code) for code in block.codes], "values": encoded(block.values, "real")}


def _findings(block: FindingList) -> dict[str, Any]:
    """The rows of the file of ticked findings, with the columns of ``audit --corrections``."""

    def share(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}"

    rows = [
        [one.id, one.given, one.kind, one.suggested, one.like, share(one.expected_precision)] for one in block.findings
    ]
    return {"name": block.name, "columns": CSV_COLUMNS, "rows": rows}


def _image_map(block: ImageMapView) -> dict[str, Any]:
    """The coordinates of a map, and what the page says below each of its views."""
    image_map = block.map
    planes = image_map.planes
    unit = _unit(planes)
    layout = None
    if image_map.umap_x is not None and image_map.umap_y is not None:
        layout = {"x": encoded(image_map.umap_x, "float32"), "y": encoded(image_map.umap_y, "float32")}
    return {
        "rows": encoded(image_map.rows, "int32"),
        "x": encoded(image_map.x, "float32"),
        "y": encoded(image_map.y, "float32"),
        "umap": layout,
        "neighbours": encoded(image_map.neighbours, "int32"),
        "distances": encoded(image_map.neighbour_distance, "real"),
        "closest": [code for code in block.closest if code in planes.codes],
        "codes": planes.codes.tolist(),
        "products": encoded(planes.products / unit**2, "real"),
        "gram": encoded(planes.gram / unit**2, "float32"),
        "points": encoded(planes.points / unit, "float32"),
        "means": encoded(planes.means / unit, "float32"),
        "says": _says(image_map),
    }


def _unit(planes: ClassPlanes) -> float:
    """The unit of length of the planes, in that of the features: a power of two by which products fit into float32.

    It is 1 unless features are very large or small; a plane looks the same in any unit.
    """
    longest = math.sqrt(max(planes.gram.diagonal().max(initial=0.0), 0.0))
    return 1.0 if longest == 0 or SMALL < longest < 1 / SMALL else 2.0 ** round(math.log2(longest))


def _says(image_map: ImageMap) -> dict[str, str]:
    """One or two sentences below each view of a map."""
    first, second = image_map.shares
    return {
        "pca": (
            f"The two directions in which the images vary most: {first:.1%} of their variance is along the horizontal "
            f"axis, {second:.1%} along the vertical one. Images far apart here are far apart in the full space."
        ),
        "plane": (
            "The exact plane through the means of the chosen classes, and for two classes through the mean of all "
            "images. Dashed lines show where two means are equally near, in the full space too. Images of other "
            "classes are faint."
        ),
        "line": (
            "The means lie on one line. Horizontally, images are placed exactly along it; the dashed line shows where "
            "both means are equally near. The vertical axis is a direction in which all images vary much."
        ),
        "umap": (
            "Distances on this map are not facts, nor are the sizes of clusters or the gaps between them: UMAP only "
            f"tries to keep near images near. {_kept(image_map.umap_kept)} The nearest images listed beside a picture "
            "are those of the full space."
        ),
    }


def _kept(kept: Kept | None) -> str:
    if kept is None:
        return ""
    return f"Of the nearest images in the full space, {kept.neighbours:.0%} are among the nearest ones here too."

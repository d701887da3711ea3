"""Which classes resemble each other: a heat map in leaf order, a dendrogram, and the closest pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nctransfer.errors import counted, join_names
from nctransfer.figures.dendrogram_figure import dendrogram_figure
from nctransfer.figures.inline_svg import inline_svg
from nctransfer.page.blocks import Block, Chart, Matrix, Notice, Section, Table
from nctransfer.page.close_classes import cdnv_cell, closest_pairs, distance_cell
from nctransfer.page.sentences import sentence

if TYPE_CHECKING:
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.maps.class_map import ClassMap

__all__ = ["class_map_section"]

MOST_CLASSES = 150  # on the heat map
SOME_CLASSES = 50  # on the heat map if there are more
PAIRS = 20  # in the table
JOINS = 20  # in the table of the dendrogram
LEGEND = "distance between class means, in within-class standard deviations"


def class_map_section(class_map: ClassMap, features: FeatureSet) -> Section | None:
    """The distances of classes as a heat map and as a dendrogram, and the closest pairs as a table.

    Args:
        class_map: The map of the classes.
        features: The feature set that it is of.

    Returns:
        ``None`` if there are fewer than two classes.
    """
    number = len(class_map.order)
    if number < 2:
        return None
    is_all = number <= MOST_CLASSES
    codes = tuple(class_map.order.tolist()) if is_all else class_map.most_interesting(SOME_CLASSES)
    blocks: list[Block] = [Notice(text=sentence(one)) for one in class_map.notes]
    blocks.append(_matrix(class_map, features.classes, codes))
    if number > 2:
        blocks.append(_dendrogram(class_map, features.classes))
    return Section(
        id="class-map",
        title="Class map",
        says=(
            "It shows how far apart the means of two classes lie for this backbone: at 1, they are as far apart as an "
            "image usually lies from the mean of its own class."
        ),
        not_says=(
            "It does not show which classes are confused: images of a class differ from each other in many directions, "
            "and only one of them leads to the other class. Other backbones have other distances."
        ),
        blocks=tuple(blocks),
    )


def _matrix(class_map: ClassMap, classes: Sequence[str], codes: tuple[int, ...]) -> Matrix:
    import numpy as np

    pairs = closest_pairs(class_map, PAIRS)
    a, b = pairs[0]
    values = class_map.distance[np.ix_(codes, codes)]
    shown, of = "Classes", ""
    if len(codes) < len(classes):
        shown, of = f"The {len(codes)} classes of the closest pairs", f", of {len(classes):,},"
    return Matrix(
        name="class-map",
        values=np.where(np.isfinite(values), values, np.nan).astype(np.float32),
        codes=codes,
        kind="distance",
        legend=LEGEND,
        alt=(
            f"Heat map of the distances between {counted(len(codes), 'class', 'classes')}. The closest are "
            f"{classes[a]} and {classes[b]}, {distance_cell(float(class_map.distance[a, b]))} apart."
        ),
        caption=(
            f"{shown}{of} are in the order of the dendrogram, so that similar ones stand side by side; a strong colour "
            "is close."
        ),
        table=_pairs_table(class_map, classes, pairs),
    )


def _pairs_table(class_map: ClassMap, classes: Sequence[str], pairs: Sequence[tuple[int, int]]) -> Table:
    rows = []
    for a, b in pairs:
        distance = float(class_map.distance[a, b])
        cells = classes[a], classes[b], distance_cell(distance)
        rows.append((*cells, cdnv_cell(distance) if class_map.told_apart[a, b] else "not known"))
    caption = (
        "The closest pairs of classes. CDNV, the variance within the classes over the squared distance, is "
        "1/distance²; both are debiased, which means corrected for the noise of means of few images"
    )
    if not all(class_map.told_apart[pair] for pair in pairs):
        caption += ". CDNV is not known where these images do not tell two classes apart"
    return Table(
        columns=("class", "and", ">distance", ">CDNV, debiased"),
        rows=tuple(rows),
        caption=f"{caption}.",
        class_columns=(0, 1),
    )


def _dendrogram(class_map: ClassMap, classes: Sequence[str]) -> Chart:
    first = _joins(class_map, classes)
    alt = f"Dendrogram of {counted(len(classes), 'class', 'classes')}. {first[0][0]} and {first[0][1]} join first."
    more = f" There are {len(classes) - 1 - len(first):,} more." if len(classes) - 1 > len(first) else ""
    return Chart(
        svg=inline_svg(dendrogram_figure(class_map), "dendrogram", alt),
        alt=alt,
        caption=(
            "Classes and groups that join at a small distance resemble each other. The distance of two groups is the "
            "mean distance between their classes."
        ),
        table=Table(
            columns=("these", "and these", ">join at", ">classes"),
            rows=tuple(first),
            caption=f"What joins first.{more}",
        ),
    )


def _joins(class_map: ClassMap, classes: Sequence[str]) -> list[tuple[str, ...]]:
    """The first joins of the tree."""
    groups: list[list[str]] = [[name] for name in classes]
    rows = []
    for one, other, distance, number in class_map.linkage[:JOINS].tolist():
        both = groups[int(one)], groups[int(other)]
        groups.append([*both[0], *both[1]])
        rows.append((*(join_names(group, most=3) for group in both), distance_cell(distance), f"{number:.0f}"))
    return rows

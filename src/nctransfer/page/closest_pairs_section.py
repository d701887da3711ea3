"""The closest pairs of classes, each with the images of both sides that lie nearest to the border."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.errors import counted
from nctransfer.maps.border_images import Border, border_between
from nctransfer.page.blocks import PairCard, Section
from nctransfer.page.close_classes import cdnv_cell, closest_pairs, distance_cell

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.maps.class_map import ClassMap

__all__ = ["MOST_PAIRS", "closest_pairs_section"]

MOST_PAIRS = 12
IMAGES = 5  # of each side


def closest_pairs_section(
    class_map: ClassMap, features: FeatureSet, predicted: torch.Tensor | None = None
) -> Section | None:
    """A card for each of the closest pairs of classes.

    Args:
        class_map: The map of the classes.
        features: The feature set, whose rows are the image numbers.
        predicted: The class code that each image gets when it is left out, ``(n,)``, if that is known.

    Returns:
        ``None`` if no two classes have two images each.
    """
    counts: list[int] = features.counts.tolist()
    pairs = [(a, b) for a, b in closest_pairs(class_map, 2 * MOST_PAIRS) if min(counts[a], counts[b]) > 1][:MOST_PAIRS]
    if not pairs:
        return None
    cards = []
    for a, b in pairs:
        border = border_between(features, a, b)
        cards.append(
            PairCard(
                class_a=a,
                class_b=b,
                facts=_facts(class_map, features, (a, b), border, predicted),
                images_a=tuple(border.rows_a[:IMAGES].tolist()),
                images_b=tuple(border.rows_b[:IMAGES].tolist()),
            )
        )
    return Section(
        id="closest-pairs",
        title="The closest pairs of classes",
        says=(
            f"It shows the {counted(len(pairs), 'pair')} of classes whose means lie closest to each other, measured in "
            "within-class standard deviations, with the images of both that lie nearest to the border between them."
        ),
        not_says=(
            "It does not show typical images: these are the hardest ones. A pair that is close for this backbone may "
            "lie farther apart for another one."
        ),
        blocks=tuple(cards),
    )


def _facts(
    class_map: ClassMap,
    features: FeatureSet,
    pair: tuple[int, int],
    border: Border,
    predicted: torch.Tensor | None,
) -> dict[str, str]:
    a, b = pair
    distance = float(class_map.distance[a, b])
    facts = {"distance": f"{distance_cell(distance)} within-class standard deviations"}
    if not class_map.told_apart[a, b]:
        facts["distance"] = (
            f"not told apart: {distance_cell(distance)} is within the noise of the means of so few images"
        )
    elif distance > 0:
        facts["CDNV, debiased"] = f"{cdnv_cell(distance)} (variance within the classes over squared distance)"
    right, images = border.right_a + border.right_b, len(border.rows_a) + len(border.rows_b)
    facts["nearest mean"] = (
        f"{right:,} of {images:,} images of both ({right / images:.1%}) lie nearer to the mean of their own class, "
        "which is computed without the image itself"
    )
    if predicted is not None:
        facts["confused"] = "; ".join(
            f"{_taken(features, predicted, one, other):,} of {int(features.counts[one]):,} images of "
            f"{features.classes[one]} are taken for {features.classes[other]}"
            for one, other in (pair, pair[::-1])
        )
    return facts


def _taken(features: FeatureSet, predicted: torch.Tensor, one: int, other: int) -> int:
    """How many images of one class get the other one."""
    return int((predicted[features.labels == one] == other).sum())

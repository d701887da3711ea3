"""The sheet of images that look alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.errors import counted, join_names
from nctransfer.report.sheet import Sheet

if TYPE_CHECKING:
    from nctransfer.sources.similar_images import LookAlikes, PlacedImage

__all__ = ["look_alikes_sheet"]

LISTED = 20  # pairs in the table; JSON has all


def look_alikes_sheet(found: LookAlikes) -> Sheet:
    """The sheet of images that look alike: how many there are, the first pairs, and what they mean."""
    facts = {
        "compared": f"{counted(found.images, 'image')}"
        + (f" with {counted(found.other_images, 'image')} of {found.other}" if found.other is not None else ""),
        "look alike": ", ".join(
            f"{counted(number, 'image')} {where}"
            for number, where in (
                (found.count("source"), "across sources"),
                (found.count("split"), "across splits"),
                (found.count("class"), "across classes"),
                (found.count(None), "within a class (harmless)"),
            )
            if number
        )
        or "none",
        "by equal pixels only": f"{counted(found.plain, 'image')} with too little detail" if found.plain else "",
    }
    rows = [
        [_named(pair.one), _named(pair.other), pair.kind, _rounded(pair.similarity)] for pair in found.pairs[:LISTED]
    ]
    return Sheet(
        "Look-alikes",
        ["image", "looks like", "how", ">similarity"] if rows else [],
        rows,
        {name: value for name, value in facts.items() if value},
        " ".join(_in_words(found)),
    )


def _in_words(found: LookAlikes) -> list[str]:
    """Sentences on what the look-alikes mean, the most serious first."""
    words = []
    if number := found.count("source"):
        words.append(
            f"{_look(number, 'image')} like images of {found.other}: if a model learned from one of the two sources, "
            "accuracy on the other one is too good."
        )
    for crossing in found.crossings:
        words.append(
            f"{_look(crossing.images, 'image', f' of split {crossing.split}')} like images of split {crossing.other}: "
            f"if a model learned from {crossing.other}, "
            f"accuracy on {crossing.split} is too good."
        )
    if number := found.count("class"):
        words.append(f"{_look(number, 'image')} like an image of another class: check their labels.")
    if (more := len(found.pairs) - LISTED) > 0:
        words.append(f"… and {counted(more, 'pair')} more (all of them: --format json).")
    return words


def _look(number: int, noun: str, of: str = "") -> str:
    return f"{counted(number, noun)}{of} {'looks' if number == 1 else 'look'}"


def _named(image: PlacedImage) -> str:
    places = [image.label, image.split, image.source if image.second else ""]
    return f"{image.id} ({join_names([place for place in places if place])})"


def _rounded(similarity: float) -> str:
    """Three digits; only equal pixels have 1.000."""
    return f"{similarity if similarity == 1 else min(similarity, 0.999):.3f}"

"""What feature sets are called beside each other: by their backbone, with a number where that is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nctransfer.features.feature_stream import Features

__all__ = ["plain_names", "short_name", "short_names"]


def short_name(features: Features, number: int) -> str:
    """The name of a set in a comparison."""
    return f"{number + 1}: {features.info.model or features.info.data or features.info.id}"


def short_names(sets: Sequence[Features]) -> list[str]:
    """The names of the sets of a comparison; sets of one model with images of other sizes are named with the size."""
    sizes: dict[str, set[str]] = {}
    for one in sets:
        sizes.setdefault(short_name(one, 0), set()).add(_pixels(one))
    return [
        short_name(one, number) + (f", {_pixels(one)}" if len(sizes[short_name(one, 0)]) > 1 else "")
        for number, one in enumerate(sets)
    ]


def plain_names(sets: Sequence[Features]) -> list[str]:
    """The names of sets without numbers, where that leaves them different."""
    numbered = short_names(sets)
    plain = [name.partition(": ")[2] for name in numbered]
    return plain if len(set(plain)) == len(plain) else numbered


def _pixels(features: Features) -> str:
    """The size of the images that went through the backbone, such as 64×64; empty if it is not known."""
    key = features.info.key
    return "" if key is None else "×".join(map(str, key.transform.get("input_size", ())[1:]))

"""The nearest image of a wanted class, for every image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from nctransfer.label_audit.unit_rows import UnitRows

__all__ = ["nearest_of_class"]


def nearest_of_class(sets: Sequence[UnitRows], wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For each image the nearest other image whose label is the wanted one, and the distance.

    Images of other classes are never compared, so that the cost is n² / C comparisons.

    Args:
        sets: Rows of the same n images, of one backbone or several.
        wanted: The code of the wanted class of each image, ``(n,)``; −1 for none.

    Returns:
        The number of the nearest image, ``(n,)`` int64, −1 if there is none, and the distance ``(n,)``: the root of the
        mean over sets of the squared distance between unit vectors, from 0 to 2, infinite if there is none.
    """
    import torch

    labels = sets[0].labels
    nearest = torch.full((len(labels),), -1, device=labels.device)
    distances = torch.full((len(labels),), float("inf"), dtype=torch.float64, device=labels.device)
    for code in sorted(set(wanted[wanted >= 0].tolist())):
        members = (labels == code).nonzero()[:, 0]
        for asking in (wanted == code).nonzero()[:, 0].split(2048):
            squares = sum(torch.cdist(rows.rows(asking), rows.rows(members)).square() for rows in sets) / len(sets)
            assert isinstance(squares, torch.Tensor)
            squares[asking[:, None] == members] = float("inf")
            values, places = squares.min(dim=1)
            distances[asking] = values.sqrt()
            nearest[asking] = torch.where(values.isinf(), -1, members[places])
    return nearest, distances

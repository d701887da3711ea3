"""The images that a source lists, and those among them that are wanted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from nctransfer.sources.image_table import ImageTable
from nctransfer.store.listings import chosen_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nctransfer.sources.selection import Selection
    from nctransfer.sources.source import ImageSource

__all__ = ["WantedImages", "wanted_images"]


@dataclass(frozen=True, kw_only=True, eq=False)
class WantedImages:
    """All images that a source lists, and those among them that are wanted.

    Attributes:
        entries: The images that the source lists.
        rows: The positions of the wanted ones, in ascending order.
    """

    entries: ImageTable
    rows: NDArray[np.intp]

    @cached_property
    def chosen(self) -> ImageTable:
        """The wanted images."""
        return self.entries if len(self.rows) == len(self.entries) else self.entries.take(self.rows)

    def only(self, selection: Selection) -> WantedImages:
        """Of all images, those that a selection takes."""
        return replace(self, rows=chosen_rows(self.entries, selection))


def wanted_images(source: ImageSource, selections: Iterable[Selection]) -> WantedImages:
    """List a source, and select images.

    Args:
        source: The images.
        selections: An image is wanted if one of them takes it.

    Raises:
        DataError: The source cannot be listed.
        FeaturesError: A selection takes no image.
    """
    import numpy as np

    entries = ImageTable.of(source.list())
    is_wanted = np.zeros(len(entries), bool)
    for selection in selections:
        is_wanted[chosen_rows(entries, selection)] = True
    return WantedImages(entries=entries, rows=np.flatnonzero(is_wanted))

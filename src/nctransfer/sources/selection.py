"""A selection of samples: by split, by class, and up to some number per class."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from nctransfer.errors import FeaturesError, counted, did_you_mean, join_names

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Selection"]


@dataclass(frozen=True)
class Selection:
    """Which samples of a source to take. Default: all.

    Attributes:
        split: Take only this split.
        classes: Take only these classes.
        exclude_classes: Leave out these classes.
        max_per_class: Take at most this many samples per class (and split), drawn at random with ``seed``: the first in
            the order of a digest of seed and id. So a smaller draw is a subset of a larger one, and adding samples to
            the source changes the draw as little as possible.
        seed: See ``max_per_class``.
    """

    split: str | None = None
    _: KW_ONLY
    classes: tuple[str, ...] | None = None
    max_per_class: int | None = None
    seed: int = 0
    exclude_classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_per_class is not None and self.max_per_class < 1:
            raise FeaturesError(
                f"expected at least 1 sample per class, got max_per_class={self.max_per_class}",
                "give --max-per-class 1 or more",
            )
        if self.classes is not None and not self.classes:
            raise FeaturesError("the list of classes is empty", "give at least one class, or no list to take all")

    def apply(self, ids: Sequence[str], labels: Sequence[str], splits: Sequence[str]) -> NDArray[np.intp]:
        """The positions of the selected samples, in ascending order.

        Args:
            ids: The id of each sample.
            labels: The class of each sample.
            splits: The split of each sample, or "".

        Raises:
            FeaturesError: There is no such split or class, or no sample is selected.
        """
        import numpy as np

        keep = np.ones(len(ids), dtype=bool)
        if self.split is not None:
            keep &= self._is_in((self.split,), splits, "split")
        if self.classes is not None:
            keep &= self._is_in(self.classes, labels, "class")
        if self.exclude_classes:
            keep &= ~self._is_in(self.exclude_classes, labels, "class")
        wanted = np.flatnonzero(keep)
        if len(ids) and not len(wanted):
            raise FeaturesError(f"none of {len(ids):,} samples is selected by: {self}")
        if self.max_per_class is None:
            return wanted
        groups: dict[tuple[str, str], list[tuple[bytes, int]]] = {}
        for index in wanted.tolist():
            draw = hashlib.blake2b(f"{self.seed}\0{ids[index]}".encode(), digest_size=8).digest()
            groups.setdefault((splits[index], labels[index]), []).append((draw, index))
        drawn = [index for group in groups.values() for _, index in sorted(group)[: self.max_per_class]]
        return np.sort(np.array(drawn, dtype=np.intp))

    @staticmethod
    def _is_in(wanted: Sequence[str], column: Sequence[str], kind: str) -> NDArray[np.bool_]:
        import numpy as np

        there = sorted(set(column) - {""})
        if absent := [name for name in wanted if name not in there]:
            plural = "splits" if kind == "split" else "classes"
            raise FeaturesError(
                f"there is no {kind} {absent[0]!r}" + (f", nor {len(absent) - 1} others" if absent[1:] else ""),
                f"{did_you_mean(absent[0], there)} the {plural} are {join_names(list(map(repr, there)), 10)}".strip()
                if there
                else f"these data have no {plural}",
            )
        allowed = frozenset(wanted)
        return np.fromiter((name in allowed for name in column), dtype=bool, count=len(column))

    def __str__(self) -> str:
        """The selection in words; empty if it takes everything."""
        parts = [
            f"split {self.split}" if self.split else "",
            f"{counted(len(self.classes), 'chosen class', 'chosen classes')}" if self.classes else "",
            f"without {counted(len(self.exclude_classes), 'class', 'classes')}" if self.exclude_classes else "",
            f"at most {self.max_per_class} per class" if self.max_per_class else "",
        ]
        return ", ".join(filter(None, parts))

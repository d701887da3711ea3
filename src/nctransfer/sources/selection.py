"""Which samples of a source are wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.errors import FeaturesError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Selection"]


@dataclass(frozen=True)
class Selection:
    """Which samples of a source are wanted; by default all.

    Attributes:
        split: Only this split.
        classes: Only these class names.
        exclude_classes: Not these class names.
        max_per_class: At most so many samples of a class (and split), drawn by ``seed``. The draw orders samples
            by a digest of seed and id, so that fewer samples are a subset of more, also of a grown set.
        seed: See ``max_per_class``.
    """

    split: str | None = None
    classes: tuple[str, ...] | None = None
    max_per_class: int | None = None
    seed: int = 0
    exclude_classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_per_class is not None and self.max_per_class < 1:
            raise FeaturesError(f"at most {self.max_per_class} samples a class leave none")
        if self.classes is not None and not self.classes:
            raise FeaturesError("an empty list of classes leaves none")

    def apply(self, ids: Sequence[str], labels: Sequence[str], splits: Sequence[str]) -> NDArray[np.intp]:
        """The positions of the wanted samples, ascending; the three columns are of length n.

        Raises:
            FeaturesError: There is no such split or class (the hint names those that there are), or nothing is left.
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
            raise FeaturesError(f"nothing is left of {len(ids):,} samples: {self}")
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
            names = ", ".join(map(repr, there[:10])) + (" …" if len(there) > 10 else "")
            plural = "splits" if kind == "split" else "classes"
            raise FeaturesError(
                f"there is no {kind} {absent[0]!r}" + (f" and {len(absent) - 1} more" if absent[1:] else ""),
                f"the {plural} are: {names}" if there else f"these data have no {plural}",
            )
        allowed = frozenset(wanted)
        return np.fromiter((name in allowed for name in column), dtype=bool, count=len(column))

    def __str__(self) -> str:
        """In words, empty if everything is wanted."""
        parts = [
            f"split {self.split}" if self.split else "",
            f"{len(self.classes)} chosen classes" if self.classes else "",
            f"without {len(self.exclude_classes)} classes" if self.exclude_classes else "",
            f"at most {self.max_per_class} a class" if self.max_per_class else "",
        ]
        return ", ".join(filter(None, parts))

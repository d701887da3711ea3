"""A selection of samples: by split, by class, up to some number per class, and a share of all these."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from nctransfer.checked_values import CheckedValues
from nctransfer.errors import FeaturesError, counted, did_you_mean, join_names
from nctransfer.sources.arrow_arrays import flat, integers, values_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from nctransfer.sources.image_table import ImageTable
    from nctransfer.sources.sharding import Shard

    Texts: TypeAlias = Sequence[str] | pa.Array | pa.ChunkedArray

__all__ = ["Selection"]

CHUNK = 2**14  # ids that are Python objects at once


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
        shard: Of the samples that all this selects, take only the share of one worker. It may be empty.
    """

    split: str | None = None
    _: KW_ONLY
    classes: tuple[str, ...] | None = None
    max_per_class: int | None = None
    seed: int = 0
    exclude_classes: tuple[str, ...] = ()
    shard: Shard | None = None

    def __post_init__(self) -> None:
        if self.max_per_class is not None and self.max_per_class < 1:
            raise FeaturesError(
                f"expected at least 1 sample per class, got max_per_class={self.max_per_class}",
                "give --max-per-class 1 or more",
            )
        if self.classes is not None and not self.classes:
            raise FeaturesError("the list of classes is empty", "give at least one class, or no list to take all")

    @classmethod
    def from_json(cls, values: Any) -> Selection:
        """The selection that JSON describes, which somebody else may have written. It is of no shard.

        Raises:
            ValueError: It does not describe a selection; the message says why.
        """
        given = CheckedValues(values, "the selection")
        selection = cls(
            given.string_or_none("split"),
            classes=given.strings_or_none("classes"),
            max_per_class=given.whole_or_none("max_per_class", least=1),
            seed=given.whole("seed", least=-(2**63)),
            exclude_classes=given.strings("exclude_classes"),
        )
        given.end()
        return selection

    def apply(self, ids: Texts, labels: Texts, splits: Texts) -> NDArray[np.intp]:
        """The positions of the selected samples, in ascending order; none if none of them is of the shard.

        Args:
            ids: The id of each sample.
            labels: The class of each sample.
            splits: The split of each sample, or "".

        Raises:
            FeaturesError: There is no such split or class, or no sample is selected.
        """
        import numpy as np

        rows = self._of_all_shards(ids, labels, splits)
        return rows if self.shard is None else rows[np.isin(rows, self.shard.rows(ids))]

    def _of_all_shards(self, ids: Texts, labels: Texts, splits: Texts) -> NDArray[np.intp]:
        import numpy as np

        keep = np.ones(len(ids), dtype=bool)
        if self.split is not None:
            keep &= _is_in((self.split,), _Coded.of(splits), "split")
        if self.classes is not None:
            keep &= _is_in(self.classes, _Coded.of(labels), "class")
        if self.exclude_classes:
            keep &= ~_is_in(self.exclude_classes, _Coded.of(labels), "class")
        wanted = np.flatnonzero(keep)
        if len(ids) and not len(wanted):
            raise FeaturesError(f"none of {len(ids):,} samples is selected by: {self}")
        if self.max_per_class is None or not len(ids):
            return wanted
        return self._drawn(ids, wanted, _Coded.of(labels), _Coded.of(splits))

    def choose(self, images: ImageTable) -> ImageTable:
        """The selected images of a table, in the same order.

        Raises:
            FeaturesError: There is no such split or class, or no image is selected.
        """
        rows = self.apply(images.ids, images.labels, images.splits)
        return images if len(rows) == len(images) else images.take(rows)

    def _drawn(self, ids: Texts, wanted: NDArray[np.intp], labels: _Coded, splits: _Coded) -> NDArray[np.intp]:
        """Of the wanted samples, at most ``max_per_class`` of each class and split."""
        import numpy as np

        assert self.max_per_class is not None
        groups = splits.codes[wanted].astype(np.int64) * len(labels.names) + labels.codes[wanted]
        _, groups, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        is_large = sizes[groups] > self.max_per_class
        drawn, groups = wanted[is_large], groups[is_large]
        order = np.lexsort((drawn, self._draws(ids, drawn), groups))
        drawn, groups = drawn[order], groups[order]
        firsts = np.searchsorted(groups, groups)  # where the group of each sample begins
        drawn = drawn[np.arange(len(drawn)) - firsts < self.max_per_class]
        return np.sort(np.concatenate([wanted[~is_large], drawn]))

    def _draws(self, ids: Texts, rows: NDArray[np.intp]) -> NDArray[np.uint64]:
        """A number for each of some rows that follows from its id and the seed alone."""
        import numpy as np

        start, blake2b = f"{self.seed}\0".encode(), hashlib.blake2b
        digests = b"".join(blake2b(start + id_, digest_size=8).digest() for id_ in _encoded(ids, rows))
        return np.frombuffer(digests, ">u8").astype(np.uint64)

    def __str__(self) -> str:
        """The selection in words; empty if it takes everything."""
        parts = [
            f"split {self.split}" if self.split else "",
            f"{counted(len(self.classes), 'chosen class', 'chosen classes')}" if self.classes else "",
            f"without {counted(len(self.exclude_classes), 'class', 'classes')}" if self.exclude_classes else "",
            f"at most {self.max_per_class} per class" if self.max_per_class else "",
            str(self.shard) if self.shard else "",
        ]
        return ", ".join(filter(None, parts))


class _Coded(NamedTuple):
    """Texts of which many are equal: the number of each in a list of different texts."""

    codes: NDArray[np.integer]
    names: list[str]

    @classmethod
    def of(cls, column: Texts) -> _Coded:
        import numpy as np

        if isinstance(column, Sequence):
            codes: dict[str, int] = {}
            numbers = [codes.setdefault(text, len(codes)) for text in column]
            return cls(np.array(numbers, np.int32), list(codes))
        from pyarrow import compute, types

        column = flat(column)
        if not types.is_dictionary(column.type):
            column = compute.dictionary_encode(column)
        return cls(values_of(column.indices), column.dictionary.to_pylist())

    def used(self) -> list[str]:
        """The texts that occur, sorted; without the empty one."""
        import numpy as np

        return sorted({self.names[code] for code in np.unique(self.codes).tolist()} - {""})


def _is_in(wanted: Sequence[str], column: _Coded, kind: str) -> NDArray[np.bool_]:
    """Which samples have one of the wanted classes or splits.

    Raises:
        FeaturesError: No sample has one of them.
    """
    import numpy as np

    allowed = frozenset(wanted)
    if not allowed <= frozenset(there := column.used()):
        absent = [name for name in wanted if name not in there]
        plural = "splits" if kind == "split" else "classes"
        raise FeaturesError(
            f"there is no {kind} {absent[0]!r}" + (f", nor {len(absent) - 1} others" if absent[1:] else ""),
            f"{did_you_mean(absent[0], there)} the {plural} are {join_names(list(map(repr, there)), 10)}".strip()
            if there
            else f"these data have no {plural}",
        )
    found: NDArray[np.bool_] = np.array([name in allowed for name in column.names], bool)[column.codes]
    return found


def _encoded(column: Texts, rows: NDArray[np.intp]) -> Iterator[bytes]:
    """The texts of some rows in UTF-8."""
    if isinstance(column, Sequence):
        yield from (column[row].encode() for row in rows.tolist())
        return
    import pyarrow as pa

    column = flat(column)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary.take(column.indices)
    for start in range(0, len(rows), CHUNK):
        some = column.take(integers(rows[start : start + CHUNK]))
        yield from some.cast(pa.large_binary()).to_pylist()  # bytes are faster than text

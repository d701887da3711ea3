"""A share of a set for one of several workers, and what the worker knows about the whole set.

The shares are consecutive rows in the order of the passes, so that a worker reads only its part of the files. Each
worker knows the labels and the order of all samples, which take a few bytes per sample. So it knows the size of each
class and which samples are in which half, and the sums over its share are those of the whole set over these rows.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from nctransfer.features.feature_set import FeatureSet
from nctransfer.features.feature_stream import FeatureStream
from nctransfer.neural_collapse.halves import first_halves

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from nctransfer.features.feature_stream import Features
    from nctransfer.sources.sharding import Shard

__all__ = ["SetShare", "content_digest"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SetShare:
    """The rows of one share, with the classes of the whole set.

    Attributes:
        features: The rows.
        is_first: Which of its samples are in the first half of their class, see
            :func:`~nctransfer.neural_collapse.halves.first_halves`, ``(rows, splits)``.
        before: How many samples of each class are in earlier shares, ``(C,)``.
    """

    features: FeatureStream
    is_first: torch.Tensor
    before: torch.Tensor

    @classmethod
    def of(cls, features: Features, shard: Shard, rows: range | None = None) -> SetShare:
        """The share of a whole set: these rows, or by default one of so many equal shares."""
        stream = FeatureStream.of(features) if isinstance(features, FeatureSet) else features
        assert isinstance(stream, FeatureStream)
        start, stop = (len(stream.labels) * number // shard.of for number in (shard.index - 1, shard.index))
        if rows is not None:
            start, stop = rows.start, rows.stop
        earlier, share = stream.between(0, start), stream.between(start, stop)
        halves = first_halves(stream)[len(earlier) : len(earlier) + len(share)]
        return cls(features=share, is_first=halves.clone(), before=earlier.counts)

    def watched(self) -> tuple[FeatureStream, Checksum]:
        """The rows, and the checksum of what one pass over them reads."""
        checksum, read = Checksum(), self.features.read

        def reading(*part: int) -> Iterator[NDArray[Any]]:
            for matrix in read(*part):
                checksum.add(matrix)
                yield matrix

        return replace(self.features, read=reading), checksum


class Checksum:
    """A checksum of the rows that a pass reads, whatever its batches are."""

    def __init__(self) -> None:
        self.value = 0

    def add(self, matrix: NDArray[Any]) -> None:
        """Add some rows."""
        import numpy as np

        if matrix.size:
            self.value = zlib.crc32(np.ascontiguousarray(matrix).data.cast("B"), self.value)


def content_digest(features: Features, more: Iterable[bytes] = (), is_separate: bool = False) -> str:
    """A digest of what shares of one set must have in common: the backbone, the samples and their order, the classes.

    Of the features themselves only the first row counts. That all rows are the same in every pass is checked by
    :class:`Checksum`.

    Args:
        features: The whole set.
        more: What else must be the same.
        is_separate: Whether the first row is not at hand, because another worker has it.
    """
    stream = FeatureStream.of(features) if isinstance(features, FeatureSet) else features
    assert isinstance(stream, FeatureStream)
    info = stream.info
    key = None if info.key is None else asdict(info.key)
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([key, info.layer, info.split, stream.dim, stream.classes], sort_keys=True).encode())
    for column in (stream.labels, stream.places, stream.images):
        digest.update(b"-" if column is None else column.contiguous().numpy().data)
    for matrix in () if is_separate else stream.read(0, min(1, len(stream.labels))):
        digest.update(matrix.tobytes())
    for content in more:
        digest.update(content)
    return digest.hexdigest()

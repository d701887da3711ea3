"""The folder in which several workers leave their sums, and what is in it.

A folder belongs to one set. Which file is which share of which pass is said by the files themselves, not by their
names, so that files may be copied together from several machines.
"""

from __future__ import annotations

import functools
import logging
import operator
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nctransfer.errors import FeaturesError, counted, join_names
from nctransfer.neural_collapse.halves import SPLITS
from nctransfer.neural_collapse.moments import Means, Moments
from nctransfer.neural_collapse.sums_files import SUFFIX, SumsFile, read_sums_file
from nctransfer.sources.sharding import Shard

if TYPE_CHECKING:
    import torch

__all__ = [
    "ANSWERS",
    "MEANS",
    "MOMENTS",
    "NAMES",
    "SumsFolder",
    "means_tensors",
    "moments_tensors",
    "read_means",
    "read_moments",
    "sum_of_means",
    "sum_of_moments",
]

log = logging.getLogger(__name__)

POLL = 2.0  # seconds between two looks at what other workers have left
NAMES: Final = "names"
MEANS: Final = "means"
MOMENTS: Final = "moments"
ANSWERS: Final = "answers"


@dataclass(frozen=True, kw_only=True)
class SumsFolder:
    """The files in a folder of sums, all of one set and one number of shards.

    Attributes:
        path: The folder.
        shares: The file of each share, by its pass and by the number of the share.
        merged: The sums of the whole set, by their pass, if a worker has added them up.
    """

    path: Path
    shares: dict[str, dict[int, SumsFile]]
    merged: dict[str, SumsFile]

    @classmethod
    def open(cls, path: Path, mine: SumsFile | None = None) -> SumsFolder:
        """Read what is in a folder.

        Args:
            path: The folder; if it does not exist, it is empty.
            mine: What all files must be of. If it is not given, they must all be of the same.

        Raises:
            FeaturesError: A file is damaged, is of another set or number of shards, or is there twice.
        """
        shares: dict[str, dict[int, SumsFile]] = {MEANS: {}, MOMENTS: {}, ANSWERS: {}, NAMES: {}}
        merged: dict[str, SumsFile] = {}
        like: dict[bool, SumsFile] = {} if mine is None else {mine.kind == NAMES: mine}
        for one in sorted(path.glob(f"*{SUFFIX}")):
            try:
                file = read_sums_file(one)
            except FeaturesError as error:
                if one.stem not in (MEANS, MOMENTS):
                    raise
                log.warning("%s; they are added up again", error)
                continue
            if file.shard is None:
                merged[file.kind] = file
                continue
            for other in (like.setdefault(file.kind == NAMES, file), *like.values()):
                _check_same(other, file)
            first = shares[file.kind].setdefault(file.shard.index, file)
            if first is not file:
                raise FeaturesError(
                    f"the {file.kind} of {file.shard} are there twice: {first.path.name} and {file.path.name}",
                    "remove one of the two files",
                )
        return cls(path=path, shares=shares, merged=merged)

    @classmethod
    def once_complete(cls, path: Path, mine: SumsFile, kind: str, seconds: float) -> SumsFolder:
        """The folder as soon as the files of all shards of a pass are there, or after so many seconds."""
        assert mine.shard is not None
        end = time.monotonic() + seconds
        while (opened := cls.open(path, mine)).missing(kind, mine.shard.of):
            if (left := end - time.monotonic()) <= 0:
                break
            time.sleep(min(left, POLL))
        return opened

    @property
    def one(self) -> SumsFile:
        """Any file of a share: all are of the same set.

        Raises:
            FeaturesError: There is none.
        """
        if (found := next((file for kind in self.shares.values() for file in kind.values()), None)) is None:
            raise FeaturesError(
                f"there are no statistics in {str(self.path)!r}",
                "let each worker leave its share there: nctransfer collapse … --shard 1/4 --save-statistics FOLDER",
            )
        return found

    @property
    def of(self) -> int:
        """The number of shards."""
        shard = self.one.shard
        assert shard is not None
        return shard.of

    def missing(self, kind: str, of: int) -> list[Shard]:
        """The shards whose file of a pass is not there."""
        return [Shard(index, of) for index in range(1, of + 1) if index not in self.shares[kind]]

    def complete(self, kind: str, of: int) -> list[SumsFile]:
        """The files of all shards of a pass, in the order of the shards.

        Raises:
            FeaturesError: One is missing.
        """
        if missing := self.missing(kind, of):
            raise FeaturesError(
                f"the {kind} of {join_names(missing)} are not in {str(self.path)!r} ({of - len(missing)} of "
                f"{counted(of, 'shard')} are there)",
                f"run {'this shard' if len(missing) == 1 else 'these shards'} into this folder: nctransfer collapse … "
                f"--shard {missing[0].index}/{of} --save-statistics {self.path}",
            )
        return [self.shares[kind][index] for index in range(1, of + 1)]


def _check_same(mine: SumsFile, file: SumsFile) -> None:
    """Refuse a file that is not of the same set, in as many shards, for the same classifier."""
    assert mine.shard is not None
    assert file.shard is not None
    this = mine.path.name if mine.path.suffix == SUFFIX else "this run"
    if file.shard.of != mine.shard.of:
        reason = f"it is {file.shard}, and that is {mine.shard}"
    elif file.is_separate != mine.is_separate:
        reason = "the shares of one are sets of their own, and those of the other are not"
    elif (file.kind == NAMES) != (mine.kind == NAMES):
        return
    elif file.head != mine.head:
        reason = f"it is for {file.head or 'no classifier'}, and that is for {mine.head or 'no classifier'}"
    elif file.content != mine.content:
        one, other = (f"{each.features['id']} ({counted(each.features['samples'], 'sample')})" for each in (file, mine))
        reason = f"it is of {one}, and that is of {other}"
        if one == other:
            reason = f"both are of {one}, but not of the same features in the same order"
    else:
        return
    raise FeaturesError(
        f"{str(file.path)!r} does not go with {this}: {reason}",
        "give each set, and each number of shards, a folder of its own, or remove this file",
    )


def means_tensors(means: Means) -> dict[str, torch.Tensor]:
    """The sums of the first pass as tensors by name, without the digests of the rows."""
    return {field.name: getattr(means, field.name) for field in fields(Means) if field.name != "prints"}


def moments_tensors(moments: Moments) -> dict[str, torch.Tensor]:
    """The sums of the second pass as tensors by name."""
    found = {field.name: getattr(moments, field.name) for field in fields(Moments)}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def read_means(file: SumsFile) -> Means:
    """The sums of the first pass in a file, on the CPU; those over all shares come without the digests of the rows."""
    import torch

    classes, dim = len(file.classes), file.features["dim"]
    shapes: dict[str, tuple[int, ...]] = {
        "counts": (classes,),
        "shift": (dim,),
        "sums": (classes, dim),
        "halves": (SPLITS, classes, dim),
        "half_counts": (SPLITS, classes),
    }
    if file.shard is not None:
        shapes |= {"digests": (file.rows,), "codes": (file.rows,)}
    tensors = file.tensors(shapes)
    if file.shard is None:
        prints = torch.empty(2, 0, dtype=torch.int64)
    else:
        prints = torch.stack([tensors.pop("digests"), tensors.pop("codes").long()])
    return Means(**tensors, prints=[prints])


def read_moments(file: SumsFile) -> Moments:
    """The sums of the second pass in a file, on the CPU."""
    classes, dim = len(file.classes), file.features["dim"]
    shapes: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(("squares", "fourths", "right"), (classes,)),
        **dict.fromkeys(("directional", "crossed"), (classes, classes)),
        **dict.fromkeys(("within", "pooled"), (dim, dim)),
    }
    tensors: dict[str, Any] = {"pooled": None, "crossed": None, **file.tensors(shapes, ("pooled", "crossed"))}
    return Moments(**tensors)


def sum_of_means(files: Sequence[SumsFile]) -> Means:
    """The sums of the first pass over all shares, with the digests of all rows."""
    return functools.reduce(operator.add, map(read_means, files))


def sum_of_moments(files: Sequence[SumsFile]) -> Moments:
    """The sums of the second pass over all shares."""
    return functools.reduce(operator.iadd, map(read_moments, files))

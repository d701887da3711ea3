"""The collapse of a set that several workers pass over, each over its share of the rows.

Each pass gives sums, and sums can be added. So a worker passes over its share, leaves its sums in a folder, and needs
nothing of the others until all have done so. The second pass needs the class means of the whole set, and a classifier
needs a third pass. So each worker runs the same command two or three times; each run finds what comes next in the
folder. What was computed in one pass over the whole set and what is added up here differ by rounding alone.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from nctransfer.backbones.feature_key import FeatureKey
from nctransfer.devices import with_float64
from nctransfer.errors import FeaturesError
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.features.feature_set import FeatureSet
from nctransfer.neural_collapse.collapse_report import CollapseReport, head_note, make_report, usable_classes
from nctransfer.neural_collapse.linear_head import HeadAnswers, LinearHead, check_head
from nctransfer.neural_collapse.moments import Means, Moments
from nctransfer.neural_collapse.pair_matrix import PairMatrix
from nctransfer.neural_collapse.separate_shares import names_of, separate_digest, whole_of
from nctransfer.neural_collapse.set_shares import SetShare, content_digest
from nctransfer.neural_collapse.sums_files import KINDS, SUFFIX, SumsFile, damage_of, digest_of, write_sums_file
from nctransfer.neural_collapse.sums_folder import MEANS, MOMENTS, NAMES, SumsFolder, means_tensors, moments_tensors
from nctransfer.neural_collapse.sums_merging import (
    check_complete,
    digests_of,
    merge,
    passes_for,
    whole_answers,
    whole_means,
    whole_statistics,
)
from nctransfer.sources.sharding import Shard
from nctransfer.store.atomic_files import writing_errors

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_stream import Features, FeatureStream

__all__ = ["ShardProgress", "collapse_shard", "merge_collapse"]

log = logging.getLogger(__name__)

_Sums: TypeAlias = "tuple[dict[str, torch.Tensor], dict[str, Any]]"


@dataclass(frozen=True, kw_only=True)
class ShardProgress:
    """What a worker has done, and what is to be done.

    Attributes:
        shard: The share of the set.
        number: The number of the pass that the worker has done last.
        passes: How many passes there are: 2, or 3 with a classifier.
        rows: The number of samples in the share.
        path: The file with the sums of this pass.
        missing: The shards whose sums of this pass are not there yet.
    """

    shard: Shard
    number: int
    passes: int
    rows: int
    path: Path
    missing: tuple[Shard, ...]

    @property
    def is_done(self) -> bool:
        """Whether this was the last pass of this worker."""
        return self.number == self.passes

    def to_dict(self) -> dict[str, Any]:
        """The progress as a dictionary for JSON."""
        return {
            "shard": [self.shard.index, self.shard.of],
            "pass": self.number,
            "passes": self.passes,
            "rows": self.rows,
            "path": str(self.path),
            "missing": [[shard.index, shard.of] for shard in self.missing],
        }


def collapse_shard(
    features: Features,
    shard: Shard | str,
    folder: str | os.PathLike[str],
    *,
    device: str = "auto",
    head: LinearHead | Literal["ridge"] | None = None,
    head_names: Sequence[str] | None = None,
    is_separate: bool = False,
    wait: float = 0.0,
) -> ShardProgress:
    """One pass of one worker over its share of a set: the first that is not in the folder yet.

    Call it for every shard, then again for every shard, and a third time if there is a classifier. Then
    :func:`merge_collapse` gives the report. A pass that is in the folder is not repeated, unless its file is damaged.

    Args:
        features: The whole set. Only the rows of the share are read.
        shard: The share, such as ``3/8``.
        folder: Where all workers leave their sums: a folder that they share, or folders that are copied together
            before each further pass.
        device: Where to compute.
        head: As in :func:`~nctransfer.neural_collapse.collapse_report.collapse`.
        head_names: The names of the head's classes.
        is_separate: Whether ``features`` are the samples of this shard alone, in memory, and the whole set is those of
            all shards. Then there is one call more for each shard, the first, which shares labels and ids.
        wait: For how many seconds to wait until all other workers have done the pass before.

    Raises:
        FeaturesError: The set has fewer than two classes with two samples; a shard has not done the pass before; the
            folder holds sums of another set, or damaged ones; or the set has changed since the first pass.
        StoreError: The folder cannot be written.

    >>> import tempfile
    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for shard in ("1/2", "2/2", "1/2", "2/2"):
    ...         progress = collapse_shard(two, shard, folder)
    ...     merge_collapse(folder).cdnv
    0.01
    """
    shard = Shard.parse(shard) if isinstance(shard, str) else shard
    place, rows = Path(folder), None
    sources: tuple[str, ...] = ()
    _drop_damaged(place, shard)
    if is_separate:
        opened, is_new = _share_names(features, shard, place, wait)
        if is_new:
            passes = 3 if head is None else 4
            return _progress(opened, NAMES, shard, 1, passes)
        names = opened.complete(NAMES, shard.of)
        features, rows = whole_of(_in_memory(features), shard.index, names)
        sources = digests_of(names)
    worker = _Worker.of(features, shard, rows, place, device, head, head_names)
    return worker.next_pass(sources, wait)


def _in_memory(features: Features) -> FeatureSet:
    if not isinstance(features, FeatureSet):
        raise FeaturesError(
            f"{features.info.id} is read in passes; a share that is a set of its own must be in memory",
            "read it by nctransfer.load_features",
        )
    return features


def _share_names(features: Features, shard: Shard, folder: Path, wait: float) -> tuple[SumsFolder, bool]:
    """The folder with the labels and ids of all shares, and whether those of this one are new in it."""
    own = _in_memory(features)
    mine = SumsFile(
        path=folder,
        kind=NAMES,
        shard=shard,
        content=separate_digest(own),
        features=own.describe().to_dict(),
        classes=(),
        notes=(),
        head="",
        is_separate=True,
        rows=len(own),
    )
    there = SumsFolder.open(folder, mine).shares[NAMES].get(shard.index)
    tensors, facts = names_of(own)
    if there is not None and (there.digest, there.facts) != (digest_of(tensors), facts):
        raise FeaturesError(
            f"the samples of {shard} are not those that {str(there.path)!r} names",
            "if the set has changed, begin anew with all shards in another folder",
        )
    if there is None:
        write_sums_file(replace(mine, path=_path(folder, NAMES, shard), facts=facts), tensors)
        return SumsFolder.open(folder, mine), True
    return SumsFolder.once_complete(folder, mine, NAMES, wait), False


def _path(folder: Path, kind: str, shard: Shard) -> Path:
    return folder / f"{kind}-{shard.index}-of-{shard.of}{SUFFIX}"


def _drop_damaged(folder: Path, shard: Shard) -> None:
    """Delete the damaged files of a worker itself, so that it does these passes again."""
    for path in (_path(folder, kind, shard) for kind in KINDS):
        if path.exists() and (damage := damage_of(path)):
            log.warning("the statistics %r are damaged: %s; %s does this pass again", str(path), damage, shard)
            with writing_errors(path):
                path.unlink(missing_ok=True)


def _progress(opened: SumsFolder, kind: str, shard: Shard, number: int, passes: int) -> ShardProgress:
    file = opened.shares[kind][shard.index]
    missing = tuple(opened.missing(kind, shard.of))
    return ShardProgress(shard=shard, number=number, passes=passes, rows=file.rows, path=file.path, missing=missing)


def merge_collapse(
    folder: str | os.PathLike[str], *, pairs: int | None = 5, pair_matrix: bool = False
) -> CollapseReport:
    """The report from the sums that all workers have left: that of one pass over the whole set, but for rounding.

    Args:
        folder: The folder that was given to :func:`collapse_shard`.
        pairs: How many of the closest pairs of classes to list; ``None`` for all.
        pair_matrix: Whether the report keeps the CDNV of every pair, which the figure needs: 4·C² bytes.

    Raises:
        FeaturesError: A shard is missing, is there twice, is damaged, is of another set, or was computed from sums
            that have been replaced since.
    """
    opened = SumsFolder.open(Path(folder))
    mine = opened.one
    check_complete(opened)
    stats, notes = whole_statistics(opened), list(mine.notes)
    if mine.head:
        head, answers = whole_answers(opened)
        stats = answers.added_to(stats, head)
        notes.append(head_note(head))
    report = make_report(stats, mine.classes, _info(mine), notes, pairs)
    return replace(report, pair_matrix=PairMatrix.of(stats, mine.classes)) if pair_matrix else report


@dataclass(frozen=True, kw_only=True)
class _Worker:
    """A worker with its share.

    Attributes:
        share: Its rows.
        shard: Which share it is.
        folder: Where sums are left.
        device: Where to compute.
        head: The classifier, if one is wanted.
        mine: What all files of this worker have in common.
    """

    share: SetShare
    shard: Shard
    folder: Path
    device: str
    head: LinearHead | Literal["ridge"] | None
    mine: SumsFile

    @classmethod
    def of(
        cls,
        features: Features,
        shard: Shard,
        rows: range | None,
        folder: Path,
        device: str,
        head: LinearHead | Literal["ridge"] | None,
        head_names: Sequence[str] | None,
    ) -> _Worker:
        usable, notes = usable_classes(features)
        words, content = "", []
        if isinstance(head, LinearHead):
            head = head.of_classes(usable.classes, head_names)
            check_head(head, len(usable.classes), usable.dim)
            words = head.origin
            content = [tensor.contiguous().numpy().tobytes() for tensor in (head.weight, head.bias)]
        elif head is not None:
            words = "a ridge regression"
        mine = SumsFile(
            path=folder,
            kind="",
            shard=shard,
            content=content_digest(usable, content, is_separate=rows is not None),
            features=usable.describe().to_dict(),
            classes=usable.classes,
            notes=tuple(notes),
            head=words,
            is_separate=rows is not None,
        )
        share = SetShare.of(usable, shard, rows)
        return cls(share=share, shard=shard, folder=folder, device=device, head=head, mine=mine)

    def next_pass(self, sources: tuple[str, ...], wait: float) -> ShardProgress:
        """Do the first pass that is not in the folder yet, once all other workers have done the pass before.

        Args:
            sources: The digests of the files that the first pass depends on.
            wait: For how many seconds to wait for the other workers.
        """
        kinds = passes_for(self.mine)
        for number, kind in enumerate(kinds, 1):
            if kind == NAMES:
                continue
            opened = SumsFolder.open(self.folder, self.mine)
            if kind != MEANS:
                opened = SumsFolder.once_complete(self.folder, self.mine, kinds[number - 2], wait)
                sources = digests_of(opened.complete(kinds[number - 2], self.shard.of))
            done = opened.shares[kind].get(self.shard.index)
            is_new = done is None or done.sources != sources
            if is_new:
                self.run(kind, opened, sources)
                opened = SumsFolder.open(self.folder, self.mine)
                if number < len(kinds) and not opened.missing(kind, self.shard.of):
                    merge(opened, kind)
            if is_new or number == len(kinds):
                break
        return _progress(opened, kind, self.shard, number, len(kinds))

    def run(self, kind: str, opened: SumsFolder, sources: tuple[str, ...]) -> None:
        """Do a pass over the share, and leave its sums in the folder."""
        stream, checksum = self.share.watched()
        if kind == MEANS:
            tensors, facts = self._means(stream)
        else:
            tensors, facts = (self._moments if kind == MOMENTS else self._answers)(stream, opened)
        if kind != MEANS and checksum.value != opened.shares[MEANS][self.shard.index].check:
            raise FeaturesError(
                f"the rows of {self.shard} of {self.mine.features['id']} are not those of its first pass any more",
                f"delete {str(self.folder)!r} and begin anew with all shards",
            )
        file = replace(
            self.mine,
            path=_path(self.folder, kind, self.shard),
            kind=kind,
            rows=len(stream),
            check=checksum.value,
            sources=sources,
            facts=facts,
        )
        write_sums_file(file, tensors)

    def _means(self, stream: FeatureStream) -> _Sums:
        import torch

        means = Means.of(stream, with_float64(self.device), self.share.is_first)
        digests, codes = torch.cat(means.prints, dim=1)
        return {**means_tensors(means), "digests": digests, "codes": codes.int()}, {}

    def _moments(self, stream: FeatureStream, opened: SumsFolder) -> _Sums:
        means, _ = whole_means(opened)
        device = with_float64(self.device)
        there = Means(**{name: one.to(device) for name, one in means_tensors(means).items()}, prints=[])
        return moments_tensors(Moments.of(stream, there, self.share.is_first)), {}

    def _answers(self, stream: FeatureStream, opened: SumsFolder) -> _Sums:
        stats = whole_statistics(opened)
        head = self.head
        if not isinstance(head, LinearHead):
            head = LinearHead.ridge(stats, "these features themselves")
        found = HeadAnswers.of(stream, stats, head, self.device, self.share.before)
        tensors = {"weight": head.weight, "bias": head.bias}
        if found.answers is not None:
            tensors["answers"] = found.answers
        return tensors, {"origin": head.origin, "rows": head.rows, "agreeing": found.agreeing}


def _info(mine: SumsFile) -> FeatureInfo:
    """The description of the set."""
    fields = dict(mine.features)
    key = fields.pop("key")
    return FeatureInfo(**fields, key=None if key is None else FeatureKey(**key))

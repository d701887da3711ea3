"""The sheet of a worker that has passed over its share of a set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.errors import counted, join_names
from nctransfer.report.sheet import Sheet

if TYPE_CHECKING:
    from nctransfer.neural_collapse.collapse_in_shards import ShardProgress

__all__ = ["shard_sheet"]


def shard_sheet(progress: ShardProgress) -> Sheet:
    """What a worker has done, and which command comes next."""
    folder, of = progress.path.parent, progress.shard.of
    there = of - len(progress.missing)
    facts = {
        "share": f"{progress.shard.index} of {of}, {counted(progress.rows, 'sample')}",
        "pass": f"{progress.number} of {progress.passes}",
        "saved in": str(progress.path),
        "shares": f"{there:,} of {of:,} have done this pass",
    }
    has = "has" if len(progress.missing) == 1 else "have"
    after = f"when {join_names(progress.missing)} {has} done this pass too, " if progress.missing else ""
    then = f"nctransfer collapse --merge {folder}" if progress.is_done else "the same command again, for every shard"
    return Sheet("Statistics of a share", [], [], facts, f"next: {after}{then}")

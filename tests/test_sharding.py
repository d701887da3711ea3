"""Shards: how images are divided among workers, and how a worker learns which shard is its own."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messages import says
from nctransfer.errors import SettingError
from nctransfer.sources.sharding import Shard

IDS = [f"class_{number % 7}/img_{number:06d}.jpg" for number in range(20_000)]


@settings(deadline=None, max_examples=50)  # the first example imports pyarrow
@given(st.lists(st.text(max_size=8), max_size=30, unique=True), st.integers(1, 9))
def test_every_image_is_in_one_shard_and_the_ways_to_ask_agree(ids: list[str], of: int) -> None:
    ids = [text.encode("utf-8", "replace").decode() for text in ids]
    shards = [Shard(index, of) for index in range(1, of + 1)]
    rows = [shard.rows(ids).tolist() for shard in shards]
    assert sorted(itertools.chain.from_iterable(rows)) == list(range(len(ids)))
    assert rows == [[row for row, text in enumerate(ids) if text in shard] for shard in shards]
    columns = pa.chunked_array([pa.array(ids[:11], pa.large_string()), pa.array(ids[11:], pa.large_string())])
    assert rows == [shard.rows(columns).tolist() for shard in shards]


def test_the_shard_is_a_blake2b_digest_of_the_id() -> None:
    numbers = [
        int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, person=b"nct shard").digest(), "little") % 5
        for text in IDS[:100]
    ]
    for index in range(5):
        assert Shard(index + 1, 5).rows(IDS[:100]).tolist() == [row for row in range(100) if numbers[row] == index]


@pytest.mark.parametrize("of", [2, 8, 100])
def test_shards_are_balanced(of: int) -> None:
    """The sizes are those of a fair draw: their chi-squared statistic is below its 99.9999% quantile."""
    from scipy import stats

    sizes = np.array([len(Shard(index, of).rows(IDS)) for index in range(1, of + 1)])
    mean = len(IDS) / of
    assert ((sizes - mean) ** 2 / mean).sum() < stats.chi2.ppf(1 - 1e-6, of - 1)


def test_an_added_image_moves_no_other() -> None:
    before = {IDS[row] for row in Shard(2, 3).rows(IDS)}
    more = sorted([*IDS, "class_9/new.jpg"])
    assert {more[row] for row in Shard(2, 3).rows(more)} - {"class_9/new.jpg"} == before


def test_a_shard_is_independent_of_the_draw_per_class() -> None:
    """Otherwise the shards of a small draw would be uneven."""
    from nctransfer.sources.selection import Selection

    drawn = Selection(max_per_class=400).apply(IDS, [text[:7] for text in IDS], [""] * len(IDS))
    some = [IDS[row] for row in drawn]
    assert len(some) == 2800
    sizes = [len(Shard(index, 4).rows(some)) for index in range(1, 5)]
    assert max(sizes) - min(sizes) < 150  # about six standard deviations


@pytest.mark.parametrize("text", ["3/8", " 3/8 "])
def test_a_shard_is_written_as_a_fraction(text: str) -> None:
    assert Shard.parse(text, {}) == Shard(3, 8)


@pytest.mark.parametrize(
    "text", ["", "3", "0/8", "9/8", "-1/8", "3/0", "3/8/2", "a/8", "3.5/8", "٣/8", "auto/", "auto/0"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(SettingError) as caught:
        Shard.parse(text, {"JOB_COMPLETION_INDEX": "0"})
    assert "--shard" in caught.value.hint


def array(task: int, least: int, most: int, step: int, count: int) -> dict[str, str]:
    values = {"ID": task, "MIN": least, "MAX": most, "STEP": step, "COUNT": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


def srun(task: int, tasks: int) -> dict[str, str]:
    return {"SLURM_PROCID": str(task), "SLURM_NTASKS": str(tasks), "SLURM_STEP_NUM_TASKS": str(tasks)}


def torchrun(rank: int, world: int) -> dict[str, str]:
    return {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": "0"}


@pytest.mark.parametrize(
    ("text", "environment", "shard"),
    [
        ("auto", array(0, 0, 7, 1, 8), Shard(1, 8)),
        ("auto", array(7, 0, 7, 1, 8), Shard(8, 8)),
        ("auto", array(3, 1, 4, 1, 4), Shard(3, 4)),
        ("auto", array(12, 4, 16, 4, 4), Shard(3, 4)),
        ("auto", array(5, 5, 5, 1, 1), Shard(1, 1)),  # one task run again: it takes all that is missing
        ("auto/8", array(2, 0, 7, 1, 8), Shard(3, 8)),
        ("auto", srun(2, 4), Shard(3, 4)),
        ("auto", torchrun(0, 2), Shard(1, 2)),
        ("auto/4", {"JOB_COMPLETION_INDEX": "3"}, Shard(4, 4)),
        ("auto", array(1, 0, 2, 1, 3) | srun(3, 4), Shard(8, 12)),
        # a batch script that asked for four tasks, but runs once
        ("auto", array(1, 0, 2, 1, 3) | {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, Shard(2, 3)),
        ("auto", srun(1, 2) | torchrun(5, 8), Shard(6, 8)),  # srun started a torchrun on each of two nodes
        ("auto", array(1, 0, 1, 1, 2) | torchrun(5, 8), Shard(14, 16)),
    ],
)
def test_the_environment_says_which_shard_it_is(text: str, environment: Mapping[str, str], shard: Shard) -> None:
    assert Shard.parse(text, environment) == shard


def test_an_array_of_srun_tasks_covers_every_shard_once() -> None:
    found = [Shard.parse("auto", array(a, 3, 9, 3, 3) | srun(b, 4)) for a in (3, 6, 9) for b in range(4)]
    assert sorted(shard.index for shard in found) == list(range(1, 13))
    assert {shard.of for shard in found} == {12}


@pytest.mark.parametrize(
    ("text", "environment", "named"),
    [
        ("auto", {}, "SLURM_ARRAY_TASK_ID"),
        ("auto", {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, "SLURM_STEP_NUM_TASKS"),
        ("auto", array(3, 3, 5, 1, 2), "3-5"),  # --array=3,5
        ("auto", array(20, 1, 20, 2, 5), "1-20"),  # --array=1-7:2,20
        ("auto", array(0, 0, 7, 0, 8), "0-7:0"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_MIN"),
        ("auto", array(0, 0, 7, 1, 8) | {"SLURM_ARRAY_TASK_COUNT": "eight"}, "eight"),
        ("auto", {"JOB_COMPLETION_INDEX": "3"}, "JOB_COMPLETION_INDEX=3"),
        ("auto/3", {"JOB_COMPLETION_INDEX": "3"}, "3"),
        ("auto/8", array(0, 0, 1, 1, 2), "8"),
        ("auto", torchrun(4, 4), "RANK=4"),
        ("auto", torchrun(0, 0), "WORLD_SIZE=0"),
        ("auto", torchrun(0, 1) | srun(1, 4), "SLURM_PROCID=1"),  # a torchrun of its own in each task
        ("auto/4", torchrun(0, 4) | {"JOB_COMPLETION_INDEX": "3"}, "JOB_COMPLETION_INDEX=3"),
    ],
)
def test_an_environment_that_does_not_say_it_is_refused(text: str, environment: Mapping[str, str], named: str) -> None:
    with pytest.raises(SettingError) as caught:
        Shard.parse(text, environment)
    says(caught, named, hint="--shard")

"""Caches of several workers that become one: the merge is killed, or what is merged is damaged."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

from children import run
from corruptions import Damage, cut, foreign, missing, one_bit, swapped, zeros
from kills import after_a_while, at_a_change_of, in_a_write_of, left_over
from material import Material, role_of
from outcomes import Kind, Outcome, right, said, wrong

TITLE = "Merged caches"


def killed(material: Material, rng: random.Random, folder: Path) -> Outcome:
    """``cache merge`` is killed one to three times; the next one must make a whole cache of two shards."""
    cache, command = folder / "cache", ["cache", "merge", *map(str, material.shards)]
    kill = rng.choice([after_a_while, at_a_change_of, in_a_write_of])
    kills = sum(kill(command, cache, folder, rng) for _ in range(rng.randint(1, 3)))
    verdict = material.read("resnet", cache, folder) if rng.random() < 0.3 else "said"
    if verdict not in ("right", "said"):
        return wrong(f"read after a kill: {verdict}")
    ended = run(command, cache, folder)
    if ended.fault or ended.code:
        return wrong(f"the next merge: {ended.fault or ended.err.strip()[-300:]}")
    if why := material.differs("resnet", cache) or left_over(cache):
        return wrong(why)
    verdict = material.read("resnet", cache, folder)
    return Outcome("right", faults=kills) if verdict == "right" else wrong(f"after the next merge: {verdict}")


def damaged(material: Material, rng: random.Random, folder: Path) -> Outcome:
    """A file of one of the caches that are merged is damaged: no wrong row may be taken over."""
    workers = [material.copy(shard, folder, f"worker-{number}") for number, shard in enumerate(material.shards)]
    make = rng.choice([partial(one_bit, keeps_time=True), cut, zeros, missing, swapped, foreign])
    damage: Damage = make(rng.choice(workers), material.young, rng)
    about = role_of(damage.paths[0])
    cache = folder / "cache"
    merged = run(["cache", "merge", *workers], cache, folder)
    if merged.fault:
        return wrong(merged.fault, about)
    verdict = material.read("resnet", cache, folder)
    if verdict not in ("right", "said"):
        return wrong(f"{damage.paths[0]}: {verdict}", about)
    if why := material.mended(["resnet"], cache, folder, repairs=False):
        return wrong(f"{damage.paths[0]}: {why}", about)
    return said(about) if merged.code or verdict == "said" else right(about)


KINDS = (
    Kind("cache merge killed", killed, 60),
    Kind("a damaged cache is merged", damaged, 60),
)

__all__ = ["KINDS", "TITLE"]

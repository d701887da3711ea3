"""Times that cannot be trusted: clocks that jump, copies without times, images that were touched."""

from __future__ import annotations

import os
import random
import shutil
import time
from functools import partial
from pathlib import Path

from children import run
from kills import left_over, work
from material import Material
from outcomes import Kind, Outcome, right, wrong

TITLE = "Clocks and copies"
YEAR = 365 * 24 * 3600


def jumping_clock(rng: random.Random) -> None:
    """Let the clock of this process jump between the past and the future; files are stamped by it as well."""
    real, synced = time.time, os.fsync

    def now() -> float:
        return real() + rng.choice([0, -YEAR, YEAR, -3600, 20 * YEAR, -real() + 1])

    def stamped(number: int) -> None:
        synced(number)
        os.utime(number, (now(), now()))

    time.time, os.fsync = now, stamped


def jumps(material: Material, rng: random.Random, folder: Path) -> Outcome:
    """The clock jumps during an extraction, and in the next run."""
    name, arguments, cache, about = work(material, rng, folder)
    for _ in range(2):
        ended = run(arguments, cache, folder, partial(jumping_clock, random.Random(rng.random())))
        if ended.fault or ended.code:
            return wrong(ended.fault or ended.err.strip()[-300:], about)
    return _right(material, name, cache, folder, about)


def other_times(material: Material, rng: random.Random, folder: Path) -> Outcome:
    """Files of the cache get times in the past or in the future: nothing is damaged, and nothing is lost."""
    cache = material.copy(material.whole, folder)
    name = rng.choice(list(material.sets))
    for path in sorted(cache.rglob("*")):
        if rng.random() < 0.7:
            moment = rng.choice([0.0, 1.0, time.time() + 30 * YEAR, time.time(), time.time() + 1e-3])
            os.utime(path, (moment, moment))
    return _right(material, name, cache, folder, "")


def copied(material: Material, rng: random.Random, folder: Path) -> Outcome:
    """The cache is copied elsewhere without its times, as ``cp -r`` does, and used there."""
    cache = folder / rng.choice(["cache", "with space", "ünïcode", "a" * 100])
    shutil.copytree(material.whole, cache, copy_function=shutil.copyfile)
    name = rng.choice(list(material.sets))
    if rng.random() < 0.5:
        ended = run(material.sets[name].extraction, cache, folder)
        if ended.fault or ended.code:
            return wrong(ended.fault or ended.err.strip()[-300:])
    return _right(material, name, cache, folder, "")


def _right(material: Material, name: str, cache: Path, folder: Path, about: str) -> Outcome:
    verdict = material.read(name, cache, folder)
    if verdict != "right":
        return wrong(verdict, about)
    verified = run(["cache", "verify"], cache, folder)
    if verified.fault or verified.code:
        return wrong(f"verify: {verified.fault or verified.err.strip()[-300:]}", about)
    if why := material.differs(name, cache) or left_over(cache):
        return wrong(why, about)
    return right(about)


KINDS = (
    Kind("a clock that jumps", jumps, 50),
    Kind("files with other times", other_times, 50),
    Kind("a cache copied without times", copied, 50),
)

__all__ = ["KINDS", "TITLE"]

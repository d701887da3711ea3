"""Kills: by SIGKILL at random moments, at the n-th change of a file, and in the middle of a write."""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from children import Child, run
from material import Material
from outcomes import Kind, Outcome, wrong

TITLE = "Kills"
EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.truncate", "fcntl.flock", "os.utime", "os.rmdir", "os.link"}
SIZES = (0, 10, 100, 1_000, 10_000, 100_000)  # of files in bytes, about


def on_change(number: int, act: Callable[[], object]) -> None:
    """Do something before this process makes its n-th change to a file, counted from 1: it opens one to write, too."""
    left = number

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        opens = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if opens or event in EVENTS:
            left -= 1
            if not left:
                act()

    sys.addaudithook(hook)
    sync = os.fsync

    def synced(number: int) -> None:
        hook("os.utime", ())
        sync(number)

    os.fsync = synced


def die() -> None:
    """What the kernel does for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def dies_in_a_write(most: int) -> None:
    """Let the kernel end this process in the middle of writing a file that grows beyond ``most`` bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def work(material: Material, rng: random.Random, folder: Path) -> tuple[str, list[str], Path, str]:
    """A set, the command that is to be killed, the cache that it begins with, and what this is called."""
    starts = {
        "an empty cache": ("resnet", None),
        "a cache with some images": ("resnet", material.young),
        "a cache without layers": ("vit", material.narrow),
        "an empty cache, with layers": ("vit", None),
    }
    about = rng.choice(list(starts))
    name, start = starts[about]
    cache = material.copy(start, folder) if start else folder / "cache"
    return name, list(material.sets[name].extraction), cache, about


def at_random_moments(material: Material, rng: random.Random, folder: Path) -> Outcome:
    return _killed(material, rng, folder, after_a_while)


def at_a_change(material: Material, rng: random.Random, folder: Path) -> Outcome:
    return _killed(material, rng, folder, at_a_change_of)


def in_a_write(material: Material, rng: random.Random, folder: Path) -> Outcome:
    return _killed(material, rng, folder, in_a_write_of)


def _killed(
    material: Material, rng: random.Random, folder: Path, kill: Callable[[list[str], Path, Path, random.Random], bool]
) -> Outcome:
    """One to three kills; then the command runs undisturbed, and everything must be right."""
    name, arguments, cache, about = work(material, rng, folder)
    share = ["--shard", rng.choice(["1/2", "2/2", "2/3"])] if rng.random() < 0.25 else []
    kills = sum(kill([*arguments, *share], cache, folder, rng) for _ in range(rng.randint(1, 3)))
    if kills and rng.random() < 0.25:  # whoever reads now reads what is right, or an error
        verdict = material.read(name, cache, folder)
        if verdict not in ("right", "said"):
            return wrong(f"read after a kill: {verdict}", about)
    ended = run(arguments, cache, folder)
    if ended.fault or ended.code:
        return wrong(f"the next run: {ended.fault or ended.err.strip()[-300:]}", about)
    if why := material.differs(name, cache) or left_over(cache):
        return wrong(why, about)
    verdict = material.read(name, cache, folder)
    if verdict != "right":
        return wrong(f"after the next run: {verdict}", about)
    return Outcome("right", about=about, faults=kills)


def left_over(cache: Path) -> str:
    """Temporary files that stay after a whole run; empty if there are none."""
    found = [str(path.relative_to(cache)) for path in cache.rglob("*.tmp")]
    return f"left over: {', '.join(found)}" if found else ""


def after_a_while(arguments: list[str], cache: Path, folder: Path, rng: random.Random) -> bool:
    """Kill a command after a random time; returns whether it was killed."""
    child = Child(arguments, cache, folder)
    time.sleep(rng.uniform(0, 0.4))
    child.send(signal.SIGKILL)
    return child.wait().code == -signal.SIGKILL


def at_a_change_of(arguments: list[str], cache: Path, folder: Path, rng: random.Random) -> bool:
    """Kill a command before its n-th change of a file; returns whether it was killed."""
    number = int(1.5 ** rng.uniform(0, 12))  # 1 to 130: early ones more often
    return run(arguments, cache, folder, partial(on_change, number, die)).code == -signal.SIGKILL


def in_a_write_of(arguments: list[str], cache: Path, folder: Path, rng: random.Random) -> bool:
    """Let the system end a command in the middle of a write; returns whether it did."""
    most = int(10 ** rng.uniform(0, 5))
    return run(arguments, cache, folder, partial(dies_in_a_write, most)).code == -signal.SIGXFSZ


def of_a_repair(material: Material, rng: random.Random, folder: Path) -> Outcome:
    """``cache repair`` or ``cache remove`` is killed; then a repair and an extraction must make everything right."""
    cache = material.copy(material.whole, folder)
    name = rng.choice(list(material.sets))
    place = cache / "features" / material.sets[name].id
    about = rng.choice(["no manifest", "no index", "no part", "removed"])
    patterns = {"no manifest": "manifest.jsonl", "no index": "digests*", "no part": "rows/*.parquet"}
    if about in patterns:
        rng.choice(sorted(place.glob(patterns[about]))).unlink()
    command = ["cache", "remove", material.sets[name].id, "--yes"] if about == "removed" else ["cache", "repair"]
    kill = rng.choice([after_a_while, at_a_change_of, in_a_write_of])
    kills = sum(kill(command, cache, folder, rng) for _ in range(rng.randint(1, 2)))
    verdict = material.read(name, cache, folder)
    if verdict not in ("right", "said"):
        return wrong(f"read after a kill: {verdict}", about)
    why = material.mended([name], cache, folder) or left_over(cache)
    return wrong(why, about) if why else Outcome("said" if verdict == "said" else "right", about=about, faults=kills)


KINDS = (
    Kind("SIGKILL at random moments", at_random_moments, 200),
    Kind("SIGKILL before the n-th change of a file", at_a_change, 200),
    Kind("death in the middle of a write", in_a_write, 150),
    Kind("cache repair and cache remove killed", of_a_repair, 80),
)

__all__ = ["KINDS", "TITLE", "after_a_while", "at_a_change_of", "in_a_write_of", "left_over", "on_change", "work"]

"""A disk without room, at random bytes: by a limit on the size of files, and by a small file system of its own."""

from __future__ import annotations

import random
import resource
from functools import partial
from pathlib import Path

from children import run
from kills import left_over, work
from material import Material
from mounts import mounted, remount, tmpfs
from outcomes import Kind, Outcome, right, said, wrong

TITLE = "Full disks"


def limited(most: int) -> None:
    """Let no file of this process grow beyond ``most`` bytes: a write fails as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


def a_limit(material: Material, rng: random.Random, folder: Path) -> Outcome:
    name, arguments, cache, about = work(material, rng, folder)
    before = partial(limited, int(10 ** rng.uniform(1, 5)))
    # stdout and stderr are files too: what they hold stays below the limit only if it is not asked for
    ended = run([*arguments, "-q", "--output", folder / "report.txt"], cache, folder, before)
    if ended.code is not None and ended.code != 0 and not ended.err and not ended.fault.endswith("error"):
        return wrong(ended.fault, about)
    silent = ended.code == 1 and not ended.err  # the words did not fit either
    if ended.fault and not silent:
        return wrong(ended.fault, about)
    return _goes_on(bool(ended.code), material, name, arguments, cache, folder, about)


def a_small_disk(material: Material, rng: random.Random, folder: Path) -> Outcome:
    place = folder / "disk"
    with mounted(tmpfs, place, f"size={int(2 ** rng.uniform(2, 8))}k,nr_inodes={rng.choice([20, 1000, 1000])}"):
        name, arguments, _, about = work(material, rng, folder)
        cache = place / "cache"
        ended = run(arguments, cache, folder)
        if ended.fault:
            return wrong(ended.fault, about)
        read = material.read(name, cache, folder)
        if read not in ("right", "said"):
            return wrong(f"read on a full disk: {read}", about)
        remount(place, "size=64M,nr_inodes=10000")
        return _goes_on(bool(ended.code), material, name, arguments, cache, folder, about)


def _goes_on(
    failed: bool, material: Material, name: str, arguments: list[str], cache: Path, folder: Path, about: str
) -> Outcome:
    """There is room again: the same command must make everything right."""
    ended = run(arguments, cache, folder)
    if ended.fault or ended.code:
        return wrong(f"with room again: {ended.fault or ended.err.strip()[-300:]}", about)
    if why := material.differs(name, cache) or left_over(cache):
        return wrong(f"with room again: {why}", about)
    verdict = material.read(name, cache, folder)
    if verdict != "right":
        return wrong(f"with room again: {verdict}", about)
    return said(about) if failed else right(about)


KINDS = (
    Kind("a limit on the size of files", a_limit, 100),
    Kind("a small disk", a_small_disk, 100),
)

__all__ = ["KINDS", "TITLE"]

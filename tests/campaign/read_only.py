"""A cache that becomes read-only at a random moment, and one that always was."""

from __future__ import annotations

import random
import time
from pathlib import Path

from children import Child, ending, run
from kills import left_over, work
from material import Material
from mounts import bind, mounted, remount
from outcomes import Impossible, Kind, Outcome, right, said, wrong

TITLE = "Read-only caches"


def at_a_moment(material: Material, rng: random.Random, folder: Path) -> Outcome:
    """The file system of the cache becomes read-only while an extraction runs."""
    name, arguments, cache, about = work(material, rng, folder)
    with mounted(bind, cache):
        writer = Child(arguments, cache, folder)
        with ending(writer):
            time.sleep(rng.uniform(0, 0.4))
            if not remount(cache, "ro,bind"):
                raise Impossible("the file system stays busy")
            ended = writer.wait()
        if ended.fault:
            return wrong(ended.fault, about)
        read = material.read(name, cache, folder)
        if read not in ("right", "said"):
            return wrong(f"read while it is read-only: {read}", about)
        remount(cache, "rw,bind")
        after = run(arguments, cache, folder)
        if after.fault or after.code:
            return wrong(f"when it can be written again: {after.fault or after.err.strip()[-300:]}", about)
        if why := material.differs(name, cache) or left_over(cache):
            return wrong(why, about)
        return said(about) if ended.code else right(about)


def always(material: Material, rng: random.Random, folder: Path) -> Outcome:
    """A read-only cache holds everything: whatever only reads must give the right numbers."""
    cache = material.copy(material.whole, folder)
    name = rng.choice(list(material.sets))
    stored = material.sets[name]
    more = rng.choice(sorted(stored.numbers))
    about = rng.choice(["by name", "by model and data", "nothing to extract", "verify", "list", "trajectory"])
    with mounted(bind, cache):
        if not remount(cache, "ro,bind"):
            raise Impossible("the file system stays busy")
        if about == "by name":
            verdict = material.read(name, cache, folder, more)
        elif about == "by model and data":
            name = rng.choice(["resnet", "others", "training"])  # with several layers, JSON has another form
            stored, more = material.sets[name], ()
            command = ["collapse", "-q", *stored.extraction[1:], "--format", "json"]
            verdict = material.judged(run(command, cache, folder), stored.numbers[more])
        else:
            command = {
                "nothing to extract": list(stored.extraction),
                "verify": ["cache", "verify"],
                "list": ["cache", "list"],
                "trajectory": material.trajectory(),
            }[about]
            ended = run(command, cache, folder)
            verdict = ended.fault or (ended.err.strip()[-300:] if ended.code else "right")
    return right(about) if verdict == "right" else wrong(verdict, about)


KINDS = (
    Kind("read-only at a random moment", at_a_moment, 100),
    Kind("always read-only, everything stored", always, 60),
)

__all__ = ["KINDS", "TITLE"]

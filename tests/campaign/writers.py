"""Several processes at one stored set: writers that are killed or stopped, and readers beside them."""

from __future__ import annotations

import os
import random
import signal
import time
from functools import partial
from pathlib import Path

from children import Child, ending, run
from kills import left_over, on_change
from material import Material
from outcomes import Kind, Outcome, right, said, wrong

TITLE = "Several processes"


def together(material: Material, rng: random.Random, folder: Path, number: int) -> Outcome:
    """Writers of one set: one is killed, one stopped for a while; readers run beside them."""
    name = rng.choice(["resnet", "vit"])
    start = {"resnet": material.young, "vit": material.narrow}[name] if rng.random() < 0.5 else None
    cache = material.copy(start, folder) if start else folder / "cache"
    about = "wider columns" if name == "vit" and start else "new images"
    writers: list[Child] = []
    shares = rng.random() < 0.3
    for writer in range(1, number + 1):
        share = ["--shard", f"{writer}/{number}"] if shares else []
        writers.append(Child([*_own_way(material, name, rng), *share], cache, folder))
        time.sleep(rng.uniform(0, 0.15))
    with ending(*writers):
        verdict, killed = _disturbed(writers, material, rng, name, cache, folder)
    if verdict not in ("right", "said"):
        return wrong(f"a reader: {verdict}", about)
    for writer in writers:
        ended = writer.wait()
        if writer is not killed and (ended.fault or ended.code):
            return wrong(f"a writer: {ended.fault or ended.err.strip()[-300:]}", about)
    return _afterwards(material, name, cache, folder, about, number)


def _disturbed(
    writers: list[Child], material: Material, rng: random.Random, name: str, cache: Path, folder: Path
) -> tuple[str, Child]:
    """Kill one, stop another for a while, and read meanwhile; returns what a reader said that was wrong, if any did."""
    killed, stopped = rng.sample(writers, 2)
    stopped.send(signal.SIGSTOP)
    verdicts = []
    for _ in range(2):
        verdicts.append(material.read(name, cache, folder) if rng.random() < 0.5 else "right")
        time.sleep(rng.uniform(0, 0.15))
        killed.send(signal.SIGKILL) if not killed.has_ended else None
    stopped.send(signal.SIGCONT)
    while not all(writer.has_ended for writer in writers):
        if rng.random() < 0.3:
            verdicts.append(material.read(name, cache, folder))
        time.sleep(0.02)
        _kill_what_hangs(writers)
    return next((one for one in verdicts if one not in ("right", "said")), "right"), killed


def _kill_what_hangs(writers: list[Child]) -> None:
    for writer in writers:
        if writer.is_late:
            writer.wait()


def _own_way(material: Material, name: str, rng: random.Random) -> list[str]:
    """The arguments of one writer: now and then other batches, or fewer images."""
    arguments = list(material.sets[name].extraction)
    arguments[arguments.index("--batch-size") + 1] = str(rng.choice([3, 4, 4, 5]))
    return arguments + (["--max-per-class", "6"] if rng.random() < 0.2 else [])


def _afterwards(material: Material, name: str, cache: Path, folder: Path, about: str, faults: int) -> Outcome:
    """One more run, after which everything must be there once."""
    ended = run(material.sets[name].extraction, cache, folder)
    if ended.fault or ended.code:
        return wrong(f"the next run: {ended.fault or ended.err.strip()[-300:]}", about)
    if why := material.differs(name, cache) or left_over(cache):
        return wrong(why, about)
    verdict = material.read(name, cache, folder)
    verified = run(["cache", "verify"], cache, folder)
    if verdict != "right" or verified.fault or verified.code:
        return wrong(f"after the next run: {verdict}; {verified.fault or verified.err.strip()[-200:]}", about)
    return Outcome("right", about=about, faults=faults)


def stopped_reader(material: Material, rng: random.Random, folder: Path) -> Outcome:
    """A reader is stopped at a random moment, the set changes under it, and it goes on."""
    name, about = rng.choice([("vit", "wider columns"), ("resnet", "more images"), ("resnet", "the set is removed")])
    starts = {"wider columns": material.narrow, "more images": material.young, "the set is removed": material.whole}
    cache = material.copy(starts[about], folder)
    stored = material.sets[name]
    stop = None
    if rng.random() < 0.5:
        stop = partial(_stop_at_open, rng.randint(1, 12))
    reader = Child(["collapse", "-q", stored.id, "--format", "json"], cache, folder, stop)
    with ending(reader):
        if stop is None:
            time.sleep(rng.uniform(0, 0.25))
        else:
            _wait_until_stopped(reader)
        reader.send(signal.SIGSTOP)
        change = ["cache", "remove", stored.id, "--yes"] if about == "the set is removed" else stored.extraction
        changed = run(change, cache, folder)
        reader.send(signal.SIGCONT)
        verdict = material.judged(reader.wait(), stored.numbers[()])
    if verdict not in ("right", "said"):
        return wrong(f"the reader: {verdict}", about)
    if changed.fault or changed.code:
        return wrong(f"the writer: {changed.fault or changed.err.strip()[-300:]}", about)
    if why := material.mended([name], cache, folder):
        return wrong(why, about)
    return right(about) if verdict == "right" else said(about)


def _stop_at_open(number: int) -> None:
    """Let this process stop before it opens a file of the cache for the n-th time."""
    import sys

    left = number
    cache = os.environ["NCTRANSFER_CACHE"]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in ("open", "os.scandir", "os.listdir") and str(arguments[0]).startswith(cache):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGSTOP)

    sys.addaudithook(hook)


def _wait_until_stopped(reader: Child) -> None:
    """Wait until a process has stopped, or ended."""
    for _ in range(500):
        state = Path(f"/proc/{reader.pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state in "TZ":
            return
        time.sleep(0.01)


def stopped_writer(material: Material, rng: random.Random, folder: Path) -> Outcome:
    """A writer is stopped before it changes a file, another one fills the set, and the first goes on."""
    name = rng.choice(["resnet", "vit"])
    cache = material.copy(material.narrow, folder) if name == "vit" else folder / "cache"
    stop = partial(on_change, rng.randint(1, 60), _stop_myself)
    writer = Child(material.sets[name].extraction, cache, folder, stop)
    with ending(writer):
        _wait_until_stopped(writer)
        other = Child(_own_way(material, name, rng), cache, folder)
        with ending(other):
            time.sleep(rng.uniform(0.2, 0.8))  # it may have to wait for the first
            writer.send(signal.SIGCONT)
            for ended in (writer.wait(), other.wait()):
                if ended.fault or ended.code:
                    return wrong(f"a writer: {ended.fault or ended.err.strip()[-300:]}")
    return _afterwards(material, name, cache, folder, "", 1)


def _stop_myself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


KINDS = (
    *(Kind(f"{number} writers", partial(together, number=number), 50) for number in (2, 3, 4)),
    Kind("a writer stopped, another one fills the set", stopped_writer, 50),
    Kind("a reader stopped, the set changes", stopped_reader, 50),
)

__all__ = ["KINDS", "TITLE"]

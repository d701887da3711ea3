"""Environments that are not as programs expect them: streams, paths, limits, variables. Each is a new process."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from children import LIMIT, Ended
from material import Material
from outcomes import Kind, Outcome, right, said, wrong

TITLE = "Environments"


@dataclass
class Surroundings:
    """What a command finds around itself.

    Attributes:
        variables: Environment variables; ``None`` removes one.
        before: Called in the new process before Python starts.
        cache: The cache.
        hides: Streams that cannot be looked at afterwards.
    """

    cache: Path
    variables: dict[str, str | None] = field(default_factory=dict)
    before: Callable[[], object] | None = None
    hides: tuple[str, ...] = ()


def _full(*numbers: int) -> Callable[[], None]:
    def redirect() -> None:
        for number in numbers:
            os.dup2(os.open("/dev/full", os.O_WRONLY), number)

    return redirect


def _closed(*numbers: int) -> Callable[[], None]:
    def close() -> None:
        for number in numbers:
            os.close(number)

    return close


def _no_reader() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)


def _deleted() -> None:
    Path("gone").mkdir()
    os.chdir("gone")
    Path("../gone").rmdir()


def _few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))


VARIABLES: dict[str, dict[str, str | None]] = {
    "LANG=C": {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "an ASCII stdout": {"PYTHONIOENCODING": "ascii"},
    "no HOME": {"HOME": None},
    "a HOME that does not exist": {"HOME": "/nonexistent"},
    "a TMPDIR that does not exist": {"TMPDIR": "/nonexistent"},
    "one column": {"COLUMNS": "1"},
    "COLUMNS=many": {"COLUMNS": "many"},
    "python -OO": {"PYTHONOPTIMIZE": "2"},
    "OMP_NUM_THREADS=many": {"OMP_NUM_THREADS": "many"},
    "no variables": dict.fromkeys(os.environ),
    "another time zone": {"TZ": "Nowhere/Nothing"},
}
STREAMS: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {
    "stdout is full": (_full(1), ("out",)),
    "stderr is full": (_full(2), ("err",)),
    "both are full": (_full(1, 2), ("out", "err")),
    "stdin closed": (_closed(0), ()),
    "stdout closed": (_closed(1), ("out",)),
    "stderr closed": (_closed(2), ("err",)),
    "all closed": (_closed(0, 1, 2), ("out", "err")),
    "nobody reads stdout": (_no_reader, ("out",)),
    "a deleted working directory": (_deleted, ()),
    "48 open files": (_few_files, ()),
    "umask 0777": (lambda: os.umask(0o777), ()),
}
ERRORS = ("stdout", "stderr", "both", "all", "nobody", "48", "a deleted")  # where an error is right
CACHES: dict[str, bytes] = {
    "a cache that is not UTF-8": b"c\xff\xfe",
    "a cache with a line break": b"a\nb",
    "a cache behind a link": b"link",
    "a cache with brackets": b"[red]{0}%s*?",
}


def surroundings(about: str, material: Material, folder: Path) -> Surroundings:
    """What is around a command."""
    name = CACHES.get(about, b"cache")
    cache = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
    if name == b"link":
        shutil.copytree(material.whole, folder / "real")
        cache.symlink_to("real")
    else:
        shutil.copytree(material.whole, cache)
    before, hides = STREAMS.get(about, (None, ()))
    return Surroundings(cache, VARIABLES.get(about, {}), before, hides)


def trial(material: Material, rng: random.Random, folder: Path) -> Outcome:
    about = rng.choice([*VARIABLES, *STREAMS, *CACHES])
    around = surroundings(about, material, folder)
    name = rng.choice(list(material.sets))
    stored = material.sets[name]
    verify, listing = ["cache", "verify"], ["cache", "list", "--format", "json"]
    reading = ["collapse", stored.id, "--format", "json"]
    command = rng.choice([reading, reading, list(stored.extraction), verify, listing, ["collapse", stored.id]])
    ended = _run(command, around, folder)
    about = f"{about}: {command[0]}"
    fault = ended.fault
    if ("err" in around.hides or about.startswith("nobody")) and fault.endswith("without an error"):
        fault = ""  # the error went where it cannot be seen
    if ended.code == 120:
        fault = "Python itself had to say that a stream cannot be written"
    if fault:
        return wrong(fault, about)
    if ended.code:
        return said(about) if about.startswith(ERRORS) else wrong(ended.err[-300:], about)
    if command is reading and "out" not in around.hides:
        verdict = material.judged(ended, stored.numbers[()])
        return right(about) if verdict == "right" else wrong(verdict, about)
    if why := material.differs(name, around.cache):
        return wrong(why, about)
    return right(about)


def _run(command: list[str], around: Surroundings, folder: Path) -> Ended:
    """Run a command as a new process."""
    work = folder / "work"
    work.mkdir()
    source = str(Path(sys.modules["nctransfer"].__file__ or "").parents[1])
    variables: Mapping[str, str | None] = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        **around.variables,
        "NCTRANSFER_CACHE": str(around.cache),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": source,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    paths = [folder / "out", folder / "err"]
    with paths[0].open("wb") as out, paths[1].open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "nctransfer", *command],
            stdout=out,
            stderr=err,
            stdin=subprocess.DEVNULL,
            cwd=work,
            preexec_fn=around.before,
            env={key: value for key, value in variables.items() if value is not None},
        )
        try:
            code: int | None = process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = None
    texts = []
    for path in paths:
        path.chmod(0o600)
        texts.append(path.read_text(errors="replace"))
    return Ended(arguments=command, code=code, out=texts[0], err=texts[1])


KINDS = (Kind("odd environments", trial, 100),)

__all__ = ["KINDS", "TITLE"]

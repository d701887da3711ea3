"""The real command line in forked children: what is slow to import is imported once, and every child is a process.

The parent starts no thread, because a child that is forked from a process with threads can hang. So whatever uses
torch or Arrow runs in a child, too: see :func:`computed`.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import io
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["LIMIT", "Child", "Ended", "computed", "ending", "import_what_is_imported_by", "prepare", "run"]

LIMIT = 120.0  # seconds; a child that needs more hangs, even on a machine that is busy with other things
UNEXPECTED = "an unexpected error"  # how the program calls a defect of its own
T = TypeVar("T")


def prepare() -> None:
    """Import what the commands need, and make the parts of stored sets small, so that a few images make several."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["COLUMNS"] = "100"
    import pyarrow.dataset  # noqa: F401 - imported for the children
    import rich.console  # noqa: F401
    import timm
    import torch

    from nctransfer import cli
    from nctransfer.checkpoints import trajectory_result  # noqa: F401
    from nctransfer.neural_collapse import collapse_report  # noqa: F401
    from nctransfer.store import extraction, kept_results, pipeline  # noqa: F401

    assert timm.list_models
    torch.set_num_threads(1)
    cli.application()
    kept_results.code()
    pipeline.PART_BYTES = 1  # a part per batch
    gc.collect()
    gc.freeze()  # so that the children share these pages


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended.

    Attributes:
        arguments: Its arguments.
        code: The exit code; negative if a signal ended it, ``None`` if it hung and was killed.
        out: What it printed.
        err: What it printed to stderr.
    """

    arguments: Sequence[str]
    code: int | None
    out: str
    err: str

    @property
    def fault(self) -> str:
        """What is wrong with the way in which it ended, whatever it was asked: a hang, a traceback; else empty."""
        command = " ".join(self.arguments[:2])
        if self.code is None:
            return f"{command}: hangs"
        if "Traceback (most recent call last)" in self.err:
            return f"{command}: traceback: {self.err.strip().splitlines()[-1][:200]}"
        if UNEXPECTED in self.err:  # the last net under all commands has caught it
            return f"{command}: {self.err[self.err.index(UNEXPECTED) :].strip()[:300]}"
        if self.code < 0:
            return f"{command}: killed by signal {-self.code}"
        if self.code and "error" not in self.err.lower():
            return f"{command}: exit code {self.code} without an error"
        return ""


class Child:
    """A command of nctransfer in a forked process.

    Args:
        arguments: Its arguments.
        cache: The cache.
        folder: Its streams, home and working directory are made here.
        before: Called in the child before the command.
    """

    def __init__(
        self, arguments: Sequence[object], cache: Path, folder: Path, before: Callable[[], object] | None = None
    ) -> None:
        self.arguments = tuple(map(str, arguments))
        self._limit = time.monotonic() + LIMIT
        self._status: int | None = None
        for name in ("home", "work", "temporary"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._streams = folder / f"streams-{time.monotonic_ns()}"
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            code = 70
            try:
                _prepare_child(self._streams, cache, folder)
                code = _main(self.arguments, before)
            finally:
                os._exit(code)

    def send(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self._status is None:
            os.kill(self.pid, number)

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = status if pid else None
        return self._status is not None

    @property
    def is_late(self) -> bool:
        """Whether it hangs."""
        return not self.has_ended and time.monotonic() > self._limit

    def wait(self) -> Ended:
        """Wait until it ends; kill it if it hangs."""
        hangs = False
        while not self.has_ended:
            if time.monotonic() > self._limit:
                hangs = True
                os.kill(self.pid, signal.SIGKILL)
                self._status = os.waitpid(self.pid, 0)[1]
                break
            time.sleep(0.004)
        assert self._status is not None
        texts = [Path(f"{self._streams}.{name}") for name in ("out", "err")]
        out, err = (path.read_text(errors="replace") if path.exists() else "" for path in texts)
        for path in texts:
            path.unlink(missing_ok=True)
        code = None if hangs else os.waitstatus_to_exitcode(self._status)
        return Ended(arguments=self.arguments, code=code, out=out, err=err)


def run(arguments: Sequence[object], cache: Path, folder: Path, before: Callable[[], object] | None = None) -> Ended:
    """Run a command to its end; see :class:`Child`."""
    return Child(arguments, cache, folder, before).wait()


@contextmanager
def ending(*children: Child) -> Iterator[None]:
    """Whatever happens within the context, these children have ended after it."""
    try:
        yield
    finally:
        for child in children:
            if not child.has_ended:
                child.send(signal.SIGKILL)
                child.wait()


def import_what_is_imported_by(arguments: Sequence[object], cache: Path, folder: Path) -> None:
    """Run a command in a child, and import here what it has imported there, so that other children need not."""
    (folder / "work").mkdir(parents=True, exist_ok=True)

    def imported() -> list[str]:
        _prepare_child(folder / "imports", cache, folder)
        _main(tuple(map(str, arguments)), None)
        return list(sys.modules)

    for name in computed(imported):
        if name not in sys.modules and name != "__mp_main__":
            with suppress(Exception):
                importlib.import_module(name)
    gc.collect()
    gc.freeze()


def computed(function: Callable[[], T], limit: float = LIMIT) -> T:
    """The value of a function that is called in a child.

    Raises:
        RuntimeError: The function has raised an error.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.close(reading)
            signal.alarm(int(limit))
            found: tuple[Any, str] = (None, "")
            try:
                found = function(), ""
            except BaseException as error:
                found = None, f"{type(error).__name__}: {error}"
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(found, pipe)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    os.waitpid(pid, 0)
    if not content:
        raise RuntimeError("a child of the campaign has died")
    value, error = pickle.loads(content)
    if error:
        raise RuntimeError(error)
    return value  # type: ignore[no-any-return]


def _prepare_child(streams: Path, cache: Path, folder: Path) -> None:
    """Streams, environment and working directory of a child; it ends with its parent."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{streams}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - it stays open
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)
    os.chdir(folder / "work")
    os.environ.update(
        NCTRANSFER_CACHE=str(cache), HOME=str(folder / "home"), TMPDIR=str(folder / "temporary"), HF_HUB_OFFLINE="1"
    )


def _main(arguments: Sequence[str], before: Callable[[], object] | None) -> int:
    """Run the command line; returns its exit code."""
    import traceback

    from nctransfer import cli

    sys.argv = ["nctransfer", *arguments]
    try:
        if before is not None:
            before()
        cli.main()
    except SystemExit as error:
        code = error.code
        return code if isinstance(code, int) else int(code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0

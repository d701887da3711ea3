"""The engine ``ray``: workers run blocks of images and write parts; this process only records what they have written.

Features never pass through this process, nor through Ray's object store. At most two blocks per worker are under way,
so memory is bounded. A worker that dies is replaced, and what it had not written is run again.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.errors import EngineError, StoreError, counted, join_names
from nctransfer.store.atomic_files import temporary_file, writing_errors
from nctransfer.store.engine import Engine
from nctransfer.store.ray_blocks import Blocks
from nctransfer.store.ray_cluster import Crew, joined_cluster, planned_crew, ray_package
from nctransfer.store.ray_worker import Order, RayWorker, Reply, versions
from nctransfer.store.repairing import repair

if TYPE_CHECKING:
    from nctransfer.backbones.request import BackboneRequest
    from nctransfer.store.pipeline import Task
    from nctransfer.store.stored_set import StoredSet
    from nctransfer.store.writing import SetWriter

__all__ = ["RayEngine", "check_task"]

log = logging.getLogger(__name__)

WAIT = 1.0  # seconds between looks at what else has to be done
STOP_SECONDS = 60.0  # how long an interrupted run waits for what its workers have computed
ROOM_SECONDS = 30.0  # after which a note says that there is no room for the workers
GONE = "it was given up, because each worker that ran it died"


@dataclass(frozen=True)
class _Call:
    """A call of a worker that has not been answered."""

    worker: int
    what: str  # start, run or flush


@dataclass(kw_only=True)
class RayEngine(Engine):
    """Missing images on their way through the backbones of workers.

    Attributes:
        stored: The set.
        writer: Records parts.
        request: The backbone, with all wanted layers.
    """

    stored: StoredSet
    writer: SetWriter
    request: BackboneRequest
    _ray: Any = None
    _crew: Crew = field(init=False)
    _order: Order = field(init=False)
    _blocks: Blocks = field(init=False)
    _workers: dict[int, Any] = field(default_factory=dict)
    _ready: set[int] = field(default_factory=set)
    _calls: dict[Any, _Call] = field(default_factory=dict)
    _hired: int = 0
    _told: set[str] = field(default_factory=set)

    def run(self) -> None:
        """See :meth:`Engine.run`.

        Raises:
            EngineError: Ray cannot be used, or its workers die again and again.
            NCTransferError: A worker met an error.
        """
        check_task(self.task)
        self._ray = ray_package()
        started = time.perf_counter()
        self._blocks = Blocks(self.missing, self.task.runtime.batch_size)
        with joined_cluster(self.task.runtime.ray) as nodes, _proof(self.writer.folder) as proof:
            self._crew = planned_crew(self.task.runtime.ray, self.task.runtime.device, nodes)
            self._note_crew(len(nodes))
            self._order = _order(self, proof)
            try:
                self._hire()
                self._drive(started)
            except BaseException:  # Ctrl-C too: what has been computed is stored
                self._stop()
                self._dismiss()
                with contextlib.suppress(StoreError):  # which would hide what ended the run; the next one does it too
                    self._adopt()
                raise
            finally:
                self._dismiss()
        if self._hired > self._crew.actors:  # workers have died
            self._adopt()
        self.task.tell("extracting", len(self.missing), len(self.missing))

    def _note_crew(self, nodes: int) -> None:
        crew = self._crew
        log.info(
            "Ray: %s on %s, %s each%s",
            counted(crew.actors, "worker"),
            counted(nodes, "node"),
            counted(crew.threads, "thread"),
            f" and {crew.gpus:g} GPU" + "s" * (crew.gpus > 1) if crew.gpus else "",
        )
        if crew.room < crew.actors:
            log.warning("the cluster has room for %s of them now", f"{crew.room:,}")

    def _hire(self) -> None:
        """Start workers until there are as many as planned."""
        crew = self._crew
        settings = {"num_cpus": crew.cpus, "num_gpus": crew.gpus, "max_restarts": 0}
        while len(self._workers) < crew.actors:
            self._hired += 1
            worker = self._ray.remote(**settings)(RayWorker).remote(self._order)
            self._workers[self._hired] = worker
            self._calls[worker.start.remote()] = _Call(self._hired, "start")

    def _drive(self, started: float) -> None:
        """Send blocks to workers until all images are done."""
        began, is_told = time.monotonic(), False
        while not self._blocks.are_done:
            for number in sorted(self._ready):
                self._send(number)
            done, _ = self._ray.wait(list(self._calls), timeout=WAIT)
            for reference in done:
                if reference in self._calls:  # not one of a worker that died meanwhile
                    self._take(reference)
                if self._ready and not self.startup_seconds:
                    self.startup_seconds = time.perf_counter() - started
                    self.task.tell("extracting", 0, len(self.missing))
            if not self._ready and not is_told and time.monotonic() - began > ROOM_SECONDS:
                is_told = True
                log.warning("waiting for room on the cluster: see ray status")

    def _send(self, number: int) -> None:
        """Give a worker what it can take: blocks, or the order to write what it holds if no image waits."""
        worker = self._workers[number]
        while block := self._blocks.take(number, len(self._ready)):
            self._calls[worker.run.remote(block.images)] = _Call(number, "run")
        is_asked = any(call.worker == number for call in self._calls.values())
        if not is_asked and self._blocks.holds(number):
            self._calls[worker.flush.remote()] = _Call(number, "flush")

    def _take(self, reference: Any) -> None:
        """Take an answer.

        Raises:
            NCTransferError: The worker cannot go on, or workers die again and again.
        """
        call = self._calls.pop(reference)
        try:
            reply: Reply = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError:
            raise  # an error in our code
        except self._ray.exceptions.RayError as error:
            self._replace(call.worker, _why(error))
            return
        if call.what == "run":
            self._blocks.finished(call.worker, reply.seconds, reply.digests)
        self._note(call, reply)
        if reply.error is not None:
            raise reply.error
        if call.what == "start":
            self._ready.add(call.worker)

    def _note(self, call: _Call, reply: Reply) -> None:
        """Record what a worker has written, and note what it found out."""
        for level, text in reply.notes:
            if text not in self._told:
                self._told.add(text)
                log.log(level, "%s", text)
        self.digests.update(reply.digests)
        self.hand_over_digests()
        self.broken.update(reply.broken)
        if reply.written:
            self.writer.record(reply.written)
        self._blocks.wrote(call.worker, (digest for part in reply.written for digest in part.digests), reply.held)
        self.task.tell("extracting", self._blocks.finished_images, len(self.missing))

    def _replace(self, number: int, reason: str) -> None:
        """Start a worker in place of one that died.

        Raises:
            EngineError: Workers die again and again.
        """
        has_run = number in self._ready
        self._forget(number)
        for image in self._blocks.lost(number):
            self.broken[image.digest or image.id] = GONE
        log.warning("a worker died%s: %s; another takes its place", "" if has_run else " at its start", reason)
        if self._blocks.deaths_in_a_row > 3 + 2 * self._crew.actors:
            suspects = self._blocks.running(list(self._workers))
            where = f"; blocks that begin with {join_names([repr(image.id) for image in suspects])}" if suspects else ""
            raise EngineError(
                f"{counted(self._blocks.deaths_in_a_row, 'worker')} died one after another; the last: {reason}{where}",
                "the memory may be too small: give fewer --actors or a smaller --batch-size; --engine local shows more",
            )
        self._hire()

    def _forget(self, number: int) -> None:
        """Take a worker off the lists, and make sure that it is dead."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(self._workers[number])
        del self._workers[number]
        self._ready.discard(number)
        self._calls = {reference: call for reference, call in self._calls.items() if call.worker != number}

    def _stop(self) -> None:
        """Let the workers end after the current batch, and record what they have computed."""
        deadline = time.monotonic() + STOP_SECONDS
        (self._order.folder / self._order.proof).unlink(missing_ok=True)
        with contextlib.suppress(self._ray.exceptions.RayError):
            for number in self._ready:
                worker = self._workers[number]
                self._calls[worker.flush.remote()] = _Call(number, "flush")
            while calls := [reference for reference, call in self._calls.items() if call.what != "start"]:
                done, _ = self._ray.wait(calls, timeout=max(0.0, deadline - time.monotonic()))
                if not done:
                    return
                for reference in done:
                    call = self._calls.pop(reference)
                    with contextlib.suppress(self._ray.exceptions.RayError):
                        self._note(call, self._ray.get(reference))

    def _dismiss(self) -> None:
        """End all workers."""
        for number in list(self._workers):
            self._forget(number)

    def _adopt(self) -> None:
        """Record parts that were written and whose answer was lost: with its worker, or by Ctrl-C as it was taken."""
        repair(self.stored)
        self.writer.refresh()


def check_task(task: Task) -> None:
    """Refuse images that workers cannot open.

    Raises:
        EngineError: The images were not opened by a name.
    """
    if task.source.opened_as is None:
        raise EngineError(
            f"workers of Ray cannot open {task.source.name!r}, since it was not opened by a name",
            "open it by nctransfer.open_source, or take the engine local",
        )


@contextlib.contextmanager
def _proof(folder: Path) -> Iterator[str]:
    """A file in the folder of a set, by which workers see that their folder is the same."""
    with contextlib.ExitStack() as stack:
        with writing_errors(folder):
            path = stack.enter_context(temporary_file(folder, "ray", lambda _: None))
        yield path.name


def _order(engine: RayEngine, proof: str) -> Order:
    """What the workers have to know."""
    runtime, crew = engine.task.runtime, engine._crew
    assert engine.task.source.opened_as is not None
    data, reading = engine.task.source.opened_as
    device = "cuda" if crew.gpus else "cpu" if runtime.device == "auto" else runtime.device
    return Order(
        request=engine.request,
        key=engine.stored.key,
        about=engine.stored.about,
        runtime=replace(runtime, device=device, workers=runtime.workers or min(crew.threads, 16), engine="local"),
        threads=crew.threads,
        data=data,
        reading=reading,
        source=engine.task.source.id,
        folder=engine.writer.folder.absolute(),
        proof=proof,
        start=str(Path.cwd()),
        versions=versions(),
    )


def _why(error: Exception) -> str:
    """Why a worker is gone, in one line; Ray says it in many."""
    text = str(error)
    known = {
        "creation task": f"it could not be started: {text.strip().rpartition(chr(10))[2]}",
        "running low on memory": "the memory of its node was used up",
        "node has died": "its node died",
        "node died": "its node died",
        "is unavailable": "its node cannot be reached",
        "connection error code": "its process was killed, or crashed",
    }
    return next((words for part, words in known.items() if part in text), " ".join(text.split())[:300])

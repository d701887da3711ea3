"""A worker of Ray: it holds a backbone, opens the images by itself, and writes parts into the folder of the set."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.backbones.building import load, make_fast
from nctransfer.backbones.kept_memory import kept_memory
from nctransfer.errors import EngineError, ModelError, NCTransferError, reason_of
from nctransfer.sources.arrow_arrays import strings
from nctransfer.sources.opening import open_source
from nctransfer.sources.selection import Selection
from nctransfer.store.listings import Listing
from nctransfer.store.part_files import write_part
from nctransfer.store.pipeline import PART_BYTES, PART_SECONDS, Task, Work
from nctransfer.store.wanted_images import WantedImages

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from nctransfer.backbones.feature_key import FeatureKey
    from nctransfer.backbones.request import BackboneRequest
    from nctransfer.sources.source_kind import ReadingOptions
    from nctransfer.store.listings import Listed
    from nctransfer.store.part_files import WrittenPart
    from nctransfer.store.pipeline import Runtime

__all__ = ["Order", "PartSink", "RayWorker", "Reply", "versions"]

TOLD = 20  # messages of a worker that are passed on with a report


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a worker has to know. It can be pickled.

    Attributes:
        request: The backbone, with all wanted layers.
        key: What the features depend on, as the process that gives the order knows it.
        about: Names for the reader: ``weights`` and ``data``.
        runtime: How to run.
        threads: The threads of the model on the CPU.
        data: The name of the images.
        reading: How they are read.
        source: The id of the source.
        folder: The folder of the set.
        proof: The name of a file in it, which shows that the worker sees the same folder. When it is gone, the worker
            ends its block after the current batch, and runs no other.
        start: The folder that relative paths start from.
        versions: See :func:`versions`.
    """

    request: BackboneRequest
    key: FeatureKey
    about: Mapping[str, str]
    runtime: Runtime
    threads: int
    data: str
    reading: ReadingOptions
    source: str
    folder: Path
    proof: str
    start: str
    versions: Mapping[str, str]


@dataclass(kw_only=True)
class Reply:
    """What a worker has done since its last reply.

    Attributes:
        node: The name of its computer.
        written: The parts that it has written.
        held: The number of images whose features are not written yet.
        digests: The digest of each image that was read, by id.
        broken: Why an image gave no features, by digest; by id if the image could not be read.
        seconds: The time that it took.
        notes: What it has to tell the user: the level and the text of each message.
        error: Why it cannot go on.
    """

    node: str
    written: Sequence[WrittenPart] = ()
    held: int = 0
    digests: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    notes: Sequence[tuple[int, str]] = ()
    error: NCTransferError | None = None


class PartSink:
    """Writes features as parts, which somebody else records. Several blocks go into one part.

    Args:
        folder: The folder of the set.
        key: What the features depend on.
        about: Names for the reader.
    """

    def __init__(self, folder: Path, key: FeatureKey, about: Mapping[str, str]) -> None:
        self.folder = folder
        self.written: list[WrittenPart] = []
        self._key, self._about = key, about
        self._digests: set[str] = set()
        self._waiting: list[tuple[Sequence[Listed], Mapping[str, NDArray[np.generic]]]] = []
        self._since = time.monotonic()

    @property
    def held(self) -> int:
        """The number of images whose features are not written yet."""
        return sum(len(images) for images, _ in self._waiting)

    def digests(self, columns: Iterable[str] = ()) -> pa.StringArray:  # noqa: ARG002 - all rows have all columns
        """The digests of the images that this worker has run: each is run only once."""
        import pyarrow as pa

        return strings(list(self._digests)).cast(pa.string())

    def append(self, images: Sequence[Listed], features: Mapping[str, NDArray[np.generic]]) -> None:
        """Take features, and write a part if enough have come together."""
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append((images, features))
        self._digests.update(image.digest for image in images)
        size = sum(matrix.nbytes for _, vectors in self._waiting for matrix in vectors.values())
        if size >= PART_BYTES or time.monotonic() - self._since >= PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what has come together.

        Raises:
            StoreError: It cannot be written.
        """
        import numpy as np

        waiting, self._waiting = self._waiting, []
        if images := [image for some, _ in waiting for image in some]:
            features = {name: np.concatenate([vectors[name] for _, vectors in waiting]) for name in waiting[0][1]}
            self.written.append(write_part(self.folder, self._key, self._about, images, features))

    def take_written(self) -> list[WrittenPart]:
        """The parts that were written since this was last asked."""
        taken, self.written = self.written, []
        return taken


class _StoppedError(BaseException):
    """The process that gave the order wants no more images to be run."""


class RayWorker:
    """Runs blocks of images, one after the other. The methods never raise an error of the user's material.

    Args:
        order: What to do.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._node = socket.gethostname()
        self._memory = ExitStack()
        self._is_warm = False
        self._notes = _Notes()
        self._sink = PartSink(order.folder, order.key, order.about)

    def start(self) -> Reply:
        """Open the images and load the backbone."""
        reply = Reply(node=self._node)
        try:
            self._open()
        except NCTransferError as error:
            reply.error = _portable(error, self._node)
        reply.notes = self._notes.take()
        return reply

    def _open(self) -> None:
        order = self._order
        logging.getLogger("nctransfer").addHandler(self._notes)
        logging.getLogger("nctransfer").setLevel(logging.INFO)
        _check_place(order)
        self._source = open_source(order.data, order.reading)
        if self._source.id != order.source:
            raise EngineError(
                f"{order.data!r} is {self._source.id} here, and {order.source} where the extraction was started",
                "the images must lie at the same path on every node",
            )
        if differing := [name for name, value in versions().items() if order.versions.get(name) != value]:
            log = logging.getLogger(__name__)
            found = ", ".join(f"{name} {version(name)} ({order.versions.get(name)})" for name in differing)
            log.warning(
                "%s has other versions (in brackets: here), so features may differ slightly: %s", self._node, found
            )
        self._use_threads()
        self._backbone = load(order.request, order.runtime.device, order.runtime.offline)
        if self._backbone.key.digest != order.key.digest:
            raise ModelError(
                f"the backbone is another one than where the extraction was started: "
                f"{_differences(self._backbone.key, order.key)}",
                "install the same versions, and the same weights, on every node",
            )
        if self._backbone.device.type == "cpu":
            self._memory.enter_context(kept_memory())  # also between blocks
        make_fast(self._backbone, order.runtime.batch_size if order.runtime.compile else None)

    def run(self, images: Sequence[Listed]) -> Reply:
        """Run a block of images. Their features may be written later."""
        import numpy as np

        start = time.perf_counter()
        self._use_threads()
        missing = Listing.of(images)
        task = Task(
            source=self._source,
            images=WantedImages(entries=missing.images, rows=np.arange(len(missing))),
            selection=Selection(),
            runtime=self._order.runtime,
            tell=self._tell,
        )
        work = Work(task=task, missing=missing, backbone=self._backbone, sink=self._sink, is_warm=self._is_warm)
        reply = Reply(node=self._node)
        try:
            work.run()
            self._is_warm = True
        except _StoppedError:
            pass
        except NCTransferError as error:
            reply.error = _portable(error, self._node)
        return self._filled(reply, work, time.perf_counter() - start)

    def flush(self) -> Reply:
        """Write the features that are not written yet."""
        reply = Reply(node=self._node)
        try:
            self._sink.flush()
        except NCTransferError as error:
            reply.error = _portable(error, self._node)
        return self._filled(reply, None, 0.0)

    def _tell(self, _: str, done: int, total: int) -> None:
        if done < total and not (self._order.folder / self._order.proof).exists():
            raise _StoppedError

    def _filled(self, reply: Reply, work: Work | None, seconds: float) -> Reply:
        return replace(
            reply,
            written=self._sink.take_written(),
            held=self._sink.held,
            digests=work.digests if work else {},
            broken=work.broken if work else {},
            seconds=seconds,
            notes=self._notes.take(),
        )

    def _use_threads(self) -> None:
        import torch

        if torch.get_num_threads() != self._order.threads:
            torch.set_num_threads(self._order.threads)


class _Notes(logging.Handler):
    """Keeps what the library logs, each message once."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._kept: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._kept) < TOLD:
            self._kept.append((record.levelno, record.getMessage()))

    def take(self) -> list[tuple[int, str]]:
        """The messages since this was last asked."""
        taken, self._kept = self._kept, []
        return taken


def versions() -> dict[str, str]:
    """The versions of what computes features."""
    return {name: version(name) for name in ("nctransfer", "timm", "torch")}


def _check_place(order: Order) -> None:
    """See that this computer has the folders of the order.

    Raises:
        EngineError: It has not.
    """
    hint = "the images, the cache and checkpoints must lie at the same paths on every node, on a shared file system"
    if not (order.folder / order.proof).is_file():
        raise EngineError(
            f"the cache folder {str(order.folder)!r} is not there, or not the one where the extraction was started",
            hint,
        )
    try:
        os.chdir(order.start)
    except OSError as error:
        raise EngineError(f"the folder {order.start!r} cannot be entered: {reason_of(error)}", hint) from error


def _differences(one: FeatureKey, other: FeatureKey) -> str:
    """What differs between two keys, in words."""
    mine, theirs = asdict(one), asdict(other)
    return "; ".join(
        f"{name} is {mine[name]!r} here and {theirs[name]!r} there" for name in mine if mine[name] != theirs[name]
    )


def _portable(error: NCTransferError, node: str) -> NCTransferError:
    """The error with the name of the computer, so that it can be pickled."""
    kind = type(error) if type(error).__init__ is NCTransferError.__init__ else NCTransferError
    return kind(f"on {node}: {error.message}", error.hint)

"""Images on their way through the backbone into the store."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nctransfer.backbones.feature_key import FEATURE
from nctransfer.errors import DeviceError, StoreError
from nctransfer.sources.loading import load_images, threads
from nctransfer.sources.source import ImageEntry

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from nctransfer.backbones.backbone import Backbone
    from nctransfer.backbones.hub import Progress
    from nctransfer.sources.selection import Selection
    from nctransfer.sources.source import ImageSource
    from nctransfer.store.listings import Listed
    from nctransfer.store.stored_set import StoredSet

__all__ = ["NOT_FINITE", "Runtime", "Task", "Work"]

NOT_FINITE = "NaN or infinite features"
PART_BYTES = 64 * 2**20
PART_SECONDS = 20.0  # at most so much work is lost with a killed run


@dataclass(frozen=True)
class Runtime:
    """How to run; none of it changes the features beyond rounding.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        batch_size: Images that go through the model at once.
        workers: Threads that read and decode; by default one a core, at most 16.
        offline: Never ask a server for weights.
        compile: Let ``torch.compile`` make kernels: worth its minute for many images on a GPU.
    """

    device: str = "auto"
    batch_size: int = 32
    workers: int | None = None
    offline: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise DeviceError(f"batch_size is {self.batch_size}; it must be at least 1")
        threads(self.workers)


@dataclass(frozen=True)
class Task:
    """What is wanted of a source, and how to run it."""

    source: ImageSource
    entries: Sequence[ImageEntry]
    chosen: Sequence[ImageEntry]
    selection: Selection
    runtime: Runtime
    tell: Progress


@dataclass
class Work:
    """Images on their way through the backbone into the store, part by part, also when interrupted.

    Attributes:
        digests: Of each image that was read, by id.
        broken: Why an image gave no features, by digest, or by id where it could not be read.
    """

    backbone: Backbone
    task: Task
    missing: Sequence[Listed]
    stored: StoredSet
    digests: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    _computed: list[tuple[list[Listed], dict[str, NDArray[np.generic]]]] = field(default_factory=list)
    _running: tuple[list[Listed], dict[str, torch.Tensor]] | None = None
    _flushed: float = field(default_factory=time.monotonic)
    _done: int = 0

    def run(self) -> None:
        """Run everything that is missing.

        Raises:
            StoreError: It cannot be stored.
        """
        self.task.tell("extracting", 0, len(self.missing))
        batches = self._batches()
        try:
            with contextlib.closing(batches):
                for rows, pixels in batches:
                    outputs = self.backbone(pixels)
                    self._keep()  # the batch before: on a GPU this one has begun by now
                    self._running = rows, outputs
            self._keep()
        except StoreError:
            raise  # the disk is full, say: storing the rest would fail again
        except BaseException:  # Ctrl-C too: what has been computed is kept
            self._keep()
            self._flush()
            raise
        self._flush()
        self.task.tell("extracting", len(self.missing), len(self.missing))

    def _batches(self) -> Generator[tuple[list[Listed], torch.Tensor], None, None]:
        """Decoded images a batch at a time; what is broken, or was there already, is only noted."""
        rows: list[Listed] = []
        pixels: list[NDArray[np.uint8]] = []
        seen = self.stored.digests(self.backbone.columns)
        loaded = load_images(
            self.task.source,
            [ImageEntry(*row[:-1]) for row in self.missing],
            [row.digest for row in self.missing],
            frozenset(seen),
            self.backbone.preprocess,
            self.task.runtime.workers,
            2 * self.task.runtime.batch_size,
        )
        with contextlib.closing(loaded):
            for row, image in zip(self.missing, loaded, strict=True):
                if image.broken:
                    self.broken[image.digest or row.id] = image.broken
                if image.digest:
                    self.digests[row.id] = image.digest
                if image.pixels is None or image.digest in seen:
                    continue
                seen.add(image.digest)
                rows.append(row._replace(digest=image.digest))
                pixels.append(image.pixels)
                if len(rows) == self.task.runtime.batch_size:
                    yield rows, self._collate(pixels)
                    rows, pixels = [], []
            if rows:
                yield rows, self._collate(pixels)

    def _collate(self, pixels: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        import numpy as np
        import torch

        batch = torch.from_numpy(np.stack(pixels))
        return batch.pin_memory() if self.backbone.device.type == "cuda" else batch

    def _keep(self) -> None:
        import numpy as np

        if self._running is None:
            return
        (rows, outputs), self._running = self._running, None
        key = self.backbone.key
        with np.errstate(over="ignore"):  # of float16; what is not finite is reported
            vectors = {name: output.cpu().numpy().astype(key.store_dtype) for name, output in outputs.items()}
        if not self._computed:
            self.stored.save_head(self.backbone.head(vectors[FEATURE].shape[1]))
        finite = np.all([np.isfinite(matrix).all(axis=1) for matrix in vectors.values()], axis=0)
        for row in itertools.compress(rows, ~finite):
            self.broken[row.digest] = f"{NOT_FINITE} in {key.dtype} (stored as {key.store_dtype})"
        kept = list(itertools.compress(rows, finite))
        self._computed.append((kept, {name: matrix[finite] for name, matrix in vectors.items()}))
        self._done += len(rows)
        self.task.tell("extracting", self._done, len(self.missing))
        size = sum(matrix.nbytes for _, batch in self._computed for matrix in batch.values())
        if size >= PART_BYTES or time.monotonic() - self._flushed >= PART_SECONDS:
            self._flush()

    def _flush(self) -> None:
        import numpy as np

        batches, self._computed = self._computed, []
        if rows := [row for batch, _ in batches for row in batch]:
            names = batches[0][1]
            self.stored.append(
                rows, {name: np.concatenate([vectors[name] for _, vectors in batches]) for name in names}
            )
        self._flushed = time.monotonic()

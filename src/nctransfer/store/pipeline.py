"""Images on their way through the backbone into the store."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nctransfer.backbones.feature_key import FEATURE
from nctransfer.backbones.half_precision import is_half
from nctransfer.backbones.kept_memory import kept_memory
from nctransfer.errors import DeviceError, SettingError, StoreError
from nctransfer.sources.loading import load_images, threads
from nctransfer.store.engine import Engine
from nctransfer.store.heads import save_head
from nctransfer.store.precision_note import note_precision
from nctransfer.store.ray_options import ENGINES, RayOptions

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from nctransfer.backbones.backbone import Backbone
    from nctransfer.backbones.hub import Progress
    from nctransfer.sources.selection import Selection
    from nctransfer.sources.source import ImageSource
    from nctransfer.store.engine import Sink
    from nctransfer.store.listings import Listed
    from nctransfer.store.wanted_images import WantedImages

__all__ = ["NOT_FINITE", "Runtime", "Task", "Work"]

NOT_FINITE = "NaN or infinite features"
PART_BYTES = 64 * 2**20
PART_SECONDS = 20.0  # a killed run loses at most this much work


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How to run. None of these settings changes the features beyond rounding.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        batch_size: The number of images that go through the model at once.
        workers: The number of threads that read and decode; by default one per core, up to 16.
        offline: If true, no server is ever asked for weights.
        compile: If true, ``torch.compile`` makes kernels. It takes about a minute, and pays for many images on a GPU.
        engine: ``local`` runs the images in this process, ``ray`` in processes of Ray.
        ray: How Ray is used.

    Raises:
        DeviceError: The batch size is not positive.
        SettingError: There is no such engine.
    """

    device: str = "auto"
    batch_size: int = 32
    workers: int | None = None
    offline: bool = False
    compile: bool = False
    engine: str = "local"
    ray: RayOptions = field(default_factory=RayOptions)

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise SettingError(f"there is no engine {self.engine!r}", f"give one of {', '.join(ENGINES)}")
        if self.batch_size < 1:
            raise DeviceError(f"expected a batch_size of at least 1, got {self.batch_size}")
        threads(self.workers)


@dataclass(frozen=True, kw_only=True)
class Task:
    """Which images of a source are wanted, and how to run.

    Attributes:
        source: The images.
        images: All images that the source lists, and those that shall go through the backbone.
        selection: The selection that the report is about; images of others may be wanted too.
        runtime: How to run.
        tell: Called as ``tell(stage, done, total)`` to report progress.
        keep_classes: Whether images that are listed already stay in the classes in which they are listed.
    """

    source: ImageSource
    images: WantedImages
    selection: Selection
    runtime: Runtime
    tell: Progress
    keep_classes: bool = False


@dataclass(kw_only=True)
class Work(Engine):
    """Missing images on their way through the backbone of this process into the store, part by part.

    If the work is interrupted, what has been computed is stored first.

    Attributes:
        backbone: The model.
        sink: Stores the features.
        is_warm: Whether the backbone has run before, so that its first batch is like the others.
    """

    backbone: Backbone
    sink: Sink
    is_warm: bool = False
    _computed: list[tuple[list[Listed], dict[str, NDArray[np.generic]]]] = field(default_factory=list)
    _running: tuple[list[Listed], dict[str, torch.Tensor]] | None = None
    _flushed: float = field(default_factory=time.monotonic)
    _done: int = 0
    _timed_from: float | None = None

    def run(self) -> None:
        """See :meth:`Engine.run`."""
        self.task.tell("extracting", 0, len(self.missing))
        if self.is_warm:
            self._timed_from = time.perf_counter()
        batches = self._batches()
        try:
            with self._memory(), contextlib.closing(batches):
                for rows, pixels in batches:
                    if self._timed_from is None:
                        self._run_first(rows, pixels)
                        continue
                    outputs = self.backbone(pixels)
                    self._keep()  # fetches the batch before, while a GPU already computes this one
                    self._running = rows, outputs
            self._keep()
        except StoreError:
            raise  # for example, the disk is full: storing the rest would fail again
        except BaseException:  # Ctrl-C too: what has been computed is stored
            self._keep()
            self._flush()
            raise
        self._flush()
        self.task.tell("extracting", len(self.missing), len(self.missing))

    def _run_first(self, rows: list[Listed], pixels: torch.Tensor) -> None:
        """Run the first batch by itself, because the time of the others begins when it is done."""
        start = time.perf_counter()
        outputs = self.backbone(pixels)
        self._running = rows, outputs
        self._keep()
        self.first_images, self.first_seconds = len(rows), time.perf_counter() - start
        if is_half(self.backbone.dtype):
            note_precision(self.backbone, pixels, outputs[FEATURE])
        self._timed_from = time.perf_counter()

    def _memory(self) -> contextlib.AbstractContextManager[bool | None]:
        return kept_memory() if self.backbone.device.type == "cpu" else contextlib.nullcontext()

    def _batches(self) -> Generator[tuple[list[Listed], torch.Tensor], None, None]:
        """Decoded images in batches. Images that are broken, or turn out to be stored already, are only noted."""
        rows: list[Listed] = []
        pixels: list[NDArray[np.uint8]] = []
        seen = set() if self.missing.is_known.all() else set(self.sink.digests(self.backbone.columns).to_pylist())
        loaded = load_images(
            self.task.source,
            self.missing.images,
            (row.digest for row in self.missing),
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
        """Fetch the features of the batch that is running, and store a part if enough have come together."""
        import numpy as np

        if self._running is None:
            return
        (rows, outputs), self._running = self._running, None
        key = self.backbone.key
        with np.errstate(over="ignore"):  # float16 can overflow; rows that are not finite are reported below
            vectors = {name: output.cpu().numpy().astype(key.store_dtype) for name, output in outputs.items()}
        if self._timed_from is not None:
            self.timed_images += len(rows)
            self.timed_seconds = time.perf_counter() - self._timed_from
        if not self._computed:
            save_head(self.sink.folder.parent, self.backbone.head(vectors[FEATURE].shape[1]))
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
        """Store what has been computed as one part."""
        import numpy as np

        batches, self._computed = self._computed, []
        if rows := [row for batch, _ in batches for row in batch]:
            names = batches[0][1]
            self.sink.append(rows, {name: np.concatenate([vectors[name] for _, vectors in batches]) for name in names})
            self.hand_over_digests()
        self._flushed = time.monotonic()

"""From images to stored features: what is wanted less what is stored goes through the backbone."""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import os
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nctransfer import images
from nctransfer.backbones import DEFAULT_MODEL, Backbone, BackboneRequest, Progress, Weights, load
from nctransfer.devices import pick_device
from nctransfer.errors import BrokenImage, BrokenImagesError, DataError, DeviceError, StoreError, counted
from nctransfer.features import FeatureSet, Selection
from nctransfer.store import FORMAT, FeatureKey, FeatureStore, Listed, StoredSet

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

T = TypeVar("T")
R = TypeVar("R")

__all__ = ["ExtractionReport", "Runtime", "extract", "extract_to_store"]

log = logging.getLogger(__name__)

PART_BYTES = 64 * 2**20
PART_SECONDS = 20.0  # at most so much work is lost with a killed run


@dataclass(frozen=True)
class Runtime:
    """How to run; none of it changes the features beyond rounding.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        batch_size: Images that go through the model at once.
        workers: Threads that read and decode; by default one a core, at most 8.
        offline: Never ask a server for weights.
    """

    device: str = "auto"
    batch_size: int = 32
    workers: int | None = None
    offline: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "workers"):
            if (given := getattr(self, name)) is not None and given < 1:
                raise DeviceError(f"{name} is {given}; it must be at least 1")

    @property
    def threads(self) -> int:
        """The number of workers."""
        return self.workers or min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4)


@dataclass(frozen=True)
class ExtractionReport:
    """What an extraction did.

    Attributes:
        stored: The set that the features are in.
        selection: What was wanted of the source.
        samples: Wanted images whose features are stored now.
        extracted: Images that went through the backbone.
        reused: Wanted images whose features were stored before.
        failed: Images that gave no features, and why.
        seconds: Time in the backbone and around it, without loading it.
    """

    stored: StoredSet
    selection: Selection
    samples: int
    extracted: int
    reused: int
    failed: tuple[BrokenImage, ...]
    seconds: float

    @property
    def images_per_second(self) -> float | None:
        """Extracted images a second; ``None`` if there was nothing to do."""
        return self.extracted / self.seconds if self.extracted else None

    def to_dict(self) -> dict[str, Any]:
        """The fields, as JSON has them."""
        return {
            "id": self.stored.id,
            "path": str(self.stored.rows_path),
            "samples": self.samples,
            "extracted": self.extracted,
            "reused": self.reused,
            "failed": [broken._asdict() for broken in self.failed],
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
        }


def extract(
    model: str = DEFAULT_MODEL,
    data: str | os.PathLike[str] = "digits",
    *,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    max_per_class: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    random_init: bool = False,
    seed: int = 0,
    dtype: str = "float32",
    store_dtype: str = "float32",
    device: str = "auto",
    batch_size: int = 32,
    workers: int | None = None,
    offline: bool = False,
    skip_broken: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> FeatureSet:
    """The features of labelled images under a frozen backbone, from the cache as far as they are in it.

    Args:
        model: A timm model or short name (``"vit_base"``).
        data: A folder of class folders, or ``"digits"``.
        split: Only this split of the data.
        classes: Only these classes.
        max_per_class: At most so many images a class, drawn by ``seed``.
        checkpoint: A local file of weights in place of the published ones.
        random_init: Random weights, as a control.
        seed: Of ``max_per_class`` and ``random_init``.
        dtype: What to compute in: ``float32``, ``bfloat16``, ``float16``.
        store_dtype: What to store: ``float32`` or ``float16``.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.
        batch_size: Images at once.
        workers: Threads that decode.
        offline: Never ask a server for weights.
        skip_broken: Go on without images that cannot be read, rather than raise at the end.
        cache_dir: The cache; by default ``$NCTRANSFER_CACHE``, else the platform's.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        BrokenImagesError: Some images could not be read; the features of the others are stored.
        NCTransferError: See :mod:`nctransfer.errors`.
    """
    report = extract_to_store(
        FeatureStore(cache_dir),
        BackboneRequest(
            model, Path(checkpoint) if checkpoint is not None else None, random_init, seed, dtype, store_dtype
        ),
        images.open_source(data),
        Selection(split, tuple(classes) if classes is not None else None, max_per_class, seed),
        Runtime(device, batch_size, workers, offline),
        progress,
    )
    if report.failed and not skip_broken:
        raise BrokenImagesError(report.failed, report.samples)
    return report.stored.read(report.selection)


def extract_to_store(
    store: FeatureStore,
    request: BackboneRequest,
    source: images.ImageSource,
    selection: Selection,
    runtime: Runtime,
    progress: Progress | None = None,
) -> ExtractionReport:
    """Fill the store with what is wanted and not there; images that cannot be read are reported, not raised.

    Raises:
        NCTransferError: See :mod:`nctransfer.errors`.
    """
    tell = progress or (lambda *_: None)
    if runtime.device not in ("auto", "cpu"):
        pick_device(runtime.device)  # also where nothing is to be run
    entries = source.list()
    for note in source.notes:
        log.warning("%s: %s", source.name, note)
    columns = zip(*((entry.id, entry.label, entry.split) for entry in entries), strict=True)
    chosen = [entries[i] for i in selection.apply(*map(list, columns)).tolist()]
    backbones = _LazyBackbone(store, request, runtime, progress)
    report = None
    while report is None:  # twice, if the weights turn out to have changed since they were remembered
        key, weights = backbones.key_and_name()
        stored = store.open(key, source.id, {"weights": weights, "data": source.name})
        report = _fill(stored, backbones, source, entries, chosen, selection, runtime, tell)
    store.use(stored, selection)
    return report


def _fill(
    stored: StoredSet,
    backbones: _LazyBackbone,
    source: images.ImageSource,
    entries: Sequence[images.ImageEntry],
    chosen: Sequence[images.ImageEntry],
    selection: Selection,
    runtime: Runtime,
    tell: Progress,
) -> ExtractionReport | None:
    """Extract into one set; ``None`` if its key is no longer that of the backbone."""
    with stored.lock(lambda: log.warning("waiting for another process that extracts into %s", stored.id)):
        damaged = stored.repair()
        for name, reason in damaged.items():
            log.warning("%s is damaged (%s); its images are extracted again", name, reason)
        wanted, failed = _list_wanted(stored.store, source, entries, chosen, runtime, tell)
        have = stored.digests()
        missing = list({row.digest: row for row in wanted if row.digest not in have}.values())
        _say_what_is_done(wanted, missing, have, damaged)
        seconds = 0.0
        if missing:
            backbone = backbones.get()
            if backbone.key.digest != stored.key.digest:
                return None
            start = time.perf_counter()
            reasons = {broken.id: broken.reason for broken in _run(backbone, source, missing, stored, runtime, tell)}
            by_digest = {row.digest: reasons[row.id] for row in missing if row.id in reasons}
            # files of the same content are run once, and broken alike
            failed += [BrokenImage(row.id, by_digest[row.digest]) for row in wanted if row.digest in by_digest]
            seconds = time.perf_counter() - start
            have = stored.digests()
    new = {row.digest for row in missing}
    report = ExtractionReport(
        stored=stored,
        selection=selection,
        samples=sum(row.digest in have for row in wanted),
        extracted=len(new & have),
        reused=sum(row.digest not in new for row in wanted),
        failed=tuple(failed),
        seconds=seconds,
    )
    if not report.samples:
        first = failed[0]
        raise DataError(f"none of the {len(failed):,} images could be used; the first: {first.id!r}: {first.reason}")
    return report


class _LazyBackbone:
    """A backbone whose key is known from earlier runs if possible, and which is loaded only if needed."""

    def __init__(
        self, store: FeatureStore, request: BackboneRequest, runtime: Runtime, progress: Progress | None
    ) -> None:
        self._store = store
        self._request = request
        self._load: Callable[[], Backbone] = lambda: load(request, runtime.device, runtime.offline, progress)
        self._loaded: Backbone | None = None

    def key_and_name(self) -> tuple[FeatureKey, str]:
        """The key of the rows, and where the weights came from, in words."""
        question = self._question()
        known = {} if self._loaded else self._store.recall(question)
        try:
            weights = Weights(known["kind"], known["name"], known["path"] and Path(known["path"]))
            key = FeatureKey(**known["key"])
        except (KeyError, TypeError):
            known = {}
        if known and _still_the_same(weights, known["file"]):
            if key.model.partition(".")[0] != self._request.model.partition(".")[0]:
                log.info("%s is %s", self._request.model, key.model)
            return key, weights.name
        backbone = self.get()
        answer = {
            "key": asdict(backbone.key),
            **asdict(backbone.weights),
            "path": str(backbone.weights.path) if backbone.weights.path else None,
            "file": _file_stamp(backbone.weights.path),
        }
        self._store.remember(question, answer)
        return backbone.key, backbone.weights.name

    def get(self) -> Backbone:
        """The backbone, loaded."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def _question(self) -> Mapping[str, Any]:
        request = self._request
        return {
            "model": request.model,
            "checkpoint": [str(request.checkpoint.absolute()), _file_stamp(request.checkpoint)]
            if request.checkpoint
            else None,
            "random_init": request.random_init and request.seed,
            "dtype": [request.dtype, request.store_dtype],
            "versions": [FORMAT, version("timm"), version("torch")],
        }


def _file_stamp(path: Path | None) -> list[int] | None:
    try:
        stat = path.stat() if path else None
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns] if stat else None


def _still_the_same(weights: Weights, stamp: list[int] | None) -> bool:
    """Whether weights are as remembered. If they are gone, what they gave is still what was asked for."""
    if weights.path is None:
        return True
    now = _file_stamp(weights.path)
    if weights.kind == "checkpoint" and now is None:
        return False
    if weights.kind == "hub":
        from huggingface_hub import try_to_load_from_cache

        newer = try_to_load_from_cache(weights.name, weights.path.name)
        if isinstance(newer, str) and Path(newer) != weights.path:
            return False
    return now is None or now == stamp


def _list_wanted(
    store: FeatureStore,
    source: images.ImageSource,
    entries: Sequence[images.ImageEntry],
    chosen: Sequence[images.ImageEntry],
    runtime: Runtime,
    tell: Progress,
) -> tuple[list[Listed], list[BrokenImage]]:
    """List the source anew; read those wanted files whose content is not known yet."""
    known = store.listing(source.id)
    digests = {
        entry.id: old.digest
        for entry in entries
        if (old := known.get(entry.id)) and (old.size, old.mtime_ns) == (entry.size, entry.mtime_ns)
    }
    unread = [entry for entry in chosen if not digests.get(entry.id)]
    failed = []

    def digest(entry: images.ImageEntry) -> str | OSError:
        try:
            return images.content_digest(source.read(entry))
        except OSError as error:
            return error

    with ThreadPoolExecutor(runtime.threads) as pool:
        for done, (entry, found) in enumerate(zip(unread, _ahead(pool, digest, unread, 64), strict=True), 1):
            if isinstance(found, OSError):
                failed.append(BrokenImage(entry.id, found.strerror or str(found)))
            else:
                digests[entry.id] = found
            if done % 64 == 0 or done == len(unread):
                tell("reading images", done, len(unread))
    listing = [Listed(*entry, digests.get(entry.id, "")) for entry in entries]
    now = store.save_listing(source.id, listing)
    return [row for entry in chosen if (row := now[entry.id]).digest], failed


def _say_what_is_done(
    wanted: Sequence[Listed], missing: Sequence[Listed], have: set[str], damaged: Mapping[str, str]
) -> None:
    if not missing:
        log.info("all %s images are in the cache: nothing to extract", f"{len(wanted):,}")
    elif have or damaged:
        log.info(
            "%s of %s images are in the cache; extracting %s that are new, changed, or were lost",
            f"{sum(row.digest in have for row in wanted):,}",
            f"{len(wanted):,}",
            f"{len(missing):,}",
        )
    else:
        log.info("extracting %s", counted(len(missing), "image"))


def _run(
    backbone: Backbone,
    source: images.ImageSource,
    missing: Sequence[Listed],
    stored: StoredSet,
    runtime: Runtime,
    tell: Progress,
) -> list[BrokenImage]:
    """Put images through the backbone and store their features part by part, also when interrupted."""
    import numpy as np

    unreadable: list[BrokenImage] = []
    not_finite: list[BrokenImage] = []
    computed: list[tuple[list[Listed], NDArray[np.generic]]] = []
    flushed = time.monotonic()
    done = 0

    def flush() -> None:
        nonlocal computed, flushed
        batches, computed = computed, []
        if rows := [row for batch, _ in batches for row in batch]:
            stored.append(rows, np.concatenate([vectors for _, vectors in batches]))
        flushed = time.monotonic()

    precision = f"in {backbone.key.dtype} (stored as {backbone.key.store_dtype})"
    tell("extracting", 0, len(missing))
    batches = _batches(backbone, source, missing, runtime, unreadable)
    try:
        with contextlib.closing(batches):
            for batch, pixels in batches:
                with np.errstate(over="ignore"):  # of float16; what is not finite is reported
                    vectors = backbone(pixels).numpy().astype(backbone.key.store_dtype)
                if not done:
                    stored.save_head(backbone.head(vectors.shape[1]))
                finite = np.isfinite(vectors).all(axis=1)
                not_finite += [
                    BrokenImage(row.id, f"NaN or infinite features {precision}")
                    for row in itertools.compress(batch, ~finite)
                ]
                computed.append((list(itertools.compress(batch, finite)), vectors[finite]))
                done += len(batch)
                tell("extracting", done + len(unreadable), len(missing))
                is_large = sum(vectors.nbytes for _, vectors in computed) >= PART_BYTES
                if is_large or time.monotonic() - flushed >= PART_SECONDS:
                    flush()
    except StoreError:
        raise  # the disk is full, say: storing the rest would fail again
    except BaseException:  # Ctrl-C too: what has been computed is kept
        flush()
        raise
    flush()
    tell("extracting", len(missing), len(missing))
    return unreadable + not_finite


def _batches(
    backbone: Backbone,
    source: images.ImageSource,
    missing: Sequence[Listed],
    runtime: Runtime,
    failed: list[BrokenImage],
) -> Generator[tuple[list[Listed], torch.Tensor], None, None]:
    """Decoded images a batch at a time, decoded by threads ahead of the backbone; broken ones go to ``failed``."""
    import numpy as np
    import torch

    def prepare(row: Listed) -> NDArray[np.uint8] | str:
        try:
            content = source.read(images.ImageEntry(*row[:-1]))
            if images.content_digest(content) != row.digest:
                return "it changed while it was being read"
            return backbone.preprocess(images.decode(content))
        except ValueError as error:
            return str(error)
        except OSError as error:
            return error.strerror or str(error)

    with warnings.catch_warnings(), ThreadPoolExecutor(runtime.threads) as pool:
        warnings.filterwarnings("ignore", module="PIL")  # of odd metadata; what is broken raises
        rows: list[Listed] = []
        pixels: list[NDArray[np.uint8]] = []
        prepared = _ahead(pool, prepare, missing, 2 * runtime.batch_size)
        for row, image in zip(missing, prepared, strict=True):
            if isinstance(image, str):
                failed.append(BrokenImage(row.id, image))
                continue
            rows.append(row)
            pixels.append(image)
            if len(rows) == runtime.batch_size:
                yield rows, torch.from_numpy(np.stack(pixels))
                rows, pixels = [], []
        if rows:
            yield rows, torch.from_numpy(np.stack(pixels))


def _ahead(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Sequence[T], ahead: int) -> Iterator[R]:
    """``map`` over a pool that is never more than ``ahead`` items in front, so that memory stays bounded."""
    pending: collections.deque[Future[R]] = collections.deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()

"""From images to stored features: what is wanted less what is stored goes through the backbone."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import time
from collections.abc import Collection, Container, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nctransfer import catalogue
from nctransfer.backbones import Backbone, BackboneRequest, load
from nctransfer.catalogue import DEFAULT_MODEL
from nctransfer.devices import pick_device
from nctransfer.errors import BrokenImage, BrokenImagesError, DataError, DeviceError, FeaturesError, StoreError, counted
from nctransfer.features.feature_set import FeatureSet
from nctransfer.hub import Progress, cached
from nctransfer.sources.loading import load_images, read_digests, threads
from nctransfer.sources.opening import ReadingOptions, open_source
from nctransfer.sources.selection import Selection
from nctransfer.sources.source import ImageEntry, ImageSource
from nctransfer.store import FEATURE, FORMAT, FeatureKey, FeatureStore, Listed, StoredSet
from nctransfer.weights import Weights

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

__all__ = ["ExtractionReport", "Runtime", "extract", "extract_to_store"]

log = logging.getLogger(__name__)

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
    def has_diverged(self) -> bool:
        """Whether it was the backbone, not the images, that failed."""
        return any(broken.reason.startswith(NOT_FINITE) for broken in self.failed)

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
    exclude_classes: Sequence[str] = (),
    max_per_class: int | None = None,
    reading: ReadingOptions | None = None,
    seed: int = 0,
    device: str = "auto",
    batch_size: int = 32,
    workers: int | None = None,
    offline: bool = False,
    compile: bool = False,  # noqa: A002
    skip_broken: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    **backbone: Any,
) -> FeatureSet:
    """The features of labelled images under a frozen backbone, from the cache as far as they are in it.

    Args:
        model: A timm model or short name (``"vit_base"``), ``hf-hub:owner/name`` or ``local-dir:folder``.
        data: Labelled images of any kind that :mod:`nctransfer.sources.opening` reads, or ``"digits"``.
        split: Only this split of the data.
        classes: Only these classes.
        exclude_classes: Not these classes.
        max_per_class: At most so many images a class, drawn by ``seed``.
        reading: Columns, root folder and the like of the data; see :class:`~nctransfer.sources.opening.ReadingOptions`.
        seed: Of ``max_per_class`` and ``random_init``.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.
        batch_size: Images at once.
        workers: Threads that decode.
        offline: Never ask a server for weights.
        compile: Let ``torch.compile`` make kernels.
        skip_broken: Go on without images that cannot be read, rather than raise at the end.
        cache_dir: The cache; by default ``$NCTRANSFER_CACHE``, else the platform's.
        progress: Called as ``progress(stage, done, total)``.
        **backbone: What else :class:`~nctransfer.backbones.BackboneRequest` takes: ``checkpoint``, ``random_init``,
            ``dtype``, ``store_dtype``, ``img_size``, ``mean``, ``std``, ``crop_pct``, ``interpolation``, ``pool``,
            ``layers``, ``model_kwargs``, ``plugin``, ``allow_missing``.

    Raises:
        BrokenImagesError: Some images could not be read; the features of the others are stored.
        NCTransferError: See :mod:`nctransfer.errors`.
        TypeError: There is no such argument.
    """
    if backbone.get("checkpoint") is not None:
        backbone["checkpoint"] = Path(backbone["checkpoint"])
    report = extract_to_store(
        FeatureStore(cache_dir),
        BackboneRequest(model, seed=seed, **backbone),
        open_source(data, replace(reading or ReadingOptions(), split=split, offline=offline)),
        Selection(split, tuple(classes) if classes is not None else None, max_per_class, seed, tuple(exclude_classes)),
        Runtime(device, batch_size, workers, offline, compile),
        progress,
    )
    if report.failed and not skip_broken:
        raise BrokenImagesError(report.failed, report.samples)
    return report.stored.read(report.selection)


def extract_to_store(
    store: FeatureStore,
    request: BackboneRequest,
    source: ImageSource,
    selection: Selection,
    runtime: Runtime,
    progress: Progress | None = None,
    also: Sequence[Selection] = (),
) -> ExtractionReport:
    """Fill the store with what is wanted and not there; images that cannot be read are reported, not raised.

    Args:
        store: Where to.
        request: The backbone.
        source: The images.
        selection: Which of them; what the report is of, but for its numbers.
        runtime: How to run.
        progress: Called as ``progress(stage, done, total)``.
        also: What else of the source goes through the backbone in the same pass.

    Raises:
        NCTransferError: See :mod:`nctransfer.errors`.
    """
    tell = progress or (lambda *_: None)
    if runtime.device not in ("auto", "cpu"):
        pick_device(runtime.device)  # also where nothing is to be run
    entries = source.list()
    log.info("%s: %s, %s", source.name, source.kind, counted(len(entries), "image"))
    for note in source.notes:
        log.warning("%s: %s", source.name, note)
    columns = [list(column) for column in zip(*((one.id, one.label, one.split) for one in entries), strict=True)]
    rows = {row for wanted in (selection, *also) for row in wanted.apply(*columns).tolist()}
    chosen = [entries[row] for row in sorted(rows)]
    task = _Task(source, entries, chosen, selection, runtime, tell)
    backbones = _LazyBackbone(store, request, runtime, progress)
    report = None
    while report is None:  # again, if the weights turn out to have changed since they were remembered
        known = backbones.known()
        stored = store.open(known.key, source.id, {"weights": known.weights, "data": source.name})
        report = _fill(stored, known.columns, backbones, task)
    store.use(stored, selection)
    return report


@dataclass(frozen=True)
class _Task:
    """What is wanted of a source, and how to run it."""

    source: ImageSource
    entries: Sequence[ImageEntry]
    chosen: Sequence[ImageEntry]
    selection: Selection
    runtime: Runtime
    tell: Progress


def _fill(stored: StoredSet, columns: Sequence[str], backbones: _LazyBackbone, task: _Task) -> ExtractionReport | None:
    """Extract into one set; ``None`` if its key is no longer that of the backbone."""
    with stored.lock(lambda: log.warning("waiting for another process that extracts into %s", stored.id)):
        damaged = stored.repair()
        for name, reason in damaged.items():
            log.warning("%s is damaged (%s); its images are extracted again", name, reason)
        had = have = stored.digests(columns)
        listing = _Listing(stored.store, task)
        broken = listing.read() if had else {}  # else all is read only once, to be run
        listing.save()
        missing = listing.missing(had, broken)
        _say_what_is_done(listing.wanted(broken), missing, had, damaged)
        seconds = 0.0
        while missing:
            backbone = backbones.get({*columns, *stored.columns})  # new rows have all that the stored ones have
            if backbone.key.digest != stored.key.digest:
                return None
            start = time.perf_counter()
            work = _Work(backbone, task, missing, stored)
            try:
                work.run()
            finally:
                listing.update(work.digests)
                listing.save()
            seconds += time.perf_counter() - start
            have = stored.digests(columns)
            # of equal content one is run; all are broken with it, unless it was the file that could not be read
            reasons = {row.id: work.broken.get(row.id) or work.broken.get(row.digest) for row in listing.wanted(broken)}
            broken |= {id_: reason for id_, reason in reasons.items() if reason}
            before, missing = missing, listing.missing(have, broken)
            assert missing != before, "each image that is run is stored, or there is a reason"
        if stored.rows > len(stored.digests()):  # some have been stored again, with more columns
            stored.drop_superseded()
    wanted = listing.wanted(broken)
    if twins := sum(row.digest in have for row in wanted) - len({row.digest for row in wanted} & have):
        log.warning("%s the same as another, byte for byte: nctransfer data says which", counted(twins, "image"))
    report = ExtractionReport(
        stored=stored,
        selection=task.selection,
        samples=sum(row.digest in have for row in wanted),
        extracted=len(have - had),
        reused=sum(row.digest in had for row in wanted),
        failed=tuple(BrokenImage(entry.id, broken[entry.id]) for entry in task.chosen if entry.id in broken),
        seconds=seconds,
    )
    if not report.samples:
        first = report.failed[0]
        kind = FeaturesError if report.has_diverged else DataError
        raise kind(f"none of the {len(broken):,} images could be used; the first: {first.id!r}: {first.reason}")
    return report


class _Known(NamedTuple):
    """What is known of a backbone before it is loaded."""

    key: FeatureKey
    weights: str  # where they came from, in words
    columns: tuple[str, ...]


class _LazyBackbone:
    """A backbone whose key is known from earlier runs if possible, and which is loaded only if needed."""

    def __init__(
        self, store: FeatureStore, request: BackboneRequest, runtime: Runtime, progress: Progress | None
    ) -> None:
        self._store = store
        self._request = request
        self._runtime = runtime
        self._progress = progress
        self._loaded: Backbone | None = None

    def known(self) -> _Known:
        """The key of the rows, where the weights came from, and the columns that are wanted."""
        question = self._question()
        answer = {} if self._loaded else self._store.recall(question)
        try:
            weights = Weights(answer["kind"], answer["name"], answer["path"] and Path(answer["path"]))
            known = _Known(FeatureKey(**answer["key"]), weights.name, tuple(answer["columns"]))
            holds = _still_the_same(weights, answer["file"])
        except (KeyError, TypeError):
            holds = False
        if holds:
            asked = self._request.model
            if ":" not in asked and known.key.model.partition(".")[0] != asked.partition(".")[0]:
                log.info("%s is %s", self._request.model, known.key.model)
            return known
        backbone = self._load(self._request)
        answer = {
            "key": asdict(backbone.key),
            "columns": backbone.columns,
            **asdict(backbone.weights),
            "path": str(backbone.weights.path) if backbone.weights.path else None,
            "file": _file_stamp(backbone.weights.path),
        }
        self._store.remember(question, answer)
        return _Known(backbone.key, backbone.weights.name, backbone.columns)

    def get(self, columns: Collection[str]) -> Backbone:
        """The backbone, loaded and made fast, that gives these columns."""
        backbone = self._loaded
        if backbone is None or not set(columns) <= set(backbone.columns):
            layers = sorted(int(name.rpartition("_")[2]) for name in columns if name != FEATURE)
            backbone = self._load(replace(self._request, layers=",".join(map(str, layers)) or None))
        if backbone.device.type == "cpu" and backbone.key.dtype == "float32":
            backbone.fold()
        if self._runtime.compile:
            backbone.compile(self._runtime.batch_size)
        return backbone

    def _load(self, request: BackboneRequest) -> Backbone:
        self._loaded = load(request, self._runtime.device, self._runtime.offline, self._progress)
        return self._loaded

    def _question(self) -> Mapping[str, Any]:
        request = self._request
        files = [request.checkpoint, catalogue.plugin_file(request.plugin) if request.plugin else None]
        if request.model.startswith("local-dir:"):
            folder = Path(request.model.partition(":")[2]).expanduser()
            files += [folder / name for name in ("config.json", *catalogue.WEIGHT_FILES)]
        return {
            **asdict(request),
            "checkpoint": None,
            "seed": request.random_init and request.seed,
            "files": [[str(path.absolute()), _file_stamp(path)] for path in files if path],
            "versions": [FORMAT, version("timm"), version("torch")],
        }


def _file_stamp(path: Path | None) -> list[int] | None:
    try:
        stat = path.expanduser().stat() if path else None
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns] if stat else None


def _still_the_same(weights: Weights, stamp: list[int] | None) -> bool:
    """Whether weights are as remembered. If they are gone, what they gave is still what was asked for."""
    if weights.path is None:
        return True
    now = _file_stamp(weights.path)
    if weights.kind in ("checkpoint", "folder") and now is None:
        return False
    if weights.kind == "hub" and (newer := cached(weights.name, [weights.path.name])) and newer != weights.path:
        return False
    return now is None or now == stamp


class _Listing:
    """What a source holds now, with the digests that are known."""

    def __init__(self, store: FeatureStore, task: _Task) -> None:
        self._store = store
        self._task = task
        self._saved = store.listing(task.source.id)
        self._rows = {
            entry.id: Listed(*entry, old.digest if old and old[3:5] == entry[3:5] else "")
            for entry in task.entries
            for old in [self._saved.get(entry.id)]
        }

    def wanted(self, broken: Container[str]) -> list[Listed]:
        """The chosen images but for those that are broken."""
        return [self._rows[entry.id] for entry in self._task.chosen if entry.id not in broken]

    def missing(self, have: Container[str], broken: Container[str]) -> list[Listed]:
        """One image of each content that is wanted and not stored; those not read yet may be any."""
        first: dict[str, Listed] = {}
        for row in self.wanted(broken):
            if row.digest not in have:
                first.setdefault(row.digest or row.id, row)
        return list(first.values())

    def read(self) -> dict[str, str]:
        """Read those images whose content is not known yet; returns why some cannot be read, by id."""
        unread = [entry for entry in self._task.chosen if not self._rows[entry.id].digest]
        broken = {}
        found = read_digests(self._task.source, unread, self._task.runtime.workers)
        for done, (entry, image) in enumerate(zip(unread, found, strict=True), 1):
            if image.broken:
                broken[entry.id] = image.broken
            self.update({entry.id: image.digest})
            if done % 64 == 0 or done == len(unread):
                self._task.tell("reading images", done, len(unread))
        return broken

    def update(self, digests: Mapping[str, str]) -> None:
        """Add what has been found out."""
        for id_, digest in digests.items():
            self._rows[id_] = self._rows[id_]._replace(digest=digest)

    def save(self) -> None:
        """Store it if it says anything new, and take over what another process found out meanwhile."""
        if self._rows != self._saved:
            self._saved = self._store.save_listing(self._task.source.id, list(self._rows.values()))
            self._rows = dict(self._saved)


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


@dataclass
class _Work:
    """Images on their way through the backbone into the store, part by part, also when interrupted.

    Attributes:
        digests: Of each image that was read, by id.
        broken: Why an image gave no features, by digest, or by id where it could not be read.
    """

    backbone: Backbone
    task: _Task
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

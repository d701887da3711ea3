"""From images to stored features: what is wanted less what is stored goes through the backbone."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.names import DEFAULT_MODEL
from nctransfer.backbones.request import BackboneRequest
from nctransfer.devices import pick_device
from nctransfer.errors import BrokenImagesError, counted
from nctransfer.sources.opening import ReadingOptions, open_source
from nctransfer.sources.selection import Selection
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.lazy_backbone import LazyBackbone
from nctransfer.store.pipeline import Runtime, Task
from nctransfer.store.resuming import fill

if TYPE_CHECKING:
    from nctransfer.backbones.hub import Progress
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.sources.source import ImageSource
    from nctransfer.store.resuming import ExtractionReport

__all__ = ["extract", "extract_to_store"]

log = logging.getLogger(__name__)


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
        **backbone: What else ``nctransfer.backbones.request.BackboneRequest`` takes: ``checkpoint``, ``random_init``,
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
    task = Task(source, entries, chosen, selection, runtime, tell)
    backbones = LazyBackbone(store, request, runtime, progress)
    report = None
    while report is None:  # again, if the weights turn out to have changed since they were remembered
        known = backbones.known()
        stored = store.open(known.key, source.id, {"weights": known.weights, "data": source.name})
        report = fill(stored, known.columns, backbones, task)
    store.use(stored, selection)
    return report

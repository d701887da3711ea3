"""Extraction: wanted images that are not stored yet go through the backbone, and their features are stored."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.names import DEFAULT_MODEL
from nctransfer.backbones.request import BackboneRequest
from nctransfer.devices import pick_device
from nctransfer.errors import BrokenImagesError, counted
from nctransfer.sources.opening import open_source
from nctransfer.sources.selection import Selection
from nctransfer.sources.sharding import Shard
from nctransfer.sources.source_kind import ReadingOptions
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.lazy_backbone import LazyBackbone
from nctransfer.store.measured_speed import keep_speed
from nctransfer.store.pipeline import Runtime, Task
from nctransfer.store.ray_options import RayOptions
from nctransfer.store.resuming import fill
from nctransfer.store.wanted_images import WantedImages, wanted_images

if TYPE_CHECKING:
    from nctransfer.backbones.hub import Progress
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.sources.source import ImageEntry, ImageSource
    from nctransfer.store.extraction_report import ExtractionReport

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
    shard: Shard | str | None = None,
    reading: ReadingOptions | None = None,
    seed: int = 0,
    device: str = "auto",
    batch_size: int = 32,
    workers: int | None = None,
    offline: bool = False,
    compile: bool = False,  # noqa: A002
    engine: str = "local",
    ray: RayOptions | None = None,
    skip_broken: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    **backbone: Any,
) -> FeatureSet:
    """The features of labelled images under a frozen backbone. Features that are in the cache are not computed again.

    Args:
        model: A timm model or short name (``"vit_base"``), ``hf-hub:owner/name`` or ``local-dir:folder``.
        data: Labelled images of any kind that :mod:`nctransfer.sources.opening` reads, or ``"digits"``.
        split: Take only this split of the data.
        classes: Take only these classes.
        exclude_classes: Leave these classes out.
        max_per_class: Take up to this many images per class, drawn at random with ``seed``.
        shard: Of these images, take only the share of one worker, such as ``"3/8"``, the third of eight.
        reading: How to read the data, for example the names of columns; see
            :class:`~nctransfer.sources.source_kind.ReadingOptions`.
        seed: The seed for ``max_per_class`` and ``random_init``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        batch_size: The number of images that go through the model at once.
        workers: The number of threads that read and decode images.
        offline: If true, no server is ever asked for weights.
        compile: If true, ``torch.compile`` makes kernels.
        engine: ``local`` runs the images in this process, ``ray`` in worker processes of Ray.
        ray: How many workers Ray has, and where; see :class:`~nctransfer.store.ray_options.RayOptions`.
        skip_broken: If true, images that cannot be read are left out; if false, they are an error at the end.
        cache_dir: The cache folder; by default ``$NCTRANSFER_CACHE``, else the platform's cache folder.
        progress: Called as ``progress(stage, done, total)``.
        **backbone: Further fields of :class:`~nctransfer.backbones.request.BackboneRequest`: ``checkpoint``,
            ``random_init``, ``dtype``, ``store_dtype``, ``img_size``, ``mean``, ``std``, ``crop_pct``,
            ``interpolation``, ``pool``, ``layers``, ``model_kwargs``, ``plugin``, ``allow_missing``.

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
        Selection(
            split,
            classes=tuple(classes) if classes is not None else None,
            exclude_classes=tuple(exclude_classes),
            max_per_class=max_per_class,
            seed=seed,
            shard=Shard.parse(shard) if isinstance(shard, str) else shard,
        ),
        Runtime(
            device=device,
            batch_size=batch_size,
            workers=workers,
            offline=offline,
            compile=compile,
            engine=engine,
            ray=ray or RayOptions(),
        ),
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
    rehearse: Callable[[Sequence[ImageEntry]], object] | None = None,
    images: WantedImages | None = None,
    keep_classes: bool = False,
) -> ExtractionReport:
    """Extract wanted images that are not stored yet. Images that cannot be read are reported, not raised.

    Args:
        store: The cache.
        request: The backbone.
        source: The images.
        selection: Which images are wanted; the report names this selection.
        runtime: How to run.
        progress: Called as ``progress(stage, done, total)``.
        also: Further selections, whose images go through the backbone in the same pass; the numbers of the report
            count their images too.
        rehearse: Called with the wanted images before any of them runs; an error that it raises ends the extraction.
        images: What :func:`wanted_images` gives for these selections, if it is known already.
        keep_classes: If the same images are stored in other classes: whether they stay in them, so that the classes of
            this source are only those of the set in the report. By default all stored sets of the source get them.

    Raises:
        NCTransferError: See :mod:`nctransfer.errors`.
    """
    tell = progress or (lambda *_: None)
    if runtime.engine == "local" and runtime.device not in ("auto", "cpu"):
        pick_device(runtime.device)  # an unknown device is an error even if no image has to be run
    images = images or wanted_images(source, (selection, *also))
    log.info("%s: %s, %s", source.name, source.kind, counted(len(images.entries), "image"))
    if selection.shard is not None:
        log.info("%s: %s", selection.shard, counted(len(images.rows), "image"))
        tell = _naming(selection.shard, tell)
    for note in source.notes:
        log.warning("%s: %s", source.name, note)
    if rehearse is not None:
        rehearse(images.chosen)
    task = Task(
        source=source, images=images, selection=selection, runtime=runtime, tell=tell, keep_classes=keep_classes
    )
    # workers elsewhere may have other devices; here the backbone is loaded for its key alone, if at all
    here = runtime if runtime.engine == "local" else replace(runtime, device="cpu")
    backbones = LazyBackbone(store, request, here, progress)
    report = None
    while report is None:  # once more if the weights turn out to have changed since their key was remembered
        known = backbones.known()
        stored = store.open(known.key, source.id, {"weights": known.weights, "data": source.name})
        report = fill(stored, known.columns, backbones, task)
    # shards may run side by side, so that each is slower than the machine
    if selection.shard is None and runtime.engine == "local":
        keep_speed(report.stored, report, runtime)
    return report


def _naming(shard: Shard, tell: Progress) -> Progress:
    """Progress whose stages name the shard."""
    return lambda stage, done, total: tell(f"{shard}: {stage}", done, total)

"""Collapse and few-shot accuracy measured checkpoint by checkpoint."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.names import DEFAULT_MODEL
from nctransfer.backbones.request import BackboneRequest
from nctransfer.checkpoints.files import find_checkpoints, steps
from nctransfer.checkpoints.kept_measurements import KeptMeasurements
from nctransfer.checkpoints.rehearsal import rehearse
from nctransfer.checkpoints.samples import samples_by_source, samples_of
from nctransfer.checkpoints.trajectory_result import TARGET, Point, Trajectory
from nctransfer.episodes.classifier import RIDGE_LAMBDA
from nctransfer.errors import BrokenImagesError, FeaturesError, SettingError, WeightsError, counted
from nctransfer.evaluation.equal_episodes import drawn_by_task, with_equal_episodes
from nctransfer.evaluation.fewshot_task import FewShotTask
from nctransfer.evaluation.stopping import PRECISION
from nctransfer.sources.selection import Selection
from nctransfer.sources.source_kind import ReadingOptions
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.extraction import extract_to_store
from nctransfer.store.pipeline import Runtime
from nctransfer.store.wanted_images import wanted_images

if TYPE_CHECKING:
    from nctransfer.backbones.hub import Progress
    from nctransfer.checkpoints.samples import Sample
    from nctransfer.episodes.classifier import RidgePenalty
    from nctransfer.errors import NCTransferError
    from nctransfer.evaluation.fewshot_task import Number
    from nctransfer.intervals import Interval
    from nctransfer.sources.source import ImageSource
    from nctransfer.store.stored_set import StoredSet
    from nctransfer.store.wanted_images import WantedImages

__all__ = ["follow", "trajectory"]

log = logging.getLogger(__name__)


def trajectory(
    model: str = DEFAULT_MODEL,
    checkpoints: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
    data: str | os.PathLike[str] = "digits",
    *,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    exclude_classes: Sequence[str] = (),
    max_per_class: int | None = None,
    reading: ReadingOptions | None = None,
    source: str | os.PathLike[str] | None = None,
    source_classes: Sequence[str] | None = None,
    train_split: str = "train",
    test_split: str = "test",
    ways: Number | Sequence[Number] = 5,
    shots: int | Sequence[int] = (1, 5),
    queries: Number = 15,
    episodes: int = 10_000,
    precision: float = PRECISION,
    classifiers: str | Sequence[str] = ("ridge", "ncc"),
    l2_normalise: bool = False,
    ridge_lambda: RidgePenalty = RIDGE_LAMBDA,
    interval: Interval = "episodes",
    drop_small: bool = False,
    theory: bool = True,
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
) -> Trajectory:
    """Collapse and few-shot accuracy of every checkpoint of a training run.

    Features that are in the cache are taken from there, so that a call that was stopped can be repeated, and only new
    checkpoints go through the backbone. A checkpoint that cannot be read is left out, and the result names it.

    Args:
        model: The architecture: a timm model, or one of a ``plugin``.
        checkpoints: Files, patterns and folders, see :func:`~nctransfer.checkpoints.files.find_checkpoints`.
        data: The target: images of classes that the backbone was not trained on, or any other images.
        split: Use only this split of the target.
        classes: Use only these classes of the target.
        exclude_classes: Leave out these classes of the target.
        max_per_class: Use up to this many images per class, also of the source.
        reading: How to read the data, see :class:`~nctransfer.sources.source_kind.ReadingOptions`.
        source: The data that the backbone is trained on, if they are not in ``data``.
        source_classes: The classes that the backbone is trained on. With ``source`` or ``source_classes``, collapse is
            also measured on two samples of the source: source-train and source-test (Galanti, György, Hutter, ICLR
            2022).
        train_split: The split of the source that the backbone is trained on.
        test_split: Another split of the source.
        ways: Classes per episode; one number or several; ``all`` for every class.
        shots: Support samples per class; one number or several.
        queries: Query samples per class; ``all`` for every sample that is not in the support.
        episodes: Episodes per number of ways, at most; the same for every checkpoint.
        precision: No more episodes are drawn once the half-width of the 95% interval over episodes is below so many
            percentage points for every row of every checkpoint; 0 never stops early.
        classifiers: Names of few-shot classifiers, or ``all``.
        l2_normalise: Scale features to unit length.
        ridge_lambda: The penalty of ``ridge``, see :func:`~nctransfer.episodes.ridge.ridge`.
        interval: What the 95% interval of an accuracy refers to, see :data:`~nctransfer.intervals.INTERVALS`.
        drop_small: Leave out classes with too few samples; otherwise they are an error.
        theory: Give the expected accuracy and the bounds of the error beside the measured accuracy of ``ncc``.
        seed: The seed of the episodes and of ``max_per_class``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        batch_size: Images per batch.
        workers: Threads that decode images.
        offline: Never download data.
        compile: Use ``torch.compile``.
        skip_broken: Leave out images that cannot be read; otherwise they are an error.
        cache_dir: The cache; by default ``$NCTRANSFER_CACHE``, or else the cache folder of the platform.
        progress: Called as ``progress(stage, done, total)``.
        **backbone: Further arguments of :class:`~nctransfer.backbones.request.BackboneRequest`, such as ``plugin``.

    Raises:
        NCTransferError: There is no such data or checkpoint, or no checkpoint could be measured.
    """
    wanted = Selection(
        split,
        classes=tuple(classes) if classes is not None else None,
        exclude_classes=tuple(exclude_classes),
        max_per_class=max_per_class,
        seed=seed,
    )
    task = FewShotTask(
        ways=ways,
        shots=shots,
        queries=queries,
        episodes=episodes,
        precision=precision,
        classifiers=classifiers,
        seed=seed,
        ridge_lambda=ridge_lambda,
        l2_normalise=l2_normalise,
        interval=interval,
        drop_small=drop_small,
        theory=theory,
    )
    return follow(
        FeatureStore(cache_dir),
        BackboneRequest(model, seed=seed, **backbone),
        find_checkpoints(checkpoints),
        samples_of(
            data,
            wanted,
            replace(reading or ReadingOptions(), offline=offline),
            source,
            source_classes,
            (train_split, test_split),
        ),
        Runtime(device=device, batch_size=batch_size, workers=workers, offline=offline, compile=compile),
        task,
        skip_broken=skip_broken,
        progress=progress,
    )


def follow(
    store: FeatureStore,
    request: BackboneRequest,
    checkpoints: Sequence[Path],
    samples: Mapping[str, Sample],
    runtime: Runtime,
    task: FewShotTask,
    *,
    skip_broken: bool = False,
    progress: Progress | None = None,
    use: Callable[[StoredSet, Selection], object] = lambda *_: None,
) -> Trajectory:
    """:func:`trajectory` with arguments that were made before.

    Args:
        store: Where features are kept.
        request: The backbone without its checkpoint.
        checkpoints: The files of the checkpoints.
        samples: ``target``, and optionally both ``source-train`` and ``source-test``, on which collapse is measured.
        runtime: How to run the backbone.
        task: The few-shot task on the target.
        skip_broken: Leave out images that cannot be read; otherwise they are an error.
        progress: Called as ``progress(stage, done, total)``; stages name the checkpoint.
        use: Called with the target's features under the last checkpoint.

    Raises:
        NCTransferError: See :func:`trajectory`.
    """
    if request.random_init or request.checkpoint is not None:
        raise WeightsError(
            "the weights of a trajectory are those of its checkpoints", "leave out --checkpoint and --random-init"
        )
    if request.layers is not None:
        raise SettingError("a trajectory measures the last layer only", "leave out --layers")
    warnings: dict[str, None] = {}
    failed: dict[str, NCTransferError] = {}
    with store.listings_in_memory():
        by_source = samples_by_source(samples)
        images = {source: wanted_images(source, wanted.values()) for source, wanted in by_source.items()}
        entries = {source: one.entries for source, one in images.items()}
        _warn(rehearse(samples, task, runtime.device, entries), warnings)
        measurements_of = _MeasurementsOf(store, request, by_source, images, runtime, task, skip_broken)
        found = list(_measure(checkpoints, measurements_of, warnings, failed, progress))
        if not found:
            raise next(iter(failed.values()))
        points = _on_equal_episodes(found)
    use(*found[-1][1].samples[TARGET])
    return Trajectory(
        model=request.model,
        transform=found[-1][1].samples[TARGET][0].key.transform,
        points=_with_steps(points),
        failed={name: str(error) for name, error in failed.items()},
        warnings=tuple(warnings),
    )


def _measure(
    checkpoints: Sequence[Path],
    measurements_of: _MeasurementsOf,
    warnings: dict[str, None],
    failed: dict[str, NCTransferError],
    progress: Progress | None,
) -> Iterator[tuple[Point, KeptMeasurements]]:
    """Each checkpoint that can be measured; the errors of the others and new warnings are noted."""
    points: list[Point] = []
    for number, (path, name) in enumerate(zip(checkpoints, _names(checkpoints), strict=True), 1):
        where = f"{name!r} ({number}/{len(checkpoints)})"
        tell = functools.partial(_tell, progress, where)
        try:
            measurements = measurements_of(path, tell)
            compared = measurements.collapse()
        except (WeightsError, FeaturesError) as error:  # incomplete yet, or diverged: the others are still measured
            failed[name] = error
            log.warning("%s is left out: %s", where, error)
            continue
        _warn(compared.warnings, warnings)
        result = measurements.fewshot(drawn_by_task([point.fewshot for point in points]), progress=tell)
        same_as = next((one.checkpoint for one in points if one.fewshot.features.id == result.features.id), None)
        points.append(Point(checkpoint=name, path=str(path), same_as=same_as, reports=compared.reports, fewshot=result))
        same = f" (the same weights as {same_as!r})" if same_as else ""
        log.info("%s: %s%s", where, _in_short(points[-1]), same)
        yield points[-1], measurements


def _warn(found: Iterable[str], known: dict[str, None]) -> None:
    """Log warnings that are not among the known ones, and note them there."""
    for warning in found:
        if warning not in known:
            known[warning] = None
            log.warning("%s", warning)


def _on_equal_episodes(found: Sequence[tuple[Point, KeptMeasurements]]) -> list[Point]:
    """The points, each on as many episodes as the one that needs the most."""
    results = with_equal_episodes(
        [point.fewshot for point, _ in found],
        lambda place, before, at_least: found[place][1].fewshot(at_least, before),
    )
    return [replace(point, fewshot=result) for (point, _), result in zip(found, results, strict=True)]


def _with_steps(points: Sequence[Point]) -> tuple[Point, ...]:
    found = steps([point.checkpoint for point in points])
    return tuple(replace(point, step=step) for point, step in zip(points, found, strict=True))


@dataclass(frozen=True)
class _MeasurementsOf:
    """Runs one checkpoint after another over all samples."""

    store: FeatureStore
    request: BackboneRequest
    sources: Mapping[ImageSource, Mapping[str, Selection]]
    images: Mapping[ImageSource, WantedImages]
    runtime: Runtime
    task: FewShotTask
    skip_broken: bool

    def __call__(self, path: Path, progress: Progress) -> KeptMeasurements:
        """Extract features with one checkpoint.

        Raises:
            WeightsError: The checkpoint cannot be read.
            FeaturesError: Its features are not finite.
            BrokenImagesError: Images cannot be read.
        """
        found: dict[str, tuple[StoredSet, Selection]] = {}
        is_whole = True
        request = replace(self.request, checkpoint=path)
        for source, wanted in self.sources.items():
            first, *others = wanted.values()
            images = self.images[source]
            report = extract_to_store(
                self.store, request, source, first, self.runtime, progress, others, images=images, keep_classes=True
            )
            if report.has_diverged:
                raise FeaturesError(f"{report.failed[0].reason} of {counted(len(report.failed), 'image')}")
            if report.failed and not self.skip_broken:
                raise BrokenImagesError(report.failed, report.samples)
            is_whole = is_whole and not report.failed
            found |= {sample: (report.stored, selection) for sample, selection in wanted.items()}
        return KeptMeasurements(samples=found, task=self.task, device=self.runtime.device, is_whole=is_whole)


def _tell(progress: Progress | None, where: str, stage: str, done: int, total: int) -> None:
    if progress is not None:
        progress(f"{where} {stage}", done, total)


def _names(paths: Sequence[Path]) -> list[str]:
    """The path of each checkpoint, relative to the folder that all have in common."""
    folder = os.path.commonpath([path.parent for path in paths])
    return [str(path.relative_to(folder)) for path in paths]


def _in_short(point: Point) -> str:
    accuracies = [f"{one.classifier} {one.ways}-way {one.shots}-shot {one.accuracy:.1%}" for one in point.fewshot.rows]
    cdnv = point.reports[TARGET].cdnv
    assert cdnv is not None
    return f"CDNV {cdnv:.3f}, {', '.join(accuracies[:4])}" + ", …" * (len(accuracies) > 4)

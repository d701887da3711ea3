"""Collapse and few-shot accuracy measured checkpoint by checkpoint."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nctransfer.backbones.names import DEFAULT_MODEL
from nctransfer.backbones.request import BackboneRequest
from nctransfer.checkpoints.files import find_checkpoints, steps
from nctransfer.checkpoints.rehearsal import rehearse
from nctransfer.checkpoints.samples import collapse_of_samples, samples_by_source, samples_of
from nctransfer.checkpoints.trajectory_result import TARGET, Point, Trajectory
from nctransfer.episodes.classifier import RIDGE_LAMBDA
from nctransfer.errors import BrokenImagesError, FeaturesError, SettingError, WeightsError, counted
from nctransfer.evaluation.equal_episodes import drawn_by_ways, with_equal_episodes
from nctransfer.evaluation.fewshot_accuracy import run_fewshot
from nctransfer.evaluation.fewshot_task import FewShotTask
from nctransfer.evaluation.stopping import PRECISION
from nctransfer.sources.selection import Selection
from nctransfer.sources.source_kind import ReadingOptions
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.extraction import extract_to_store
from nctransfer.store.pipeline import Runtime

if TYPE_CHECKING:
    from nctransfer.backbones.hub import Progress
    from nctransfer.checkpoints.samples import Sample
    from nctransfer.episodes.classifier import RidgePenalty
    from nctransfer.errors import NCTransferError, SettingError
    from nctransfer.evaluation.fewshot_results import FewShotResult
    from nctransfer.evaluation.fewshot_task import Number
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.intervals import Interval
    from nctransfer.neural_collapse.comparisons import CollapseComparison
    from nctransfer.sources.source import ImageSource

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
    _warn(rehearse(samples, task, runtime.device), warnings)
    collapse_of = _CollapseOf(store, request, samples_by_source(samples), runtime, skip_broken)
    points: list[Point] = []
    transform: Mapping[str, Any] = {}
    failed: dict[str, NCTransferError] = {}
    again: list[Callable[[], FeatureSet]] = []
    run = functools.partial(run_fewshot, task=task, device=runtime.device, for_comparison=True)
    for number, (path, name) in enumerate(zip(checkpoints, _names(checkpoints), strict=True), 1):
        where = f"{name!r} ({number}/{len(checkpoints)})"
        tell = functools.partial(_tell, progress, where)
        try:
            measured = collapse_of(path, tell)
        except (WeightsError, FeaturesError) as error:  # incomplete yet, or diverged: the others are still measured
            failed[name] = error
            log.warning("%s is left out: %s", where, error)
            continue
        _warn(measured.collapse.warnings, warnings)
        at_least = drawn_by_ways([point.fewshot for point in points])
        result = run(measured.target, at_least=at_least, progress=tell)
        same_as = next((one.checkpoint for one in points if one.fewshot.features.id == result.features.id), None)
        reports = measured.collapse.reports
        points.append(Point(checkpoint=name, path=str(path), same_as=same_as, reports=reports, fewshot=result))
        transform = measured.transform
        again.append(measured.read_target)
        same = f" (the same weights as {same_as!r})" if same_as else ""
        log.info("%s: %s%s", where, _in_short(points[-1]), same)
    if not points:
        raise next(iter(failed.values()))
    return Trajectory(
        model=request.model,
        transform=transform,
        points=_with_steps(_on_equal_episodes(points, run, again)),
        failed={name: str(error) for name, error in failed.items()},
        warnings=tuple(warnings),
    )


def _warn(found: Iterable[str], known: dict[str, None]) -> None:
    """Log warnings that are not among the known ones, and note them there."""
    for warning in found:
        if warning not in known:
            known[warning] = None
            log.warning("%s", warning)


def _on_equal_episodes(
    points: Sequence[Point], run: Callable[..., FewShotResult], readers: Sequence[Callable[[], FeatureSet]]
) -> list[Point]:
    """The points, each on as many episodes as the one that needs the most; their features are read again."""
    results = with_equal_episodes(
        [point.fewshot for point in points],
        lambda place, before, at_least: run(readers[place](), at_least=at_least, before=before),
    )
    return [replace(point, fewshot=result) for point, result in zip(points, results, strict=True)]


def _with_steps(points: Sequence[Point]) -> tuple[Point, ...]:
    found = steps([point.checkpoint for point in points])
    return tuple(replace(point, step=step) for point, step in zip(points, found, strict=True))


class _Measured(NamedTuple):
    """The features of the target under one checkpoint, the collapse of every sample, and what was done to images."""

    target: FeatureSet
    read_target: Callable[[], FeatureSet]
    collapse: CollapseComparison
    transform: Mapping[str, Any]


@dataclass(frozen=True)
class _CollapseOf:
    """Runs one checkpoint after another over all samples, and measures their collapse."""

    store: FeatureStore
    request: BackboneRequest
    sources: Mapping[ImageSource, Mapping[str, Selection]]
    runtime: Runtime
    skip_broken: bool

    def __call__(self, path: Path, progress: Progress) -> _Measured:
        """Extract features with one checkpoint, and measure their collapse.

        Raises:
            WeightsError: The checkpoint cannot be read.
            FeaturesError: Its features are not finite.
            BrokenImagesError: Images cannot be read.
        """
        sets: dict[str, FeatureSet] = {}
        readers: dict[str, Callable[[], FeatureSet]] = {}
        request = replace(self.request, checkpoint=path)
        for source, wanted in self.sources.items():
            first, *others = wanted.values()
            report = extract_to_store(self.store, request, source, first, self.runtime, progress, others)
            if report.has_diverged:
                raise FeaturesError(f"{report.failed[0].reason} of {counted(len(report.failed), 'image')}")
            if report.failed and not self.skip_broken:
                raise BrokenImagesError(report.failed, report.samples)
            readers |= {sample: functools.partial(report.stored.read, one) for sample, one in wanted.items()}
            sets |= {sample: readers[sample]() for sample in wanted}
        return _Measured(
            sets[TARGET], readers[TARGET], collapse_of_samples(sets, self.runtime.device), report.stored.key.transform
        )


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

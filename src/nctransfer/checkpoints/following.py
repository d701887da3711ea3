"""Collapse and few-shot accuracy measured checkpoint by checkpoint."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nctransfer.backbones.names import DEFAULT_MODEL
from nctransfer.backbones.request import BackboneRequest
from nctransfer.checkpoints.files import find_checkpoints, steps
from nctransfer.checkpoints.trajectory_result import SOURCE, TARGET, Point, Trajectory
from nctransfer.errors import BrokenImagesError, FeaturesError, ModelError, WeightsError, counted
from nctransfer.evaluation.fewshot_accuracy import fewshot
from nctransfer.evaluation.fewshot_task import check_task
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.features.feature_set import FeatureSet
from nctransfer.neural_collapse.collapse_report import collapse
from nctransfer.neural_collapse.comparisons import compare_samples
from nctransfer.sources.opening import open_source
from nctransfer.sources.selection import Selection
from nctransfer.sources.source_kind import ReadingOptions
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.extraction import extract_to_store
from nctransfer.store.pipeline import Runtime

if TYPE_CHECKING:
    from nctransfer.backbones.hub import Progress
    from nctransfer.errors import NCTransferError
    from nctransfer.evaluation.fewshot_task import Number
    from nctransfer.neural_collapse.collapse_report import CollapseReport
    from nctransfer.sources.source import ImageSource

__all__ = ["Sample", "follow", "rehearse", "samples_of", "trajectory"]

log = logging.getLogger(__name__)

NOT_OF_THE_TASK = ("device", "theory", "l2_normalise")  # what labels alone do not tell


class Sample(NamedTuple):
    """Images that are measured at every checkpoint."""

    source: ImageSource
    selection: Selection


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
    classifiers: str | Sequence[str] = ("ridge", "ncc"),
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
    """Collapse and few-shot accuracy of every checkpoint of a training.

    Features come from the cache as far as they are in it, so that another call takes up where one was stopped, and runs
    only what is new. A checkpoint that cannot be read is left out and named.

    Args:
        model: The architecture: a timm model, or one of a ``plugin``.
        checkpoints: See :func:`find_checkpoints`.
        data: The target: images of classes that were not trained on, or whatever is to be followed.
        split: Only this split of it.
        classes: Only these classes of it.
        exclude_classes: Not these.
        max_per_class: At most so many images a class, of the source too.
        reading: See :class:`~nctransfer.sources.source_kind.ReadingOptions`.
        source: Data that the backbone is trained on, if ``source_classes`` is not enough to say it.
        source_classes: The classes that it is trained on. With either of the two, collapse is measured on two more
            samples: source-train and source-test (Galanti, György, Hutter, ICLR 2022).
        train_split: The split of the source that is trained on.
        test_split: Another split of it.
        ways: See :func:`~nctransfer.evaluation.fewshot_accuracy.fewshot`, as for the next five.
        shots: Support samples a class.
        queries: Query samples a class.
        episodes: Of each task; the same for every checkpoint.
        classifiers: Of the few-shot tasks.
        theory: Whether the expected accuracy and the bounds are computed too.
        seed: Of episodes and of ``max_per_class``.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.
        batch_size: Images at once.
        workers: Threads that decode.
        offline: Never ask a server for data.
        compile: Let ``torch.compile`` make kernels.
        skip_broken: Go on without images that cannot be read.
        cache_dir: The cache; by default ``$NCTRANSFER_CACHE``, else the platform's.
        progress: Called as ``progress(stage, done, total)``.
        **backbone: What else :class:`~nctransfer.backbones.request.BackboneRequest` takes: ``plugin`` …

    Raises:
        NCTransferError: There is no such data or checkpoint; or none of the checkpoints could be measured.
    """
    wanted = Selection(
        split,
        classes=tuple(classes) if classes is not None else None,
        exclude_classes=tuple(exclude_classes),
        max_per_class=max_per_class,
        seed=seed,
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
        {
            "ways": ways,
            "shots": shots,
            "queries": queries,
            "episodes": episodes,
            "classifiers": classifiers,
            "theory": theory,
            "seed": seed,
            "device": device,
        },
        skip_broken=skip_broken,
        progress=progress,
    )


def samples_of(
    data: str | os.PathLike[str],
    selection: Selection,
    reading: ReadingOptions,
    source: str | os.PathLike[str] | None = None,
    source_classes: Sequence[str] | None = None,
    splits: tuple[str, str] = ("train", "test"),
) -> dict[str, Sample]:
    """The target; and where a source or its classes are named, samples that were trained on, and others like them.

    Args:
        data: The target, as :func:`~nctransfer.sources.opening.open_source` takes it.
        selection: Which images of it; of the source, at most as many a class.
        reading: What the data cannot know by themselves.
        source: The source, if it is not in the same data.
        source_classes: Its classes, if not all.
        splits: Its split that is trained on, and another.

    Raises:
        DataError: There is no such data.
    """

    def sample(name: str | os.PathLike[str], wanted: Selection) -> Sample:
        return Sample(open_source(name, replace(reading, split=wanted.split)), wanted)

    found = {TARGET: sample(data, selection)}
    if source is not None or source_classes is not None:
        chosen = tuple(source_classes) if source_classes is not None else None
        for name, split in zip(SOURCE, splits, strict=True):
            wanted = Selection(split, classes=chosen, max_per_class=selection.max_per_class, seed=selection.seed)
            found[name] = sample(data if source is None else source, wanted)
    return found


def follow(
    store: FeatureStore,
    request: BackboneRequest,
    checkpoints: Sequence[Path],
    samples: Mapping[str, Sample],
    runtime: Runtime,
    task: Mapping[str, Any],
    *,
    skip_broken: bool = False,
    progress: Progress | None = None,
) -> Trajectory:
    """What :func:`trajectory` does, its arguments in the library's own types.

    Args:
        store: Where features are kept.
        request: The backbone, but for its checkpoint.
        checkpoints: Files.
        samples: ``target``; for collapse alone ``source-train`` and ``source-test`` too, or neither.
        runtime: How to run.
        task: Arguments of :func:`~nctransfer.evaluation.fewshot_accuracy.fewshot`.
        skip_broken: Go on without images that cannot be read.
        progress: Called as ``progress(stage, done, total)``; stages name the checkpoint.

    Raises:
        NCTransferError: See :func:`trajectory`.
    """
    if request.random_init or request.checkpoint is not None:
        raise WeightsError(
            "the weights of a trajectory are those of its checkpoints", "leave out --checkpoint and --random-init"
        )
    if request.layers is not None:
        raise ModelError("a trajectory is of the last layer", "leave out --layers")
    rehearse(samples, task, runtime.device)
    sources = _by_source(samples)
    points: list[Point] = []
    transform: Mapping[str, Any] = {}
    failed: dict[str, NCTransferError] = {}
    for number, (path, name) in enumerate(zip(checkpoints, _names(checkpoints), strict=True), 1):
        where = f"{name!r} ({number}/{len(checkpoints)})"

        def tell(stage: str, done: int, total: int, where: str = where) -> None:
            if progress is not None:
                progress(f"{where} {stage}", done, total)

        try:
            sets: dict[str, FeatureSet] = {}
            for source, wanted in sources.items():
                first, *others = wanted.values()
                report = extract_to_store(
                    store, replace(request, checkpoint=path), source, first, runtime, tell, others
                )
                if report.has_diverged:
                    raise FeaturesError(f"{report.failed[0].reason} of {counted(len(report.failed), 'image')}")
                if report.failed and not skip_broken:
                    raise BrokenImagesError(report.failed, report.samples)
                sets |= {sample: report.stored.read(selection) for sample, selection in wanted.items()}
            reports = _reports(sets, runtime.device)
        except (WeightsError, FeaturesError) as error:  # not whole yet, or diverged: the others count
            failed[name] = error
            log.warning("%s is left out: %s", where, error)
            continue
        result = fewshot(sets[TARGET], **task, progress=tell)
        same_as = next((one.checkpoint for one in points if one.fewshot.features["id"] == result.features["id"]), None)
        points.append(Point(name, str(path), None, same_as, reports, result))
        transform = report.stored.key.transform
        same = f" (the same weights as {same_as!r})" if same_as else ""
        log.info("%s: %s%s", where, _in_short(points[-1]), same)
    if not points:
        raise next(iter(failed.values()))
    numbered = zip(points, steps([point.checkpoint for point in points]), strict=True)
    return Trajectory(
        request.model,
        transform,
        tuple(replace(point, step=step) for point, step in numbered),
        {name: str(error) for name, error in failed.items()},
    )


def rehearse(samples: Mapping[str, Sample], task: Mapping[str, Any], device: str = "cpu") -> None:
    """Try what :func:`follow` will measure on the labels alone, before any image goes through a backbone.

    Args:
        samples: See there.
        task: Likewise.
        device: Where to compute.

    Raises:
        NCTransferError: What cannot be done.
    """
    sets: dict[str, FeatureSet] = {}
    for source, wanted in _by_source(samples).items():
        columns = [
            list(column) for column in zip(*((one.id, one.label, one.split) for one in source.list()), strict=True)
        ]
        for name, selection in wanted.items():
            rows = selection.apply(*columns)
            info = FeatureInfo(str(selection) or source.name, data=source.name, path=source.id)
            labels = [columns[1][row] for row in rows]
            sets[name] = FeatureSet.from_arrays(rows[:, None].astype(float), labels, info=info)
    if SOURCE[0] in sets and (both := sorted({*sets[TARGET].classes} & {*sets[SOURCE[0]].classes})):
        log.warning(
            "%s of the target's %d classes are trained on (%r …): choose others by --classes or --exclude-classes",
            len(both),
            len(sets[TARGET].classes),
            both[0],
        )
    _reports(sets, device)
    check_task(sets[TARGET], **{name: value for name, value in task.items() if name not in NOT_OF_THE_TASK})


def _by_source(samples: Mapping[str, Sample]) -> dict[ImageSource, dict[str, Selection]]:
    """The selections of each source, whose images go through a backbone in one pass; the target's source comes last."""
    found: dict[ImageSource, dict[str, Selection]] = {}
    same: dict[str, ImageSource] = {}
    for name, (source, selection) in samples.items():
        found.setdefault(same.setdefault(source.id, source), {})[name] = selection
    return dict(reversed(found.items()))


def _names(paths: Sequence[Path]) -> list[str]:
    """Each checkpoint by as much of its path as tells it apart."""
    folder = os.path.commonpath([path.parent for path in paths])
    return [str(path.relative_to(folder)) for path in paths]


def _reports(sets: Mapping[str, FeatureSet], device: str) -> dict[str, CollapseReport]:
    if len(sets) == 1:
        return {TARGET: collapse(sets[TARGET], device=device)}
    return compare_samples(sets[TARGET], *(sets[name] for name in SOURCE), device=device).reports


def _in_short(point: Point) -> str:
    accuracies = [f"{one.classifier} {one.ways}-way {one.shots}-shot {one.accuracy:.1%}" for one in point.fewshot.rows]
    cdnv = point.reports[TARGET].cdnv
    assert cdnv is not None
    return f"CDNV {cdnv:.3f}, {', '.join(accuracies[:4])}" + ", …" * (len(accuracies) > 4)

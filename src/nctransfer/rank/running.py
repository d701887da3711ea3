"""Candidates measured on the same images, in a race or all on all images, and ranked."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nctransfer.devices import pick_device
from nctransfer.episodes.classifier import RIDGE_LAMBDA, RidgePenalty
from nctransfer.errors import EpisodeError, SettingError, counted, join_names
from nctransfer.evaluation.all_ways import AllWaysTask, all_ways_accuracy
from nctransfer.evaluation.fewshot_comparison import same_samples
from nctransfer.evaluation.fewshot_plan import plan_episodes
from nctransfer.rank.contenders import GivenFeatures, UnusableImagesError
from nctransfer.rank.placing import ranking_of
from nctransfer.rank.race import Failure, race, sizes_of_rounds

if TYPE_CHECKING:
    from nctransfer.backbones.hub import Progress
    from nctransfer.evaluation.all_ways import AllWaysResult
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.rank.contenders import Contender
    from nctransfer.rank.default_candidates import NotRun
    from nctransfer.rank.race import Round
    from nctransfer.rank.ranking import Ranking
    from nctransfer.store.measured_speed import Speed

__all__ = ["Wishes", "as_targets", "rank_contenders", "rank_features", "rank_sets"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What is wanted beside accuracies.

    Attributes:
        targets: Accuracies for which the number of labels is wanted, from 0 to 1.
        scores: Whether scores that need no split are wanted.
        racing: Whether candidates that cannot be the best drop out before all images are run.
        seconds: The time after which no candidate starts; ``None`` for no limit.
    """

    targets: tuple[float, ...] = (0.9,)
    scores: bool = False
    racing: bool = True
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None and self.seconds <= 0:
            raise SettingError(f"the budget is {self.seconds:g} seconds", "give a time, for example --budget 30m")
        from nctransfer.evaluation.labels_needed import check_target

        for target in self.targets:
            check_target(target)


def as_targets(targets: float | Sequence[float]) -> tuple[float, ...]:
    """One or several accuracies, each once.

    >>> as_targets(0.9), as_targets([0.8, 0.9, 0.8])
    ((0.9,), (0.8, 0.9))
    """
    return tuple(dict.fromkeys([targets] if isinstance(targets, int | float) else targets))


def rank_features(
    sets: Mapping[str, FeatureSet],
    shots: int | Sequence[int] = 5,
    *,
    classifier: str = "ridge",
    ridge_lambda: RidgePenalty = RIDGE_LAMBDA,
    l2_normalise: bool = False,
    drop_small: bool = False,
    targets: float | Sequence[float] = (0.9,),
    scores: bool = False,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> Ranking:
    """Which of several feature sets of the same images suits them best, and how many labels it needs.

    Args:
        sets: The feature sets, by name. Images that not all sets have are left out.
        shots: Labelled images per class; one number or several. Sets are ranked by the largest.
        classifier: The name of the classifier.
        ridge_lambda: The penalty of ``ridge``.
        l2_normalise: Scale features to unit length.
        drop_small: Leave out classes with too few images; otherwise they are an error.
        targets: Accuracies for which the number of labels is wanted, from 0 to 1.
        scores: Also compute LogME and the H-score.
        seed: The seed of the draws.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        EpisodeError: The sets have no images in common, or too few for the task.
    """
    task = AllWaysTask(
        shots=shots,
        classifiers=classifier,
        seed=seed,
        ridge_lambda=ridge_lambda,
        l2_normalise=l2_normalise,
        drop_small=drop_small,
    )
    wishes = Wishes(targets=as_targets(targets), scores=scores)
    return rank_sets(sets, task, wishes, device=device, progress=progress)


def rank_sets(
    sets: Mapping[str, FeatureSet],
    task: AllWaysTask,
    wishes: Wishes | None = None,
    *,
    controls: Mapping[str, FeatureSet] | None = None,
    speeds: Mapping[str, Speed | None] | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Ranking:
    """Rank feature sets of the same images. Images that not all sets have are left out.

    Args:
        sets: The feature sets, by name.
        task: The number of labelled images per class, and the classifier.
        wishes: What is wanted beside accuracies.
        controls: Further sets that are there to be beaten, by name.
        speeds: How fast the backbone of each ran, as far as it is known.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        EpisodeError: The sets have no images in common, or too few for the task.
        SettingError: There are no sets.
    """
    if not sets:
        raise SettingError("there are no feature sets to rank", "give one or more, each by its name")
    every = {**sets, **(controls or {})}
    same = dict(zip(every, same_samples(list(every.values())), strict=True)) if len(every) > 1 else every
    contenders = [
        GivenFeatures(name=name, given=one, how_fast=(speeds or {}).get(name), is_control=name in (controls or {}))
        for name, one in same.items()
    ]
    first = next(iter(same.values()))
    plan_episodes(task.as_fewshot(), first)
    return rank_contenders(
        contenders,
        task,
        replace(wishes or Wishes(), racing=False),
        class_sizes=first.counts.tolist(),
        data=first.info.data or first.info.id,
        device=device,
        progress=progress,
    )


def rank_contenders(
    contenders: Sequence[Contender],
    task: AllWaysTask,
    wishes: Wishes,
    *,
    class_sizes: Sequence[int],
    data: str,
    not_run: Sequence[NotRun] = (),
    device: str = "auto",
    progress: Progress | None = None,
) -> Ranking:
    """Measure candidates and rank them.

    Args:
        contenders: The candidates, the cheapest first.
        task: The number of labelled images per class, and the classifier.
        wishes: What else is wanted.
        class_sizes: How many images each class has.
        data: The name of the images.
        not_run: Candidates that cannot run, and why.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        SettingError: There is more than one classifier.
        DeviceError: This machine has no such device.
        NCTransferError: The images cannot be used.
    """
    if len(task.classifiers) != 1:
        raise SettingError(
            f"candidates are ranked by one classifier; {join_names(task.classifiers)} were given",
            "give --classifier one name",
        )
    pick_device(device)  # without it every candidate would fail
    measurer = _Measurer(contenders=contenders, task=task, class_sizes=class_sizes, device=device, progress=progress)
    sizes = sizes_of_rounds(class_sizes, max(task.shots)) if wishes.racing else (max(class_sizes),)
    start = time.monotonic()
    try:
        finished = race(
            [one.name for one in contenders],
            sizes,
            measurer.measure,
            keys=[(shots, task.classifiers[0]) for shots in task.shots],
            controls=[one.name for one in contenders if one.is_control],
            has_time=lambda: wishes.seconds is None or time.monotonic() - start < wishes.seconds,
            on_measured=measurer.note_measured,
            on_round=functools.partial(measurer.note_round, sizes),
        )
    except UnusableImagesError as error:
        raise error.error from error
    return ranking_of(
        finished,
        contenders,
        task,
        wishes,
        class_sizes=class_sizes,
        data=data,
        not_run=not_run,
        device=device,
        progress=progress,
    )


@dataclass(kw_only=True)
class _Measurer:
    """Measures candidates for a race, and says how it goes."""

    contenders: Sequence[Contender]
    task: AllWaysTask
    class_sizes: Sequence[int]
    device: str
    progress: Progress | None

    def measure(self, name: str, images: int) -> AllWaysResult:
        contender = next(one for one in self.contenders if one.name == name)
        features = contender.features(None if images >= max(self.class_sizes) else images)
        try:
            return all_ways_accuracy(features, self.task, device=self.device, progress=_tell(self.progress, name))
        except EpisodeError as error:  # too few images are left, because some could not be read
            raise UnusableImagesError(error) from error

    def note_measured(self, name: str, _: int, outcome: AllWaysResult | Failure) -> None:
        if isinstance(outcome, Failure):
            log.warning("%s is left out: %s", name, outcome.reason)
            return
        one = outcome.estimates[max(self.task.shots), self.task.classifiers[0]]
        low, high = (f"{end * 100:.1f}" for end in one.interval)
        log.info(
            "%s: %.1f%% (%s to %s) on %s, %d-shot",
            name,
            one.accuracy * 100,
            low,
            high,
            counted(sum(outcome.images), "image"),
            max(self.task.shots),
        )

    def note_round(self, sizes: Sequence[int], done: Round) -> None:
        if len(sizes) == 1:
            return
        number = list(sizes).index(done.images) + 1
        still = f"{len(done.survivors)} of {len(done.results)} still in: {join_names(done.survivors, 6)}"
        log.info("round %d of %d, up to %s per class: %s", number, len(sizes), counted(done.images, "image"), still)


def _tell(progress: Progress | None, name: str) -> Callable[[str, int, int], None] | None:
    if progress is None:
        return None
    return lambda stage, done, total: progress(f"{name}: {stage}", done, total)

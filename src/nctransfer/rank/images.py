"""Backbones ranked on images: every candidate runs over the images that it needs, the cheapest first."""

from __future__ import annotations

import functools
import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nctransfer.backbones.prefetching import WeightsAhead
from nctransfer.backbones.request import BackboneRequest
from nctransfer.episodes.classifier import RIDGE_LAMBDA, RidgePenalty
from nctransfer.errors import counted
from nctransfer.evaluation.all_ways import AllWaysTask
from nctransfer.evaluation.fewshot_plan import plan_episodes
from nctransfer.features.stand_ins import stand_ins
from nctransfer.rank.candidate_facts import kept_facts
from nctransfer.rank.candidates import candidates_of
from nctransfer.rank.contenders import RunBackbone, UnusableImagesError, Workplace
from nctransfer.rank.controls import controls
from nctransfer.rank.default_candidates import default_candidates, with_weights
from nctransfer.rank.running import Wishes, as_targets, rank_contenders
from nctransfer.sources.opening import open_source
from nctransfer.sources.selection import Selection
from nctransfer.sources.source_kind import ReadingOptions
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.pipeline import Runtime
from nctransfer.store.wanted_images import wanted_images

if TYPE_CHECKING:
    from nctransfer.backbones.hub import Progress
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.rank.candidates import Candidate
    from nctransfer.rank.default_candidates import NotRun
    from nctransfer.rank.ranking import Ranking
    from nctransfer.sources.source import ImageSource

__all__ = ["control_features", "rank_backbones", "rank_images"]

log = logging.getLogger(__name__)


def rank_backbones(
    data: str | os.PathLike[str] = "digits",
    models: str | BackboneRequest | Iterable[str | BackboneRequest] = (),
    *,
    joins: Sequence[int] | None = None,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    exclude_classes: Sequence[str] = (),
    max_per_class: int | None = None,
    reading: ReadingOptions | None = None,
    shots: int | Sequence[int] = 5,
    classifier: str = "ridge",
    ridge_lambda: RidgePenalty = RIDGE_LAMBDA,
    l2_normalise: bool = False,
    drop_small: bool = False,
    targets: float | Sequence[float] = (0.9,),
    scores: bool = False,
    racing: bool = True,
    budget: float | None = None,
    seed: int = 0,
    device: str = "auto",
    batch_size: int = 32,
    workers: int | None = None,
    offline: bool = False,
    skip_broken: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Ranking:
    """Which backbone suits some images, and how many labels it needs. A random network and the pixels run as controls.

    Features are kept in the cache, so that a call that was stopped can be repeated and goes on where it was.

    Args:
        data: The labelled images.
        models: The candidates: one or several names of models, or requests with further settings. By default all
            models whose weights are on this machine, and a curated list.
        joins: The numbers of last layers that are joined to further candidates, for models of which layers are named;
            with numbers, or an empty sequence, the mean of all layers is one too.
        split: Use only this split.
        classes: Use only these classes.
        exclude_classes: Leave out these classes.
        max_per_class: Use up to this many images per class.
        reading: How to read the data.
        shots: Labelled images per class; one number or several. Candidates are ranked by the largest.
        classifier: The name of the classifier.
        ridge_lambda: The penalty of ``ridge``.
        l2_normalise: Scale features to unit length.
        drop_small: Leave out classes with too few images; otherwise they are an error.
        targets: Accuracies for which the number of labels is wanted, from 0 to 1.
        scores: Also compute LogME and the H-score.
        racing: Whether candidates that cannot be the best drop out before all images are run.
        budget: Seconds after which no candidate starts.
        seed: The seed of the draws, of ``max_per_class`` and of random weights.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        batch_size: Images per batch.
        workers: Threads that decode images.
        offline: Never download anything.
        skip_broken: Leave out images that cannot be read; otherwise they are an error.
        cache_dir: The cache; by default ``$NCTRANSFER_CACHE``, or else the cache folder of the platform.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        NCTransferError: There are no such images or models, or too few images for the task.
    """
    given = [models] if isinstance(models, str | BackboneRequest) else models
    requests = [BackboneRequest(one, seed=seed) if isinstance(one, str) else one for one in given]
    every = [*(requests or default_candidates(BackboneRequest(seed=seed))), *controls(seed)]
    candidates = candidates_of(every, joins)
    able, not_run = with_weights(candidates, offline)
    task = AllWaysTask(
        shots=shots,
        classifiers=classifier,
        seed=seed,
        ridge_lambda=ridge_lambda,
        l2_normalise=l2_normalise,
        drop_small=drop_small,
    )
    return rank_images(
        FeatureStore(cache_dir),
        able,
        open_source(data, replace(reading or ReadingOptions(), offline=offline, split=split)),
        Selection(
            split,
            classes=tuple(classes) if classes is not None else None,
            exclude_classes=tuple(exclude_classes),
            max_per_class=max_per_class,
            seed=seed,
        ),
        Runtime(device=device, batch_size=batch_size, workers=workers, offline=offline),
        lambda _: task,
        Wishes(targets=as_targets(targets), scores=scores, racing=racing, seconds=budget),
        not_run=not_run,
        skip_broken=skip_broken,
        progress=progress,
    )


def rank_images(
    store: FeatureStore,
    candidates: Sequence[Candidate],
    source: ImageSource,
    selection: Selection,
    runtime: Runtime,
    task_for: Callable[[int], AllWaysTask],
    wishes: Wishes,
    *,
    not_run: Sequence[NotRun] = (),
    skip_broken: bool = False,
    progress: Progress | None = None,
) -> Ranking:
    """Rank backbones on images. Features are kept in the cache, so that a call that was stopped can be repeated.

    Args:
        store: The cache.
        candidates: The backbones, controls included.
        source: The images.
        selection: Which images are wanted.
        runtime: How to run.
        task_for: From the number of images of the smallest class to what is measured.
        wishes: What else is wanted.
        not_run: Candidates that cannot run, and why.
        skip_broken: Leave out images that cannot be read; otherwise they are an error.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        NCTransferError: The images cannot be used, or are too few for the task.
    """
    with store.listings_in_memory():
        listed = wanted_images(source, [selection])
        task = task_for(min(Counter(one.label for one in listed.chosen).values()))
        plan_episodes(task.as_fewshot(), stand_ins(listed.chosen))
        place = Workplace(
            store=store,
            source=source,
            listed=listed,
            selection=selection,
            runtime=runtime,
            skip_broken=skip_broken,
            progress=progress,
        )
        ordered = sorted(candidates, key=lambda one: (not one.is_control, _cost(one, store, runtime.offline)))
        with WeightsAhead(runtime.offline) as ahead:
            get_ready = functools.partial(_get_ready, ahead, ordered, progress)
            contenders = [RunBackbone(candidate=one, place=place, get_ready=get_ready) for one in ordered]
            found = rank_contenders(
                contenders,
                task,
                wishes,
                # a selection of so many per class takes them from every split
                class_sizes=list(Counter((one.split, one.label) for one in listed.chosen).values()),
                data=source.name,
                not_run=not_run,
                device=runtime.device,
                progress=progress,
            )
        best = found.best
        for one in contenders:
            if best is not None and one.name == best.name:
                one.use()
    why = {one.name: one.why for one in candidates}
    broken = (f"{counted(len(place.broken), 'image')} that cannot be read left out",) if place.broken else ()
    return replace(
        found,
        images=found.images - len(place.broken),
        candidates=tuple(replace(one, why=why.get(one.name, one.why)) for one in found.candidates),
        warnings=(*broken, *found.warnings),
    )


def control_features(
    store: FeatureStore,
    source: ImageSource,
    selection: Selection,
    runtime: Runtime,
    *,
    skip_broken: bool = False,
    progress: Progress | None = None,
) -> dict[str, FeatureSet]:
    """The features of the controls on some images, by name, extracted if they are not stored.

    Args:
        store: The cache.
        source: The images.
        selection: Which images are wanted.
        runtime: How to run.
        skip_broken: Leave out images that cannot be read; otherwise they are an error.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        NCTransferError: The images cannot be used.
    """
    place = Workplace(
        store=store,
        source=source,
        listed=wanted_images(source, [selection]),
        selection=selection,
        runtime=runtime,
        skip_broken=skip_broken,
        progress=progress,
    )
    try:
        return {one.name: RunBackbone(candidate=one, place=place).features(None) for one in controls(selection.seed)}
    except UnusableImagesError as error:
        raise error.error from error


def _cost(candidate: Candidate, store: FeatureStore, offline: bool) -> float:
    """The work per image; unknown work comes last."""
    work = kept_facts(candidate, store, offline).gmacs
    return math.inf if work is None else work


def _get_ready(
    ahead: WeightsAhead, ordered: Sequence[Candidate], progress: Progress | None, candidate: Candidate
) -> None:
    """Wait for the weights of a candidate, and fetch those of the next one meanwhile."""
    if ahead.is_busy_with(candidate.request):
        log.info("waiting for the weights of %s", candidate.name)
    ahead.wait(candidate.request, progress)
    place = [one.name for one in ordered].index(candidate.name)
    for following in ordered[place + 1 : place + 2]:
        ahead.start(following.request)

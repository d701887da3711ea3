"""Ask feature sets every question that a page answers."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from nctransfer.checkpoints.stored_checkpoints import are_checkpoints, trajectory_of_sets
from nctransfer.errors import SettingError
from nctransfer.evaluation.all_ways import AllWaysTask
from nctransfer.evaluation.label_counts import TARGETS, labels
from nctransfer.evaluation.margin_bounds import margin_bounds_or_reasons
from nctransfer.features.feature_set import FeatureSet
from nctransfer.heads.fitting import fit
from nctransfer.heads.more_labels import gain_along
from nctransfer.label_audit.auditing import audit
from nctransfer.maps.class_map import map_classes
from nctransfer.maps.image_map import map_images
from nctransfer.neural_collapse.bound_table import bound_table
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.neural_collapse.collapse_report import collapse, usable_classes
from nctransfer.neural_collapse.comparisons import compare_layers
from nctransfer.page.measured import Measured, Missing, tried
from nctransfer.page.sentences import sentence
from nctransfer.rank.running import Wishes, as_targets, rank_sets
from nctransfer.sources.selection import Selection

if TYPE_CHECKING:
    from nctransfer.evaluation.label_counts import LabelCounts
    from nctransfer.features.feature_stream import Features
    from nctransfer.neural_collapse.bound_table import BoundTable
    from nctransfer.rank.ranking import Ranking
    from nctransfer.store.measured_speed import Speed

__all__ = ["MOST_IMAGES", "Questions", "at_most", "looked_at", "measure", "per_class"]

MOST_IMAGES = 20_000
CLASSIFIER = "ridge"
SOME_SHOTS = (5, 10)  # of bounds, if there is no learning curve
WHY_TWO = "Only classes of two images or more are on this page: one image does not show how a class varies."
MOST_WORK = 1e12  # multiply-adds of bounds by margins
SHOTS = 5  # labelled images per class, by which sets are ranked

Answer = TypeVar("Answer")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What is asked beside what every page answers.

    Attributes:
        targets: Accuracies for which the number of labels is wanted, from 0 to 1.
        umap: Whether images are also placed by UMAP.
        speeds: How fast the backbone of each set ran, by the name of the set, as far as it is known.
        layers: The layers of the backbone, by name.
    """

    targets: Sequence[float] = TARGETS
    umap: bool = False
    speeds: Mapping[str, Speed | None] = field(default_factory=dict)
    layers: Mapping[str, Features] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Clock:
    """Measures how long each question takes."""

    seconds: dict[str, float]

    def __call__(self, question: str, work: Callable[[], Answer]) -> Answer:
        start = time.monotonic()
        answer = work()
        self.seconds[question] = time.monotonic() - start
        return answer


def measure(
    sets: Mapping[str, FeatureSet],
    asked: Questions | None = None,
    *,
    of: Mapping[str, int] | None = None,
    most_images: int = MOST_IMAGES,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> Measured:
    """Ask feature sets of the same images every question that a page answers.

    Args:
        sets: The feature sets, by name; the page is about the first, and ranks all.
        asked: What else is asked.
        of: The number of images of each class, by its name, if the first set holds some of them; by default all.
        most_images: At most so many images are looked at: as many of each class, as far as there are.
        seed: The seed of all draws.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        FeaturesError: Fewer than two classes have two images.
        SettingError: There is no set.
    """
    features = looked_at(sets, most_images, seed)
    asked, clock = asked or Questions(), _Clock(seconds={})
    fewer = {name: at_most(one, most_images, seed) for name, one in sets.items()}
    name, first = next(iter(fewer.items()))
    of = of or dict(zip(sets[name].classes, sets[name].counts.tolist(), strict=True))
    _, notes = usable_classes(first)
    usable = {**fewer, name: features}
    run = _Run(clock=clock, seed=seed, settings={"device": device, "progress": progress})
    return Measured(
        features=features,
        of=of,
        left_out=(*_what_is_left_out(first, of), *(f"{sentence(note)} {WHY_TWO}" for note in notes)),
        sets=usable,
        **_of_one_set(features, asked, run),
        **_of_all_sets(usable, asked, run),
        seconds=clock.seconds,
    )


@dataclass(frozen=True, kw_only=True)
class _Run:
    """How questions are asked."""

    clock: _Clock
    seed: int
    settings: Mapping[str, Any]


def _of_one_set(features: FeatureSet, asked: Questions, run: _Run) -> dict[str, Any]:
    """The answers that the first feature set gives."""
    clock, seed, device = run.clock, run.seed, run.settings["device"]
    class_map = clock("class map", lambda: map_classes(features, device=device))
    curve = clock("labels", lambda: tried(lambda: labels(features, asked.targets, seed=seed, **run.settings)))
    places: dict[str, Any] = {"umap": asked.umap, "class_map": class_map, "seed": seed, **run.settings}
    return {
        "collapse": clock("collapse", lambda: collapse(features, device=device)),
        "class_map": class_map,
        "image_map": clock("image map", lambda: map_images(features, **places)),
        "fit": clock("fit", lambda: tried(lambda: fit(features, CLASSIFIER, **run.settings))),
        "labels": curve,
        "more_labels": None if isinstance(curve, Missing) else gain_along(curve.curve, CLASSIFIER),
        "bounds": clock("bounds", lambda: tried(lambda: _bounds(features, curve, device))),
        "layers": clock("layers", lambda: tried(lambda: compare_layers(asked.layers, device=device)))
        if len(asked.layers) > 1
        else None,
    }


def _of_all_sets(sets: Mapping[str, FeatureSet], asked: Questions, run: _Run) -> dict[str, Any]:
    """The answers that all feature sets give together."""
    clock, given = run.clock, list(sets.values())
    return {
        "audit": clock("audit", lambda: tried(lambda: audit(given, **run.settings))),
        "ranking": clock("rank", lambda: tried(lambda: _ranking(sets, asked, run))) if len(sets) > 1 else None,
        "checkpoints": clock("checkpoints", lambda: tried(lambda: trajectory_of_sets(given, **run.settings)))
        if are_checkpoints(given)
        else None,
    }


def looked_at(sets: Mapping[str, FeatureSet], most: int = MOST_IMAGES, seed: int = 0) -> FeatureSet:
    """The images of the first set that a page is about: not too many, and of classes of two images or more.

    Raises:
        FeaturesError: Fewer than two classes have two images.
        SettingError: There is no set.
    """
    if not sets:
        raise SettingError("there are no features to report on", "give one feature set or more")
    usable, _ = usable_classes(at_most(next(iter(sets.values())), most, seed))
    assert isinstance(usable, FeatureSet)
    return usable


def per_class(counts: Sequence[int], most: int) -> int | None:
    """The largest number of images per class with which there are at most ``most`` in all; ``None`` for no limit.

    >>> per_class([10, 100, 1000], 210), per_class([10, 100], 110), per_class([5, 5], 1)
    (100, None, 2)
    """
    if sum(counts) <= most:
        return None
    limit = max(counts)
    low = 2  # fewer images of a class say nothing of it
    while low < limit:
        middle = (low + limit + 1) // 2
        low, limit = (middle, limit) if sum(min(count, middle) for count in counts) <= most else (low, middle - 1)
    return low


def at_most(features: FeatureSet, most: int, seed: int = 0) -> FeatureSet:
    """A feature set of at most so many images: as many of each class, as far as there are, drawn at random.

    Args:
        features: The feature set.
        most: The largest number of images.
        seed: The seed of the draw, which depends on the ids of the images alone.
    """
    import torch

    limit = per_class(features.counts.tolist(), most)
    if limit is None:
        return features
    names = [features.classes[code] for code in features.labels.tolist()]
    drawn = Selection(max_per_class=limit, seed=seed).apply(features.ids, names, [""] * len(names))
    return features.only_rows(torch.from_numpy(drawn))


def _what_is_left_out(features: FeatureSet, counts: Mapping[str, int]) -> list[str]:
    of = sum(counts.values())
    if len(features) == of:
        return []
    most = int(features.counts.max())
    said = (
        f"This page looks at {len(features):,} of {of:,} images, drawn at random: at most {most:,} of each class, "
        "so that larger classes count for less than their share."
    )
    return [said]


def _bounds(features: FeatureSet, curve: LabelCounts | Missing, device: str) -> BoundTable:
    """What is proven of the nearest class centre on all classes at once, along the learning curve."""
    shots = (1, *SOME_SHOTS) if isinstance(curve, Missing) else curve.curve.task.shots
    stats = ClassStatistics.of(features, device)
    margins = functools.partial(margin_bounds_or_reasons, features, stats, device=device, limit=MOST_WORK)
    return bound_table(stats, features.describe(), [len(features.classes)], [float(one) for one in shots], margins)


def _ranking(sets: Mapping[str, FeatureSet], asked: Questions, run: _Run) -> Ranking:
    """The feature sets, ranked by their accuracy with five labelled images per class, or fewer if a class is small."""
    smallest = int(next(iter(sets.values())).counts.min())
    shots = min(SHOTS, max(1, smallest - 1))
    task = AllWaysTask(shots=shots, classifiers=CLASSIFIER, seed=run.seed, drop_small=True)
    wishes = Wishes(targets=as_targets(tuple(asked.targets)), racing=False)
    return rank_sets(sets, task, wishes, speeds=asked.speeds, **run.settings)

"""The learning curve: accuracy over all classes with more and more labelled images per class."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from nctransfer.episodes.classifier import RIDGE_LAMBDA, ClassifierSettings, RidgePenalty
from nctransfer.episodes.registry import CLASSIFIERS, ONE_BY_ONE, choose_classifiers
from nctransfer.errors import EpisodeError, SettingError, counted, join_names
from nctransfer.sources.label_depth import MORE_CLASSES

if TYPE_CHECKING:
    from nctransfer.evaluation.all_ways import AllWaysResult, AllWaysTask
    from nctransfer.evaluation.image_influence import Estimate
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["curve_task", "learning_curve", "shots_grid"]

DRAWS = 2_000
LABELLED = 0.8  # of the images of the smallest class; with fewer queries, many more draws would be needed
STEPS = (1, 2, 3, 5, 7, 10, 14, 20, 28, 40, 57, 80)  # about evenly spaced on a log scale, √2 apart from 5 on


def shots_grid(most: int, least: int = 1) -> tuple[int, ...]:
    """Numbers of shots about evenly spaced on a log scale, from ``least`` to ``most``.

    The last is ``most``; a step just below it is left out.

    >>> shots_grid(19), shots_grid(99, least=2)
    ((1, 2, 3, 5, 7, 10, 14, 19), (2, 3, 5, 7, 10, 14, 20, 28, 40, 57, 80, 99))
    """
    steps = list(STEPS)
    while steps[-1] < most:
        steps.append(round(steps[-2] * 2))
    return (*(step for step in steps if least <= step and step * 1.15 < most), most)


def learning_curve(
    features: FeatureSet,
    classifiers: str | Iterable[str] = ("ridge",),
    *,
    most_shots: int | None = None,
    seed: int = 0,
    ridge_lambda: RidgePenalty = RIDGE_LAMBDA,
    l2_normalise: bool = False,
    drop_small: bool = False,
    draws: int = DRAWS,
    until_reached: float | None = None,
    device: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> AllWaysResult:
    """Accuracy with all classes at once, on a grid of shots up to four fifths of the images of the smallest class.

    The images that are not labelled are the queries.

    Args:
        features: The feature set.
        classifiers: Names of classifiers. If one needs 2 shots (``ridge`` with the penalty ``loo``), the grid starts
            there.
        most_shots: The largest number of shots; by default four fifths of the images of the smallest class.
        seed: The seed of the draws.
        ridge_lambda: The penalty of ``ridge``.
        l2_normalise: Scale features to unit length.
        drop_small: Leave out classes with too few images; otherwise they are an error.
        draws: Random draws per number of shots, at most.
        until_reached: An accuracy; once the whole interval of every classifier is above it, larger numbers of shots are
            not measured.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        EpisodeError: A class has too few images.
        SettingError: A setting is wrong.
    """
    from nctransfer.evaluation.all_ways import all_ways_accuracy

    task = curve_task(
        features,
        classifiers,
        most_shots=most_shots,
        seed=seed,
        ridge_lambda=ridge_lambda,
        l2_normalise=l2_normalise,
        drop_small=drop_small,
        draws=draws,
    )

    def is_reached(estimates: Mapping[str, Estimate]) -> bool:
        return until_reached is not None and all(one.interval[0] >= until_reached for one in estimates.values())

    return all_ways_accuracy(features, task, device=device, until=is_reached, progress=progress)


def curve_task(
    features: FeatureSet,
    classifiers: str | Iterable[str] = ("ridge",),
    *,
    most_shots: int | None = None,
    seed: int = 0,
    ridge_lambda: RidgePenalty = RIDGE_LAMBDA,
    l2_normalise: bool = False,
    drop_small: bool = False,
    draws: int = DRAWS,
) -> AllWaysTask:
    """What :func:`learning_curve` measures. Only labels are looked at, so it can be known before features are there.

    Args:
        features: The feature set.
        classifiers: Names of classifiers.
        most_shots: The largest number of shots.
        seed: The seed of the draws.
        ridge_lambda: The penalty of ``ridge``.
        l2_normalise: Scale features to unit length.
        drop_small: Leave out classes with too few images.
        draws: Random draws per number of shots, at most.

    Raises:
        EpisodeError: A class has too few images.
        SettingError: A setting is wrong.
    """
    from nctransfer.evaluation.all_ways import AllWaysTask

    chosen = choose_classifiers([classifiers] if isinstance(classifiers, str) else classifiers, ONE_BY_ONE)
    least = _fewest_shots(chosen, ridge_lambda)
    if most_shots is not None and most_shots < least:
        raise SettingError(
            f"the largest number of labelled images per class is {most_shots}; it must be at least {least}",
            f"give --most-shots {least} or more",
        )
    fewest = _fewest_images(features, most_shots or least, drop_small)
    return AllWaysTask(
        shots=shots_grid(most_shots or max(least, min(int(LABELLED * fewest), fewest - 1)), least),
        classifiers=chosen,
        seed=seed,
        ridge_lambda=ridge_lambda,
        l2_normalise=l2_normalise,
        drop_small=drop_small,
        draws=draws,
    )


def _fewest_shots(chosen: Iterable[str], ridge_lambda: RidgePenalty) -> int:
    """2 if a classifier refuses 1 shot, else 1."""
    settings = ClassifierSettings(ridge_lambda=ridge_lambda)
    try:
        for name in chosen:
            CLASSIFIERS[name].options(settings)
    except SettingError:
        two = dataclasses.replace(settings, shots=2)
        for name in chosen:
            CLASSIFIERS[name].options(two)  # what it refuses with 2 shots as well is an error
        return 2
    return 1


def _fewest_images(features: FeatureSet, shots: int, drop_small: bool) -> int:
    """The images of the smallest class that takes part.

    Args:
        features: The feature set.
        shots: A number of shots that every class must allow, with one image left.
        drop_small: Whether classes that do not are left out.

    Raises:
        EpisodeError: A class has too few images, or hardly any class has enough.
    """
    counts: list[int] = features.counts.tolist()
    small = [f"{name!r} ({count})" for name, count in zip(features.classes, counts, strict=True) if count <= shots]
    enough = [count for count in counts if count > shots]
    if len(enough) < 2 or (small and not drop_small):
        needed = (
            f"a learning curve up to {counted(shots, 'labelled image')} per class needs {shots + 1} images per class"
        )
        raise EpisodeError(
            f"{needed}; {len(small)} of {len(counts)} have fewer: {join_names(small)}"
            if small
            else f"{needed} and at least two classes; there is one class",
            "give more images of these classes" + (", or leave them out by --drop-small" if len(enough) > 1 else "")
            if small
            else f"give {MORE_CLASSES}",
        )
    return min(enough)

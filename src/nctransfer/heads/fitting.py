"""Fit a head: choose the classifier, calibrate its probabilities, and say what to expect."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from nctransfer.errors import SettingError, did_you_mean
from nctransfer.evaluation.leaks import Leaks
from nctransfer.heads.abstention import thresholds
from nctransfer.heads.better_classifier import FAST, better_classifier, is_quick_to_compare
from nctransfer.heads.calibration import calibration_noise, fitted_temperature
from nctransfer.heads.fit_result import Candidate, FitResult
from nctransfer.heads.head import Head, HeldOut
from nctransfer.heads.head_origin import origin_of
from nctransfer.heads.left_out_scores import HEAD_CLASSIFIERS, LeftOut, check_counts, left_out_scores
from nctransfer.heads.mistakes import class_accuracies, confusions
from nctransfer.heads.more_labels import gain_of_more_labels
from nctransfer.heads.promises import lead_over, promise_of
from nctransfer.heads.unlikeness_kinds import RELATIVE, check_unlikeness

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.heads.unlikeness_kinds import AnyUnlikeness

__all__ = ["AUTO", "MOST_WORK", "FitResult", "check_classifier", "enough_images", "fit"]

AUTO = "auto"
ONLY_BY_NAME = "proxies"  # against ridge and logistic regression it wins too rarely: docs/proxies.md
MOST_WORK = 3e8  # images × features × classes of logistic regression in the choice: about half a minute on one core

Progress = Callable[[str, int, int], None]


def fit(
    features: FeatureSet,
    classifier: str = AUTO,
    *,
    max_error: float | None = None,
    max_lost: float = 0.05,
    unlikeness: str = RELATIVE,
    drop_small: bool = False,
    more_labels: bool = False,
    compare: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
) -> FitResult:
    """Fit a head to labelled features: a classifier with calibrated probabilities, and what to expect of it.

    Everything that it promises comes from training images that were left out, one of each class at a time.

    Args:
        features: At least 2 classes with at least 2 images each.
        classifier: ``ridge``, ``ncc``, ``cosine``, ``logistic`` or ``proxies``; ``auto`` takes the one of the first
            four with the highest leave-one-out accuracy, and leaves ``logistic`` out where it would take long.
        max_error: The largest error among the answered images; ``None``: every image that is like some class is
            answered.
        max_lost: The share of good images that may be held back as unlike every class.
        unlikeness: How images that are unlike every class are found: ``relative-mahalanobis``, ``mahalanobis``,
            ``knn`` or ``neco``; see :mod:`nctransfer.heads.unlikeness_kinds`.
        drop_small: Leave out classes of one image; otherwise they are an error.
        more_labels: Also estimate what twice as many images would give, which takes longer than all the rest.
        compare: Also find out whether ridge regression or class centres would be more accurate than a classifier that
            was named, unless that takes long; see :func:`~nctransfer.heads.better_classifier.better_classifier`.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        FeaturesError: There are too few classes or images, or they cannot show that the error is as small as asked.
        SettingError: There is no such classifier or unlikeness, or a share is out of range.

    >>> from nctransfer.features.feature_set import FeatureSet
    >>> line = FeatureSet.from_arrays([[0.0], [1.0], [2.0], [8.0], [9.0], [10.0]], "aaabbb")
    >>> found = fit(line, "ncc")
    >>> found.head.promise.accuracy, found.head.linear.scores(line.features).argmax(dim=1).tolist()
    (1.0, [0, 0, 0, 1, 1, 1])
    """
    check_classifier(classifier)
    kind = check_unlikeness(unlikeness)
    chosen, dropped = enough_images(features, drop_small)
    names, untried = _to_try(chosen, classifier, compare)
    best, candidates = _tried(chosen, names, device, progress)
    temperature = fitted_temperature(best.scores, chosen.labels)
    best = dataclasses.replace(best, linear=dataclasses.replace(best.linear, temperature=temperature))
    head = _assembled(chosen, best, kind.fit(chosen, device), max_error, max_lost)
    predicted = best.scores.argmax(dim=1)
    return FitResult(
        head=head,
        features=chosen.describe(),
        candidates=candidates,
        untried=untried,
        thresholds=thresholds(head.held_out, max_error, max_lost),
        calibration_noise=calibration_noise((best.scores.double() / temperature).softmax(dim=1)),
        classes=class_accuracies(predicted, chosen.labels, chosen.classes),
        confusions=confusions(predicted, chosen.labels, chosen.classes),
        predicted=predicted,
        dropped=dropped,
        leaks=Leaks.of(chosen),
        more_labels=gain_of_more_labels(chosen, best.classifier, device=device, progress=progress)
        if more_labels
        else None,
        better=better_classifier(chosen, best, device, progress) if compare and classifier != AUTO else None,
    )


def check_classifier(name: str) -> None:
    """Refuse the name of a classifier that no head can have.

    Raises:
        SettingError: There is no such classifier.
    """
    known = (AUTO, *HEAD_CLASSIFIERS)
    if name not in known:
        raise SettingError(
            f"there is no classifier {name!r} for a head",
            did_you_mean(name, known) or f"give --classifier {' or '.join(known)}",
        )


def enough_images(features: FeatureSet, drop_small: bool) -> tuple[FeatureSet, tuple[str, ...]]:
    """The classes of two images or more, and the names of the others.

    Raises:
        FeaturesError: There are others that must not be left out, or there are fewer than two classes.
    """
    small = features.counts < 2
    if not drop_small or not bool(small.any()):
        check_counts(features)
        return features, ()
    chosen = features.only_classes((~small).nonzero()[:, 0])
    check_counts(chosen)
    return chosen, tuple(features.classes[code] for code in small.nonzero()[:, 0].tolist())


def _to_try(features: FeatureSet, classifier: str, compare: bool) -> tuple[tuple[str, ...], dict[str, str]]:
    """The classifiers to try, and why others are left out."""
    if classifier != AUTO:
        untried = [name for name in FAST if name != classifier]
        if not compare or is_quick_to_compare(features):
            untried = []
        reason = "with so many images and classes a comparison takes long; without --classifier, it is made"
        return (classifier,), dict.fromkeys(untried, reason)
    names = tuple(name for name in HEAD_CLASSIFIERS if name != ONLY_BY_NAME)
    work = len(features) * min(len(features), features.dim) * len(features.classes)
    if work <= MOST_WORK:
        return names, {}
    reason = "with so many images and classes it takes long; --classifier logistic fits it"
    return tuple(name for name in names if name != "logistic"), {"logistic": reason}


def _tried(
    features: FeatureSet, names: tuple[str, ...], device: str, progress: Progress | None
) -> tuple[LeftOut, tuple[Candidate, ...]]:
    """The most accurate classifier, and all that were tried: it first, then by accuracy."""
    found: list[LeftOut] = []
    for done, name in enumerate(names):
        if progress:
            progress("fitting", done, len(names))
        one = left_out_scores(features, name, device)
        found = sorted([*found, one], key=lambda some: -float(some.hits.mean()))
        # only the best needs its scores, which are large
        found[1:] = [dataclasses.replace(some, scores=some.scores[:0].clone()) for some in found[1:]]
    if progress:
        progress("fitting", len(names), len(names))
    best = found[0]
    candidates = [
        dataclasses.replace(Candidate.of(one), lead=None if one is best else lead_over(best, one, features.labels))
        for one in found
    ]
    return best, tuple(candidates)


def _assembled(
    features: FeatureSet,
    best: LeftOut,
    fitted: tuple[AnyUnlikeness, torch.Tensor],
    max_error: float | None,
    max_lost: float,
) -> Head:
    unlikeness, left_out = fitted
    top = (best.scores.double() / best.linear.temperature).softmax(dim=1).max(dim=1)
    held_out = HeldOut(
        probability=top.values.float(), right=top.indices == features.labels, unlikeness=left_out.float()
    )
    return Head(
        linear=best.linear,
        counts=tuple(features.counts.tolist()),
        classifier=best.classifier,
        penalty=best.penalty,
        unlikeness=unlikeness,
        held_out=held_out,
        promise=promise_of(best, features.labels),
        origin=origin_of(features),
        images=features.images,
        max_error=max_error,
        max_lost=max_lost,
    )

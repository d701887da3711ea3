"""What a head says of each of its training images when that image is left out.

Shapes: n images of C classes, ``n_c`` of class c.

Images are left out in groups of about one image of each class, see :mod:`~nctransfer.heads.left_out_groups`. Ridge
regression and class centres without a group are exact and in closed form. Logistic regression and proxies are fitted
again without each group, so their groups are a tenth of the images.

A head that has seen all images is a little more accurate than one that has seen fewer. Its error falls about as
``1/m`` with m images per class, so the accuracy is measured with one and with two groups left out, and the line through
both in ``1/m`` is followed to the images that there are.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nctransfer.devices import with_float64
from nctransfer.errors import FeaturesError, SettingError, counted, join_names
from nctransfer.heads.left_out_groups import MOST_GROUPS, left_out_groups
from nctransfer.heads.linear_classifier import LinearClassifier

if TYPE_CHECKING:
    import torch

    from nctransfer.evaluation.ridge_regression import LinearMap
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["HEAD_CLASSIFIERS", "LeftOut", "check_counts", "left_out_scores"]

HEAD_CLASSIFIERS = ("ridge", "ncc", "cosine", "logistic", "proxies")
PARTITIONS = 4  # over whose groups the answers are averaged
ENOUGH = 20_000  # images; of so many, one partition says as much
FOLDS = 10  # of logistic regression, and of proxies


@dataclass(frozen=True, kw_only=True, eq=False)
class LeftOut:
    """A classifier, and what it says of each training image when that image is left out.

    Attributes:
        classifier: One of :data:`HEAD_CLASSIFIERS`.
        linear: The classifier that is fitted to all images, without a temperature.
        scores: The scores of each image when it is left out, ``(n, C)`` float32.
        right: How often each image is then classified right, over several partitions into groups, ``(n,)`` float32.
        right_of_fewer: The same if twice as many images are left out, ``(n,)`` float32.
        step: How far the line from ``right_of_fewer`` to ``right`` must be followed, in units of their distance, to
            reach a head that has seen all images.
        penalty: The penalty of ridge or logistic regression; ``None`` for the others.
        is_at_end: Whether that is the smallest or the largest penalty that could be chosen.
    """

    classifier: str
    linear: LinearClassifier
    scores: torch.Tensor
    right: torch.Tensor
    right_of_fewer: torch.Tensor
    step: float
    penalty: float | None = None
    is_at_end: bool = False

    @property
    def hits(self) -> torch.Tensor:
        """What each image counts in the accuracy of the head that has seen all images, ``(n,)`` float64."""
        right = self.right.double()
        return right + self.step * (right - self.right_of_fewer.double())


def left_out_scores(
    features: FeatureSet, classifier: str, device: str = "auto", *, partitions: int = PARTITIONS
) -> LeftOut:
    """Fit a classifier, and find the scores of each image when it is left out.

    Args:
        features: At least 2 classes with at least 2 images each.
        classifier: ``ridge``, with the penalty that has the smallest squared leave-one-out error; ``ncc`` or
            ``cosine``, nearest class centre; ``logistic``, with the penalty that has the smallest logarithmic loss; or
            ``proxies``, nearest of several means per class.
        device: Where to compute.
        partitions: Over the groups of how many partitions the answers of ridge and class centres are averaged, at
            most. The scores are those of the first.

    Raises:
        SettingError: There is no such classifier.
        FeaturesError: There are fewer than 2 classes, or a class has fewer than 2 images.

    >>> import numpy as np
    >>> from nctransfer.features.feature_set import FeatureSet
    >>> line = FeatureSet.from_arrays(np.array([[0.0], [1.0], [8.0], [9.0]]), "aabb")
    >>> left_out_scores(line, "ncc").scores.argmax(dim=1).tolist()
    [0, 0, 1, 1]
    """
    if classifier not in HEAD_CLASSIFIERS:
        raise SettingError(f"there is no classifier {classifier!r} for a head", f"choose {', '.join(HEAD_CLASSIFIERS)}")
    check_counts(features)
    if classifier == "ridge":
        return _of_ridge(features, device, partitions)
    if classifier == "logistic":
        return _of_logistic(features, device)
    if classifier == "proxies":
        return _of_proxies(features, device)
    return _of_centres(features, classifier, device, partitions)


def _of_ridge(features: FeatureSet, device: str, partitions: int) -> LeftOut:
    from nctransfer.evaluation.ridge_regression import RidgeRegressions
    from nctransfer.neural_collapse.class_statistics import ClassStatistics

    fits = RidgeRegressions(ClassStatistics.of(features, device), with_float64(device))
    best = fits.left_out_errors(features).best

    def scores(groups: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        return fits.scores_without_groups(features.features, features.labels, groups, best)

    return LeftOut(
        classifier="ridge",
        linear=_linear(features, fits.linear_map(best)),
        penalty=fits.penalties[best],
        is_at_end=best in (0, len(fits.penalties) - 1),
        **_answers(features, scores, partitions),
    )


def _of_centres(features: FeatureSet, classifier: str, device: str, partitions: int) -> LeftOut:
    from nctransfer.evaluation.ridge_regression import LinearMap
    from nctransfer.heads.centre_classifiers import ClassCentres

    centres = ClassCentres(features, classifier == "cosine", with_float64(device))
    linear = LinearMap(*centres.linear_map(), centres.centre)
    return LeftOut(
        classifier=classifier,
        linear=_linear(features, linear, unit_length=centres.by_cosine),
        **_answers(features, centres.scores_without_groups, partitions),
    )


def _of_logistic(features: FeatureSet, device: str) -> LeftOut:
    import torch

    from nctransfer.heads.calibration import fitted_temperature, log_loss
    from nctransfer.heads.logistic_regression import PENALTIES, LogisticRegressions

    fits, labels = LogisticRegressions(features, with_float64(device)), features.labels
    halves = left_out_groups(labels, 2, FOLDS // 2)
    losses, found = [], []
    for penalty in PENALTIES:
        scores = _scores(features, halves, fits.scores_without_groups(halves, penalty))
        losses.append(log_loss(scores, labels, fitted_temperature(scores, labels)))
        found.append(scores.argmax(dim=1) == labels)
    best = int(torch.tensor(losses).argmin())
    tenths = left_out_groups(labels, 1, FOLDS)
    scores = _scores(features, tenths, fits.scores_without_groups(tenths, PENALTIES[best]))
    return LeftOut(
        classifier="logistic",
        linear=_linear(features, fits.linear_map(PENALTIES[best])),
        scores=scores,
        right=(scores.argmax(dim=1) == labels).float(),
        right_of_fewer=found[best].float(),
        step=_step(labels, tenths, halves),
        penalty=PENALTIES[best],
        is_at_end=best in (0, len(PENALTIES) - 1),
    )


def _of_proxies(features: FeatureSet, device: str) -> LeftOut:
    """K-means is run again without each group; the number of proxies is that of all images."""
    from nctransfer.heads.class_proxies import ClassProxies

    fits, labels = ClassProxies(features, with_float64(device)), features.labels
    number = fits.best_number()
    linear, owners = fits.linear_map(number)
    halves, tenths = left_out_groups(labels, 2, FOLDS // 2), left_out_groups(labels, 1, FOLDS)
    of_fewer = _scores(features, halves, fits.scores_without_groups(halves, number))
    scores = _scores(features, tenths, fits.scores_without_groups(tenths, number))
    return LeftOut(
        classifier="proxies",
        linear=dataclasses.replace(_linear(features, linear), owners=owners),
        scores=scores,
        right=(scores.argmax(dim=1) == labels).float(),
        right_of_fewer=(of_fewer.argmax(dim=1) == labels).float(),
        step=_step(labels, tenths, halves),
    )


def check_counts(features: FeatureSet) -> None:
    """Refuse a set in which no image can be left out.

    Raises:
        FeaturesError: There are fewer than 2 classes, or a class has fewer than 2 images.
    """
    counts = features.counts
    if len(counts) < 2:
        raise FeaturesError(
            f"{features.info.id} has {counted(len(counts), 'class', 'classes')}; a head needs at least 2",
            "give images of at least 2 classes",
        )
    if small := [features.classes[code] for code in (counts < 2).nonzero()[:, 0].tolist()]:
        raise FeaturesError(
            f"{counted(len(small), 'class has', 'classes have')} fewer than 2 images: "
            f"{join_names([repr(name) for name in small])}; a head needs 2, as each is left out once",
            "give more images of these classes, or leave them out by --drop-small",
        )


def _answers(
    features: FeatureSet, scores: Callable[[Iterable[torch.Tensor]], Iterator[torch.Tensor]], most: int
) -> dict[str, Any]:
    """The fields of :class:`LeftOut` that come from leaving groups out."""
    import torch

    labels = features.labels
    partitions = max(1, min(most, ENOUGH // len(labels)))
    ones = [left_out_groups(labels, 1, MOST_GROUPS, seed) for seed in range(partitions)]
    twos = [left_out_groups(labels, 2, MOST_GROUPS // 2, partitions + seed) for seed in range(partitions)]
    found = scores(itertools.chain(*ones, *twos))  # in one call, so that what they share is computed once
    kept = _scores(features, ones[0], found)
    right = (kept.argmax(dim=1) == labels).float()
    of_fewer = torch.zeros_like(right)
    for total, others in ((right, ones[1:]), (of_fewer, twos)):
        for group in itertools.chain(*others):
            total[group] += (next(found).argmax(dim=1) == labels[group]).float()
    return {
        "scores": kept,
        "right": right / partitions,
        "right_of_fewer": of_fewer / partitions,
        "step": _step(labels, ones[0], twos[0]),
    }


def _scores(features: FeatureSet, groups: Iterable[torch.Tensor], found: Iterator[torch.Tensor]) -> torch.Tensor:
    """The scores of all images from those of the groups of a partition, ``(n, C)`` float32."""
    import torch

    scores = torch.empty(len(features), len(features.classes))
    for group in groups:
        scores[group] = next(found).float()
    return scores


def _step(labels: torch.Tensor, ones: Sequence[torch.Tensor], twos: Sequence[torch.Tensor]) -> float:
    """How far to follow the line in ``1/m``, with m the images of a class that are left, averaged over images."""
    import torch

    counts = labels.bincount().double()
    gaps = []
    for groups in (ones, twos):
        left = torch.empty(len(labels), dtype=torch.float64)
        for group in groups:
            own = labels[group]
            left[group] = counts[own] - own.bincount(minlength=len(counts))[own]
        gaps.append(float((1 / left - 1 / counts[labels]).mean()))
    return gaps[0] / (gaps[1] - gaps[0]) if gaps[1] > gaps[0] else 0.0


def _linear(features: FeatureSet, linear: LinearMap, unit_length: bool = False) -> LinearClassifier:
    weight, intercept, centre = (part.float().cpu() for part in linear)
    return LinearClassifier(
        classes=features.classes, weight=weight, intercept=intercept, centre=centre, unit_length=unit_length
    )

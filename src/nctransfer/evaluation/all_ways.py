"""Accuracy on the user's own classes, all at once, with m labelled images per class.

In each random draw, the first m images of every class are labelled, and all others are classified. The accuracy is the
mean over draws, in which every class counts equally. Its interval is about other images of these classes, see
:mod:`~nctransfer.evaluation.image_influence`.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nctransfer.episodes.classifier import RIDGE_LAMBDA, RidgePenalty
from nctransfer.episodes.draws import BLOCK, labelled, random_orders
from nctransfer.episodes.inner_products import AgainstAll
from nctransfer.episodes.pool import Pool, prepared
from nctransfer.episodes.registry import CLASSIFIERS, ONE_BY_ONE, choose_classifiers, only_centres
from nctransfer.errors import SettingError, counted, join_names
from nctransfer.evaluation.fewshot_plan import plan_episodes
from nctransfer.evaluation.fewshot_task import FewShotTask, OneOrSeveral
from nctransfer.evaluation.image_influence import Answers, Estimate, estimate
from nctransfer.evaluation.leaks import Leaks

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.classifier import Classifier, ClassifierSettings
    from nctransfer.features.feature_info import FeatureInfo
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["AllWaysResult", "AllWaysTask", "all_ways_accuracy"]

log = logging.getLogger(__name__)

BATCH_BYTES = 48 * 2**20  # features of labelled examples, or scores, of a batch of draws
ENOUGH = 1 / 3  # of the standard error over images: a draw of draws that is smaller widens the interval by 5%, or less
HARDLY_KNOWN = 2  # images: if both are right, nothing shows how much a class varies
FINE = 0.002  # or the half-width over draws: 0.2 points

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class AllWaysTask:
    """What is measured on all classes at once. ``shots`` and ``classifiers`` take one value or several.

    Attributes:
        shots: Labelled images per class, ascending.
        classifiers: Names of the registry :data:`~nctransfer.episodes.registry.CLASSIFIERS`.
        seed: The seed of the draws. The same seed draws the same draws for any backbone on the same data.
        ridge_lambda: The penalty of ``ridge``, see :func:`~nctransfer.episodes.ridge.ridge`.
        l2_normalise: Whether features are scaled to unit length.
        drop_small: Whether classes with too few images are left out; otherwise they are an error.
        draws: Random draws, at most. Fewer are drawn if more would change little: once the half-width of the 95%
            interval over draws is below a third of that over images, or below 0.2 points.

    Raises:
        SettingError: A number is too small, or a name is unknown.
    """

    shots: OneOrSeveral[int] = OneOrSeveral[int](5)  # noqa: RUF009 - a descriptor, which tasks share
    classifiers: OneOrSeveral[str] = OneOrSeveral[str]("ridge")  # noqa: RUF009
    seed: int = 0
    ridge_lambda: RidgePenalty = RIDGE_LAMBDA
    l2_normalise: bool = False
    drop_small: bool = False
    draws: int = 2_000

    def __post_init__(self) -> None:
        if self.draws < 2:
            raise SettingError(f"draws is {self.draws}; an interval needs at least 2", "give 2 draws or more")
        object.__setattr__(self, "classifiers", choose_classifiers(self.classifiers, ONE_BY_ONE))
        normal = self.as_fewshot()
        for name in ("shots", "classifiers", "seed"):
            object.__setattr__(self, name, getattr(normal, name))

    def as_fewshot(self) -> FewShotTask:
        """The same task in terms of episodes, each of which has all classes and all images."""
        return FewShotTask(
            ways="all",
            shots=self.shots,
            queries="all",
            episodes=self.draws,
            classifiers=self.classifiers,
            seed=self.seed,
            ridge_lambda=self.ridge_lambda,
            l2_normalise=self.l2_normalise,
            drop_small=self.drop_small,
            theory=False,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class AllWaysResult:
    """Accuracies on all classes at once.

    Attributes:
        features: What was measured.
        task: What was asked for.
        classes: The names of the classes.
        images: The number of images of each class.
        estimates: The accuracies, by shots and classifier.
        dropped: The classes that were left out because they have too few images.
        warnings: What weakens a conclusion from the accuracies.
    """

    features: FeatureInfo
    task: AllWaysTask
    classes: tuple[str, ...]
    images: tuple[int, ...]
    estimates: Mapping[tuple[int, str], Estimate]
    dropped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def all_ways_accuracy(
    features: FeatureSet,
    task: AllWaysTask,
    *,
    device: str = "auto",
    until: Callable[[Mapping[str, Estimate]], bool] | None = None,
    progress: Progress | None = None,
) -> AllWaysResult:
    """The accuracy of simple classifiers on all classes at once, with its interval over other images.

    Args:
        features: The feature set.
        task: The numbers of labelled images per class, and the classifiers.
        device: Where to compute, see :func:`~nctransfer.devices.with_float64`.
        until: Called with the estimates of each number of shots, by classifier; once it is true, larger numbers are
            not measured.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        EpisodeError: The features have too few classes, or a class has too few images.
        SettingError: A classifier cannot be used with these settings.

    >>> import numpy as np
    >>> from nctransfer.features.feature_set import FeatureSet
    >>> line = np.arange(20.0)[:, None] // 10 + 0.01 * np.arange(20.0)[:, None]
    >>> line = FeatureSet.from_arrays(line, "a" * 10 + "b" * 10)
    >>> all_ways_accuracy(line, AllWaysTask(shots=2)).estimates[2, "ridge"].accuracy
    1.0
    """
    plan = plan_episodes(task.as_fewshot(), features)
    warnings = _warnings(plan.features)
    for warning in warnings:
        log.warning("%s", warning)
    run = _Draws(
        features=plan.features,
        task=task,
        pool=Pool(prepared(plan.features, None, None, task.l2_normalise), device),
        settings=task.as_fewshot().classifier_settings(),
    )
    if not only_centres(task.classifiers):
        run.pool.prepare_draws([shots * len(plan.features.classes) for shots in task.shots], BLOCK)
    found: dict[tuple[int, str], Estimate] = {}
    for number, shots in enumerate(task.shots):
        if progress:
            progress("draws", number, len(task.shots))
        here = run(shots)
        found |= {(shots, name): one for name, one in here.items()}
        if until is not None and until(here):
            break
    if progress:
        progress("draws", len(task.shots), len(task.shots))
    return AllWaysResult(
        features=features.describe(),
        task=task,
        classes=plan.features.classes,
        images=tuple(plan.features.counts.tolist()),
        estimates=found,
        dropped=plan.dropped,
        warnings=warnings,
    )


def _warnings(features: FeatureSet) -> tuple[str, ...]:
    """What gives answers away, and classes that are too small beside the others."""
    counts: list[int] = features.counts.tolist()
    small = [repr(name) for name, count in zip(features.classes, counts, strict=True) if count == HARDLY_KNOWN]
    said = Leaks.of(features).warnings()
    if not small or len(small) == len(counts):
        return said
    has, counts_as = ("has", "counts") if len(small) == 1 else ("have", "count")
    warning = (
        f"{counted(len(small), 'class', 'classes')} ({join_names(small)}) {has} {HARDLY_KNOWN} images only and "
        f"{counts_as} as much as the others, so that intervals are too narrow and the best is missed more often than "
        "it should be; --exclude-classes leaves classes out"
    )
    return (*said, warning)


def _sizes(draws: int) -> Iterator[int]:
    """The numbers of draws at which drawing may stop, ascending; the last is all of them."""
    size = BLOCK
    while size < draws:
        yield size
        size *= 2
    yield draws


@dataclass(kw_only=True)
class _Draws:
    """Draws draws, and classifies what is not labelled.

    Attributes:
        features: The feature set.
        task: What is measured.
        pool: The features as the classifiers see them.
        settings: What the classifiers know of the task.
    """

    features: FeatureSet
    task: AllWaysTask
    pool: Pool
    settings: ClassifierSettings
    _counts: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        self._counts = self.features.counts

    def __call__(self, shots: int) -> dict[str, Estimate]:
        """The accuracy of each classifier with one number of shots, over as many draws as it needs."""
        answers = {name: Answers(self.features.labels, shots) for name in self.task.classifiers}
        sizes = _sizes(self.task.draws)
        end, done = next(sizes), 0
        found: dict[str, Estimate] = {}
        for orders in random_orders(self.features, self.task.draws, self.task.seed):
            support = labelled(orders, self._counts, shots)
            for name, kept in answers.items():
                kept.add(self._right(CLASSIFIERS[name], support), support)
            done += len(orders)
            if done < end:
                continue
            found = {name: estimate(kept) for name, kept in answers.items()}
            if all(_is_enough(one) for one in found.values()):
                break
            end = next(sizes, self.task.draws)
        return found

    def _right(self, classifier: Classifier, support: torch.Tensor) -> torch.Tensor:
        """Which samples are classified right in each draw, ``(S, n)`` bool, labelled ones included."""
        import torch

        width = self.features.dim * (len(self._counts) if classifier.by_centres else support[0].numel())
        numbers = max(4 * width, 8 * len(self.features) * len(self._counts))
        step = max(1, BATCH_BYTES // numbers)
        settings = dataclasses.replace(self.settings, shots=support.shape[2])
        parts = []
        for some in torch.split(support, step):
            products = self.pool.against_all(some, by_centres=classifier.by_centres)
            scores = None
            if classifier.directions is not None and isinstance(products, AgainstAll) and products.prefers_directions:
                directions = classifier.directions(products.centred[0], products.ways, **classifier.options(settings))
                if directions is not None:
                    scores = products.along(directions.to(products.x.dtype))
            if scores is None:
                scores = classifier.scores(products, settings)
            parts.append(_is_right(scores, self.features.labels.to(scores.device)).cpu())
        return torch.cat(parts)


def _is_right(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Whether the class of each query is the first with the highest score, ``(E, Q)`` bool.

    Args:
        scores: The score of each query and class, ``(E, Q, w)``; they are overwritten.
        labels: The class of each query, ``(Q,)``.
    """
    import torch

    place = labels[:, None].expand(len(scores), -1, 1)
    own = scores.gather(2, place)
    others = scores.scatter_(2, place, -torch.inf).amax(dim=2)  # far faster than the place of the highest
    right = own[:, :, 0] > others
    if not bool((right | (own[:, :, 0] < others)).all()):  # equal scores, or none that can be compared
        right = scores.scatter_(2, place, own).max(dim=2).indices == labels
    return right


def _is_enough(one: Estimate) -> bool:
    """Whether the draw of draws adds little to the interval over images."""
    return one.draw_half_width <= FINE or one.error_of_draws <= ENOUGH * one.error

"""Which labels are likely wrong, from scores of images that are left out; nothing is trained.

For each set of features, unit vectors about their mean give two scores of each class, both with the image left out
exactly: the logarithm of the probability that ridge regression gives, ``log softmax(β s)``, and that of linear
discriminant analysis with ``s = −2 log D`` for the squared distance D from the mean of the class. The first is better
at labels of similar classes, the second at labels of classes that are far off; their mean is better than either. The
second round weights each image with the probability, by the first round, that its label is right, so that wrong labels
pull less. The scores of several sets are averaged: what one backbone takes for an error, another may know better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nctransfer.devices import with_float64
from nctransfer.errors import FeaturesError, counted, join_names
from nctransfer.label_audit.class_neighbours import nearest_of_class
from nctransfer.label_audit.left_out_models import LeftOutModels
from nctransfer.label_audit.noise_rate import ROWS, LabelNoise, fitted_noise, probability_wrong
from nctransfer.label_audit.unit_rows import UnitRows

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["LabelErrors", "label_errors"]

PENALTIES = tuple(10 ** (exponent / 2) for exponent in range(-4, 2))  # times the mean squared length
SHRINKAGES = (0.1, 0.3, 1.0, 3.0)  # times the mean eigenvalue of the scatter within classes
LEAST_WEIGHT = 1e-3
ROUNDS = 2
SUSPECTED = 0.05  # the rate of wrong labels that the weights of the second round suppose, at least

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelErrors:
    """How likely it is, for each of n images, that its label is wrong; all tensors are on the CPU.

    The images are in the order of the first set: sorted by label, then by id. An image that is alone in its class
    cannot be judged: its score, margin and expected precision are 0, and its own class is suggested.

    Attributes:
        score: ``−log P(given label)`` of the image, left out, ``(n,)``: the higher, the more suspicious.
        suggested: The code of the most probable class other than the given one, ``(n,)``.
        margin: Probability of the suggested class minus that of the given one, ``(n,)``, −1 to 1.
        neighbours: The number of the nearest other image of the given class, and of the nearest one of the suggested
            class, ``(n, 2)``; −1 if there is none.
        distances: The distances of these two, ``(n, 2)``, 0 to 2; see
            :func:`~nctransfer.label_audit.class_neighbours.nearest_of_class`.
        expected_precision: The estimated probability that the given label is wrong, ``(n,)``.
        agreement: How many sets, each on its own, find the suggested class more probable than the given one, ``(n,)``.
        noise_rate: The estimated share of labels that are wrong.
        ids: The names of the images.
        labels: The codes of the given labels, ``(n,)``.
        classes: The C class names.
        sets: How many sets were given.
    """

    score: torch.Tensor
    suggested: torch.Tensor
    margin: torch.Tensor
    neighbours: torch.Tensor
    distances: torch.Tensor
    expected_precision: torch.Tensor
    agreement: torch.Tensor
    noise_rate: float
    ids: tuple[str, ...]
    labels: torch.Tensor
    classes: tuple[str, ...]
    sets: int


def label_errors(sets: Sequence[FeatureSet], *, device: str = "auto", progress: Progress | None = None) -> LabelErrors:
    """How likely it is that each label is wrong.

    Args:
        sets: Features of the same images with the same labels, from one backbone or several.
        device: Where to compute, see :func:`~nctransfer.devices.with_float64`.
        progress: Called with the number of steps done and of all steps.

    Raises:
        FeaturesError: No set is given, the sets hold other images or labels, or fewer than two classes have two images.

    >>> from nctransfer.features.feature_set import FeatureSet
    >>> line = FeatureSet.from_arrays([[0.0], [1.0], [2.0], [8.5], [9.0], [10.0], [11.0], [12.0]], "aaaabbbb")
    >>> found = label_errors([line])
    >>> found.ids[int(found.score.argmax())], round(float(found.margin.max()), 1)
    ('3', 1.0)
    """
    aligned = _aligned(sets)
    first = aligned[0]
    judged = first.counts[first.labels] >= 2
    codes = (first.counts >= 2).nonzero()[:, 0]
    if len(codes) < 2:
        raise FeaturesError(
            f"{first.info.id} has {counted(len(codes), 'class', 'classes')} of two images or more; an audit needs two",
            "give data with two classes of two images each or more",
        )
    place = with_float64(device)
    rows = [UnitRows(features.only_classes(codes), place) for features in aligned]
    steps = len(rows) * ROUNDS
    log_scores = []
    for number, some in enumerate(rows):
        done = None if progress is None else (lambda step, before=number * ROUNDS: progress(before + step, steps))
        log_scores.append(_log_probabilities(some, done))
    return _result(first, codes, judged, rows, log_scores)


def _log_probabilities(rows: UnitRows, done: Callable[[int], None] | None) -> torch.Tensor:
    """``log P(class)`` of each image, left out, after two rounds, up to a constant per image, ``(n, C)``."""
    import torch

    weights = torch.ones(len(rows), dtype=torch.float64, device=rows.labels.device)
    scores = torch.empty(0)
    for step in range(ROUNDS):
        if step:
            own = scores.log_softmax(dim=1).gather(1, rows.labels[:, None])[:, 0].double().exp()
            rate = max(SUSPECTED, fitted_noise(scores, rows.labels).rate)
            weights = (1 - probability_wrong(own, rate, rows.number)).clamp(min=LEAST_WEIGHT)
        scores = _both(LeftOutModels(rows, weights), rows, weights)
        if done is not None:
            done(step + 1)
    return scores


def _both(models: LeftOutModels, rows: UnitRows, weights: torch.Tensor) -> torch.Tensor:
    """The mean of the logarithms of the probabilities by both models, ``(n, C)``.

    The penalty of ridge regression has the smallest weighted squared error; the shrinkage is that under which the
    labels are most likely.
    """
    import torch

    penalties = [penalty * models.ridge_scale for penalty in PENALTIES]
    shrinkages = [shrinkage * models.scatter_scale for shrinkage in SHRINKAGES]
    kernels = [models.kernel(shrinkage) for shrinkage in shrinkages]
    some = -(-len(rows) // ROWS)
    errors, seen = [0.0] * len(penalties), [[torch.empty(0)] * 0 for _ in shrinkages]
    for batch in models.projections(penalties + shrinkages):
        place = batch[0].place
        targets = torch.nn.functional.one_hot(rows.labels[place], rows.number)
        for number, one in enumerate(batch[: len(penalties)]):
            errors[number] += float(weights[place] @ (models.ridge(one) - targets).square().sum(dim=1))
        for kept, one, kernel in zip(seen, batch[len(penalties) :], kernels, strict=True):
            kept.append(_closeness(models.squared_distances(one, kernel))[-place.start % some :: some])
    fits = [fitted_noise(torch.cat(kept), rows.labels[::some]) for kept in seen]
    best = max(range(len(fits)), key=lambda number: fits[number].likelihood)
    chosen = [penalties[errors.index(min(errors))], shrinkages[best]]
    ridge = torch.empty(len(rows), rows.number, dtype=torch.float32, device=weights.device)
    found = torch.empty_like(ridge)
    for one, other in models.projections(chosen):
        ridge[one.place] = models.ridge(one)
        closeness = _closeness(models.squared_distances(other, kernels[best]))
        found[one.place] = (closeness * fits[best].scale).log_softmax(dim=1)
    scale = fitted_noise(ridge, rows.labels).scale
    return found.add_(ridge.mul_(scale).log_softmax(dim=1)).div_(2)


def _closeness(distances: torch.Tensor) -> torch.Tensor:
    import torch

    return -2 * distances.clamp(min=torch.finfo(distances.dtype).tiny).log()


def _result(
    first: FeatureSet, codes: torch.Tensor, judged: torch.Tensor, rows: list[UnitRows], log_scores: list[torch.Tensor]
) -> LabelErrors:
    import torch

    labels, device = rows[0].labels, rows[0].labels.device
    own_places = labels[:, None]
    mean = torch.stack(log_scores).mean(dim=0)
    noise: LabelNoise = fitted_noise(mean, labels)
    logs = mean.mul_(noise.scale).log_softmax(dim=1)
    own = logs.gather(1, own_places)[:, 0].double()
    best, suggested = logs.scatter_(1, own_places, -float("inf")).max(dim=1)
    nearest = [nearest_of_class(rows, wanted) for wanted in (labels, suggested)]
    agreement = sum(
        (some.gather(1, suggested[:, None]) > some.gather(1, own_places))[:, 0].long() for some in log_scores
    )
    assert isinstance(agreement, torch.Tensor)
    numbers = judged.nonzero()[:, 0]

    def everywhere(values: torch.Tensor, missing: torch.Tensor) -> torch.Tensor:
        missing[numbers] = values.cpu().to(missing.dtype)
        return missing

    n, none = len(first), torch.full((len(first),), -1)
    zeros = torch.zeros(n, dtype=torch.float64)
    numbered = [torch.where(found >= 0, numbers.to(device)[found.clamp(min=0)], -1) for found, _ in nearest]
    return LabelErrors(
        score=everywhere(-own, zeros.clone()),
        suggested=everywhere(codes.to(device)[suggested], first.labels.clone()),
        margin=everywhere(best.exp() - own.exp(), zeros.clone()),
        neighbours=torch.stack([everywhere(found, none.clone()) for found in numbered], dim=1),
        distances=torch.stack([everywhere(found, zeros + float("inf")) for _, found in nearest], dim=1),
        expected_precision=everywhere(probability_wrong(own.exp(), noise.rate, rows[0].number), zeros.clone()),
        agreement=everywhere(agreement, torch.zeros(n, dtype=torch.int64)),
        noise_rate=noise.rate * len(numbers) / n,
        ids=first.ids,
        labels=first.labels,
        classes=first.classes,
        sets=len(rows),
    )


def _aligned(sets: Sequence[FeatureSet]) -> list[FeatureSet]:
    """The sets with their rows in the order of the first.

    Raises:
        FeaturesError: There is no set, or two sets differ in ids or labels.
    """
    if not sets:
        raise FeaturesError("no feature set is given", "give one set of features or several of the same images")
    first = sets[0]
    return [first, *(_in_order_of(first, other) for other in sets[1:])]


def _in_order_of(first: FeatureSet, other: FeatureSet) -> FeatureSet:
    if different := sorted(set(first.ids) ^ set(other.ids)):
        raise FeaturesError(
            f"{first.info.id} and {other.info.id} do not hold the same images: "
            f"{counted(len(different), 'id is', 'ids are')} in only one of them: {join_names(different, most=3)}",
            "extract all sets from the same data",
        )
    place = {name: number for number, name in enumerate(other.ids)}
    order = [place[name] for name in first.ids]
    for number, name, code in zip(order, first.ids, first.labels.tolist(), strict=True):
        here, there = first.classes[code], other.classes[int(other.labels[number])]
        if here != there:
            raise FeaturesError(
                f"the label of {name!r} is {here!r} in {first.info.id} but {there!r} in {other.info.id}",
                "extract all sets from the same data",
            )
    return replace(other, features=other.features[order], labels=first.labels, classes=first.classes, ids=first.ids)

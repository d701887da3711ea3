"""Why two classes are confused: the geometry of a pair, and what it means for few-shot accuracy between them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from nctransfer.errors import FeaturesError, SettingError, counted, did_you_mean, join_names
from nctransfer.evaluation.expected_accuracy import expect
from nctransfer.evaluation.fewshot_accuracy import run_fewshot
from nctransfer.evaluation.fewshot_task import FewShotTask
from nctransfer.evaluation.line_places import line_places
from nctransfer.evaluation.margin_moments import ClassMoments, PairMargins
from nctransfer.neural_collapse.bounds import luthra2025, unresolved_pairs
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.notebook import ShownInNotebooks

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from nctransfer.features.feature_info import FeatureInfo
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["Direction", "PairExplanation", "PairShots", "closed_form", "explain"]

log = logging.getLogger(__name__)

SHOTS = (1, 2, 5, 10, 20, 50, 100)  # the reason names the first of these that is enough
ENOUGH = 0.02  # below the accuracy of infinitely many shots
FINE = 0.95  # an accuracy that needs no reason
LINE_RATIO = 3.0  # a class that varies this many times as much along the line to the other is confused because of it
QUERIES = 15  # per class at most, for the measured accuracy
LEAST = 3  # samples per class
NOT_TOLD = "these images do not tell the two apart: the distance of their means is not above twice its mean noise"


@dataclass(frozen=True, kw_only=True)
class Direction:
    """One class, a, seen from the other, b, with Δ = mu_b − mu_a.

    Sorscher, Ganguli, Sompolinsky (PNAS 2022; "S22").

    Attributes:
        name: The class a.
        variance: ``v_a = tr Sigma_a``.
        directional: ``ΔᵀSigma_aΔ / ‖Δ‖⁴``: the directional CDNV of a towards b.
        along: ``ΔᵀSigma_aΔ``.
        dimension: ``(tr Sigma_a)² / tr Sigma_a²``: how many dimensions the class varies in (participation ratio).
        trace2: ``tr Sigma_a²``.
    """

    name: str
    variance: float
    directional: float
    along: float
    dimension: float
    trace2: float


@dataclass(frozen=True, kw_only=True)
class PairShots:
    """2-way accuracy of ``ncc`` between two classes with m shots.

    Attributes:
        shots: m.
        closed_form: Φ(SNR) of S22 with the exact variance of the margin, averaged over both classes. ``None`` if the
            samples do not tell the classes apart.
        expected: The mean over all episodes, by resampled supports.
        measured: The mean over random episodes.
        ci95: Half the width of the 95% interval of ``measured``.
        bound: One minus the bound of the error by Luthra et al. 2025. A value below 0 says nothing. ``None`` as before.
    """

    shots: int
    closed_form: float | None
    expected: float
    measured: float
    ci95: float
    bound: float | None


@dataclass(frozen=True, kw_only=True)
class PairExplanation(ShownInNotebooks):
    """Two classes: how they lie, how accurately they are separated, and why not better.

    Attributes:
        features: The feature set that the classes are from.
        distance: ``‖Δ‖``.
        cdnv: ``(v_a + v_b) / (2 ‖Δ‖²)``.
        overlap: ``tr(Sigma_a Sigma_b) / √(tr Sigma_a² tr Sigma_b²)``; 1 if both vary in the same directions.
        directions: Each class seen from the other.
        shots: The accuracy for each number of shots.
        limit: The accuracy with infinitely many shots: Φ(1/(2√Ṽ)), averaged over both classes. ``None`` if the samples
            do not tell the classes apart.
        reason: What dominates, in a sentence.
        is_resolved: Whether the samples tell the classes apart: whether the distance of the means is clearly more than
            their noise, see :func:`~nctransfer.neural_collapse.cdnv.cdnv_debiased`.
        undefined: The reason for each value that is ``None``.
        places: Where the images of each class lie on the line from the first mean to the second, ``(n_a,)`` and
            ``(n_b,)``: −½ at the mean of the first class, 0 on the border of ``ncc``, ½ at the mean of the second. Each
            image is left out of the mean of its class. Not in JSON.
    """

    features: FeatureInfo
    distance: float
    cdnv: float
    overlap: float
    directions: tuple[Direction, Direction]
    shots: tuple[PairShots, ...]
    limit: float | None
    reason: str
    is_resolved: bool = True
    undefined: Mapping[str, str] = field(default_factory=dict)
    places: tuple[NDArray[np.float64], NDArray[np.float64]] | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The result as a dictionary for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "places"}

    def to_frame(self) -> pd.DataFrame:
        """One row for each number of shots."""
        import pandas as pd

        a, b = (one.name for one in self.directions)
        return pd.DataFrame([{"class_a": a, "class_b": b, **asdict(row)} for row in self.shots])


def explain(
    features: FeatureSet,
    class_a: str,
    class_b: str,
    shots: Sequence[int] = (1, 5, 10),
    *,
    episodes: int = 10_000,
    seed: int = 0,
    device: str = "auto",
) -> PairExplanation:
    """Why two classes are confused.

    Args:
        features: The feature set.
        class_a: The name of a class.
        class_b: The name of another class.
        shots: Support samples per class. Numbers for which the classes have too few samples are left out.
        episodes: Episodes of the measured accuracy, with all remaining samples as queries, but 15 per class at most.
        seed: The seed of the episodes.
        device: Where to compute.

    Raises:
        FeaturesError: There is no such class, or it has fewer than 3 samples, or both have the same mean.
    """
    pair, order = _pair(features, class_a, class_b)
    stats = ClassStatistics.of(pair, device)
    squared = float(stats.distances[0, 1]) ** 2
    if squared == 0:
        raise FeaturesError(
            f"{class_a!r} and {class_b!r} have the same mean, so that nothing separates them",
            "check whether they have the same samples",
        )
    classes = ClassMoments.of(pair, device)
    margins = PairMargins.of(classes)
    is_resolved = not unresolved_pairs(stats)
    a, b = (_direction(pair, stats, float(classes.traces[code]), code) for code in order)
    by_theory = partial(closed_form, classes, margins)
    rows = []
    for task in _tasks(shots, int(pair.counts.min()), episodes, seed):
        row = _accuracies(pair, stats, task, by_theory(max(task.shots)), device)
        rows.append(row if is_resolved else replace(row, closed_form=None, bound=None))
    limit = sum(_normal_cdf(1 / (2 * math.sqrt(one.directional))) if one.directional else 1.0 for one in (a, b)) / 2
    varies = bool((classes.traces > 0).all())
    return PairExplanation(
        features=features.describe(),
        distance=math.sqrt(squared),
        cdnv=(a.variance + b.variance) / (2 * squared),
        overlap=float(margins.crossed[0, 1] / classes.traces.prod().sqrt()) if varies else 0.0,
        directions=(a, b),
        shots=tuple(rows),
        limit=limit if is_resolved else None,
        reason=_reason((a, b), squared, partial(closed_form, classes, margins), limit, rows)
        if is_resolved
        else NOT_TOLD,
        is_resolved=is_resolved,
        undefined={} if is_resolved else dict.fromkeys(("limit", "closed_form", "bound"), NOT_TOLD),
        places=_places(pair, order),
    )


def _places(pair: FeatureSet, order: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The places of the images of two classes, in the order in which they were named."""
    centre = pair.features.double().mean(dim=0)  # an offset that all features share costs no digits
    a, b = (pair.features[pair.labels == code].double() - centre for code in order)
    return -line_places(a, b.mean(dim=0)).numpy(), line_places(b, a.mean(dim=0)).numpy()


def closed_form(classes: ClassMoments, margins: PairMargins, shots: float) -> float:
    """Φ(SNR) of S22, averaged over both classes: as if the margin of a query were normal.

    ``SNR = (‖Δ‖² + (v_b − v_a)/m) / √W``: the mean of the margin over its standard deviation, with the noise of the
    query and of the supports. S22 give the main terms ``4ΔᵀSigma_aΔ + 4ΔᵀSigma_bΔ/m + 4tr(Sigma_a²)/m
    + 4tr(Sigma_aSigma_b)/m + 2[tr(Sigma_a²) + tr(Sigma_b²)]/m²`` of W. The exact variance has two more:
    ``Σ_c (q_c − v_c² − 2 tr Sigma_c²)/m³ + 4 Δᵀκ_b/m²``, see :mod:`~nctransfer.evaluation.margin_bounds`.

    Args:
        classes: The moments of the two classes.
        margins: Those of the margins between them.
        shots: m; may be infinite.
    """
    mean, variance = (one.cpu() for one in margins.moments(classes, shots))
    found = []
    for signal, noise in ((mean[0, 1], variance[0, 1]), (mean[1, 0], variance[1, 0])):
        found.append(_normal_cdf(float(signal) / math.sqrt(noise)) if noise else float(signal > 0))
    return sum(found) / 2


def _tasks(shots: Sequence[int], fewest: int, episodes: int, seed: int) -> list[FewShotTask]:
    """One task for each number of shots that leaves a query, ascending."""
    wanted = sorted(set(shots))
    if too_many := [number for number in wanted if number >= fewest]:
        log.warning("%s shots leave no query of %d samples: left out", ", ".join(map(str, too_many)), fewest)
    return [
        FewShotTask(
            ways=2,
            shots=number,
            queries=min(QUERIES, fewest - number),
            episodes=episodes,
            classifiers="ncc",
            seed=seed,
            theory=False,
        )
        for number in wanted
        if number < fewest
    ]


def _accuracies(
    pair: FeatureSet, stats: ClassStatistics, task: FewShotTask, closed_form: float, device: str
) -> PairShots:
    """The accuracies of one number of shots: by the closed form, expected, measured, and the bound."""
    [shots] = task.shots
    [measured] = run_fewshot(pair, task, device=device).rows
    assert measured.ci95 is not None  # over episodes there always is one
    [expected] = expect(pair, 2, shots, seed=task.seed, device=device).rows
    return PairShots(
        shots=shots,
        closed_form=closed_form,
        expected=expected.accuracy,
        measured=measured.accuracy,
        ci95=measured.ci95,
        bound=1 - luthra2025(stats, 2, shots),
    )


def _pair(features: FeatureSet, class_a: str, class_b: str) -> tuple[FeatureSet, list[int]]:
    """The samples of two classes, and the codes of these classes in the order in which they were named.

    Raises:
        FeaturesError: There is no such class, or it has fewer than 3 samples.
        SettingError: One class was named twice.
    """
    import torch

    for name in (class_a, class_b):
        if name not in features.classes:
            near = did_you_mean(name, features.classes)
            there = near or f"the classes are: {join_names(features.classes, most=10)}"
            raise FeaturesError(f"there is no class {name!r} in {features.info.id}", there)
    if class_a == class_b:
        raise SettingError(f"{class_a!r} was named twice", "name two classes")
    codes = sorted((features.classes.index(class_a), features.classes.index(class_b)))
    pair = features.only_classes(torch.tensor(codes))
    if int(pair.counts.min()) < LEAST:
        least = int(pair.counts.argmin())
        raise FeaturesError(
            f"{pair.classes[least]!r} has {counted(int(pair.counts[least]), 'sample')}; expected {LEAST} of each class",
            "give more samples, or other classes",
        )
    named = replace(pair, info=replace(pair.info, id=f"{features.info.id}: {class_a}, {class_b}"))
    return named, [pair.classes.index(class_a), pair.classes.index(class_b)]


def _direction(pair: FeatureSet, stats: ClassStatistics, trace2: float, code: int) -> Direction:
    """One class seen from the other."""
    along = float(stats.directional[code, 1 - code])
    variance = float(stats.variances[code])
    return Direction(
        name=pair.classes[code],
        variance=variance,
        directional=along / float(stats.distances[0, 1]) ** 4,
        along=along,
        dimension=variance**2 / trace2 if trace2 else 0.0,
        trace2=trace2,
    )


def _line_ratio(one: Direction, squared: float) -> float:
    """The variance of a class along the line to the other, over that in another direction in which it varies."""
    along = one.along / squared
    rest, rest2 = one.variance - along, one.trace2 - along**2
    if along == 0:
        return 0.0
    return along * rest / rest2 if rest > 1e-12 * one.variance and rest2 > 1e-12 * one.trace2 else math.inf


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _reason(
    both: Sequence[Direction],
    squared: float,
    by_theory: Callable[[float], float],
    limit: float,
    rows: Sequence[PairShots],
) -> str:
    """What dominates, in a sentence.

    Args:
        both: Each class seen from the other.
        squared: ``‖Δ‖²``.
        by_theory: The accuracy for a number of shots by the closed form.
        limit: The accuracy with infinitely many shots.
        rows: The accuracies.
    """
    if limit < FINE:
        return _reason_at_any_shots(both, squared)
    first = next((row.expected for row in rows if row.shots == 1), by_theory(1))
    if first >= FINE or first >= limit - ENOUGH:
        return "not confused: one shot is enough to separate the classes"
    enough = next((shots for shots in SHOTS if by_theory(shots) >= limit - ENOUGH), None)
    widest = max(both, key=lambda one: one.variance)
    would = f"{enough} shots are enough" if enough else f"more than {SHOTS[-1]} shots are needed"
    would += f" to come within {100 * ENOUGH:g} points of the highest possible accuracy ({limit:.1%})"
    return f"confused because few shots estimate the mean of a wide class badly ({widest.name}): {would}"


def _reason_at_any_shots(both: Sequence[Direction], squared: float) -> str:
    """Why two classes are confused even with infinitely many shots."""
    ratios = [_line_ratio(one, squared) for one in both]
    ratio = max(ratios)
    one, other = both if ratios[0] == ratio else both[::-1]
    if ratio <= LINE_RATIO:
        return "confused because the classes are close: the distance of their means is small for how much they vary"
    times = f"{ratio:.1f} times as much as in another direction" if ratio < math.inf else "and in no other direction"
    return f"confused because {one.name} varies along the line to {other.name}, {times}"

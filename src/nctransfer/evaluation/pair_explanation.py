"""Why two classes are confused: the geometry of a pair, and what it means for few-shot accuracy between them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from nctransfer.errors import FeaturesError, counted, did_you_mean, join_names
from nctransfer.evaluation.expected_accuracy import expect
from nctransfer.evaluation.fewshot_accuracy import run_fewshot
from nctransfer.evaluation.fewshot_task import FewShotTask
from nctransfer.neural_collapse.bounds import luthra2025
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.notebook import ShownInNotebooks

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from nctransfer.features.feature_info import FeatureInfo
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["Direction", "PairExplanation", "PairShots", "explain"]

log = logging.getLogger(__name__)

SHOTS = (1, 2, 5, 10, 20, 50, 100)  # the reason names the first of these that is enough
ENOUGH = 0.02  # below the accuracy of infinitely many shots
FINE = 0.95  # an accuracy that needs no reason
LINE_RATIO = 3.0  # a class that varies this many times as much along the line to the other is confused because of it
QUERIES = 15  # per class at most, for the measured accuracy
LEAST = 3  # samples per class


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
        closed_form: Φ(SNR) of S22, averaged over both classes.
        expected: The mean over all episodes, by resampled supports.
        measured: The mean over random episodes.
        ci95: Half the width of the 95% interval of ``measured``.
        bound: One minus the bound of the error by Luthra et al. 2025. A value below 0 says nothing.
    """

    shots: int
    closed_form: float
    expected: float
    measured: float
    ci95: float
    bound: float


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
        limit: The accuracy with infinitely many shots: Φ(1/(2√Ṽ)), averaged over both classes.
        reason: What dominates, in a sentence.
    """

    features: FeatureInfo
    distance: float
    cdnv: float
    overlap: float
    directions: tuple[Direction, Direction]
    shots: tuple[PairShots, ...]
    limit: float
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """The result as a dictionary for JSON."""
        return asdict(self)

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
    traces = _traces(pair)
    crossed = float(traces[0, 1])
    a, b = (_direction(pair, stats, traces, code) for code in order)
    tasks = _tasks(shots, int(pair.counts.min()), episodes, seed)
    forms = [_closed_form((a, b), squared, crossed, max(task.shots)) for task in tasks]
    rows = tuple(_accuracies(pair, stats, *one, device) for one in zip(tasks, forms, strict=True))
    limit = sum(_normal_cdf(1 / (2 * math.sqrt(one.directional))) if one.directional else 1.0 for one in (a, b)) / 2
    varies = bool((traces.diagonal() > 0).all())
    return PairExplanation(
        features=features.describe(),
        distance=math.sqrt(squared),
        cdnv=(a.variance + b.variance) / (2 * squared),
        overlap=float(traces[0, 1] / (traces[0, 0] * traces[1, 1]).sqrt()) if varies else 0.0,
        directions=(a, b),
        shots=rows,
        limit=limit,
        reason=_reason((a, b), squared, crossed, limit, rows),
    )


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
        FeaturesError: There is no such class, it was named twice, or it has fewer than 3 samples.
    """
    import torch

    for name in (class_a, class_b):
        if name not in features.classes:
            near = did_you_mean(name, features.classes)
            there = near or f"the classes are: {join_names(features.classes, most=10)}"
            raise FeaturesError(f"there is no class {name!r} in {features.info.id}", there)
    if class_a == class_b:
        raise FeaturesError(f"{class_a!r} was named twice", "name two classes")
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


def _traces(pair: FeatureSet) -> torch.Tensor:
    """``tr(Sigma_i Sigma_j)``, ``(2, 2)``, from inner products of residuals or from covariances, whichever is less."""
    import torch

    residuals = []
    for code in range(2):
        rows = pair.features[pair.labels == code].double()
        residuals.append((rows - rows.mean(dim=0)) / math.sqrt(len(rows)))
    if max(map(len, residuals)) > pair.dim:
        covariances = [rows.T @ rows for rows in residuals]
        return torch.tensor([[float((a * b).sum()) for a in covariances] for b in covariances], dtype=torch.float64)
    return torch.tensor([[float((a @ b.T).square().sum()) for a in residuals] for b in residuals], dtype=torch.float64)


def _direction(pair: FeatureSet, stats: ClassStatistics, traces: torch.Tensor, code: int) -> Direction:
    """One class seen from the other."""
    along = float(stats.directional[code, 1 - code])
    variance, trace2 = float(stats.variances[code]), float(traces[code, code])
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


def _closed_form(both: Sequence[Direction], squared: float, crossed: float, shots: float) -> float:
    """Φ(SNR) of S22 with its smaller terms, averaged over both classes.

    ``SNR = (‖Δ‖² + (v_b − v_a)/m) / √(4ΔᵀSigma_aΔ + 4ΔᵀSigma_bΔ/m + 4tr(Sigma_a²)/m + 4tr(Sigma_aSigma_b)/m
    + 2[tr(Sigma_a²) + tr(Sigma_b²)]/m²)``: signal and bias over the noise of the query and of the supports.

    Args:
        both: Each class seen from the other.
        squared: ``‖Δ‖²``.
        crossed: ``tr(Sigma_a Sigma_b)``.
        shots: m.
    """
    found = []
    for a, b in (both, both[::-1]):
        signal = squared + (b.variance - a.variance) / shots
        noise = 4 * a.along + 4 * (b.along + a.trace2 + crossed) / shots + 2 * (a.trace2 + b.trace2) / shots**2
        found.append(_normal_cdf(signal / math.sqrt(noise)) if noise else float(signal > 0))
    return sum(found) / 2


def _reason(both: Sequence[Direction], squared: float, crossed: float, limit: float, rows: Sequence[PairShots]) -> str:
    """What dominates, in a sentence.

    Args:
        both: Each class seen from the other.
        squared: ``‖Δ‖²``.
        crossed: ``tr(Sigma_a Sigma_b)``.
        limit: The accuracy with infinitely many shots.
        rows: The accuracies.
    """
    if limit < FINE:
        return _reason_at_any_shots(both, squared)
    first = next((row.expected for row in rows if row.shots == 1), _closed_form(both, squared, crossed, 1))
    if first >= FINE or first >= limit - ENOUGH:
        return "not confused: one shot is enough to separate the classes"
    enough = next((shots for shots in SHOTS if _closed_form(both, squared, crossed, shots) >= limit - ENOUGH), None)
    widest = max(both, key=lambda one: one.variance)
    would = f"{enough} shots are enough" if enough else f"more than {SHOTS[-1]} shots are needed"
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

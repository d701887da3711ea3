"""Why two classes are confused: the geometry of a pair, and what it says of few-shot accuracy between them."""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from nctransfer.errors import FeaturesError, counted
from nctransfer.evaluation.expected_accuracy import expect
from nctransfer.evaluation.fewshot_accuracy import fewshot
from nctransfer.neural_collapse.bounds import luthra2025
from nctransfer.neural_collapse.class_statistics import ClassStatistics

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["Direction", "PairExplanation", "PairShots", "explain"]

log = logging.getLogger(__name__)

SHOTS = (1, 2, 5, 10, 20, 50, 100)  # of which the first that would do is named
ENOUGH = 0.02  # below the accuracy of infinitely many shots
FINE = 0.95  # an accuracy that asks for no reason
ALONG = 3.0  # times its share of the width that a class varies along the line to the other


@dataclass(frozen=True)
class Direction:
    """Queries of one class, a, beside another, b; Δ = mu_b − mu_a (Sorscher, Ganguli, Sompolinsky, PNAS 2022; "S22").

    Attributes:
        name: a.
        variance: ``v_a = tr Sigma_a``.
        directional: ``ΔᵀSigma_aΔ / ‖Δ‖⁴``: the directional CDNV of a towards b.
        along: ``ΔᵀSigma_aΔ``.
        dimension: ``(tr Sigma_a)² / tr Sigma_a²``: the width that the class uses (participation ratio).
        trace2: ``tr Sigma_a²``.
    """

    name: str
    variance: float
    directional: float
    along: float
    dimension: float
    trace2: float


@dataclass(frozen=True)
class PairShots:
    """2-way accuracy of ``ncc`` between two classes, m-shot.

    Attributes:
        shots: m.
        closed_form: Φ(SNR) of S22, averaged over both classes.
        expected: The mean over all episodes (resampled).
        measured: Over episodes; with half the width of its 95% interval.
        bound: ``1 −`` the bound of the error by Luthra et al. 2025; below 0 it says nothing.
    """

    shots: int
    closed_form: float
    expected: float
    measured: float
    ci95: float
    bound: float


@dataclass(frozen=True)
class PairExplanation:
    """Two classes: how they lie, how well they are told apart, and why not better.

    Attributes:
        distance: ``‖Δ‖``.
        cdnv: ``(v_a + v_b) / (2 ‖Δ‖²)``.
        overlap: ``tr(Sigma_a Sigma_b) / √(tr Sigma_a² tr Sigma_b²)``: 1 where they vary in the same directions alike.
        directions: Of each class.
        shots: Accuracies.
        limit: What infinitely many shots give: Φ(1/(2√Ṽ)), averaged over both classes.
        reason: What dominates, in a sentence.
    """

    features: dict[str, Any]
    distance: float
    cdnv: float
    overlap: float
    directions: tuple[Direction, Direction]
    shots: tuple[PairShots, ...]
    limit: float
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON has it."""
        return asdict(self)

    def to_frame(self) -> pd.DataFrame:
        """One row a number of shots."""
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
        class_a: A class name.
        class_b: Another.
        shots: Support samples a class; those for which the classes have too few samples are left out.
        episodes: Of the measured accuracy; as many queries as are left, 15 at most.
        seed: Of the episodes.
        device: Where to compute.

    Raises:
        FeaturesError: There are no such classes, or they have fewer than 3 samples, or one mean.
    """
    pair, order = _pair(features, class_a, class_b)
    stats = ClassStatistics.of(pair, device)
    if float(stats.distances[0, 1]) == 0:
        raise FeaturesError(
            f"{class_a!r} and {class_b!r} have the same mean: nothing tells them apart", "are their samples the same?"
        )
    traces = _traces(pair)
    both = tuple(_direction(pair, stats, traces, code) for code in order)
    squared = float(stats.distances[0, 1]) ** 2
    fewest = int(pair.counts.min())
    wanted = sorted(set(shots))
    if too_many := [number for number in wanted if number >= fewest]:
        log.warning("%s shots leave no query of %d samples: left out", ", ".join(map(str, too_many)), fewest)
    rows = []
    for number in wanted[: len(wanted) - len(too_many)]:
        measured = fewshot(
            pair,
            2,
            number,
            queries=min(15, fewest - number),
            episodes=episodes,
            classifiers="ncc",
            seed=seed,
            device=device,
            theory=False,
        ).rows[0]
        [expected] = expect(pair, 2, number, seed=seed, device=device).rows
        rows.append(
            PairShots(
                number,
                _closed_form(both, squared, float(traces[0, 1]), number),
                expected.accuracy,
                measured.accuracy,
                measured.ci95,
                1 - luthra2025(stats, 2, number),
            )
        )
    overlap = float(traces[0, 1] / (traces[0, 0] * traces[1, 1]).sqrt()) if bool((traces.diagonal() > 0).all()) else 0.0
    limit = sum(_normal(1 / (2 * math.sqrt(one.directional))) if one.directional else 1.0 for one in both) / 2
    return PairExplanation(
        features=features.to_dict(),
        distance=math.sqrt(squared),
        cdnv=(both[0].variance + both[1].variance) / (2 * squared),
        overlap=overlap,
        directions=(both[0], both[1]),
        shots=tuple(rows),
        limit=limit,
        reason=_reason(both, squared, float(traces[0, 1]), limit, rows),
    )


def _pair(features: FeatureSet, class_a: str, class_b: str) -> tuple[FeatureSet, list[int]]:
    import torch

    for name in (class_a, class_b):
        if name not in features.classes:
            near = difflib.get_close_matches(name, features.classes, 3)
            some = ", ".join(near or features.classes[:10]) + (", …" if not near and len(features.classes) > 10 else "")
            there = f"{'nearest' if near else 'the classes are'}: {some}"
            raise FeaturesError(f"there is no class {name!r} in {features.info.id}", there)
    if class_a == class_b:
        raise FeaturesError(f"{class_a!r} was named twice", "name two classes")
    codes = sorted((features.classes.index(class_a), features.classes.index(class_b)))
    pair = features.only_classes(torch.tensor(codes))
    if int(pair.counts.min()) < 3:
        least = int(pair.counts.argmin())
        raise FeaturesError(
            f"{pair.classes[least]!r} has {counted(int(pair.counts[least]), 'sample')}",
            "needed are 3 samples of each class at least",
        )
    return replace(pair, info=replace(pair.info, id=f"{features.info.id}: {class_a}, {class_b}")), [
        pair.classes.index(class_a),
        pair.classes.index(class_b),
    ]


def _traces(pair: FeatureSet) -> torch.Tensor:
    """``tr(Sigma_i Sigma_j)``, ``(2, 2)``, by the inner products of residuals."""
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
    other = 1 - code
    along, variance, trace2 = (
        float(stats.directional[code, other]),
        float(stats.variances[code]),
        float(traces[code, code]),
    )
    return Direction(
        name=pair.classes[code],
        variance=variance,
        directional=along / float(stats.distances[0, 1]) ** 4,
        along=along,
        dimension=variance**2 / trace2 if trace2 else 0.0,
        trace2=trace2,
    )


def _share_along(one: Direction, squared: float) -> float:
    """How many times as much a class varies along the line as in another of the directions that it uses."""
    along = one.along / squared
    rest, rest2 = one.variance - along, one.trace2 - along**2
    if along == 0:
        return 0.0
    return along * rest / rest2 if rest > 1e-12 * one.variance and rest2 > 1e-12 * one.trace2 else math.inf


def _normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _closed_form(both: Sequence[Direction], squared: float, crossed: float, shots: float) -> float:
    """Φ(SNR) of S22 with its smaller terms, averaged over queries of both classes.

    ``SNR = (‖Δ‖² + (v_b − v_a)/m) / √(4ΔᵀSigma_aΔ + 4ΔᵀSigma_bΔ/m + 4tr(Sigma_a²)/m + 4tr(Sigma_aSigma_b)/m
    + 2[tr(Sigma_a²) + tr(Sigma_b²)]/m²)``: signal and bias over what the query and the supports scatter.
    """
    found = []
    for a, b in (both, both[::-1]):
        signal = squared + (b.variance - a.variance) / shots
        scatter = 4 * a.along + 4 * (b.along + a.trace2 + crossed) / shots + 2 * (a.trace2 + b.trace2) / shots**2
        found.append(_normal(signal / math.sqrt(scatter)) if scatter else float(signal > 0))
    return sum(found) / 2


def _reason(both: Sequence[Direction], squared: float, crossed: float, limit: float, rows: Sequence[PairShots]) -> str:
    """What dominates, in a sentence."""
    first = next((row.expected for row in rows if row.shots == 1), _closed_form(both, squared, crossed, 1))
    if limit < FINE:
        shares = [_share_along(one, squared) for one in both]
        share = max(shares)
        one = both[shares.index(share)]
        other = both[1] if one is both[0] else both[0]
        if share > ALONG:
            return f"confused because {one.name} varies along the line to {other.name}, " + (
                f"{share:.1f} times as much as in another direction"
                if share < math.inf
                else "and in no other direction"
            )
        return "confused because the classes are close: their means lie near each other for how much they vary"
    if first >= FINE or first >= limit - ENOUGH:
        return "not confused: the classes are told apart from the first shot on"
    enough = next((shots for shots in SHOTS if _closed_form(both, squared, crossed, shots) >= limit - ENOUGH), None)
    widest = max(both, key=lambda one: one.variance)
    would = f"{enough} shots would do" if enough else f"more than {SHOTS[-1]} shots are needed"
    return f"confused because few shots estimate a wide class badly ({widest.name}): {would}"

"""Bounds of the few-shot error from the exact mean and variance of the margin.

The classifier is nearest class centres (``ncc``) with m shots. The margin of a query f of class i over class j is
``h = ‖f − p_j‖² − ‖f − p_i‖²``, where the centres ``p_c = mu_c + ε_c`` are means of m independent draws. The query
loses to class j if ``h ≤ 0``. If h has mean ``E > 0`` and variance W, Cantelli's inequality gives
``P(h ≤ 0) ≤ W / (W + E²)``.

- ``margin`` takes E and W over query and supports together, one pair of classes at a time, and adds up the pairs of a
  task: ``(k−1) Avg_{i≠j} p_ij``.
- ``margin_per_query`` takes E and W over the supports alone, for each query. Given the query, each win is less likely
  the farther the own centre lies, so by Chebyshev's association inequality ``P(all wins) ≥ Π_j (1 − p_j)``. The mean of
  that product over all choices of k − 1 classes is an elementary symmetric polynomial; there is no union bound.

Both hold for draws with replacement from the images at hand, each image of a class equally likely. The proofs are in
``docs/theory.md``. With ``Δ = mu_j − mu_i``, ``v = tr Σ``, ``q_c = E‖f − mu_c‖⁴``, ``κ_c = E[(f − mu_c) ‖f − mu_c‖²]``,
``Q_c = Var ‖ε_c‖² = (q_c − v_c² + 2(m−1) tr Σ_c²)/m³``, ``z = f − mu_i`` and ``y = f − mu_j``::

    pair:  E = ‖Δ‖² + (v_j − v_i)/m
           W = 4 ΔᵀΣ_iΔ + (4/m)[ΔᵀΣ_jΔ + tr Σ_i² + tr(Σ_iΣ_j)] + Q_i + Q_j + (4/m²) Δᵀκ_j
    query: E = ‖y‖² − ‖z‖² + (v_j − v_i)/m
           W = (4/m)(yᵀΣ_j y + zᵀΣ_i z) + Q_i + Q_j − (4/m²)(yᵀκ_j + zᵀκ_i)

No covariance is needed: with ``Σ_j = F_jᵀ F_j``, a product of the residuals with all rows of all F gives every
``yᵀΣ_j y``, and its mean square over a class gives ``tr(Σ_i Σ_j)``. All numbers of shots share these products.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.errors import EpisodeError, counted, join_names
from nctransfer.evaluation.margin_moments import ClassMoments, PairMargins
from nctransfer.neural_collapse.bounds import Bound, not_told_apart, unresolved_pairs
from nctransfer.neural_collapse.cdnv import debiased_pairs

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_stream import Features
    from nctransfer.neural_collapse.class_statistics import ClassStatistics

__all__ = ["MarginBound", "bound_by_margins", "margin_bounds_or_reasons", "multiply_adds"]

IN_MEMORY = 500_000_000  # numbers: 4 GB of float64, which is held about twice


class MarginBound(NamedTuple):
    """Two bounds of the error of one task."""

    margin: float
    margin_per_query: float


def multiply_adds(features: Features, ways: Sequence[int], shots: Sequence[float]) -> float:
    """About how many multiply-adds :func:`bound_by_margins` takes: for its products, and for its recursion."""
    samples, width = len(features), features.dim
    rank = sum(min(count, width) for count in features.counts.tolist())
    return samples * (float(rank) * width + 10.0 * len(features.classes) * max(ways) * len(shots))


def bound_by_margins(
    features: Features,
    ways: Iterable[int],
    shots: Iterable[float],
    *,
    resolved: torch.Tensor | None = None,
    device: str = "auto",
) -> dict[tuple[int, float], MarginBound]:
    """Both bounds for every number of ways and shots.

    Cost, for n samples of width d, of C classes: ``n² d`` multiply-adds, or ``n C d²`` where classes have more samples
    than the width; and ``n C k`` for each number of shots. Memory: the features in float64, about twice.

    Args:
        features: The population. Each class may have one sample or more.
        ways: k ≤ C, one or several.
        shots: m ≥ 1, one or several; may be infinite.
        resolved: Which ordered pairs of classes the images tell apart, ``(C, C)``; without, all. A query of the others
            may always lose: the chance counts as 1.
        device: Where to compute, see :func:`~nctransfer.devices.with_float64`.

    Returns:
        Bounds by ways and shots. ``margin`` may exceed 1; ``margin_per_query`` does not.

    Raises:
        EpisodeError: There are fewer than 2 ways, more ways than classes, or no shots.

    >>> from nctransfer.features.feature_set import FeatureSet
    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> one_shot, many = bound_by_margins(two, [2], [1, float("inf")]).values()
    >>> round(one_shot.margin, 4)  # E = 100, W = 4·100 + 4·(100 + 1 + 1)
    0.0748
    >>> round(many.margin, 4), many.margin_per_query  # E = 100, W = 4·100; no query is nearer to the wrong centre
    (0.0385, 0.0)
    """
    import torch

    all_ways, all_shots = sorted(set(ways)), sorted(set(shots))
    if not (all_ways[0] >= 2 and all_ways[-1] <= len(features.classes) and all_shots[0] >= 1):
        raise EpisodeError(
            f"{join_names(all_ways)} ways and {join_names(all_shots)} shots were given for "
            f"{counted(len(features.classes), 'class', 'classes')}",
            "give at least 2 ways, at most as many as there are classes, and at least 1 shot",
        )
    classes = ClassMoments.of(features, device)
    number, place = len(classes.counts), classes.rows.device
    degrees = [size - 1 for size in all_ways]
    kept = None if resolved is None else resolved.to(place)
    right = torch.zeros(len(all_shots), len(all_ways), dtype=torch.float64, device=place)
    along, crossed = classes.means.new_zeros(2, number, number)
    for queries in classes.queries():
        along.index_add_(0, queries.labels, queries.along.square())
        crossed.index_add_(0, queries.labels, queries.within)
        weights = 1 / (number * classes.counts[queries.labels])
        for row, size in zip(right, all_shots, strict=True):
            row += queries.certificates(classes, degrees, size, kept) @ weights
    pairs = PairMargins.from_sums(classes, along, crossed)
    found = {}
    for row, size in zip(right.tolist(), all_shots, strict=True):
        losses = pairs.losses(classes, size)
        if kept is not None:
            losses[~kept] = 1
        average = float(losses.fill_diagonal_(0).sum()) / (number * (number - 1))
        for chance, many in zip(row, all_ways, strict=True):
            found[many, size] = MarginBound((many - 1) * average, min(1.0, max(0.0, 1 - chance)))
    return found


def margin_bounds_or_reasons(
    features: Features,
    stats: ClassStatistics,
    ways: Sequence[int],
    shots: Sequence[float],
    *,
    device: str = "auto",
    limit: float = math.inf,
) -> dict[tuple[int, float], dict[str, Bound]]:
    """The bounds by margins as a report has them: by ways and shots, then by name; or why there are none.

    A pair of classes that the images do not resolve counts as lost; if none is resolved, there is no bound.

    Args:
        features: The population.
        stats: Its class statistics.
        ways: k, several.
        shots: m, several; may be infinite.
        device: Where to compute.
        limit: The most multiply-adds; with more there are no bounds.
    """
    numbers, work = len(features) * features.dim, multiply_adds(features, ways, shots)
    unresolved, pairs = unresolved_pairs(stats), len(stats.counts) * (len(stats.counts) - 1) // 2
    reason = None
    if numbers > IN_MEMORY:
        reason = f"the features are {numbers:,} numbers; up to {IN_MEMORY:,} are read into memory for this bound"
    elif work > limit:
        reason = f"it takes {work:.0e} multiply-adds, above the limit of {limit:.0e}: nctransfer bounds computes it"
    elif unresolved == pairs:
        reason = not_told_apart(unresolved, pairs)
    if reason:
        none = {(size, number): (None, None) for size in ways for number in shots}
        found: Mapping[tuple[int, float], tuple[float | None, float | None]] = none
    else:
        resolved = debiased_pairs(stats)[1] if unresolved else None
        found = bound_by_margins(features, ways, shots, resolved=resolved, device=device)
    return {
        task: {
            name: Bound(value, reason, 1 - 1 / task[0]) for name, value in zip(MarginBound._fields, values, strict=True)
        }
        for task, values in found.items()
    }

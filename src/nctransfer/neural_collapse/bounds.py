"""Bounds of the few-shot error by the geometry of the classes.

All bounds hold for the error of nearest class centres (``ncc``) with m shots in a k-way task whose classes are drawn
uniformly, and for draws with replacement from the images at hand as the population. A bound above 1 says nothing: it is
*vacuous*, and is returned as it is. One above ``1 − 1/k``, the error of a random answer, is *uninformative*.

Two classes whose distance is within the noise of their means are not resolved: these images do not tell them apart. An
average over pairs that contains such a pair means nothing, so there is no bound then; a bound whose pairs count as 1 at
most counts such a pair as 1.

Three conventions of the class-distance normalised variance (CDNV) are in use, which differ by a factor of 2. Here
``V_ij = (v_i + v_j) / (2 d_ij²)``, as in Galanti, György, Hutter (ICLR 2022). Luthra et al. 2026 leave out the ½. The
generalisation bounds of Galanti et al. (2212.12532) and Luthra et al. 2025 write ``v_i / d_ij²``, whose average over
ordered pairs equals ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nctransfer.errors import EpisodeError, SettingError
from nctransfer.intervals import pair_average
from nctransfer.neural_collapse.cdnv import cdnv, cdnv_pairs, debiased_pairs, directional_cdnv, directional_pairs
from nctransfer.neural_collapse.class_statistics import ClassStatistics

if TYPE_CHECKING:
    import torch


__all__ = [
    "BOUNDS",
    "Bound",
    "error_bounds",
    "galanti2022",
    "galanti2022_sharp",
    "luthra2025",
    "luthra2026",
    "luthra2026_capped",
    "new_classes_term",
    "not_told_apart",
    "unresolved_pairs",
]


@dataclass(frozen=True)
class Bound:
    """A bound of an error: its value, or why there is none.

    Attributes:
        value: The bound; ``None`` if there is none.
        reason: Why there is none.
        chance: The error of a random answer, ``1 − 1/k``.
    """

    value: float | None
    reason: str | None = None
    chance: float = 1.0

    @property
    def vacuous(self) -> bool:
        """Whether the bound is above 1, so that it says nothing."""
        return self.value is not None and self.value > 1

    @property
    def uninformative(self) -> bool:
        """Whether a random answer has no greater error."""
        return self.value is not None and self.value > self.chance

    def to_dict(self) -> dict[str, Any]:
        """The bound as a dictionary for JSON."""
        found: dict[str, Any] = {"value": self.value, "vacuous": self.vacuous, "uninformative": self.uninformative}
        return found | ({"reason": self.reason} if self.reason else {})


def galanti2022(stats: ClassStatistics, ways: int, shots: float, symmetric: bool = False) -> float:
    """``16 (k−1) (1/s + 1/m) · Avg V``, with s = 1, or s = d if classes are spherically symmetric.

    Galanti, György, Hutter, *On the Role of Neural Collapse in Transfer Learning* (ICLR 2022, 2112.15121). It holds for
    any classes with finite variances and any number of shots; V has the ½. We quote the constant 16 from memory of the
    paper, and could not check it.

    Args:
        stats: The statistics of all classes that a task may draw.
        ways: k.
        shots: m; may be infinite.
        symmetric: Whether classes are spherically symmetric.

    >>> from nctransfer.features.feature_set import FeatureSet
    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [100.0], [102.0]], "aabb")  # V = 1e-4
    >>> round(galanti2022(ClassStatistics.of(two), 2, 1), 6)
    0.0032
    """
    spread = len(stats.within) if symmetric else 1
    return 16 * (ways - 1) * (1 / spread + 1 / shots) * cdnv(stats)


def galanti2022_sharp(stats: ClassStatistics, ways: int, shots: float) -> float:
    """``4 (k−1) (1 + 1/√m)² · Avg V``: what the proof of :func:`galanti2022` gives before it is simplified.

    It holds for any classes with finite variances and any number of shots, and is at most half of the simplified value.
    V is the average CDNV with the ½.

    Args:
        stats: The statistics of all classes that a task may draw.
        ways: k.
        shots: m; may be infinite.

    >>> from nctransfer.features.feature_set import FeatureSet
    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [100.0], [102.0]], "aabb")  # V = 1e-4
    >>> round(galanti2022_sharp(ClassStatistics.of(two), 2, 1), 6)
    0.0016
    """
    return 4 * (ways - 1) * (1 + 1 / math.sqrt(shots)) ** 2 * cdnv(stats)


def luthra2025(stats: ClassStatistics, ways: int, shots: float) -> float:
    """``(k−1) [(½ − 2/a − 2^{3/2}/(a m))⁻² Ṽ + (a/4)((2/√m)(√V + V) + V/m)]`` at the best ``a ≥ 5``.

    Luthra, Yang, Galanti (2506.04411). It holds for any classes with finite variances and any number of shots. Ṽ is the
    average directional CDNV, V the average CDNV with the ½. As m → ∞ it tends to ``4 (k−1) Ṽ``.

    Both terms are convex in a. With ``2β = 4 + 2^{5/2}/m``, ``x = a − 2β`` and D the factor of a/4, the derivative is
    zero where ``x³ = (64 β Ṽ / D) (x + 2β)``.

    Args:
        stats: The statistics of all classes that a task may draw.
        ways: k.
        shots: m; may be infinite.

    >>> from nctransfer.features.feature_set import FeatureSet
    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [100.0], [102.0]], "aabb")  # V = Ṽ = 1e-4
    >>> round(luthra2025(ClassStatistics.of(two), 2, math.inf), 6)
    0.0004
    """
    import numpy as np

    v, directional = cdnv(stats), directional_cdnv(stats)
    if math.isinf(v):
        return math.inf
    noise = 2 / math.sqrt(shots) * (math.sqrt(v) + v) + v / shots
    if noise == 0:
        return (ways - 1) * 4 * directional
    beta = 2 + 2**1.5 / shots
    pull = 64 * beta * directional / noise
    x = max(5 - 2 * beta, float(np.roots([1, 0, -pull, -2 * beta * pull]).real.max()))
    best = x + 2 * beta
    first = directional * (2 * best / x) ** 2 if directional else 0.0  # (½ − β/a)⁻², without cancellation
    return (ways - 1) * (first + best / 4 * noise)


def luthra2026(stats: ClassStatistics, ways: int, shots: float) -> float:
    """``(k−1) Avg_{i≠j} [4Ṽ_ij + (√E1 + √E2 + √E3)²] / (1 + (v_j − v_i)/(m d_ij²))²``.

    Luthra, Salunkhe, Galanti (2603.03530), Theorem 4.1, for any classes with finite fourth moments. The paper states it
    for m ≥ 10; it holds for every m ≥ 1 where the expected margin of each pair is positive, and is infinite elsewhere.
    With ``U = 2 V_ij`` (V without the ½, as they write it), ``E1 = (4/m)(U² + U/4)``, ``E2 = U/m`` and
    ``E3 = (Θ + 2(m−1)U²)/m³``, ``Θ_ij = (q_i + q_j)/d_ij⁴``. As m → ∞ it tends to ``4 (k−1) Ṽ``.

    Args:
        stats: The statistics of all classes that a task may draw.
        ways: k.
        shots: m; may be infinite.

    >>> from nctransfer.features.feature_set import FeatureSet
    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [100.0], [102.0]], "aabb")
    >>> round(luthra2026(ClassStatistics.of(two), 2, math.inf), 6)
    0.0004
    """
    return (ways - 1) * pair_average(_luthra2026_pairs(stats, shots))


def luthra2026_capped(stats: ClassStatistics, ways: int, shots: float) -> float:
    """:func:`luthra2026` in which each pair counts as 1 at most: ``(k−1) Avg_{i≠j} min(1, …)``.

    The term of a pair bounds a probability, so the cap keeps the bound valid. A pair whose expected margin is not
    positive, or which the images do not resolve, counts as 1.

    Args:
        stats: The statistics of all classes that a task may draw.
        ways: k.
        shots: m; may be infinite.

    >>> from nctransfer.features.feature_set import FeatureSet
    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [3.0], [5.0]], "aabb")
    >>> stats = ClassStatistics.of(two)
    >>> round(luthra2026(stats, 2, 1), 2), luthra2026_capped(stats, 2, 1)
    (2.07, 1.0)
    """
    import torch

    _, resolved = debiased_pairs(stats)
    capped = torch.where(resolved, _luthra2026_pairs(stats, shots).clamp(max=1), 1.0)
    return (ways - 1) * pair_average(_off_diagonal(capped))


def _luthra2026_pairs(stats: ClassStatistics, shots: float) -> torch.Tensor:
    """The bound of the chance that class i loses to class j, ``(C, C)``, zero on the diagonal."""
    import torch

    u = 2 * cdnv_pairs(stats)
    squared = stats.distances.square()
    theta = _off_diagonal((stats.fourths[:, None] + stats.fourths) / squared.square())
    first = 4 / shots * (u.square() + u / 4)
    second = u / shots
    # (Θ + 2(m−1)U²)/m³, written so that infinitely many shots do not give inf/inf
    third = theta / shots / shots / shots + 2 * (1 - 1 / shots) * (u / shots).square()
    top = 4 * directional_pairs(stats) + (first.sqrt() + second.sqrt() + third.sqrt()).square()
    bottom = 1 + _off_diagonal((stats.variances - stats.variances[:, None]) / squared / shots)
    return _off_diagonal(torch.where((bottom > 0) & (squared > 0), top / bottom.square(), torch.inf))


def _off_diagonal(pairs: torch.Tensor) -> torch.Tensor:
    return pairs.fill_diagonal_(0)


BOUNDS: Mapping[str, Callable[[ClassStatistics, int, float], float]] = {
    "galanti2022": galanti2022,
    "galanti2022_sharp": galanti2022_sharp,
    "luthra2025": luthra2025,
    "luthra2026": luthra2026,
    "luthra2026_capped": luthra2026_capped,
}
"""Every bound that class statistics give, by name."""

CAPPED = frozenset({"luthra2026_capped"})
"""Those whose pairs count as 1 at most, so that a pair that is not resolved counts as 1."""


def error_bounds(stats: ClassStatistics, ways: int, shots: float) -> dict[str, Bound]:
    """Every bound for one number of ways and of shots, by name.

    Args:
        stats: The statistics of all classes that a task may draw.
        ways: k.
        shots: m; may be infinite.

    Raises:
        SettingError: There are fewer than 2 ways or 1 shot.
    """
    if ways < 2 or shots < 1:
        raise SettingError(
            f"a task has at least 2 ways and 1 shot; got {ways} ways and {shots} shots",
            "give --ways 2 or more and --shots 1 or more",
        )
    unresolved, pairs = unresolved_pairs(stats), len(stats.counts) * (len(stats.counts) - 1) // 2
    found = {}
    for name, bound in BOUNDS.items():
        if unresolved and (name not in CAPPED or unresolved == pairs):
            found[name] = Bound(None, not_told_apart(unresolved, pairs), 1 - 1 / ways)
        else:
            found[name] = Bound(bound(stats, ways, shots), None, 1 - 1 / ways)
    return found


def unresolved_pairs(stats: ClassStatistics) -> int:
    """How many (unordered) pairs of classes the images do not tell apart; see :func:`cdnv_debiased`."""
    _, resolved = debiased_pairs(stats)
    return (resolved.numel() - len(resolved) - int(resolved.sum())) // 2


def new_classes_term(classes: int, ways: int, delta: float = 0.05) -> float:
    """What a bound for these classes must be raised by, to hold for other classes of this kind.

    ``√(ln(1/δ) / (2⌊C/k⌋))``: Hoeffding's inequality for U-statistics. With probability 1 − δ over the draw of the C
    classes, the mean error over all k-way tasks of the population of classes exceeds that over tasks of these classes
    by no more. The backbone must not have been chosen, or trained, by these classes.

    Args:
        classes: C.
        ways: k ≤ C.
        delta: δ, the probability that it does not hold.

    Raises:
        EpisodeError: There are more ways than classes.

    Source: Hoeffding, *Probability inequalities for sums of bounded random variables* (JASA 1963), section 5.

    >>> round(new_classes_term(64, 5), 3)
    0.353
    """
    if classes < ways:
        raise EpisodeError(
            f"{ways} ways were asked for, and there are {classes} classes", f"give --ways {classes} or less"
        )
    return math.sqrt(math.log(1 / delta) / (2 * (classes // ways)))


def not_told_apart(unresolved: int, pairs: int) -> str:
    """Why there is no bound where some pairs of classes are not resolved.

    >>> not_told_apart(3, 45)
    '3 of 45 pairs of classes: these images do not tell the two apart'
    """
    return f"{unresolved:,} of {pairs:,} pairs of classes: these images do not tell the two apart"

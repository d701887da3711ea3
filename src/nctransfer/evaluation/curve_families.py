"""Learning curves beyond the images at hand: several families of curves, fitted to the measured part.

A family says that the accuracy A with m labelled images per class is, on some scale h, linear in a shape g that falls
with m: ``h(A(m)) = a − b g(m)``, b > 0. Families differ in h and in their shapes. Most are among those that learning
curves were found to follow (Viering and Loog, *The Shape of Learning Curves: A Review*, 2022; Mohr et al., *LCDB 1.0*,
2022). One follows from theory: class centres that are known up to noise of variance 1/m divide the margin by
``√(1 + d/m)`` (Sorscher et al. 2022). Curves that approach their limit faster than that are left out: they would fit
the measured part too, and then level off at once.

Given a shape, a and b follow by generalised least squares with the covariance of the measured curve, and their
posterior is normal. A constant misfit stands for what no family describes. Families and shapes are weighted by how well
they fit (by their evidence: the likelihood averaged over a and b), so the curves drawn from all of them show what is
known of the curve beyond the last measured point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

__all__ = ["FAMILIES", "Family", "draw_curves"]

MISFIT = 0.003  # the standard deviation of an accuracy about the best curve of a family
DRAWS = 2000
FEWEST_DRAWS = 100  # with fewer that rise, the measured curve does not rise
RATES = tuple(step / 10 for step in range(1, 9))  # of powers of m; m^-0.1 hardly has a limit


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of learning curves: ``h(A(m)) = a − b g(m)``.

    Attributes:
        name: What it is called.
        scale: The name of h: ``identity``, ``logarithm`` or ``probit``.
        shapes: The shapes g: each from the parameters to a function of the logarithm of m that falls.
    """

    name: str
    scale: str
    shapes: Sequence[Callable[[Array], Array]]


def _power(rate: float, offset: float = 0.0) -> Callable[[Array], Array]:
    """``(m + d)^−c``, from log m."""
    import numpy as np

    return lambda logs: (np.exp(logs) + offset) ** -rate


def _vapour(slope: float) -> Callable[[Array], Array]:
    """``1/m − c log m``: the vapour pressure curve, whose logarithm it is."""
    import numpy as np

    return lambda logs: np.exp(-logs) - slope * logs


def _one_over_log(offset: float) -> Callable[[Array], Array]:
    """``1/log(m + d)``."""
    import numpy as np

    return lambda logs: 1 / np.log(np.exp(logs) + offset)


def _centre_noise(size: float) -> Callable[[Array], Array]:
    """``−1/√(1 + d/m)``."""
    import numpy as np

    return lambda logs: -1 / np.sqrt(1 + size * np.exp(-logs))


FAMILIES = (
    Family(name="power law", scale="identity", shapes=[_power(rate) for rate in RATES]),
    Family(
        name="shifted power law",
        scale="identity",
        shapes=[_power(rate, offset) for rate in RATES for offset in (1, 2, 3, 5, 10)],
    ),
    Family(name="inverse logarithm", scale="identity", shapes=[_one_over_log(offset) for offset in (1.5, 2, 3, 5)]),
    Family(
        name="vapour pressure",
        scale="logarithm",
        shapes=[_vapour(slope) for slope in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)],
    ),
    Family(name="probit of a power law", scale="probit", shapes=[_power(rate) for rate in RATES]),
    Family(name="noise of centres", scale="probit", shapes=[_centre_noise(size) for size in (1, 2, 3, 5, 10, 20, 50)]),
)


def draw_curves(
    shots: Sequence[int], accuracies: Array, covariance: Array, beyond: Sequence[int], draws: int = DRAWS
) -> Array | None:
    """Curves beyond the last measured point, drawn from what all families together leave possible.

    Each shape is shifted and scaled to 1 at the first measured point and 0 at the last. So a is the accuracy at the
    last point and b the rise so far, on the scale h, whatever the shape; their prior is flat in accuracies. Draws that
    fall with m or exceed 1 are left out.

    Args:
        shots: K ≥ 2 numbers of shots, ascending.
        accuracies: The measured accuracies, ``(K,)``, from 0 to 1.
        covariance: Of the accuracies, ``(K, K)``.
        beyond: F numbers of shots, ascending, from the last measured on.
        draws: How many curves are drawn, at most.

    Returns:
        Accuracies ``(J, F)``, ascending along each row; ``None`` if hardly any draw rises.
    """
    import numpy as np

    edge = 1e-4  # accuracies of exactly 0 and 1 have no probit
    clipped = np.clip(accuracies, edge, 1 - edge)
    scatter = covariance + MISFIT**2 * np.eye(len(shots))
    fits = [fit for family in FAMILIES for fit in _fits(family, np.log(shots), clipped, scatter, np.log(beyond))]
    evidence = np.array([fit.evidence for fit in fits])
    weights = np.exp(evidence - evidence.max())
    generator = np.random.default_rng(0)
    chosen = generator.choice(len(fits), size=draws, p=weights / weights.sum())
    normal = generator.normal(size=(draws, 2))
    found = [fits[place].curves(normal[chosen == place]) for place in np.unique(chosen)]
    curves = np.concatenate(found)
    return curves if len(curves) >= FEWEST_DRAWS else None


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """The posterior of one shape of a family.

    Attributes:
        scale: The name of the scale.
        mean: Of the accuracy at the last point and of the rise, on the scale, ``(2,)``.
        root: A square root of their covariance, ``(2, 2)``.
        evidence: The logarithm of the likelihood averaged over both, up to a constant.
        beyond: The shape at further points, ``(F,)``, 0 at the last measured point and negative beyond.
    """

    scale: str
    mean: Array
    root: Array
    evidence: float
    beyond: Array

    def curves(self, normal: Array) -> Array:
        """Curves from standard normal numbers ``(J, 2)``: those that rise and stay below 1."""
        drawn = self.mean + normal @ self.root.T
        drawn = drawn[drawn[:, 1] > 0]
        curves: Array = _SCALES[self.scale].inverse(drawn[:, :1] - drawn[:, 1:] * self.beyond)
        return curves[curves[:, -1] <= 1] if len(curves) else curves


def _fits(family: Family, logs: Array, accuracies: Array, scatter: Array, beyond: Array) -> list[_Fit]:
    """Generalised least squares of every shape; the covariance is carried to the scale by its slope."""
    import numpy as np

    scale = _SCALES[family.scale]
    slope = scale.slope(accuracies)
    root = np.linalg.inv(np.linalg.cholesky(slope[:, None] * scatter * slope))  # whitens
    values = root @ scale.function(accuracies)
    to_accuracies = 2 * math.log(slope[-1])  # the prior is flat in accuracies, not on the scale
    fits = []
    for shape in family.shapes:
        measured, further = shape(logs), shape(beyond)
        first, last = measured[0], measured[-1]
        design = root @ np.stack([np.ones_like(logs), (last - measured) / (first - last)], axis=1)
        covariance = np.linalg.inv(design.T @ design)
        mean = covariance @ design.T @ values
        misfit = float(np.square(values - design @ mean).sum())
        evidence = (float(np.linalg.slogdet(covariance)[1]) - misfit) / 2 - to_accuracies
        evidence -= math.log(len(family.shapes))  # every family has the same prior weight
        fits.append(
            _Fit(
                scale=family.scale,
                mean=mean,
                root=np.linalg.cholesky(covariance),
                evidence=evidence,
                beyond=(further - last) / (first - last),
            )
        )
    return fits


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """A scale for accuracies: the function, its inverse and its derivative."""

    function: Callable[[Array], Array]
    inverse: Callable[[Array], Array]
    slope: Callable[[Array], Array]


def _probit_slope(shares: Array) -> Array:
    import numpy as np
    from scipy.special import ndtri

    slope: Array = math.sqrt(2 * math.pi) * np.exp(ndtri(shares) ** 2 / 2)
    return slope


def _special(name: str) -> Callable[[Array], Array]:
    """A function of scipy.special, which is imported when it is called."""

    def call(values: Array) -> Array:
        from scipy import special

        found: Array = getattr(special, name)(values)
        return found

    return call


def _of_numpy(name: str) -> Callable[[Array], Array]:
    """A function of numpy, which is imported when it is called."""

    def call(values: Array) -> Array:
        import numpy as np

        found: Array = getattr(np, name)(values)
        return found

    return call


_SCALES = {
    "identity": _Scale(
        function=lambda shares: shares, inverse=lambda values: values, slope=lambda shares: shares * 0 + 1
    ),
    "logarithm": _Scale(function=_of_numpy("log"), inverse=_of_numpy("exp"), slope=lambda shares: 1 / shares),
    "probit": _Scale(function=_special("ndtri"), inverse=_special("ndtr"), slope=_probit_slope),
}

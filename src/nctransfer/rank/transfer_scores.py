"""Scores that rank backbones without a split: LogME and the H-score, both from the principal axes of the features.

They describe the images at hand, and say less than accuracy on images that were held out: with as many images as
features a head fits any labels. So they stand beside accuracy and never decide.

Notation: n samples of d features and C classes, and F the ``(n, d)`` matrix of features minus their mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.devices import with_float64
from nctransfer.errors import SettingError, counted, join_names
from nctransfer.features.feature_set import FeatureSet  # noqa: F401 - for the examples
from nctransfer.neural_collapse.measure import Undefined
from nctransfer.rank.principal_axes import PrincipalAxes

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_stream import Features

__all__ = ["SCORES", "Score", "h_score", "logme", "transfer_scores"]

SCORES = ("logme", "h_score")
STEP = 0.25  # of the logarithm of t, in which evidence is smooth: each term changes over about 1
SECTIONS = 45  # of the golden section, to 10⁻⁹ of a step


class Score(NamedTuple):
    """A score, or why there is none.

    Attributes:
        value: The score; ``None`` if it is not defined.
        reason: Why it is not defined; ``None`` if it is.
    """

    value: float | None
    reason: str | None = None


def transfer_scores(features: Features, device: str = "auto") -> Mapping[str, Score]:
    """Both scores of a feature set by name. If all classes have the same size, they share one eigendecomposition.

    Args:
        features: The feature set, ``(n, d)``.
        device: Where to compute, in float64.

    Raises:
        FeaturesError: The features are so large or small that their moments leave float64.

    >>> two = FeatureSet.from_arrays([[0.0, 1.0], [2.0, 0.0], [10.0, 0.0], [12.0, 1.0]], "aabb")
    >>> {name: round(score.value, 3) for name, score in transfer_scores(two).items()}
    {'logme': 0.163, 'h_score': 0.918}
    """
    try:
        axes = PrincipalAxes.of(features, with_float64(device))
        balanced = axes if axes.is_balanced else PrincipalAxes.of(features, with_float64(device), by_class=True)
    except Undefined as reason:
        return dict.fromkeys(SCORES, Score(None, str(reason)))
    return {"logme": _logme(axes, features.classes), "h_score": Score(_h_score(balanced, axes.shrinkage))}


def logme(features: Features, device: str = "auto") -> Score:
    """The logarithm of the maximum evidence (You et al. 2021) of linear models of the classes, per sample and exact.

    For each class, y is its indicator minus its mean. Under the model ``y = F w + noise``, with weights of variance 1/α
    and noise of variance 1/β, y has the distribution ``N(0, F Fᵀ/α + I/β)``. The score is the largest log density over
    α and β, divided by n, and averaged over classes. With ``F = U S Vᵀ``, ``z = Uᵀy``, ``t = α/β``,
    ``w_i = 1 + s_i²/t``, ``r = ‖y‖² − ‖z‖²`` and ``q = Σ z_i²/w_i + r``, it is
    ``max_t ½ ln(n/q) − Σ ln w_i/(2n) − ½ − ½ ln 2π``.

    There is no value if, for any class, the maximum is not between 10⁻³ times the smallest ``s_i²`` and 10⁴ times their
    sum: the features then explain nothing of the class, or all of it. With fewer samples than features it is a local
    maximum, because the density has no other. Higher is better. Values are comparable if they are of the same images
    and classes. Neither a shift, a rotation nor a scale of all features changes the score.

    Args:
        features: The feature set, ``(n, d)``.
        device: Where to compute, in float64.

    Raises:
        FeaturesError: The features are so large or small that their moments leave float64.

    >>> two = FeatureSet.from_arrays([[0.0, 1.0], [2.0, 0.0], [10.0, 0.0], [12.0, 1.0]], "aabb")
    >>> round(logme(two).value, 3)
    0.163
    >>> logme(FeatureSet.from_arrays([[0.0], [1.0], [0.0], [1.0]], "aabb")).value is None
    True
    """
    try:
        return _logme(PrincipalAxes.of(features, with_float64(device)), features.classes)
    except Undefined as reason:
        return Score(None, str(reason))


def h_score(features: Features, device: str = "auto", *, shrinkage: float | None = None) -> Score:
    """The H-score (Bao et al. 2019) with a shrunk covariance (Ibrahim et al. 2022): ``tr(Sigma_a⁻¹ (1−a) Sigma_B)``.

    ``Sigma_a = (1−a) Sigma_T + a (tr Sigma_T/d) I``, with a by Ledoit and Wolf (2004). ``Sigma_T`` and ``Sigma_B`` are
    those of the collapse measures, in which all classes have equal weight; a is that of all samples. Range 0 to
    ``min(d, C − 1)``; higher is better. For classes of one size and a = 0 it is ``rank(Sigma_B)(1 − VCI)``. Neither a
    shift, a rotation nor a scale of all features changes the score.

    Args:
        features: The feature set, ``(n, d)``.
        device: Where to compute, in float64.
        shrinkage: a, from 0 to 1, in place of that of Ledoit and Wolf. If it is 0, the inverse is the pseudoinverse.

    Raises:
        FeaturesError: The features are so large or small that their moments leave float64.
        SettingError: The shrinkage is not between 0 and 1.

    >>> two = FeatureSet.from_arrays([[0.0, 1.0], [2.0, 0.0], [10.0, 0.0], [12.0, 1.0]], "aabb")
    >>> round(h_score(two).value, 3), round(h_score(two, shrinkage=0).value, 3)
    (0.918, 0.962)
    """
    if shrinkage is not None and not 0 <= shrinkage <= 1:
        raise SettingError(f"the shrinkage is {shrinkage:g}; expected a number from 0 to 1", "leave it out")
    try:
        axes = PrincipalAxes.of(features, with_float64(device))
        balanced = axes if axes.is_balanced else PrincipalAxes.of(features, with_float64(device), by_class=True)
    except Undefined as reason:
        return Score(None, str(reason))
    return Score(_h_score(balanced, axes.shrinkage if shrinkage is None else shrinkage))


def _h_score(axes: PrincipalAxes, shrinkage: float) -> float:
    shrunk = (1 - shrinkage) * axes.variances + shrinkage * axes.total / axes.dim  # (k,)
    return float(((1 - shrinkage) * axes.means.square().mean(dim=1) / shrunk).sum())


class _Evidence:
    """The evidence of the classes as a function of t, without constants.

    The labels have mean zero, so they lie in a space of n − 1 dimensions. If the features span it, then the density in
    n dimensions grows without limit as t falls, by ``−ln(t)/(2n)`` per sample, because nothing varies in the last one.
    The density in the space does not. So it decides whether there is a maximum, and the score is the density in n
    dimensions at the peak beside it.
    """

    def __init__(self, axes: PrincipalAxes) -> None:
        import torch

        self.squares, self.samples = axes.variances * axes.samples, axes.samples  # s_i², (k,)
        self.z2 = (axes.means * axes.counts).square() / self.squares[:, None]  # (k, C)
        length = axes.counts * (1 - axes.counts / axes.samples)  # ‖y‖²
        rest = length - self.z2.sum(dim=0)
        self.spans = len(self.squares) >= axes.samples - 1
        self.rest = torch.zeros_like(rest) if self.spans else rest.where(rest > 1e-12 * length, 0.0)  # r, (C,)

    def __call__(self, log_t: torch.Tensor) -> torch.Tensor:
        """For one t per class, ``(C,)``."""
        w = 1 + self.squares / log_t.exp()[:, None]  # (C, k)
        q = (self.z2.T / w).sum(dim=1) + self.rest
        return -q.log() / 2 - w.log().sum(dim=1) / (2 * self.samples)

    def peaks(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The logarithm of the t of the highest peak of each class, to ``STEP``, and whether there is one; ``(C,)``."""
        import torch

        low, high = math.log(1e-3 * float(self.squares.min())), math.log(1e4 * float(self.squares.sum()))
        grid = torch.linspace(low, high, 1 + math.ceil((high - low) / STEP), dtype=torch.float64).to(self.rest.device)
        w = 1 + self.squares / grid.exp()[:, None]  # (m, k)
        fit = -((1 / w) @ self.z2 + self.rest).log() / 2  # (m, C)
        width = w.log().sum(dim=1)[:, None] / 2
        best = (fit - width / (self.samples - self.spans)).argmax(dim=0)
        is_inside = (best > 0) & (best < len(grid) - 1)
        evidence = fit - width / self.samples
        falls = torch.ones_like(evidence, dtype=torch.bool)
        falls[1:] = evidence[1:] >= evidence[:-1]  # to the left
        places = torch.arange(len(grid), device=grid.device)[:, None].expand_as(falls)
        peak = places.where(falls & (places <= best), 0).amax(dim=0)
        return grid[peak], is_inside & (peak > 0)


def _logme(axes: PrincipalAxes, names: tuple[str, ...]) -> Score:
    evidence = _Evidence(axes)
    log_t, has_peak = evidence.peaks()
    if not bool(has_peak.all()):
        return Score(None, _not_identifiable((~has_peak).tolist(), [names[code] for code in axes.codes.tolist()]))
    found = _maximum(evidence, log_t - STEP, log_t + STEP)
    return Score(float(found.mean()) + (math.log(axes.samples) - 1 - math.log(2 * math.pi)) / 2)


def _not_identifiable(is_edge: list[bool], names: list[str]) -> str:
    those = [name for name, one in zip(names, is_edge, strict=True) if one]
    return (
        f"not identifiable: for {len(those):,} of {counted(len(names), 'class', 'classes')} "
        f"({join_names(list(map(repr, those)))}) the evidence is largest where features explain nothing, or everything"
    )


def _maximum(function: Callable[[torch.Tensor], torch.Tensor], low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """The maxima of functions that rise and then fall between two ends, ``(C,)``, by the golden section."""
    import torch

    ratio = (math.sqrt(5) - 1) / 2
    inner = [high - ratio * (high - low), low + ratio * (high - low)]
    values = [function(one) for one in inner]
    for _ in range(SECTIONS):
        is_left = values[0] >= values[1]  # the maximum lies between low and the second inner point
        low, high = torch.where(is_left, low, inner[0]), torch.where(is_left, inner[1], high)
        new = torch.where(is_left, high - ratio * (high - low), low + ratio * (high - low))
        at_new = function(new)
        inner = [torch.where(is_left, new, inner[1]), torch.where(is_left, inner[0], new)]
        values = [torch.where(is_left, at_new, values[1]), torch.where(is_left, values[0], at_new)]
    return torch.maximum(*values)

"""A linear probe on all labels: the full-data end of the learning curve.

Ridge regression of the one-hot labels, in the eigenbasis of the covariance ``XᵀX = U S Uᵀ`` of the training samples,
where every penalty costs one product: ``ŷ = z (S + λ)⁻¹ Uᵀ XᵀY``, ``z = x U``. A left-out residual is the residual over
``1 − h``, ``h = 1/n + Σ z²/(s + λ)``, so that leaving out each sample costs no further fit.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nctransfer.devices import with_float64
from nctransfer.episodes.ridge import LOO_EXPONENTS
from nctransfer.errors import FeaturesError, counted
from nctransfer.intervals import wilson
from nctransfer.neural_collapse.class_statistics import ClassStatistics

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_stream import Features

__all__ = ["ProbeResult", "probe"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProbeResult:
    """Accuracy of a linear probe.

    Attributes:
        train: What it was fitted on.
        test: What it was tested on; ``None``: the training samples, each left out in turn.
        accuracy: Share of the test samples that are classified right.
        ci95: Its 95% interval over the draw of test samples (Wilson's).
        balanced_accuracy: Mean over classes of the share of their samples.
        loo_accuracy: Of the training samples, each left out in turn.
        ridge_lambda: The penalty that leave-one-out chose.
        is_at_end: Whether that is the smallest or the largest of those to choose from.
        classes: Accuracy of each class, by name; ``None`` if the test has no sample of it.
    """

    train: dict[str, Any]
    test: dict[str, Any] | None
    accuracy: float
    ci95: tuple[float, float]
    balanced_accuracy: float
    loo_accuracy: float
    ridge_lambda: float
    is_at_end: bool
    classes: dict[str, float | None]

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON has it."""
        return {"probe": asdict(self)}

    def to_row(self) -> dict[str, Any]:
        """The result as one row of a table."""
        return {
            "train": self.train["id"],
            "test": self.test["id"] if self.test else None,
            "accuracy": self.accuracy,
            "ci95_low": self.ci95[0],
            "ci95_high": self.ci95[1],
            "balanced_accuracy": self.balanced_accuracy,
            "loo_accuracy": self.loo_accuracy,
            "ridge_lambda": self.ridge_lambda,
        }


def probe(train: Features, test: Features | None = None, device: str = "auto") -> ProbeResult:
    """Ridge regression on all samples of one set, tested on another; λ by squared leave-one-out error.

    λ is one of ``10^{−3…3}`` times the mean squared length of the centred training samples.

    Args:
        train: n samples of C classes, two of each at least.
        test: Samples of some of these classes; without it, the training samples are left out in turn.
        device: Where to compute.

    Raises:
        FeaturesError: Too few samples, or a test of other classes or of another width.

    >>> import numpy as np
    >>> from nctransfer.features.feature_set import FeatureSet
    >>> line = FeatureSet.from_arrays([[0.0], [1.0], [9.0], [10.0]], "aabb")
    >>> probe(line).accuracy
    1.0
    """
    import torch

    train = _without_single_samples(train)
    if test is not None:
        _check(train, test)
    chosen = with_float64(device)
    fit = _Fit(ClassStatistics.of(train, device), chosen)
    errors = torch.zeros(len(fit.penalties), dtype=torch.float64)
    right = torch.zeros(len(fit.penalties), len(train.classes), dtype=torch.float64)
    for rows, labels in train.batches():
        for number, (left_out, residuals) in enumerate(fit.left_out(rows, labels)):
            errors[number] += float(residuals.square().sum())
            right[number].index_add_(0, labels, (left_out == labels).double())
    best = int(errors.argmin())
    counts, hits = train.counts, right[best]
    loo = float(hits.sum() / counts.sum())
    if test is not None:
        codes = torch.tensor([train.classes.index(name) for name in test.classes])
        counts, hits = torch.zeros_like(counts), torch.zeros_like(hits)
        counts[codes] = test.counts
        for rows, labels in test.batches():
            labels = codes[labels]
            hits.index_add_(0, labels, (fit.predict(rows, best) == labels).double())
    has = counts > 0
    return ProbeResult(
        train=train.to_dict(),
        test=test.to_dict() if test is not None else None,
        accuracy=float(hits.sum() / counts.sum()),
        ci95=wilson(float(hits.sum()), float(counts.sum())),
        balanced_accuracy=float((hits[has] / counts[has]).mean()),
        loo_accuracy=loo,
        ridge_lambda=fit.penalties[best],
        is_at_end=best in (0, len(fit.penalties) - 1),
        classes={
            name: hit / count if count else None
            for name, hit, count in zip(train.classes, hits.tolist(), counts.tolist(), strict=True)
        },
    )


def _without_single_samples(train: Features) -> Features:
    enough = train.counts >= 2
    codes = enough.nonzero()[:, 0]
    if len(codes) < 2:
        raise FeaturesError(
            f"{train.info.id} has {counted(len(codes), 'class', 'classes')} of two samples or more",
            "a probe needs two such classes",
        )
    if left_out := [train.classes[code] for code in (~enough).nonzero()[:, 0].tolist()]:
        names = ", ".join(map(repr, left_out[:5])) + ", …" * (len(left_out) > 5)
        log.warning("%s of one sample left out: %s", counted(len(left_out), "class", "classes"), names)
        return train.only_classes(codes)
    return train


def _check(train: Features, test: Features) -> None:
    if test.dim != train.dim:
        raise FeaturesError(f"a test set of width {test.dim:,} does not go with training features of {train.dim:,}")
    if test is train or (test.info == train.info and train.info.path is not None):
        raise FeaturesError(
            f"the test set is the training set, {train.info.id}", "leave it out: each sample is then left out in turn"
        )
    if unknown := [name for name in test.classes if name not in train.classes]:
        raise FeaturesError(
            f"the test set has {counted(len(unknown), 'class', 'classes')} that the training set has not: "
            + ", ".join(map(repr, unknown[:3]))
            + ", …" * (len(unknown) > 3),
            "choose classes by --classes FILE",
        )


class _Fit:
    """Ridge regressions of one training set, one for each penalty."""

    def __init__(self, stats: ClassStatistics, device: torch.device) -> None:
        import torch

        self._total = float(stats.counts.sum())
        shares = stats.counts / self._total
        means = stats.centred_means + stats.centre
        mean = shares @ means
        values, vectors = torch.linalg.eigh((stats.covariance * self._total).to(device))
        values = values.clamp(min=0)  # (d,)
        scale = float(values.sum()) / self._total or 1.0
        self.penalties = [10.0**exponent * scale for exponent in LOO_EXPONENTS]
        self._vectors, self._mean, self._shares = vectors, mean.to(device), shares.to(device)
        moments = (stats.counts[:, None] * (means - mean)).to(device)  # (C, d): YᵀX
        self._rotated = (moments @ vectors).T  # (d, C)
        self._inverse = [1 / (values + penalty) for penalty in self.penalties]

    def _in_basis(self, rows: torch.Tensor) -> torch.Tensor:
        import torch

        z: torch.Tensor = (rows.to(self._mean.device, torch.float64) - self._mean) @ self._vectors
        return z

    def left_out(self, rows: torch.Tensor, labels: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """For each penalty what some training samples are taken for, each left out, and their residuals ``(b, C)``."""
        import torch

        z = self._in_basis(rows)
        targets = torch.nn.functional.one_hot(labels.to(z.device), len(self._shares)).double()
        for inverse in self._inverse:
            residuals = targets - (z @ (inverse[:, None] * self._rotated) + self._shares)
            leverage = z.square() @ inverse + 1 / self._total
            residuals /= (1 - leverage).clamp(min=torch.finfo(z.dtype).eps)[:, None]
            yield (targets - residuals).argmax(dim=1).cpu(), residuals

    def predict(self, rows: torch.Tensor, number: int) -> torch.Tensor:
        """The class codes of some samples, by penalty number ``number``."""
        scores = self._in_basis(rows) @ (self._inverse[number][:, None] * self._rotated) + self._shares
        found: torch.Tensor = scores.argmax(dim=1).cpu()
        return found

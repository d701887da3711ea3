"""A linear probe on all labels: the full-data end of the learning curve.

It is ridge regression on one-hot labels in the eigenbasis of the covariance ``XᵀX = U S Uᵀ`` of the training samples,
where every penalty costs one product: ``ŷ = z (S + λ)⁻¹ Uᵀ XᵀY`` with ``z = x U``. A leave-one-out residual is the
residual over ``1 − h`` with ``h = 1/n + Σ z²/(s + λ)``, so that leaving out each sample needs no further fit.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from nctransfer.devices import with_float64
from nctransfer.episodes.ridge import LOO_EXPONENTS
from nctransfer.errors import FeaturesError, counted, join_names
from nctransfer.evaluation.leaks import Leaks
from nctransfer.intervals import wilson
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.notebook import ShownInNotebooks

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_info import FeatureInfo
    from nctransfer.features.feature_stream import Features

__all__ = ["ProbeResult", "probe"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ProbeResult(ShownInNotebooks):
    """Accuracy of a linear probe.

    Attributes:
        train: What it was fitted on.
        test: What it was tested on; ``None`` if each training sample was left out in turn.
        accuracy: The share of the test samples that are classified right.
        ci95: Its 95% interval over the draw of test samples (Wilson's).
        balanced_accuracy: The mean over classes of the share of their samples that are classified right.
        loo_accuracy: The accuracy on the training samples, each left out in turn.
        ridge_lambda: The penalty that leave-one-out chose.
        is_at_end: Whether that is the smallest or the largest penalty that it could choose.
        classes: The accuracy of each class, by name; ``None`` if the test set has no sample of the class.
        leaks: The samples that give answers away: duplicates, and test samples that are in the training set.
    """

    train: FeatureInfo
    test: FeatureInfo | None
    accuracy: float
    ci95: tuple[float, float]
    balanced_accuracy: float
    loo_accuracy: float
    ridge_lambda: float
    is_at_end: bool
    classes: dict[str, float | None]
    leaks: Leaks = field(default_factory=Leaks)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What weakens a conclusion from the accuracy."""
        return self.leaks.warnings()

    def to_dict(self) -> dict[str, Any]:
        """The result as a dictionary for JSON."""
        return {"probe": asdict(self), "warnings": list(self.warnings)}

    def to_row(self) -> dict[str, Any]:
        """The result as one row of a table."""
        return {
            "train": self.train.id,
            "test": self.test.id if self.test else None,
            "accuracy": self.accuracy,
            "ci95_low": self.ci95[0],
            "ci95_high": self.ci95[1],
            "balanced_accuracy": self.balanced_accuracy,
            "loo_accuracy": self.loo_accuracy,
            "ridge_lambda": self.ridge_lambda,
        }


def probe(train: Features, test: Features | None = None, device: str = "auto") -> ProbeResult:
    """Accuracy of ridge regression on all samples of one set, tested on another.

    The penalty λ is the one of ``10^{−3…3}`` times the mean squared length of the centred training samples that has the
    smallest squared leave-one-out error.

    Args:
        train: n samples of C classes, at least two of each.
        test: Samples of some of these classes; without it, each training sample is left out in turn.
        device: Where to compute.

    Raises:
        FeaturesError: There are too few samples, or the test set has other classes or another width.

    >>> from nctransfer.features.feature_set import FeatureSet
    >>> line = FeatureSet.from_arrays([[0.0], [1.0], [9.0], [10.0]], "aabb")
    >>> probe(line).accuracy
    1.0
    """
    train = _without_single_samples(train)
    if test is not None:
        _check(train, test)
    leaks = Leaks.of(train, test)
    for warning in leaks.warnings():
        log.warning("%s", warning)
    fit = _Fit(ClassStatistics.of(train, device), with_float64(device))
    best, hits = _leave_one_out(fit, train)
    counts = train.counts
    loo = float(hits.sum() / counts.sum())
    if test is not None:
        hits, counts = _tested(fit, best, train, test)
    has = counts > 0
    low, high = wilson(hits.sum(), counts.sum().double())
    return ProbeResult(
        train=train.describe(),
        test=test.describe() if test is not None else None,
        accuracy=float(hits.sum() / counts.sum()),
        ci95=(float(low), float(high)),
        balanced_accuracy=float((hits[has] / counts[has]).mean()),
        loo_accuracy=loo,
        ridge_lambda=fit.penalties[best],
        is_at_end=best in (0, len(fit.penalties) - 1),
        classes={
            name: hit / count if count else None
            for name, hit, count in zip(train.classes, hits.tolist(), counts.tolist(), strict=True)
        },
        leaks=leaks,
    )


def _leave_one_out(fit: _Fit, train: Features) -> tuple[int, torch.Tensor]:
    """The number of the best penalty, and with it the training samples of each class that are right, ``(C,)``."""
    import torch

    errors = torch.zeros(len(fit.penalties), dtype=torch.float64)
    right = torch.zeros(len(fit.penalties), len(train.classes), dtype=torch.float64)
    for rows, labels in train.batches():
        for number, (predicted, residuals) in enumerate(fit.left_out(rows, labels)):
            errors[number] += float(residuals.square().sum())
            right[number].index_add_(0, labels, (predicted == labels).double())
    best = int(errors.argmin())
    return best, right[best]


def _tested(fit: _Fit, number: int, train: Features, test: Features) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each class of the training set the test samples that are right, and the test samples, both ``(C,)``."""
    import torch

    codes = torch.tensor([train.classes.index(name) for name in test.classes])
    counts, hits = torch.zeros_like(train.counts), torch.zeros(len(train.classes), dtype=torch.float64)
    counts[codes] = test.counts
    for rows, labels in test.batches():
        labels = codes[labels]
        hits.index_add_(0, labels, (fit.predict(rows, number) == labels).double())
    return hits, counts


def _without_single_samples(train: Features) -> Features:
    """The classes of at least two samples."""
    enough = train.counts >= 2
    codes = enough.nonzero()[:, 0]
    if len(codes) < 2:
        raise FeaturesError(
            f"{train.info.id} has {counted(len(codes), 'class', 'classes')} of two samples or more; a probe needs two",
            "give data with two samples of each class or more",
        )
    if left_out := [train.classes[code] for code in (~enough).nonzero()[:, 0].tolist()]:
        log.warning(
            "%s of one sample left out: %s",
            counted(len(left_out), "class", "classes"),
            join_names([repr(name) for name in left_out]),
        )
        return train.only_classes(codes)
    return train


def _check(train: Features, test: Features) -> None:
    if test.dim != train.dim:
        raise FeaturesError(
            f"a test set of width {test.dim:,} does not go with training features of {train.dim:,}",
            "give features of the same backbone",
        )
    if test is train or (test.info == train.info and train.info.path is not None):
        raise FeaturesError(
            f"the test set is the training set, {train.info.id}", "leave it out: each sample is then left out in turn"
        )
    if unknown := [name for name in test.classes if name not in train.classes]:
        raise FeaturesError(
            f"the test set has {counted(len(unknown), 'class', 'classes')} that the training set does not have: "
            + join_names([repr(name) for name in unknown], most=3),
            "choose classes by --classes FILE",
        )


class _Fit:
    """Ridge regressions on one training set, one for each penalty.

    Args:
        stats: The moments of the training set.
        device: Where to compute.
    """

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
        """``z = (x − mean) U``, ``(b, d)``."""
        import torch

        z: torch.Tensor = (rows.to(self._mean.device, torch.float64) - self._mean) @ self._vectors
        return z

    def left_out(self, rows: torch.Tensor, labels: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """For each penalty the leave-one-out predictions for some training samples, and their residuals ``(b, C)``."""
        import torch

        z = self._in_basis(rows)
        targets = torch.nn.functional.one_hot(labels.to(z.device), len(self._shares)).double()
        for inverse in self._inverse:
            residuals = targets - (z @ (inverse[:, None] * self._rotated) + self._shares)
            leverage = z.square() @ inverse + 1 / self._total
            residuals /= (1 - leverage).clamp(min=torch.finfo(z.dtype).eps)[:, None]
            yield (targets - residuals).argmax(dim=1).cpu(), residuals

    def predict(self, rows: torch.Tensor, number: int) -> torch.Tensor:
        """The class codes that the regression with penalty number ``number`` predicts for some samples."""
        scores = self._in_basis(rows) @ (self._inverse[number][:, None] * self._rotated) + self._shares
        found: torch.Tensor = scores.argmax(dim=1).cpu()
        return found

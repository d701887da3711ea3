"""A linear probe on all labels: the full-data end of the learning curve."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from nctransfer.devices import with_float64
from nctransfer.errors import FeaturesError, counted, join_names
from nctransfer.evaluation.leaks import Leaks
from nctransfer.evaluation.ridge_regression import RidgeRegressions
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
    fit = RidgeRegressions(ClassStatistics.of(train, device), with_float64(device))
    errors, counts = fit.left_out_errors(train), train.counts
    best, hits = errors.best, errors.right[errors.best]
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


def _tested(fit: RidgeRegressions, number: int, train: Features, test: Features) -> tuple[torch.Tensor, torch.Tensor]:
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

"""Multinomial logistic regression on a training set, with a penalty relative to the length of the features.

It is fitted by scikit-learn in the basis of the principal axes, which is faster where there are fewer images than
features. The scores need one regression per group of images that is left out, so groups are few and large.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from nctransfer.evaluation.ridge_regression import LinearMap

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["PENALTIES", "LogisticRegressions"]

PENALTIES = tuple(10.0**exponent for exponent in range(-5, -1))
STEPS = 500  # of L-BFGS at most
LARGEST_GRADIENT = 1e-4  # at which a fit has converged; with many classes, entries of the gradient are small


class LogisticRegressions:
    """Logistic regressions on one training set: ``argmin mean cross-entropy + λ/2 s² ‖W‖²``.

    The penalty λ is relative: s² is the mean squared length of the centred features. The intercept is not penalised.

    Args:
        features: The training set.
        device: Where to compute the principal axes.
    """

    def __init__(self, features: FeatureSet, device: torch.device) -> None:
        import torch

        self._labels, self._classes = features.labels, len(features.classes)
        rows = features.features.to(device, torch.float64)
        self._centre = rows.mean(dim=0)
        rows = rows - self._centre
        scale = float(rows.square().sum(dim=1).mean()) ** 0.5 or 1.0
        rows /= scale
        axes = _axes(rows)  # (d, r)
        self._back = (axes / scale).T.cpu()  # from weights in the basis to weights of features, (r, d)
        self._rows = (rows @ axes).float().cpu().numpy()

    def linear_map(self, penalty: float) -> LinearMap:
        """The regression on all images as a linear map of features, on the CPU."""
        import torch

        weight, intercept = self._fitted(torch.arange(len(self._labels)), penalty)
        return LinearMap(weight @ self._back, intercept, self._centre.cpu())

    def scores_without_groups(self, groups: Iterable[torch.Tensor], penalty: float) -> Iterator[torch.Tensor]:
        """The scores of groups of training images, each by a regression on all other images.

        Args:
            groups: The rows of each group; none has all images of a class.
            penalty: λ.

        Yields:
            The scores of each group, ``(b, C)`` float64, on the CPU.
        """
        import torch

        for group in groups:
            kept = torch.ones(len(self._labels), dtype=torch.bool)
            kept[group] = False
            weight, intercept = self._fitted(kept.nonzero()[:, 0], penalty)
            yield torch.from_numpy(self._rows[group.numpy()]).double() @ weight.T + intercept

    def _fitted(self, rows: torch.Tensor, penalty: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight ``(C, r)`` and intercept ``(C,)`` of the regression on some images."""
        import torch
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(
            C=1 / (penalty * len(rows)),
            tol=LARGEST_GRADIENT * min(1, 20 / self._classes),
            max_iter=STEPS,
            solver="lbfgs",
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it is as good as it gets in float32
            model.fit(self._rows[rows.numpy()], self._labels[rows].numpy())
        weight, intercept = (torch.from_numpy(value).double() for value in (model.coef_, model.intercept_))
        if self._classes == 2:  # the binary form has one row
            weight, intercept = torch.cat([-weight, weight]) / 2, torch.cat([-intercept, intercept]) / 2
        return weight, intercept


def _axes(rows: torch.Tensor) -> torch.Tensor:
    """The principal axes of centred rows ``(n, d)`` along which they vary at all, ``(d, r)``."""
    import torch

    if len(rows) > rows.shape[1]:
        values, vectors = torch.linalg.eigh(rows.T @ rows)
    else:
        values, left = torch.linalg.eigh(rows @ rows.T)
        vectors = torch.nn.functional.normalize(rows.T @ left, dim=0)
    kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    axes: torch.Tensor = vectors[:, kept] if bool(kept.any()) else vectors[:, -1:]
    return axes

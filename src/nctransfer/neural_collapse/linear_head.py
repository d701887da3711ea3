"""Linear classifiers for NC3 and NC4."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nctransfer.devices import with_float64
from nctransfer.errors import FeaturesError
from nctransfer.neural_collapse.class_statistics import nearest_centre

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_stream import Features
    from nctransfer.neural_collapse.class_statistics import ClassStatistics

__all__ = ["LinearHead", "with_head"]


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A linear classifier on the features.

    Attributes:
        weight: ``(C, d)``.
        bias: ``(C,)``.
        origin: Where it comes from, in words.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    origin: str

    @classmethod
    def ridge(cls, stats: ClassStatistics, origin: str, penalty: float = 1e-3) -> LinearHead:
        """Ridge regression of the one-hot labels on the features, from the moments alone.

        Args:
            stats: Of the samples that it is fitted on.
            origin: What these are.
            penalty: On the squared weights, as a share of the mean variance of a feature.
        """
        import torch

        shares = stats.counts / stats.counts.sum()
        means = stats.centred_means + stats.centre
        mean = shares @ means
        strength = penalty * float(stats.covariance.diagonal().mean()) or 1.0  # of features that do not vary, any
        covariance = stats.covariance + strength * torch.eye(len(mean), dtype=mean.dtype)
        weight = torch.linalg.solve(covariance, (shares[:, None] * (means - mean)).T).T
        return cls(weight, shares - weight @ mean, f"ridge, fitted on {origin}")

    def of_classes(self, classes: Sequence[str], names: Sequence[str] | None = None) -> LinearHead:
        """The rows for some classes, in their order.

        Args:
            classes: Names. Without ``names`` they are the numbers of rows, or as many as there are rows, in order.
            names: What the rows are called.

        Raises:
            FeaturesError: They cannot be matched.
        """
        rows = len(self.weight)
        if names is not None:
            known = {name: row for row, name in enumerate(names)}
            if absent := [name for name in classes if name not in known]:
                near = difflib.get_close_matches(absent[0], known, 3)
                raise FeaturesError(
                    f"{len(absent)} of {len(classes)} classes are not among the names of the head: {absent[0]!r}, …",
                    f"nearest: {', '.join(near)}" if near else "needed is one name a line, as the data has it",
                )
            if len(names) != rows:
                raise FeaturesError(
                    f"{len(names):,} names do not go with a head of {rows:,} classes",
                    "--head-names is a file of one name for each class of the head, in their order",
                )
            chosen, how = [known[name] for name in classes], "name"
        elif all(name.isdecimal() and int(name) < rows for name in classes):
            chosen, how = [int(name) for name in classes], "number"
        elif len(classes) == rows:
            chosen, how = list(range(rows)), "order"
        else:
            raise FeaturesError(
                f"the head has {rows:,} classes and the data {len(classes):,}",
                "name the head's classes by --head-names FILE: one a line, as the data has them",
            )
        return LinearHead(self.weight[chosen], self.bias[chosen], f"{self.origin}, classes matched by {how}")


def with_head(stats: ClassStatistics, features: Features, head: LinearHead, device: str = "auto") -> ClassStatistics:
    """The statistics with a head of the same classes, and how far it agrees with the nearest class centre.

    Raises:
        FeaturesError: The head is of another width.
    """
    import torch

    if head.weight.shape != stats.centred_means.shape:
        raise FeaturesError(f"a head of shape {tuple(head.weight.shape)} does not go with features of {features.dim:,}")
    chosen = with_float64(device)
    weight = head.weight.to(chosen, torch.float64)
    bias = head.bias.to(chosen, torch.float64) + weight @ stats.centre.to(chosen)
    agreeing = 0
    for values, _, nearest in nearest_centre(features, stats, chosen):
        agreeing += int(((values @ weight.T + bias).argmax(dim=1).cpu() == nearest).sum())
    return replace(stats, head=head, agreement=agreeing / len(features))

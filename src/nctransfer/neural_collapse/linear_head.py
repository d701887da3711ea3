"""Linear classifiers, which NC3 and NC4 compare with the class means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nctransfer.devices import with_float64
from nctransfer.errors import FeaturesError, did_you_mean, join_names
from nctransfer.neural_collapse.class_statistics import nearest_centre
from nctransfer.neural_collapse.head_order import MOST_CLASSES

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_stream import Features
    from nctransfer.neural_collapse.class_statistics import ClassStatistics

__all__ = ["HeadAnswers", "LinearHead", "check_head", "with_head"]


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A linear classifier on the features.

    Attributes:
        weight: The weight vector of each class, ``(C, d)``.
        bias: The bias of each class, ``(C,)``.
        origin: Where the classifier comes from, in words.
        rows: The numbers of its rows in the head that they were taken from; ``None`` if it is whole.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    origin: str
    rows: tuple[int, ...] | None = None

    @property
    def row_numbers(self) -> Sequence[int]:
        """The numbers of its rows in the head that they were taken from, or their own."""
        return range(len(self.weight)) if self.rows is None else self.rows

    @classmethod
    def ridge(cls, stats: ClassStatistics, origin: str, penalty: float = 1e-3) -> LinearHead:
        """Ridge regression of the one-hot labels on the features, computed from the moments alone.

        Args:
            stats: The statistics of the samples that it is fitted on.
            origin: What these samples are, in words.
            penalty: The penalty on the squared weights, relative to the mean variance of a feature.
        """
        import torch

        shares = stats.counts / stats.counts.sum()
        means = stats.centred_means + stats.centre
        mean = shares @ means
        strength = penalty * float(stats.covariance.diagonal().mean()) or 1.0  # any penalty, if features do not vary
        covariance = stats.covariance + strength * torch.eye(len(mean), dtype=mean.dtype)
        weight = torch.linalg.solve(covariance, (shares[:, None] * (means - mean)).T).T
        return cls(weight, shares - weight @ mean, f"ridge, fitted on {origin}")

    def of_classes(self, classes: Sequence[str], names: Sequence[str] | None = None) -> LinearHead:
        """The head for some classes, in the given order.

        Args:
            classes: The names of the classes. If ``names`` is not given, they must be the numbers of rows of the head,
                or there must be as many classes as rows, in the same order.
            names: The names of the rows of the head.

        Raises:
            FeaturesError: The classes cannot be matched with the rows.
        """
        rows = len(self.weight)
        if names is not None:
            known = {name: row for row, name in enumerate(names)}
            if absent := [name for name in classes if name not in known]:
                raise FeaturesError(
                    f"{len(absent)} of {len(classes)} classes are not among the names of the head: "
                    + join_names([repr(name) for name in absent], most=1),
                    did_you_mean(absent[0], known) or "give --head-names a file with one name per line",
                )
            if len(names) != rows:
                raise FeaturesError(
                    f"the head has {rows:,} classes; got {len(names):,} names",
                    "give --head-names a file with one name per line for each class of the head, in its order",
                )
            chosen, how = [known[name] for name in classes], "name"
        elif all(name.isdecimal() and int(name) < rows for name in classes):
            chosen, how = [int(name) for name in classes], "number"
        elif len(classes) == rows:
            chosen, how = list(range(rows)), "order"
        else:
            raise FeaturesError(
                f"the head has {rows:,} classes and the data {len(classes):,}",
                "give --head-names a file with the names of the head's classes, one per line",
            )
        origin = f"{self.origin}, classes matched by {how}"
        return LinearHead(self.weight[chosen], self.bias[chosen], origin, tuple(chosen))


def with_head(stats: ClassStatistics, features: Features, head: LinearHead, device: str = "auto") -> ClassStatistics:
    """The statistics with a head, its answers, and the share of samples for which it and the nearest centre agree.

    Args:
        stats: The statistics of the features.
        features: The features.
        head: A linear classifier for the same classes in the same order.
        device: Where to compute.

    Raises:
        FeaturesError: The head has another width or other classes.
    """
    check_head(head, *stats.centred_means.shape)
    return HeadAnswers.of(features, stats, head, device).added_to(stats, head)


def check_head(head: LinearHead, classes: int, dim: int) -> None:
    """Refuse a head of another number of classes, or of features of another width.

    Raises:
        FeaturesError: The head has another width or other classes.
    """
    if tuple(head.weight.shape) != (classes, dim):
        raise FeaturesError(
            f"a head of shape {tuple(head.weight.shape)} does not go with features of width {dim:,}",
            "give the head of the same backbone",
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadAnswers:
    """What a head answers for the samples of a set, or of a part of it.

    Attributes:
        agreeing: The number of samples for which the head and the nearest class centre predict the same class.
        answers: See :class:`~nctransfer.neural_collapse.class_statistics.ClassStatistics`.
    """

    agreeing: int
    answers: torch.Tensor | None

    @classmethod
    def of(
        cls,
        features: Features,
        stats: ClassStatistics,
        head: LinearHead,
        device: str = "auto",
        before: torch.Tensor | None = None,
    ) -> HeadAnswers:
        """One pass over the rows of a set, or of a part of it, given the statistics of the whole set.

        Args:
            features: The set or the part.
            stats: The statistics of the whole set.
            head: A linear classifier for the same classes in the same order.
            device: Where to compute.
            before: How many samples of each class the parts before this one have, ``(C,)`` int64; by default none.
        """
        import torch

        chosen = with_float64(device)
        weight = head.weight.to(chosen, torch.float64)
        bias = head.bias.to(chosen, torch.float64) + weight @ stats.centre.to(chosen)
        agreeing, classes = 0, len(weight)
        answers = torch.zeros(2, classes, classes, dtype=torch.int32) if classes <= MOST_CLASSES else None
        seen = torch.zeros(classes, dtype=torch.int64) if before is None else before.clone()
        for values, labels, nearest in nearest_centre(features, stats, chosen):
            rows = (values @ weight.T + bias).argmax(dim=1).cpu()
            agreeing += int((rows == nearest).sum())
            if answers is not None:
                within = torch.nn.functional.one_hot(labels, classes)  # (b, C)
                half = (seen[labels] + within.cumsum(dim=0).gather(1, labels[:, None])[:, 0]) % 2
                answers.index_put_((half, labels, rows), answers.new_ones(()), accumulate=True)
                seen += within.sum(dim=0)
        return cls(agreeing=agreeing, answers=answers)

    def __add__(self, other: HeadAnswers) -> HeadAnswers:
        """The sums over two parts of one set."""
        neither = self.answers is None or other.answers is None
        return HeadAnswers(
            agreeing=self.agreeing + other.agreeing,
            answers=None if neither else self.answers + other.answers,  # type: ignore[operator]
        )

    def added_to(self, stats: ClassStatistics, head: LinearHead) -> ClassStatistics:
        """The statistics of the whole set with this head and its answers."""
        return replace(stats, head=head, agreement=self.agreeing / int(stats.counts.sum()), answers=self.answers)

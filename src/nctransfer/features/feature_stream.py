"""Features that are read from the disk in passes, for sets larger than the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from nctransfer.errors import FeaturesError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from nctransfer.features.feature_info import FeatureInfo
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["FeatureStream", "Features"]


class Features(Protocol):
    """Features whose rows can be passed over several times: a :class:`FeatureSet` or a :class:`FeatureStream`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The C class names, sorted."""

    @property
    def info(self) -> FeatureInfo:
        """Where the features came from."""

    @property
    def dim(self) -> int:
        """The feature width, d."""

    @property
    def images(self) -> torch.Tensor | None:
        """A digest of each image, int64, in the order of the labels; ``None`` if the images are not known."""

    @property
    def counts(self) -> torch.Tensor:
        """The number of samples of each class, ``(C,)`` int64."""

    @property
    def order(self) -> torch.Tensor:
        """The numbers of the samples in the passes, sorted by class and then by id, ``(n,)`` int64."""

    def __len__(self) -> int:
        """The number of samples, n."""

    def batches(self, rows: int = 1024) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Features and label codes in batches of up to ``rows``, in an order that is the same in every pass."""

    def only_classes(self, codes: torch.Tensor) -> Features:
        """The samples of some classes, which are given by their codes in ascending order."""

    def describe(self) -> FeatureInfo:
        """Where the features came from, with the numbers of samples, classes and dimensions."""

    def to_dict(self) -> dict[str, Any]:
        """The description as a dictionary for JSON."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FeatureStream:
    """Features that every pass reads anew, in batches, so that they never need to fit into memory.

    Attributes:
        labels: ``(m,)`` int64 codes of the m rows in the order in which they are read; −1 for a row that is skipped.
        classes: The C class names, sorted.
        dim: The number of features per sample, d.
        info: Where the features came from.
        read: Reads the m rows from the first on, as matrices ``(b, d)`` of float32 or float64. Given two numbers, it
            reads the rows from the first number up to the second, without reading the others if the file allows that.
        images: A digest of the image of each row, ``(m,)`` int64; ``None`` if the images are not known.
        places: The place of each row in the order of ids, ``(m,)``; by default rows are read in that order.
        part: Which of the rows that ``read`` reads these are, from the first number up to the second; ``None`` for all.
    """

    labels: torch.Tensor
    classes: tuple[str, ...]
    dim: int
    info: FeatureInfo
    read: Callable[..., Iterable[NDArray[Any]]]
    images: torch.Tensor | None = None
    places: torch.Tensor | None = None
    part: tuple[int, int] | None = None

    @classmethod
    def of(cls, features: FeatureSet) -> FeatureStream:
        """The rows of a set in memory, in their order."""
        matrix, rows = features.features.numpy(), 1024

        def read(start: int = 0, stop: int = len(matrix)) -> Iterator[NDArray[Any]]:
            for first in range(start, stop, rows):
                yield matrix[first : min(first + rows, stop)]

        return cls(
            labels=features.labels,
            classes=features.classes,
            dim=features.dim,
            info=features.info,
            read=read,
            images=features.images,
        )

    def __len__(self) -> int:
        """The number of samples, n."""
        return int(self.counts.sum())

    @property
    def counts(self) -> torch.Tensor:
        """See :class:`Features`."""
        return (self.labels + 1).bincount(minlength=len(self.classes) + 1)[1:]

    @property
    def order(self) -> torch.Tensor:
        """See :class:`Features`."""
        import numpy as np
        import torch

        kept = self.labels >= 0
        places = np.arange(len(self)) if self.places is None else self.places[kept].numpy()
        # numpy needs a quarter of the memory of torch's sort
        return torch.from_numpy(np.lexsort((places, self.labels[kept].numpy())))

    def batches(self, rows: int = 1024) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """See :class:`Features`.

        Raises:
            FeaturesError: A value is NaN or infinite, or the number of rows has changed.
            SetChangedError: Another process has changed the stored set that the rows are read from.
        """
        import torch

        start, before = 0, self.part[0] if self.part else 0
        for matrix in self.read(*self.part or ()):
            labels = self.labels[start : start + len(matrix)]
            if len(labels) < len(matrix) or matrix.shape[1] != self.dim:
                raise FeaturesError(f"{self.info.id} changed while it was being read", "run the same command again")
            kept = labels >= 0
            chosen = torch.from_numpy(matrix)[kept]
            finite = chosen.isfinite().all(dim=1)
            if not bool(finite.all()):
                first = before + start + int(kept.nonzero()[int((~finite).nonzero()[0])])
                raise FeaturesError(
                    f"{self.info.id} holds NaN or infinite values; the first are in row {first:,}",
                    "leave these samples out, or correct the program that wrote them",
                )
            start += len(matrix)
            yield from zip(chosen.split(rows), labels[kept].split(rows), strict=True)  # type: ignore[no-untyped-call]
        if start < len(self.labels):
            raise FeaturesError(f"{self.info.id} changed while it was being read", "run the same command again")

    def only_classes(self, codes: torch.Tensor) -> FeatureStream:
        """See :class:`Features`."""
        import torch

        new = torch.full((len(self.classes) + 1,), -1)
        new[codes] = torch.arange(len(codes))  # index −1 maps rows that are skipped already to −1
        return replace(self, labels=new[self.labels], classes=tuple(self.classes[code] for code in codes.tolist()))

    def between(self, start: int, stop: int) -> FeatureStream:
        """The rows from one number up to another, with all classes: only these are read, so far as the file allows."""
        before = self.part[0] if self.part else 0
        return replace(
            self,
            labels=self.labels[start:stop],
            images=None if self.images is None else self.images[start:stop],
            places=None if self.places is None else self.places[start:stop],
            part=(before + start, before + min(stop, len(self.labels))),
        )

    def describe(self) -> FeatureInfo:
        """See :class:`Features`."""
        return replace(self.info, samples=len(self), classes=len(self.classes), dim=self.dim)

    def to_dict(self) -> dict[str, Any]:
        """See :class:`Features`."""
        return self.describe().to_dict()

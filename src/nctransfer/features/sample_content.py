"""What samples are by their content, whatever they are called: which are duplicates, and which two sets share.

A renamed copy of an image has the same features as the image, so equal rows of features are taken as one image. But
the features of one image, computed in batches of different sizes, may differ in their last digits. So where two sets
know the digests of their images, these are compared as well.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, overload

from nctransfer.errors import FeaturesError, counted
from nctransfer.features.feature_set import FeatureSet
from nctransfer.features.feature_stream import FeatureStream

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from nctransfer.features.feature_stream import Features

__all__ = ["Duplicates", "SampleContent", "duplicates_in", "images_of", "row_digests", "without_duplicates"]


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """How many samples of a set have the same features as an earlier sample.

    Attributes:
        samples: Their number: so many would be left out if one of each were kept.
        across_classes: How many of them are in another class than that earlier sample.
    """

    samples: int = 0
    across_classes: int = 0

    @classmethod
    def of(cls, digests: torch.Tensor, labels: torch.Tensor) -> Duplicates:
        """Count them.

        Args:
            digests: A digest of each row, ``(n,)`` int64.
            labels: The class codes, ``(n,)``.

        >>> import torch
        >>> Duplicates.of(torch.tensor([5, 7, 5, 7, 5]), torch.tensor([0, 0, 0, 1, 1]))
        Duplicates(samples=3, across_classes=2)
        """
        import torch

        ordered, order = digests.sort(stable=True)
        same = torch.zeros(len(digests), dtype=torch.bool)
        same[1:] = ordered[1:] == ordered[:-1]
        samples = int(same.sum())
        same[:-1] |= same[1:].clone()
        rows = order[same].sort().values  # those that are equal to another one; most often there are hardly any
        found = labels[rows]
        return cls(samples=samples, across_classes=int((found[_first_equal(digests[rows])] != found).sum()))

    def __str__(self) -> str:
        """The numbers in words."""
        others = f", {self.across_classes:,} of them in another class" if self.across_classes else ""
        return f"{counted(self.samples, 'sample has', 'samples have')} the same features as an earlier sample{others}"

    def to_dict(self) -> dict[str, Any]:
        """The numbers as a dictionary for JSON."""
        return asdict(self)


def duplicates_in(features: Features) -> Duplicates:
    """How many samples of a feature set have the same features as an earlier sample, in one pass over its rows.

    >>> twice = FeatureSet.from_arrays([[1.0], [2.0], [1.0], [1.0]], "aabb")
    >>> print(duplicates_in(twice))
    2 samples have the same features as an earlier sample, 2 of them in another class
    """
    content = SampleContent.of(features)
    return Duplicates.of(content.rows, content.labels)


@overload
def without_duplicates(features: FeatureSet, other: Features | None = None) -> FeatureSet: ...
@overload
def without_duplicates(features: Features, other: Features | None = None) -> Features: ...
def without_duplicates(features: Features, other: Features | None = None) -> Features:
    """The set without samples that have the same features as an earlier one, and without classes that then are empty.

    Args:
        features: The feature set. Of equal samples, the first in its order stays: in memory, the first by class and id.
        other: Another set, whose samples are left out as well.

    Raises:
        FeaturesError: No sample is left.

    >>> twice = FeatureSet.from_arrays([[1.0], [2.0], [1.0], [3.0]], "aabb")
    >>> without_duplicates(twice)
    FeatureSet(arrays: 3 samples, 2 classes, width 1)
    """
    import torch

    content = SampleContent.of(features)
    first = _first_equal(content.rows)
    stays = first == torch.arange(len(first))
    if other is not None:
        stays &= ~content.is_in(SampleContent.of(other))
    if bool(stays.all()):
        return features
    if not bool(stays.any()):
        raise FeaturesError(f"all samples of {features.info.id} are also in the other set", "give other samples")
    kept: Features
    if isinstance(features, FeatureStream):
        labels = features.labels.clone()
        labels[(labels >= 0).nonzero()[:, 0][~stays]] = -1
        kept = replace(features, labels=labels)
    else:
        assert isinstance(features, FeatureSet)
        kept = features.only_rows(stays.nonzero()[:, 0])
    return kept.only_classes(kept.counts.nonzero()[:, 0])


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleContent:
    """What tells the samples of a set apart whatever their names.

    Attributes:
        rows: A digest of the features of each sample, ``(n,)`` int64, see :func:`row_digests`.
        labels: The class codes, ``(n,)``.
        images: A digest of each image, ``(n,)`` int64; ``None`` if the images are not known.
    """

    rows: torch.Tensor
    labels: torch.Tensor
    images: torch.Tensor | None

    @classmethod
    def of(cls, features: Features) -> SampleContent:
        """The content of every sample, in one pass over the rows."""
        import torch

        pieces = [(row_digests(rows), labels) for rows, labels in features.batches()]
        rows, labels = (torch.cat(column) for column in zip(*pieces, strict=True))
        return cls(rows=rows, labels=labels, images=images_of(features))

    def is_in(self, other: SampleContent) -> torch.Tensor:
        """Which samples are also in another set, by their features or by their images, ``(n,)`` bool.

        Features that samples of several classes have, as zeros of a backbone that has died, do not tell images.
        """
        import torch

        found = torch.isin(self.rows, other.rows[other._tells]) & self._tells
        if self.images is not None and other.images is not None:
            found |= torch.isin(self.images, other.images)
        return found

    @property
    def _tells(self) -> torch.Tensor:
        """Which samples have features that only one class has, ``(n,)`` bool."""
        import torch

        several = self.labels[_first_equal(self.rows)] != self.labels
        return ~torch.isin(self.rows, self.rows[several])


def images_of(features: Features) -> torch.Tensor | None:
    """A digest of the image of each sample, ``(n,)`` int64; ``None`` if the images are not known."""
    if features.images is None or isinstance(features, FeatureSet):
        return features.images
    assert isinstance(features, FeatureStream)
    return features.images[features.labels >= 0]


def row_digests(rows: torch.Tensor) -> torch.Tensor:
    """A digest of each row: equal rows have equal digests, whether they are float32 or float64.

    It is ``Σ w_i x_i`` modulo 2⁶⁴, with ``x_i`` the bits of the float32 numbers of a row, the upper half of each mixed
    into its lower half, and ``w_i`` fixed random weights. Two different rows have equal digests with a chance of 2⁻⁶⁴
    if the last bit of some number differs, and of 2⁻³³ at worst.

    Args:
        rows: ``(b, d)``, float32 or float64, on the CPU.

    Returns:
        ``(b,)`` int64.

    >>> import torch
    >>> row_digests(torch.tensor([[0.5, 0.0]])) == row_digests(torch.tensor([[0.5, -0.0]], dtype=torch.float64))
    tensor([True])
    """
    import numpy as np
    import torch

    values = np.ascontiguousarray(rows.numpy()) + 0.0  # −0.0 becomes 0.0
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and so differs
        single = values.astype(np.float32, copy=False)
    digests = _weighted(single)
    if values.dtype != np.float32:
        digests = np.where((single == values).all(axis=1), digests, _weighted(values))
    return torch.from_numpy(digests)


def _weighted(values: NDArray[Any]) -> NDArray[np.int64]:
    """The digest of each row of contiguous floats."""
    import numpy as np

    words = values.view(np.uint32)  # (b, d), or (b, 2d) for float64
    found: NDArray[np.uint64] = np.einsum("ij,j->i", words ^ (words >> 16), _weights(words.shape[1]))
    return found.view(np.int64)


@functools.lru_cache(maxsize=8)
def _weights(number: int) -> NDArray[np.uint64]:
    import numpy as np

    return np.random.Generator(np.random.PCG64(0)).integers(2**64 - 1, size=number, dtype=np.uint64)


def _first_equal(digests: torch.Tensor) -> torch.Tensor:
    """For each sample the position of the first one with the same digest, ``(n,)``."""
    import torch

    ordered, order = digests.sort(stable=True)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    first = torch.empty_like(order)
    first[order] = order[starts][starts.cumsum(dim=0) - 1]
    return first

"""Groups of samples: the site, camera or scanner that each came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.errors import EpisodeError, counted

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["Groups"]

MOST = 1000  # groups; with more, a column most likely holds names of images


@dataclass(frozen=True, kw_only=True, eq=False)
class Groups:
    """The group of each sample.

    Attributes:
        column: The name of the attribute.
        names: The G names of groups, sorted.
        codes: The number of the group of each sample, ``(n,)``; G for a sample without a group.

    >>> from nctransfer.features.feature_set import FeatureSet
    >>> sites = FeatureSet.from_arrays([[1.0], [2.0], [3.0]], "aab", attributes={"site": ["x", "y", ""]})
    >>> groups = Groups.of(sites, "site")
    >>> groups.names, groups.codes.tolist()
    (('x', 'y'), [0, 1, 2])
    """

    column: str
    names: tuple[str, ...]
    codes: torch.Tensor

    @classmethod
    def of(cls, features: FeatureSet, column: str) -> Groups:
        """The groups that a column of a feature set names.

        Args:
            features: The feature set, n samples.
            column: The name of an attribute.

        Raises:
            FeaturesError: The set has no such attribute.
            EpisodeError: There are fewer than two groups, or more than 1,000.
        """
        import torch

        values = features.attribute(column)
        names = tuple(sorted(set(values) - {""}))
        if not 2 <= len(names) <= MOST:
            one = f": {names[0]!r}" if len(names) == 1 else ""
            raise EpisodeError(
                f"the column {column!r} names {counted(len(names), 'group')}{one}; "
                f"groups are compared if there are 2 to {MOST:,}",
                "name a column such as the site, the camera or the scanner of each image",
            )
        code = {name: number for number, name in enumerate(names)}
        codes = torch.tensor([code.get(value, len(names)) for value in values], dtype=torch.int64)
        return cls(column=column, names=names, codes=codes)

    def __len__(self) -> int:
        """The number of groups, G."""
        return len(self.names)

    def cells(self, features: FeatureSet) -> torch.Tensor:
        """The number of samples of each class in each group, ``(C, G)`` int64."""
        width = len(self) + 1
        found = (features.labels * width + self.codes).bincount(minlength=len(features.classes) * width)
        return found.view(-1, width)[:, :-1]

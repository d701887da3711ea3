"""The ways in which a head can find images that are unlike every class.

Each is a function of the feature that a file holds as a few tensors. It gives the training images, each left out, a
value that a new image of the classes exceeds about as often, on which the promise of abstention rests.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from nctransfer.errors import SettingError, did_you_mean
from nctransfer.heads.neighbour_distance import NeighbourDistance, fit_neighbour_distance
from nctransfer.heads.principal_share import PrincipalShare, fit_principal_share
from nctransfer.heads.unlikeness import MAHALANOBIS, RELATIVE, Unlikeness, fit_mahalanobis, fit_unlikeness

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["RELATIVE", "UNLIKENESSES", "AnyUnlikeness", "UnlikenessKind", "check_unlikeness"]


class AnyUnlikeness(Protocol):
    """How unlike every class an image is, as a function of its feature; a larger value is more unlike."""

    @property
    def name(self) -> str:
        """Its kind."""

    def of(self, features: torch.Tensor) -> torch.Tensor:
        """The unlikeness ``(b,)`` float32 of features ``(b, d)``."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a file of a head stores, by name."""


@dataclass(frozen=True, kw_only=True)
class UnlikenessKind:
    """A way to find images that are unlike every class.

    Attributes:
        name: The name by which users choose it.
        meaning: What it is, in a few words for the help.
        fit: From training images and a device to the unlikeness, and that of each training image when it is left out,
            ``(n,)`` float32.
        from_tensors: From the tensors of a file, the width d and the number of classes to the unlikeness; it raises
            :class:`ValueError` for tensors that do not fit.
    """

    name: str
    meaning: str
    fit: Callable[[FeatureSet, str], tuple[AnyUnlikeness, torch.Tensor]]
    from_tensors: Callable[[Mapping[str, torch.Tensor], int, int], AnyUnlikeness]


_KINDS = (
    UnlikenessKind(
        name=RELATIVE,
        meaning="distance to the nearest class minus that to all images",
        fit=fit_unlikeness,
        from_tensors=Unlikeness.from_tensors,
    ),
    UnlikenessKind(
        name=MAHALANOBIS,
        meaning="distance to the nearest class",
        fit=fit_mahalanobis,
        from_tensors=functools.partial(Unlikeness.from_tensors, is_relative=False),
    ),
    UnlikenessKind(
        name="knn",
        meaning="distance to the k-th nearest training image",
        fit=fit_neighbour_distance,
        from_tensors=NeighbourDistance.from_tensors,
    ),
    UnlikenessKind(
        name="neco",
        meaning="share of the feature outside the principal axes of the training images",
        fit=fit_principal_share,
        from_tensors=PrincipalShare.from_tensors,
    ),
)
UNLIKENESSES: Mapping[str, UnlikenessKind] = {one.name: one for one in _KINDS}
"""Every kind by name; the first is the usual one. No other package adds to them: a file of a head names one."""


def check_unlikeness(name: str) -> UnlikenessKind:
    """The kind of that name.

    Raises:
        SettingError: There is none.
    """
    if name not in UNLIKENESSES:
        raise SettingError(
            f"there is no unlikeness {name!r} for a head",
            did_you_mean(name, UNLIKENESSES) or f"give --unlikeness {' or '.join(UNLIKENESSES)}",
        )
    return UNLIKENESSES[name]

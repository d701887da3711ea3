"""Samples without features, on which a task can be tried before any image goes through a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nctransfer.features.feature_info import FeatureInfo
from nctransfer.features.feature_set import FeatureSet

if TYPE_CHECKING:
    from nctransfer.sources.source import ImageEntry

__all__ = ["stand_ins"]


def stand_ins(entries: Sequence[ImageEntry]) -> FeatureSet:
    """The samples that images will be, with their labels and names; in place of features, each has a number."""
    import numpy as np

    numbers = np.arange(len(entries), dtype=float)[:, None]
    ids, labels = [entry.id for entry in entries], [entry.label for entry in entries]
    return FeatureSet.from_arrays(numbers, labels, ids, FeatureInfo("the data"))

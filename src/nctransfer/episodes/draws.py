"""All classes at once: the samples of each class in random order, of which the first are labelled."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["BLOCK", "labelled", "random_orders"]

BLOCK = 32  # draws that share a generator; another number would give other draws
STREAM = 5  # of the seed, beside those of the episodes


def random_orders(features: FeatureSet, draws: int, seed: int) -> Iterator[torch.Tensor]:
    """Random orders of the samples of every class.

    Draw number s depends on the seed, on s, and on the number of samples of each class: not on the features. With the
    samples sorted by class and id, as they are in a feature set, all backbones meet the same draws.

    Args:
        features: The feature set, n samples.
        draws: The number of draws.
        seed: The seed.

    Yields:
        Row numbers ``(S, n)`` of up to 32 draws; those of a class stay at the places of that class.
    """
    import numpy as np
    import torch

    bounds = [0, *features.counts.cumsum(0).tolist()]
    for block in range(-(-draws // BLOCK)):
        generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(block, STREAM)))
        keys = generator.random((BLOCK, bounds[-1]))[: draws - block * BLOCK]
        orders = np.empty(keys.shape, np.int64)
        for start, end in itertools.pairwise(bounds):
            orders[:, start:end] = start + keys[:, start:end].argsort(axis=1)
        yield torch.from_numpy(orders)


def labelled(orders: torch.Tensor, counts: torch.Tensor, shots: int) -> torch.Tensor:
    """The rows of the labelled examples: the first of each class.

    Args:
        orders: Row numbers of S draws, ``(S, n)``.
        counts: The number of samples of each class, ``(C,)``.
        shots: Labelled examples per class.

    Returns:
        ``(S, C, shots)``.

    >>> import torch
    >>> labelled(torch.tensor([[1, 0, 2, 4, 3]]), torch.tensor([2, 3]), 1).tolist()
    [[[1], [2]]]
    """
    import torch

    starts = counts.cumsum(0) - counts
    return orders[:, starts[:, None] + torch.arange(shots)]

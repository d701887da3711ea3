"""Layers of one backbone as candidates: each by itself, the last few joined, and the mean of all.

Layers are of different widths and lengths. Before layers are joined, each is scaled to the same mean squared length
about its mean over all images, which takes no label, so that each has the same say in every distance. A join is as long
as the pooled output, for classifiers whose penalty does not follow the length of features.

The mean of the inner products of all layers, scaled so, is the same as joining all of them. That is what "mean of all"
is here; a mean of the vectors themselves does not exist where widths differ, and mixes unrelated axes where they do
not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nctransfer.errors import SettingError, join_names

if TYPE_CHECKING:
    from nctransfer.features.feature_set import FeatureSet

__all__ = [
    "JOINS",
    "MEAN_OF_ALL",
    "LayerCandidate",
    "join_features",
    "layer_candidates",
    "layer_sets",
    "without_copies",
]

JOINS = (2, 3)  # the last so many layers are joined
MEAN_OF_ALL = "mean of all"


@dataclass(frozen=True, kw_only=True)
class LayerCandidate:
    """A layer, or several of them joined.

    Attributes:
        name: What tables call it: ``layer_3``, ``feature``, ``last 2``, ``mean of all``.
        layers: The layers that it is made of.
    """

    name: str
    layers: tuple[str, ...]

    @property
    def is_join(self) -> bool:
        """Whether it is made of several layers."""
        return len(self.layers) > 1


def layer_candidates(layers: Sequence[str], joins: Sequence[int] | None = JOINS) -> tuple[LayerCandidate, ...]:
    """Each layer, the last n joined, and the mean of all.

    Args:
        layers: The names of the layers, from the first to the last.
        joins: The numbers n of last layers that are joined. Those that are not smaller than the number of layers are
            left out: all layers joined are the mean of all. ``None`` if nothing is joined, not even all of them.

    Raises:
        SettingError: There are fewer than two layers, or a number is below 2.

    >>> [one.name for one in layer_candidates(["layer_0", "layer_1", "feature"], [2, 3])]
    ['layer_0', 'layer_1', 'feature', 'last 2', 'mean of all']
    """
    if len(layers) < 2:
        raise SettingError(
            f"a choice of a layer needs at least two, and there is only {join_names(layers)}",
            "store more of them by nctransfer extract --layers all",
        )
    own = tuple(LayerCandidate(name=name, layers=(name,)) for name in layers)
    if joins is None:
        return own
    if wrong := [number for number in joins if number < 2]:
        raise SettingError(
            f"the last {wrong[0]} of the layers cannot be joined", "give --concat numbers of 2 or more, or none"
        )
    last = [
        LayerCandidate(name=f"last {number}", layers=tuple(layers[-number:]))
        for number in sorted(set(joins))
        if number < len(layers)
    ]
    return (*own, *last, LayerCandidate(name=MEAN_OF_ALL, layers=tuple(layers)))


def without_copies(layers: Mapping[str, FeatureSet]) -> tuple[dict[str, FeatureSet], dict[str, str]]:
    """The layers that differ from the last one, which is the pooled output, and the last one.

    In many networks the pooled output is the last stage itself.

    Args:
        layers: The features of each layer, from the first to the last.

    Returns:
        The layers, and which of them were left out: the name of each, and the name of the last one.
    """
    import torch

    *_, (last, output) = layers.items()
    copies = {
        name: last
        for name, one in layers.items()
        if name != last and one.dim == output.dim and torch.equal(one.features, output.features)
    }
    return {name: one for name, one in layers.items() if name not in copies}, copies


def layer_sets(layers: Mapping[str, FeatureSet], joins: Sequence[int] | None = JOINS) -> dict[str, FeatureSet]:
    """The features of every candidate by name: of each layer that is no copy of the last one, and of the joins.

    Args:
        layers: The features of each layer, from the first to the last.
        joins: See :func:`layer_candidates`.

    Raises:
        SettingError: There are fewer than two layers that differ.
    """
    own, _ = without_copies(layers)
    return {
        one.name: join_features({name: own[name] for name in one.layers}, one.name) if one.is_join else own[one.name]
        for one in layer_candidates(list(own), joins)
    }


def join_features(layers: Mapping[str, FeatureSet], name: str = MEAN_OF_ALL) -> FeatureSet:
    """Several layers of the same samples side by side, each scaled to the same mean squared length about its mean.

    The whole is as long as the last of them. Inner products about the mean are those of
    :func:`~nctransfer.episodes.joining.joined` with these weights.

    Args:
        layers: The features of each layer; the last is the pooled output.
        name: What the features are called, in place of the name of a layer.

    >>> import numpy as np
    >>> from nctransfer.features.feature_set import FeatureSet
    >>> one = FeatureSet.from_arrays(np.array([[0.0], [2.0]]), "ab")
    >>> other = FeatureSet.from_arrays(np.array([[0.0, 0.0], [0.0, 20.0]]), "ab")
    >>> (join_features({"layer_0": one, "feature": other}).features ** 2).round().tolist()
    [[0.0, 0.0, 0.0], [200.0, 0.0, 200.0]]
    """
    import torch

    *_, last = layers.values()
    lengths = [_mean_square(one) for one in layers.values()]
    weights = weights_of(lengths)
    rows = torch.cat(
        [
            (one.features.double() * math.sqrt(weight)).to(one.features.dtype)
            for one, weight in zip(layers.values(), weights, strict=True)
        ],
        dim=1,
    )
    return replace(last, features=rows, info=replace(last.info, layer=name, dim=None))


def weights_of(lengths: Sequence[float]) -> list[float]:
    """The weight of the inner products of each layer in a join, from their mean squared lengths; the last sets its own.

    A layer that is the same for all images has weight 0.

    >>> weights_of([4.0, 16.0])
    [2.0, 0.5]
    """
    return [lengths[-1] / (len(lengths) * one) if one > 0 else 0.0 for one in lengths]


def _mean_square(features: FeatureSet) -> float:
    rows = features.features.double()
    return float((rows - rows.mean(dim=0)).square().sum(dim=1).mean())

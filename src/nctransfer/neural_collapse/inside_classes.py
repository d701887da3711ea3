"""Fine structure inside collapsed classes: with a second label, are the fine classes of a coarse class told apart?

A network that is trained on coarse labels pulls the samples of a class together. What is left inside a class may be
noise, or may still hold the fine classes (Yang et al., *Are neurons actually collapsed? On the fine-grained structure
in neural representations*, ICML 2023). Here each coarse class is taken by itself, with its fine classes of two samples
or more, and averages are over coarse classes, each with the same weight. As we remember it, the paper clusters the
features of a class; the measures here are ours: they need no fit, and each has a value for noise.

Notation: coarse class k has ``n`` samples of ``J`` fine classes, ``v_j`` is the variance of fine class j (the mean
squared distance to its mean ``mu_j``), and ``d_ij = ‖mu_i − mu_j‖``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nctransfer.errors import FeaturesError, SettingError
from nctransfer.features.feature_set import FeatureSet, coded
from nctransfer.intervals import jackknife, t_quantile
from nctransfer.neural_collapse.fine_results import FineClass, FineLayer, FineStructure

if TYPE_CHECKING:
    import torch

__all__ = ["explained_share", "fine_structure", "left_out_accuracy"]

PERMUTATIONS = 99
STREAM = 9  # of the seed, beside those of other draws
FEWEST = 3  # coarse classes, for an interval

Progress = Callable[[str, int, int], None]


def fine_structure(
    layers: FeatureSet | Mapping[str, FeatureSet],
    column: str,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    progress: Progress | None = None,
) -> FineStructure:
    """How well fine classes are told apart inside their coarse class, by layer.

    The classes of the set are the coarse ones, and an attribute names the fine class of each sample. For each coarse
    class with two fine classes or more: the leave-one-out accuracy of the nearest fine-class centre, see
    :func:`left_out_accuracy`, also with the fine labels permuted inside the class; the share of the variance inside the
    class that fine classes explain, see :func:`explained_share`; and the CDNV of its pairs of fine classes,
    ``V_ij = (v_i + v_j) / (2 d_ij²)``, beside that of pairs of two coarse classes. Averages are over coarse classes;
    their 95% intervals refer to other coarse classes of this kind.

    Args:
        layers: A feature set, or those of several layers by name, from the first to the last, of the same samples.
        column: The attribute that names the fine classes, or several that commas separate.
        permutations: How often fine labels are permuted.
        seed: The seed of the permutations.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        FeaturesError: There is no such attribute, no coarse class has two fine classes of two samples, or the layers
            are not of the same samples.
        SettingError: There is no layer, or the number of permutations is below 1.

    >>> line = [[0.0], [0.1], [1.0], [1.1], [9.0], [9.1], [10.0], [10.1]]
    >>> breeds = ["persian", "persian", "siamese", "siamese", "pug", "pug", "beagle", "beagle"]
    >>> pets = FeatureSet.from_arrays(line, ["cat"] * 4 + ["dog"] * 4, attributes={"breed": breeds})
    >>> [layer] = fine_structure(pets, "breed").layers
    >>> layer.accuracy, round(layer.cdnv_inside, 6)
    (1.0, 0.0025)
    """
    if permutations < 1:
        raise SettingError(f"permutations is {permutations}; it must be at least 1", "give 1 or more")
    named = {"feature": layers} if isinstance(layers, FeatureSet) else dict(layers)
    if not named:
        raise SettingError("there are no layers to measure", "name at least one")
    last = list(named.values())[-1]
    plan = _Plan.of(last, column)
    found = []
    for number, (name, features) in enumerate(named.items()):
        if progress is not None:
            progress("layers", number, len(named))
        if features.ids != last.ids or features.classes != last.classes:
            raise FeaturesError(f"the layer {name!r} has other samples than the last", "give layers of the same set")
        found.append(_layer(name, features, plan, permutations, seed))
    return FineStructure(
        features=last.describe(),
        column=column,
        layers=tuple(_to_last(layer, found) for layer in found),
        permutations=permutations,
        chance=sum(1 / len(plan.fine_of(code)) for code in plan.coarse) / len(plan.coarse),
        fine_classes=sum(len(plan.fine_of(code)) for code in plan.coarse),
        left_out=tuple(name for code, name in enumerate(last.classes) if code not in plan.coarse),
        without_label=last.attribute(column).count(""),
        undefined={}
        if len(plan.coarse) >= FEWEST
        else {"intervals": f"they need {FEWEST} coarse classes; there are {len(plan.coarse)}"},
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Plan:
    """Which samples take part.

    Attributes:
        coarse: The codes of the coarse classes that take part.
        rows: The rows of each of them, by code.
        labels: The fine classes of these rows, numbered from 0 in each coarse class, by code.
    """

    coarse: tuple[int, ...]
    rows: Mapping[int, torch.Tensor]
    labels: Mapping[int, torch.Tensor]

    def fine_of(self, code: int) -> torch.Tensor:
        """The number of samples of each fine class of a coarse class, ``(J,)``."""
        return self.labels[code].bincount()

    @classmethod
    def of(cls, features: FeatureSet, column: str) -> _Plan:
        """The coarse classes with two fine classes of two samples."""
        values, rows, labels = features.attribute(column), {}, {}
        for code in range(len(features.classes)):
            own = (features.labels == code).nonzero()[:, 0]
            own = own[[values[row] != "" for row in own.tolist()]]
            fine, names = coded([values[row] for row in own.tolist()])
            counts = fine.bincount(minlength=len(names))
            kept = counts[fine] >= 2
            if int((counts >= 2).sum()) >= 2:
                rows[code] = own[kept]
                labels[code] = fine[kept].unique(return_inverse=True)[1]  # type: ignore[no-untyped-call]
        if not rows:
            raise FeaturesError(
                f"no class has two values of {column!r} with two samples each",
                "take the coarse labels as classes, for example by --label-column, and name the fine ones",
            )
        return cls(coarse=tuple(rows), rows=rows, labels=labels)


def left_out_accuracy(features: torch.Tensor, labels: torch.Tensor) -> float:
    """Leave-one-out accuracy of the nearest class centre, classes weighted equally.

    Leaving a sample out moves the centre of its own class: ``‖f − mu_c‖`` becomes ``n_c/(n_c−1) ‖f − mu_c‖``.

    Args:
        features: ``(n, d)`` float64.
        labels: ``(n,)`` codes from 0 to J − 1, each at least twice.

    >>> import torch
    >>> left_out_accuracy(torch.tensor([[0.0], [1.0], [9.0], [3.0]], dtype=torch.float64), torch.tensor([0, 0, 1, 1]))
    0.75
    """
    import torch

    counts = labels.bincount().to(features.dtype)
    one_hot = torch.nn.functional.one_hot(labels, len(counts)).to(features.dtype)
    centres = one_hot.T @ features / counts[:, None]
    squares = features.square().sum(dim=1, keepdim=True) - 2 * features @ centres.T + centres.square().sum(dim=1)
    own = squares.gather(1, labels[:, None]) * (counts / (counts - 1))[labels][:, None] ** 2
    right = (squares.scatter(1, labels[:, None], own).argmin(dim=1) == labels).to(features.dtype)
    return float((right @ one_hot / counts).mean())


def explained_share(features: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of the variance that lies between classes, adjusted so that labels at random give 0 on average.

    ``1 − (SSW / (n − J)) / (SST / (n − 1))`` with the sums of squares within classes and in total (the adjusted R² of a
    one-way analysis of variance, summed over dimensions). It is 1 if each class is one point, and can be below 0.

    Args:
        features: ``(n, d)`` float64.
        labels: ``(n,)`` codes from 0 to J − 1, with n > J.

    >>> import torch
    >>> explained_share(torch.tensor([[0.0], [0.0], [1.0], [1.0]], dtype=torch.float64), torch.tensor([0, 0, 1, 1]))
    1.0
    """
    means = _means(features, labels)
    total = float((features - features.mean(dim=0)).square().sum())
    within = float((features - means[labels]).square().sum())
    count, classes = len(labels), len(means)
    return 1 - within / (count - classes) / (total / (count - 1)) if total > 0 else 0.0


def _means(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean of each class, ``(J, d)``."""
    counts = labels.bincount()
    return features.new_zeros(len(counts), features.shape[1]).index_add_(0, labels, features) / counts[:, None]


def _layer(name: str, features: FeatureSet, plan: _Plan, permutations: int, seed: int) -> FineLayer:
    """The fine structure of one layer."""
    import numpy as np
    import torch

    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, STREAM)))
    classes, permuted = [], []
    means, variances = [], []
    for code in plan.coarse:
        own, labels = features.features[plan.rows[code]].double(), plan.labels[code]
        own = own - own.mean(dim=0)
        shorter = _shorter(own)
        draws = [
            left_out_accuracy(shorter, labels[torch.from_numpy(generator.permutation(len(labels)))])
            for _ in range(permutations)
        ]
        permuted.append(draws)
        means.append(_means(features.features[plan.rows[code]].double(), labels))
        counts = labels.bincount()
        squares = (own - _means(own, labels)[labels]).square().sum(dim=1)
        variances.append(squares.new_zeros(len(counts)).index_add_(0, labels, squares) / counts)
        classes.append((code, left_out_accuracy(shorter, labels), explained_share(own, labels)))
    cdnv = _cdnv_by_coarse(means, variances)
    fine = tuple(
        FineClass(
            name=features.classes[code],
            fine_classes=len(plan.fine_of(code)),
            samples=len(plan.labels[code]),
            accuracy=accuracy,
            chance=1 / len(plan.fine_of(code)),
            permuted=float(np.mean(draws)),
            explained=explained,
            cdnv=inside,
        )
        for (code, accuracy, explained), draws, inside in zip(classes, permuted, cdnv.diagonal().tolist(), strict=True)
    )
    rows = torch.cat([plan.rows[code] for code in plan.coarse])
    coarse = features.labels[rows].unique(return_inverse=True)[1]  # type: ignore[no-untyped-call]
    return _averaged(name, fine, np.mean(permuted, axis=0).tolist(), cdnv, features.features[rows].double(), coarse)


def _averaged(
    name: str,
    classes: tuple[FineClass, ...],
    permuted: Sequence[float],
    cdnv: torch.Tensor,
    features: torch.Tensor,
    coarse: torch.Tensor,
) -> FineLayer:
    """The averages over coarse classes.

    Args:
        name: The layer.
        classes: Each coarse class.
        permuted: The mean accuracy of each permutation.
        cdnv: Mean CDNV by pair of coarse classes, ``(K, K)``; inside classes on the diagonal.
        features: The samples that take part.
        coarse: Their coarse classes, from 0.
    """
    accuracies = [one.accuracy for one in classes]
    accuracy, accuracy_interval = _mean(accuracies)
    explained, explained_interval = _mean([one.explained for one in classes])
    inside, inside_interval = _mean([one.cdnv for one in classes], is_positive=True)
    several = len(classes) > 1
    off = cdnv.clone().fill_diagonal_(0)
    across = float(off.sum()) / (len(classes) * (len(classes) - 1)) if several else None
    reached = sum(one >= accuracy for one in permuted)
    centred = features - features.mean(dim=0)
    return FineLayer(
        name=name,
        accuracy=accuracy,
        accuracy_interval=accuracy_interval and (max(0.0, accuracy_interval[0]), min(1.0, accuracy_interval[1])),
        permuted=sum(permuted) / len(permuted),
        p_value=(1 + reached) / (1 + len(permuted)),
        explained=explained,
        explained_interval=explained_interval,
        cdnv_inside=inside,
        cdnv_inside_interval=inside_interval,
        cdnv_across=across,
        cdnv_across_interval=jackknife(off, is_positive=True) if len(classes) >= FEWEST else None,
        coarse_accuracy=left_out_accuracy(centred, coarse) if several else None,
        classes=classes,
    )


def _to_last(layer: FineLayer, layers: Sequence[FineLayer]) -> FineLayer:
    """The layer with its difference to the last, paired by coarse class."""
    if layer is layers[-1]:
        return layer
    pairs = zip(layer.classes, layers[-1].classes, strict=True)
    value, interval = _mean([one.accuracy - other.accuracy for one, other in pairs], of=len(layers) - 1)
    return replace(layer, to_last=value, to_last_interval=interval)


def _shorter(features: torch.Tensor) -> torch.Tensor:
    """Features with the same distances in at most as many dimensions as there are samples."""
    import torch

    if features.shape[0] >= features.shape[1]:
        return features
    values, vectors = torch.linalg.eigh(features @ features.T)
    shorter: torch.Tensor = vectors * values.clamp(min=0).sqrt()
    return shorter


def _cdnv_by_coarse(means: Sequence[torch.Tensor], variances: Sequence[torch.Tensor]) -> torch.Tensor:
    """The mean of ``V_ij`` over pairs of fine classes, by their coarse classes, ``(K, K)``; inside on the diagonal."""
    import torch

    sizes = [len(one) for one in means]
    centres, spread = torch.cat(list(means)), torch.cat(list(variances))
    squares = torch.cdist(centres, centres, compute_mode="donot_use_mm_for_euclid_dist").square()
    values = ((spread[:, None] + spread) / (2 * squares)).masked_fill(squares == 0, math.inf)
    values.fill_diagonal_(0)
    coarse = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    sums = values.new_zeros(len(sizes), len(sizes))
    sums.index_put_((coarse[:, None].expand_as(values), coarse.expand_as(values)), values, accumulate=True)
    count = torch.tensor(sizes, dtype=torch.float64)
    return sums / (count[:, None] * count - count.diag())


def _mean(
    values: Sequence[float], *, is_positive: bool = False, of: int = 1
) -> tuple[float, tuple[float, float] | None]:
    """The mean over coarse classes, and its 95% interval by the delete-one-class jackknife.

    The jackknife of a mean is ``± t_{K−1} s/√K``. That of the logarithm, for positive values, is not closed.

    Args:
        values: One of each coarse class.
        is_positive: Whether the interval is taken on the logarithmic scale.
        of: How many intervals hold together, by Bonferroni's inequality.
    """
    import torch

    numbers = torch.tensor(values, dtype=torch.float64)
    mean, count = float(numbers.mean()), len(numbers)
    if count < FEWEST or not math.isfinite(mean):
        return mean, None
    if is_positive and mean > 0:
        without = ((numbers.sum() - numbers) / (count - 1)).log()
        spread = math.sqrt((count - 1) / count * float((without - without.mean()).square().sum()))
        factor = math.exp(t_quantile(count - 1) * spread)
        return mean, (mean / factor, mean * factor)
    half = t_quantile(count - 1, 1 - 0.025 / of) * float(numbers.std()) / math.sqrt(count)
    return mean, (mean - half, mean + half)

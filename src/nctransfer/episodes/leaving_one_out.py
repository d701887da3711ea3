"""How well a classifier labels the support of an episode when it is fitted without the examples that it labels.

The queries of the episode are never looked at, so that what is chosen by this can be tested on them.

One example of every class is left out at a time: example k of each class is scored by the classifier that was fitted to
all examples but number k of each class. Every fit then has equally many examples of each class, as classifiers of
episodes need it, and there are as many fits as shots.

Shapes: E episodes with w classes of s support samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.episodes.classifier import ClassifierSettings
from nctransfer.episodes.inner_products import Products

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.classifier import Classifier

__all__ = ["folds", "left_out_scores", "squared_residuals"]

BATCH_BYTES = 32 * 2**20  # inner products of the folds of some episodes, at a time


def left_out_scores(classifier: Classifier, products: Products, settings: ClassifierSettings) -> torch.Tensor:
    """The score of each support sample and class without this sample and its fellows, ``(E, w, s, w)`` float64.

    A classifier whose registry entry has a closed form is not fitted again.

    Args:
        classifier: The classifier, s ≥ 2.
        products: The inner products of E episodes.
        settings: What the task says.

    Raises:
        SettingError: The classifier cannot be fitted with one shot less.
    """
    import torch

    ways, shots = products.ways, products.shots
    if classifier.left_out is not None:
        known = classifier.left_out(products, **classifier.options(settings))
        if known is not None:
            return known.double()
    size = products.support.shape[1]
    step = max(1, BATCH_BYTES // (8 * shots * size * size))
    found = []
    for start in range(0, len(products.support), step):
        part = folds(products, slice(start, start + step))
        scores = classifier.scores(part, settings).double()  # (e s, w, w)
        found.append(scores.reshape(-1, shots, ways, ways).transpose(1, 2))
    return torch.cat(found)


def folds(products: Products, episodes: slice = slice(None)) -> Products:
    """Each episode s times: without example number k of each class, which are the queries in its place.

    Args:
        products: The inner products of E episodes, s ≥ 2.
        episodes: Some of the episodes.

    Returns:
        The inner products of ``E · s`` episodes of ``s − 1`` shots with one query per class.

    >>> import torch
    >>> x = torch.tensor([[[0.0], [1.0], [5.0], [7.0]]])  # one episode, 2-way 2-shot
    >>> part = folds(Products.of(x, x, 2))
    >>> part.support.shape, part.shots, part.squares.tolist()
    (torch.Size([2, 2, 2]), 1, [[0.0, 25.0], [1.0, 49.0]])
    """
    import torch

    ways, shots = products.ways, products.shots
    number = torch.arange(ways * shots, device=products.support.device).view(ways, shots)
    kept = torch.stack([number[:, [j for j in range(shots) if j != k]].flatten() for k in range(shots)])  # (s, N')
    out = number.T  # (s, w)
    support = products.support[episodes]
    rows = support[:, kept[:, :, None], kept[:, None]]  # (E, s, N', N')
    cross = support[:, kept[:, :, None], out[:, None]]  # (E, s, N', w)
    squares = support.diagonal(dim1=1, dim2=2)[:, out]
    point = products.with_point
    if point is not None:
        of_support = point[0][episodes]
        point = (of_support[:, kept].flatten(0, 1), of_support[:, out].flatten(0, 1), point[2])
    return Products(
        support=rows.flatten(0, 1),
        cross=cross.flatten(0, 1).mT,
        ways=ways,
        squares=squares.flatten(0, 1),
        with_point=point,
        factor=products.factor,
    )


def squared_residuals(scores: torch.Tensor) -> torch.Tensor:
    """How far the scores of each left-out example are from its one-hot label, ``(E, N)``.

    ``‖a s − y‖²`` with s the scores minus their mean over classes, y the one-hot label minus 1/w, and a ≥ 0 the one
    factor of the episode that makes their sum least. So it does not depend on the scale of scores, and layers of
    features of any size compare. It tells far more apart than the number of right labels, of which a small support has
    few values. A score that says nothing has ``1 − 1/w``.

    Args:
        scores: ``(E, w, s, w)``, see :func:`left_out_scores`.

    >>> import torch
    >>> perfect = torch.eye(2).double()[None, :, None]  # one episode, 2-way 1-shot
    >>> squared_residuals(torch.cat([perfect, 9 * perfect, -perfect])).tolist()
    [[0.0, 0.0], [0.0, 0.0], [0.5, 0.5]]
    """
    import torch

    ways, shots = scores.shape[1:3]
    labels = torch.eye(ways, dtype=scores.dtype, device=scores.device)[:, None].expand(-1, shots, -1) - 1 / ways
    centred = scores - scores.mean(dim=3, keepdim=True)
    centred = centred / centred.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)
    squares = centred.square().sum(dim=(1, 2, 3))
    factor = (centred * labels).sum(dim=(1, 2, 3)).clamp(min=0) / squares.where(squares > 0, 1)
    return (factor[:, None, None, None] * centred - labels).square().sum(dim=3).flatten(1)

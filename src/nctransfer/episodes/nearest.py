"""Classifiers by distance: nearest class centre, cosine, SimpleShot, nearest neighbour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from nctransfer.episodes.classifier import Classifier, ClassifierSettings, ExpectedForm
from nctransfer.episodes.inner_products import Products

if TYPE_CHECKING:
    import torch

__all__ = ["COSINE", "KNN", "NCC", "SIMPLESHOT", "cosine", "knn", "ncc", "simpleshot"]


def ncc(products: Products) -> torch.Tensor:
    """Nearest class centre: ``⟨f, m_c⟩ − ‖m_c‖²/2``, which ranks classes as ``−‖f − m_c‖²`` does.

    m_c is the mean of the support of class c.

    Args:
        products: The inner products of E episodes.

    Returns:
        The score of each query and class, ``(E, Q, w)``.

    >>> import torch
    >>> x, f = torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[0.4], [1.6]]])  # one episode, 2-way 1-shot
    >>> ncc(Products.of(x, f, 2)).argmax(dim=2).tolist()
    [[0, 1]]
    """
    cross, squares = _centres(products)
    return cross - squares[:, None] / 2


def _centres(products: Products) -> tuple[torch.Tensor, torch.Tensor]:
    """The inner products of queries with class centres ``(E, Q, w)``, and the centres' squared lengths ``(E, w)``."""
    ways, shots = products.ways, products.shots
    if shots == 1:
        return products.cross, products.support.diagonal(dim1=1, dim2=2)
    blocks = products.support.view(-1, ways, shots, ways, shots)
    squares = blocks.diagonal(dim1=1, dim2=3).mean(dim=(1, 2))
    return products.cross.mT.reshape(-1, ways, shots, products.cross.shape[1]).mean(dim=2).mT, squares


def _ncc_left_out(products: Products) -> torch.Tensor:
    """The scores of the support by :func:`ncc` without sample number k of each class, for each k, ``(E, w, s, w)``.

    The centre of a class without its sample x is ``(s m − x)/(s − 1)``.
    """
    ways, shots = products.ways, products.shots
    inner = products.support.double().view(-1, ways, shots, ways, shots)
    sums = inner.sum(dim=4)  # (E, w, s, w): of each sample with the sum of each class
    own = sums.diagonal(dim1=1, dim2=3).mT  # (E, w, s): with the sum of its own class
    lengths = inner.diagonal(dim1=1, dim2=3).diagonal(dim1=1, dim2=2)  # (E, w, s)
    cross = (sums - inner.diagonal(dim1=2, dim2=4).permute(0, 1, 3, 2)) / (shots - 1)
    squares = (own.sum(dim=2, keepdim=True) - 2 * own + lengths) / (shots - 1) ** 2  # of centre c without sample k
    return cross - squares.permute(0, 2, 1)[:, None] / 2


def cosine(products: Products) -> torch.Tensor:
    """Nearest class centre by cosine: ``⟨f, m_c⟩ / ‖m_c‖``, which ranks classes as the cosine of f and m_c does.

    m_c is the mean of the support of class c, as the features are: nothing is subtracted.

    Args:
        products: The inner products of E episodes.

    Returns:
        The score of each query and class, ``(E, Q, w)``.

    >>> import torch
    >>> x, f = torch.tensor([[[1.0, 0.0], [9.0, 9.0]]]), torch.tensor([[[8.0, 1.0], [0.1, 0.1]]])
    >>> cosine(Products.of(x, f, 2)).argmax(dim=2).tolist()
    [[0, 1]]
    """
    cross, squares = _centres(products.about_origin)
    lengths = squares.clamp(min=0).sqrt()
    return cross / lengths.where(lengths > 0, 1)[:, None]


def simpleshot(products: Products, about: Literal["mean", "origin"] = "mean") -> torch.Tensor:
    """SimpleShot, CL2N: subtract a reference mean, scale to unit length, then nearest class centre.

    Wang et al. 2019 (1911.04623).

    Args:
        products: The inner products of E episodes.
        about: ``mean`` subtracts the mean of the support; ``origin`` subtracts nothing, for features from which a
            reference mean has been subtracted already.

    Returns:
        The score of each query and class, ``(E, Q, w)``.

    >>> import torch
    >>> x, f = torch.tensor([[[1.0, 0.0], [9.0, 9.0]]]), torch.tensor([[[4.0, 0.0], [5.0, 6.0]]])
    >>> simpleshot(Products.of(x, f, 2)).argmax(dim=2).tolist()
    [[0, 1]]
    """
    centred = products.about_mean if about == "mean" else products.about_origin
    return ncc(centred.scaled())


def knn(products: Products) -> torch.Tensor:
    """The nearest neighbour by Euclidean distance: the score of a class is that of its nearest support sample.

    Args:
        products: The inner products of E episodes.

    Returns:
        The score of each query and class, ``(E, Q, w)``.

    >>> import torch
    >>> x, f = torch.tensor([[[0.0], [9.0], [3.0], [3.0]]]), torch.tensor([[[8.0], [2.0]]])  # 2-way 2-shot
    >>> knn(Products.of(x, f, 2)).argmax(dim=2).tolist()
    [[0, 1]]
    """
    scores = products.cross - products.support.diagonal(dim1=1, dim2=2)[:, None] / 2
    return scores.mT.reshape(-1, products.ways, products.shots, scores.shape[1]).amax(dim=2).mT


def _euclidean(centres: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``⟨f, m⟩ − ‖m‖²/2``, which ranks classes as ``−‖f − m‖²`` does."""
    return centres, centres.square().sum(dim=1) / 2


def _by_cosine(centres: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``⟨f, m/‖m‖⟩``; a centre of length zero stays."""
    lengths = centres.square().sum(dim=1).sqrt()
    return centres / lengths.where(lengths > 0, 1)[:, None], 0 * lengths


def _euclidean_from_products(products: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
    return products - squares / 2


def _cosine_from_products(products: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
    lengths = squares.clamp(min=0).sqrt()
    return products / lengths.where(lengths > 0, 1)


def _simpleshot_options(settings: ClassifierSettings) -> Mapping[str, Any]:
    return {"about": "origin" if settings.has_reference_mean else "mean"}


NCC = Classifier(
    name="ncc",
    function=ncc,
    meaning="nearest class centre",
    expected=ExpectedForm(linear=_euclidean, from_products=_euclidean_from_products),
    has_theory=True,
    by_centres=True,
    left_out=_ncc_left_out,
)
COSINE = Classifier(
    name="cosine",
    function=cosine,
    meaning="nearest class centre by cosine",
    expected=ExpectedForm(linear=_by_cosine, is_translation_invariant=False, from_products=_cosine_from_products),
    by_centres=True,
)
SIMPLESHOT = Classifier(
    name="simpleshot",
    function=simpleshot,
    meaning="nearest class centre after subtracting a reference mean and scaling to unit length",
    options=_simpleshot_options,
    expected=ExpectedForm(
        linear=_euclidean,
        scales_features=True,
        needs_reference_mean=True,
        from_products=_euclidean_from_products,
    ),
)
KNN = Classifier(name="knn", function=knn, meaning="nearest support sample")

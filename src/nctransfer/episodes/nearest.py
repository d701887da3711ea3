"""Classifiers by distance: nearest class centre, cosine, SimpleShot, nearest neighbour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from nctransfer.episodes.inner_products import Products

if TYPE_CHECKING:
    import torch

__all__ = ["cosine", "knn", "ncc", "simpleshot"]


def ncc(products: Products) -> torch.Tensor:
    """Nearest class centre: ``−‖f − m_c‖²/2`` up to a constant of the query, m_c the mean of the support of class c.

    >>> import torch
    >>> x, f = torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[0.4], [1.6]]])  # one episode, 2-way 1-shot
    >>> ncc(Products.of(x, f, 2)).argmax(dim=2).tolist()
    [[0, 1]]
    """
    cross, squares = _centres(products)
    return cross - squares[:, None] / 2


def _centres(products: Products) -> tuple[torch.Tensor, torch.Tensor]:
    """Inner products of queries with class centres ``(E, Q, w)``, and squared lengths of these ``(E, w)``."""
    ways, shots = products.ways, products.shots
    if shots == 1:
        return products.cross, products.support.diagonal(dim1=1, dim2=2)
    blocks = products.support.view(-1, ways, shots, ways, shots)
    squares = blocks.diagonal(dim1=1, dim2=3).mean(dim=(1, 2))
    return products.cross.view(*products.cross.shape[:2], ways, shots).mean(dim=3), squares


def cosine(products: Products) -> torch.Tensor:
    """Nearest class centre by cosine: ``⟨f, m_c⟩ / ‖m_c‖``, up to the length of the query; m_c the mean as it is.

    >>> import torch
    >>> x, f = torch.tensor([[[1.0, 0.0], [9.0, 9.0]]]), torch.tensor([[[8.0, 1.0], [0.1, 0.1]]])
    >>> cosine(Products.of(x, f, 2)).argmax(dim=2).tolist()
    [[0, 1]]
    """
    cross, squares = _centres(products.about_origin)
    lengths = squares.clamp(min=0).sqrt()
    return cross / lengths.where(lengths > 0, 1)[:, None]


def simpleshot(products: Products, about: Literal["mean", "origin"] = "mean") -> torch.Tensor:
    """CL2N: subtract a reference mean, scale to unit length, nearest class centre (Wang et al. 2019, 1911.04623).

    Args:
        products: Inner products.
        about: The reference mean: that of the support, or the origin, where features are centred already.

    >>> import torch
    >>> x, f = torch.tensor([[[1.0, 0.0], [9.0, 9.0]]]), torch.tensor([[[4.0, 0.0], [5.0, 6.0]]])
    >>> simpleshot(Products.of(x, f, 2)).argmax(dim=2).tolist()
    [[0, 1]]
    """
    centred = products.about_mean if about == "mean" else products.about_origin
    return ncc(centred.scaled())


def knn(products: Products) -> torch.Tensor:
    """The nearest neighbour, Euclidean: of each class the nearest support sample counts.

    >>> import torch
    >>> x, f = torch.tensor([[[0.0], [9.0], [3.0], [3.0]]]), torch.tensor([[[8.0], [2.0]]])  # 2-way 2-shot
    >>> knn(Products.of(x, f, 2)).argmax(dim=2).tolist()
    [[0, 1]]
    """
    scores = products.cross - products.support.diagonal(dim1=1, dim2=2)[:, None] / 2
    return scores.view(*scores.shape[:2], products.ways, products.shots).amax(dim=3)

"""Soft k-means: class centres and class proportions are estimated from the support and all queries together.

Shapes: E episodes with w classes, N support samples (class by class) and Q queries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.episodes.classifier import Classifier
from nctransfer.episodes.inner_products import Products, one_hot

if TYPE_CHECKING:
    import torch

__all__ = ["DIMENSIONS", "PSEUDO_QUERIES", "SOFT_KMEANS", "STEPS", "soft_kmeans"]

DIMENSIONS, PSEUDO_QUERIES = 40.0, 4.0  # chosen by tests/benchmarks/soft_kmeans.py; docs/query-priors.md has its table
STEPS = 10  # of 12 cells on three data sets, twice as many changed one by 0.8 points, and the others by 0.4 at most
EPISODES = 64  # at a time, so that their inner products stay in the cache of the processor


def soft_kmeans(
    products: Products, dimensions: float = DIMENSIONS, pseudo_queries: float = PSEUDO_QUERIES, steps: int = STEPS
) -> torch.Tensor:
    """Soft k-means with the support as labelled samples, and with estimated class proportions.

    A Gaussian mixture with one component per class is fitted to all samples of an episode by expectation maximisation,
    where support samples belong to their class for certain (Ren et al., ICLR 2018, take one step of it, with equal
    proportions). Query q belongs to class c with the share

        ``r_qc ∝ π_c exp(−D ‖f_q − m_c‖² / (2 s²))``,

    m_c the mean of the support of class c and of the queries, weighted by these shares; s² the mean over queries of
    ``Σ_c r_qc ‖f_q − m_c‖²``; and ``π_c = (Σ_q r_qc + a) / (Q + w a)``. That is maximum likelihood if samples vary
    equally in D dimensions about their class centre. D is a constant, since D could not be estimated from one episode,
    and the width of the features is far larger than the number of dimensions in which they vary. The proportions are
    free but for a queries that are added to each class, so that no class vanishes: nothing says that queries are
    balanced. The first step has the centres of the support, equal proportions, and as s² the mean squared distance to
    the nearest centre. Multiplying all features by a constant, or adding a vector to all, changes no answer.

    Args:
        products: The inner products of E episodes.
        dimensions: D > 0.
        pseudo_queries: a > 0; infinite for equal proportions.
        steps: How often centres, s² and proportions are estimated anew.

    Returns:
        The logarithm of the share of each query and class, but for a number that the classes share, ``(E, Q, w)``,
        float64.

    >>> import torch
    >>> x, f = torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[0.9], [1.6], [1.2], [1.4], [1.5]]])
    >>> soft_kmeans(Products.of(x, f, 2)).argmax(dim=2).tolist()
    [[0, 1, 1, 1, 1]]
    """
    import torch

    gram = torch.cat(
        [
            torch.cat([products.support, products.cross.mT], dim=2),
            torch.cat([products.cross, products.queries], dim=2),
        ],
        dim=1,
    )
    counted = torch.ones_like(products.squares) if products.is_query is None else products.is_query.to(gram.dtype)
    labels = one_hot(products).mT.to(gram.dtype)
    parts = (slice(start, start + EPISODES) for start in range(0, len(gram), EPISODES))
    return torch.cat(
        [_scores(gram[here], labels, counted[here], dimensions, pseudo_queries, steps) for here in parts]
    ).double()


def _scores(
    gram: torch.Tensor, labels: torch.Tensor, counted: torch.Tensor, dimensions: float, pseudo: float, steps: int
) -> torch.Tensor:
    """The scores of some episodes. Classes come before queries here, which is several times faster.

    Args:
        gram: The inner products of support and queries, ``(E, N + Q, N + Q)``.
        labels: The one-hot labels of the support, ``(w, N)``.
        counted: 1 for queries and 0 for padding, ``(E, Q)``.
        dimensions: D.
        pseudo: a.
        steps: How often to estimate.
    """
    import torch

    ways, size = labels.shape
    number, counted = counted.sum(dim=1), counted[:, None]  # (E,), (E, 1, Q)
    squares = gram.diagonal(dim1=1, dim2=2)[:, None, size:]
    labels = labels.expand(len(gram), -1, -1)
    shares = torch.zeros_like(squares).repeat(1, ways, 1)  # r, (E, w, Q)
    log_proportions = shares[:, :, :1]
    for step in range(steps + 1):
        weights = torch.cat([labels, shares], dim=2)
        weights = weights / weights.sum(dim=2, keepdim=True)
        products = weights @ gram  # (E, w, N + Q), of every centre with every sample
        lengths = (weights * products).sum(dim=2, keepdim=True)
        distances = (squares - 2 * products[:, :, size:] + lengths).clamp(min=0)
        spread = (shares * distances).sum(dim=1) if step else (distances.amin(dim=1) * counted[:, 0])
        spread = spread.sum(dim=1) / number  # s²
        scale = dimensions / 2 / spread.where(spread > 0, 1)
        scores = log_proportions - scale[:, None, None] * distances
        shares = scores.softmax(dim=1) * counted
        if pseudo < float("inf"):
            log_proportions = (shares.sum(dim=2, keepdim=True) + pseudo).log()
    return scores.mT


SOFT_KMEANS = Classifier(
    name="soft-kmeans",
    function=soft_kmeans,
    meaning="soft k-means over support and queries, transductive",
    is_transductive=True,
)

"""K-means from distances alone, for many small sets of points at once, and with some of the points left out.

Shapes: B sets of s points, G choices of the points that take part, k means each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["STEPS", "first_of", "first_points", "half_spread", "means_of"]

TIE = 1e-5  # what is closer to the best than this is as good: two neighbours often lower the sum by the same
STEPS = 20  # of Lloyd's algorithm at most; few points need fewer than ten


def first_points(distances: torch.Tensor, most: int) -> torch.Tensor:
    """The points at which k-means starts: for k means the first k of these.

    The first is the point with the smallest sum of squared distances to all others, the medoid. Each further one is the
    point that lowers the sum of squared distances to the nearest start the most; of equal ones it is the first. This is
    the first phase (BUILD) of partitioning around medoids (Kaufman and Rousseeuw 1990). It draws nothing at random, and
    an outlier is chosen only if it pays, which the farthest point does not ask.

    Args:
        distances: The squared distances of the points, ``(B, s, s)``.
        most: The number of starts, at most s.

    Returns:
        The places of the points, ``(B, most)``.

    >>> import torch
    >>> x = torch.tensor([0.0, 1.0, 2.0, 10.0, 11.0])
    >>> first_points((x[:, None] - x)[None].square(), 2).tolist()
    [[2, 3]]
    """
    import torch

    size = distances.shape[1]
    sums = distances.sum(dim=2)
    found = [(sums <= (1 + TIE) * sums.amin(dim=1, keepdim=True)).int().argmax(dim=1)]
    nearest = distances.gather(1, found[0][:, None, None].expand(-1, 1, size))[:, 0]
    for _ in range(most - 1):
        gains = (nearest[:, None] - distances).clamp_(min=0).sum(dim=2)
        found.append((gains >= (1 - TIE) * gains.amax(dim=1, keepdim=True)).int().argmax(dim=1))
        nearest = torch.minimum(nearest, distances.gather(1, found[-1][:, None, None].expand(-1, 1, size))[:, 0])
    return torch.stack(found, dim=1)


def first_of(distances: torch.Tensor, included: torch.Tensor, most: int) -> torch.Tensor:
    """Where k-means starts if only some of the points take part.

    Args:
        distances: The squared distances of the points, ``(B, s, s)``.
        included: Which points take part, ``(G, s)`` bool.
        most: The number of starts.

    Returns:
        The places of the points, ``(B, G, most)``.

    >>> import torch
    >>> x = torch.tensor([0.0, 1.0, 2.0, 10.0, 11.0])
    >>> first_of((x[:, None] - x)[None].square(), x[None] != 2, 2).tolist()
    [[[1, 3]]]
    """
    import torch

    found = []
    for is_in in included:
        places = is_in.nonzero()[:, 0]
        found.append(places[first_points(distances[:, places][:, :, places], most)])
    return torch.stack(found, dim=1)


def means_of(distances: torch.Tensor, included: torch.Tensor, starts: torch.Tensor, steps: int = STEPS) -> torch.Tensor:
    """Lloyd's algorithm from given starts: what each point weighs in each mean.

    A mean that loses all of its points is dropped: it has no weights, and no point is assigned to it again.

    Args:
        distances: The squared distances of the points, ``(B, s, s)``.
        included: Which points take part, ``(G, s)`` bool.
        starts: The places of the points at which the means start, ``(B, G, k)``.
        steps: How often points are assigned to means, at most.

    Returns:
        The weights ``(B, s, G, k)``: for the points of a mean, one over their number; for all others zero. Those of a
        mean sum to 1, or to 0 if it is dropped.

    >>> import torch
    >>> x = torch.tensor([0.0, 1.0, 2.0, 10.0, 11.0])
    >>> distances = (x[:, None] - x)[None].square()
    >>> everything = torch.ones(1, 5, dtype=torch.bool)
    >>> weights = means_of(distances, everything, first_points(distances, 2)[:, None])
    >>> (x @ weights[0, :, 0]).tolist()
    [1.0, 10.5]
    """
    import torch

    sets, size = distances.shape[:2]
    choices, number = starts.shape[1:]
    takes_part = included.T[:, :, None]  # (s, G, 1)
    places = starts.reshape(sets, 1, choices * number).expand(-1, size, -1)
    labels = distances.gather(2, places).view(sets, size, choices, number).argmin(dim=3)
    every = torch.arange(number, device=distances.device)
    for _ in range(steps):
        weights = ((labels[..., None] == every) & takes_part).to(distances.dtype)
        counts = weights.sum(dim=1, keepdim=True)
        weights /= counts.clamp(min=1)
        products = (distances @ weights.view(sets, size, -1)).view(weights.shape)
        to_means = products - (weights * products).sum(dim=1, keepdim=True) / 2
        nearest = to_means.masked_fill_(counts == 0, torch.inf).argmin(dim=3)
        if not bool(((nearest != labels) & takes_part[..., 0]).any()):
            break
        labels = nearest
    return weights


def half_spread(distances: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The mean squared distance of the points of each mean from it, ``½ Σ a_i a_j d_ij²``, ``(B, G, k)``.

    Args:
        distances: The squared distances of the points, ``(B, s, s)``.
        weights: From :func:`means_of`.

    >>> import torch
    >>> distances = torch.tensor([[[0.0, 16.0], [16.0, 0.0]]])  # two points, 2 from their mean
    >>> half_spread(distances, torch.full((1, 2, 1, 1), 0.5)).item()
    4.0
    """
    products = (distances @ weights.flatten(2)).view(weights.shape)
    return (weights * products).sum(dim=1) / 2

"""The exact expected accuracy at one shot: every sample is the support of its class, and every other one a query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nctransfer.evaluation.win_probability import mean_wins

if TYPE_CHECKING:
    import torch

    from nctransfer.evaluation.centre_scores import CentreScores

__all__ = ["EXACT", "one_shot_accuracy"]

EXACT = 10_000  # samples, up to which one shot is computed exactly
ENTRIES = 2**23  # of a query, a centre of its own class, and another class, at a time
MANY_TIES = 64  # one in so many scores: then ties are counted by a second search
TOGETHER = 2**14  # queries with centres of their own class, at least, that the recursion over classes takes at a time


def one_shot_accuracy(scores: CentreScores, sizes: Sequence[int], degrees: Sequence[int]) -> torch.Tensor:
    """The mean accuracy over all one-shot episodes.

    Cost: n² inner products; for each query, class by class, a sort of the scores and a search for each own one; and the
    recursion for each query and own centre.

    Args:
        scores: The scores of samples.
        sizes: The number of samples of each of C classes, whose rows follow each other.
        degrees: One less than each number of ways, k of them.

    Returns:
        ``(k,)`` float64.
    """
    import torch

    wins = torch.zeros(len(degrees), len(sizes), dtype=torch.float64)
    waiting: list[tuple[torch.Tensor, torch.Tensor, int]] = []
    for found in _chances(scores, sizes):
        waiting.append(found)
        if sum(chances.shape[1] for chances, _, _ in waiting) >= TOGETHER:
            _add(wins, waiting, degrees)
            waiting = []
    if waiting:
        _add(wins, waiting, degrees)
    pairs = torch.tensor([size * (size - 1) for size in sizes], dtype=torch.float64)
    return (wins / pairs).mean(dim=1)


def _add(wins: torch.Tensor, found: Sequence[tuple[torch.Tensor, torch.Tensor, int]], degrees: Sequence[int]) -> None:
    """Add the wins of some queries with some own centres to those of their class, ``(k, C)``."""
    import torch

    chances = torch.cat([one for one, _, _ in found], dim=1)
    ties = torch.cat([one for _, one, _ in found], dim=1)
    own = torch.cat([torch.full((one.shape[1],), code) for one, _, code in found])
    won = mean_wins(chances, degrees, ties if bool(ties.any()) else None)
    wins.index_add_(1, own, won.cpu().double())


def _chances(scores: CentreScores, sizes: Sequence[int]) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
    """The chances to win and to tie with each other class, ``(C − 1, b)``, and the class of the b queries."""
    import numpy as np
    import torch

    starts = np.cumsum(sizes) - sizes
    squares = scores.rows.square().sum(dim=1)
    same = {size: np.flatnonzero(np.equal(sizes, size)).tolist() for size in np.unique(sizes).tolist()}
    columns = {
        size: torch.cat([torch.arange(starts[one], starts[one] + size) for one in classes])
        for size, classes in same.items()
    }
    for own, (start, size) in enumerate(zip(starts.tolist(), sizes, strict=True)):
        step = max(1, ENTRIES // max(sum(sizes), size * len(sizes)))
        for first in range(start, start + size, step):
            some = slice(first, min(first + step, start + size))
            found = scores.of_samples(some, squares)
            places = torch.arange(some.start, some.stop)
            found[places - some.start, places] = -torch.inf  # no query is its own support
            mine = _sorted(found[:, start : start + size])[:, 1:]
            parts = []
            for width, classes in same.items():
                others = found if len(same) == 1 else found[:, columns[width].to(found.device)]
                kept = [place for place, one in enumerate(classes) if one != own]
                parts.append(_against(mine, others.view(len(found), -1, width)[:, kept]))
            chances, ties = (torch.cat(part) for part in zip(*parts, strict=True))
            yield chances, ties, own


def _against(mine: torch.Tensor, others: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The share of the scores of each other class that are below own ones, and the share that equal them.

    Args:
        mine: Of q queries the scores of t own centres, ``(q, t)``.
        others: The scores of s centres of g other classes, ``(q, g, s)``.

    Returns:
        ``(g, q · t)`` each.
    """
    import torch

    others = _sorted(others)
    each = mine[:, None].expand(-1, others.shape[1], -1).contiguous()
    below = torch.searchsorted(others, each)
    is_tied = others.gather(2, below.clamp(max=others.shape[2] - 1)) == each
    equal = torch.zeros_like(below)
    tied = is_tied.nonzero(as_tuple=True)
    if len(tied[0]) * MANY_TIES > below.numel():
        equal = torch.searchsorted(others, each, right=True) - below
    else:
        equal[tied] = (others[tied[:2]] == each[tied][:, None]).sum(dim=1)
    below, equal = (part.to(mine.dtype).div_(others.shape[2]).transpose(0, 1).flatten(1) for part in (below, equal))
    return below, equal


def _sorted(scores: torch.Tensor) -> torch.Tensor:
    """The scores, ascending along the last dimension. NumPy sorts short rows on the CPU several times faster."""
    import numpy as np
    import torch

    if scores.device.type != "cpu":
        return scores.sort(dim=-1).values
    return torch.from_numpy(np.sort(scores.numpy(), axis=-1))

"""How mean accuracies of several feature sets on the same episodes vary, over one population.

Each estimate is a mean over E episodes. Its variance has two parts: that of the draw of episodes, and that of the draw
of images or classes, which a jackknife estimates. The jackknife also sees the draw of episodes, and that is taken off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.episodes.leaving_out import TENTHS
from nctransfer.errors import EpisodeError
from nctransfer.intervals import Z, t_quantile

if TYPE_CHECKING:
    import torch

    from nctransfer.evaluation.fewshot_results import FewShotResult, RowKey
    from nctransfer.intervals import Interval

__all__ = ["Spread", "spread_of"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Spread:
    """The variances and covariances of K estimates, and how many degrees of freedom they have.

    Each attribute holds vectors as rows; the covariance that they stand for is the sum of their outer products. The
    variance of any difference of estimates is ``max(jackknife − noise, 0) + draw``.

    Attributes:
        jackknife: What leaving out images or classes changes, ``(R, K)``.
        noise: What of that is only the draw of episodes, ``(N, K)``.
        draw: The draw of episodes, ``(E, K)``.
        degrees: The degrees of freedom of the variance.
    """

    jackknife: torch.Tensor
    noise: torch.Tensor
    draw: torch.Tensor
    degrees: float

    def errors(self) -> torch.Tensor:
        """The standard errors of the estimates, ``(K,)``."""
        jackknife, noise, draw = (part.square().sum(dim=0) for part in (self.jackknife, self.noise, self.draw))
        return ((jackknife - noise).clamp(min=0) + draw).sqrt()

    def half_widths(self) -> torch.Tensor:
        """Half the widths of the 95% intervals of the estimates, each for itself, ``(K,)``."""
        return self.errors() * (Z if math.isinf(self.degrees) else t_quantile(self.degrees))

    def errors_of_differences(self) -> torch.Tensor:
        """The standard errors of all differences of two estimates, ``(K, K)``. Equal estimates have exactly 0."""
        jackknife, noise, draw = (_differences(part) for part in (self.jackknife, self.noise, self.draw))
        return ((jackknife - noise).clamp(min=0) + draw).sqrt()


def _differences(vectors: torch.Tensor) -> torch.Tensor:
    """The squared lengths of the differences of all pairs of columns, ``(K, K)``; exactly 0 for equal columns."""
    import torch

    return torch.stack([(vectors - column[:, None]).square().sum(dim=0) for column in vectors.T])


def spread_of(results: Sequence[FewShotResult], key: RowKey, interval: Interval) -> Spread:
    """The spread of the mean accuracies of one task over a population.

    - ``episodes``: the draw of episodes only, which shrinks with their number whatever the data.
    - ``disjoint``, and ``samples`` of such episodes: the same over episodes that share no image; t distribution with
      E − 1 degrees of freedom.
    - ``classes``: delete-one-class jackknife, ``(C−1)/C Σ(θ₍₋c₎ − θ̄)²`` with ``θ₍₋c₎`` the mean over the episodes
      without class c, each with probability ``1 − w/C``. Of that, ``w (C−1)/(C−w)`` times the variance of the draw of E
      episodes is noise.
    - ``samples``: jackknife that leaves out a tenth of the images of each class at a time, see
      :func:`~nctransfer.episodes.leaving_out.without`: ``9/10 Σ(θ₍₋g₎ − θ̄)²``.

    Args:
        results: K results on the same images, drawn with the same seed.
        key: Ways, shots and classifier.
        interval: The population, see :data:`~nctransfer.intervals.INTERVALS`.

    Raises:
        EpisodeError: There is no interval over this population; the message is the reason.
    """
    import torch

    first, ways = results[0], key[0]
    is_jackknife = interval in ("samples", "classes") and first.task.interval != "disjoint"
    if is_jackknife and (reason := first.impossible.get((ways, interval))):
        raise EpisodeError(reason)
    vectors_of = (_over_classes if interval == "classes" else _over_tenths) if is_jackknife else _over_episodes
    # each result by itself, so that equal results have equal vectors to the last digit
    jackknife, noise, draw = zip(*(vectors_of(one, key) for one in results), strict=True)
    draws = len(draw[0])
    return Spread(
        jackknife=torch.stack(jackknife, dim=1),
        noise=torch.stack(noise, dim=1),
        draw=torch.stack(draw, dim=1),
        degrees=len(jackknife[0]) - 1 if is_jackknife else math.inf if interval == "episodes" else draws - 1,
    )


Vectors = tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]  # of one estimate: jackknife, noise, draw


def _over_episodes(result: FewShotResult, key: RowKey) -> Vectors:
    values = result.accuracies[key]
    draw = (values - values.mean()) / math.sqrt(len(values) * (len(values) - 1))
    return draw[:0], draw[:0], draw


def _over_classes(result: FewShotResult, key: RowKey) -> Vectors:
    values, classes, count, ways = result.accuracies[key], result.drawn[key[0]], len(result.classes), key[0]
    with_class = classes.flatten().bincount(minlength=count)
    if bool((with_class == len(values)).any()):
        raise EpisodeError(
            f"a class is in all of {len(values):,} episodes: too few for an interval over the draw of classes"
        )
    of_class = values.new_zeros(count).index_add_(0, classes.flatten(), values.repeat_interleave(ways))
    without = (values.sum() - of_class) / (len(values) - with_class)
    *_, draw = _over_episodes(result, key)
    noise = draw * math.sqrt(ways * (count - 1) / (count - ways))
    return (without - without.mean()) * math.sqrt((count - 1) / count), noise, draw


def _over_tenths(result: FewShotResult, key: RowKey) -> Vectors:
    left_out = result.left_out[key]  # (10, E′)
    changes = (left_out - left_out.mean(dim=0)) * math.sqrt((TENTHS - 1) / TENTHS)
    means, episodes = changes.mean(dim=1), changes.shape[1]
    noise = (changes - means[:, None]).flatten() / math.sqrt(episodes * (episodes - 1))
    *_, draw = _over_episodes(result, key)
    return means, noise, draw

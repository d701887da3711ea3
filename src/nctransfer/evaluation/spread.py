"""How mean accuracies of several feature sets on the same episodes vary, over one population.

Each estimate is a mean over E episodes, and varies with the images or classes at hand, which a jackknife estimates, and
with the draw of episodes.
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

FEWEST_DISJOINT = 10  # episodes; a few may agree by chance


@dataclass(frozen=True, kw_only=True, eq=False)
class Spread:
    """The covariance of K estimates, ``vectorsᵀ vectors``, and how many degrees of freedom it has.

    Attributes:
        vectors: What leaving out images or classes changes, scaled, and the draw of episodes, ``(N, K)``.
        degrees: The degrees of freedom.
    """

    vectors: torch.Tensor
    degrees: float

    def errors(self) -> torch.Tensor:
        """The standard errors of the estimates, ``(K,)``."""
        return self.vectors.square().sum(dim=0).sqrt()

    def half_widths(self) -> torch.Tensor:
        """Half the widths of the 95% intervals of the estimates, each for itself, ``(K,)``."""
        return self.errors() * (Z if math.isinf(self.degrees) else t_quantile(self.degrees))

    def errors_of_differences(self) -> torch.Tensor:
        """The standard errors of all differences of two estimates, ``(K, K)``. Equal estimates have exactly 0."""
        import torch

        columns = self.vectors.T
        return torch.stack([(self.vectors - column[:, None]).square().sum(dim=0).sqrt() for column in columns])


def spread_of(results: Sequence[FewShotResult], key: RowKey, interval: Interval) -> Spread:
    """The spread of the mean accuracies of one task over a population.

    - ``episodes``: the draw of episodes only, which shrinks with their number whatever the data.
    - ``disjoint``, and ``samples`` of such episodes: the same over episodes that share no image; t distribution with
      E − 1 degrees of freedom.
    - ``classes``: delete-one-class jackknife, ``(C−1)/C Σ(θ₍₋c₎ − θ̄)²`` with ``θ₍₋c₎`` the mean over the episodes
      without class c. The draw of episodes is in it, ``w (C−1)/(C−w)`` times.
    - ``samples``: jackknife that leaves out a tenth of the images of each class at a time, see
      :func:`~nctransfer.episodes.leaving_out.without`, ``9/10 Σ(θ₍₋g₎ − θ̄)²``; and the draw of episodes.

    Args:
        results: K results on the same images, drawn with the same seed.
        key: The key of a row: ways, shots and label.
        interval: The population, see :data:`~nctransfer.intervals.INTERVALS`.

    Raises:
        EpisodeError: There is no interval over this population; the message is the reason.
    """
    import torch

    first = results[0]
    if first.task.interval == "disjoint" and interval == "samples":
        interval, fewest = "disjoint", min(len(one.accuracies[key]) for one in results)
        if fewest < FEWEST_DISJOINT:
            raise EpisodeError(
                f"there are {fewest} episodes that share no image; a verdict needs at least {FEWEST_DISJOINT}"
            )
    if reason := first.impossible.get((*key[:2], interval)):
        raise EpisodeError(reason)
    vectors_of = {"samples": _over_images, "classes": _over_classes}.get(interval, _over_episodes)
    # each result by itself, so that equal results have equal vectors to the last digit
    vectors = torch.stack([vectors_of(one, key) for one in results], dim=1)
    degrees = {"episodes": math.inf, "samples": TENTHS - 1}.get(interval, len(vectors) - 1)
    return Spread(vectors=vectors, degrees=degrees)


def _over_episodes(result: FewShotResult, key: RowKey) -> torch.Tensor:
    values = result.accuracies[key]
    return (values - values.mean()) / math.sqrt(len(values) * (len(values) - 1))


def _over_classes(result: FewShotResult, key: RowKey) -> torch.Tensor:
    values, count, ways = result.accuracies[key], len(result.classes), key[0]
    classes = result.drawn[ways][: len(values)]
    with_class = classes.flatten().bincount(minlength=count)
    if bool((with_class == len(values)).any()):
        raise EpisodeError(
            f"a class is in all of {len(values):,} episodes: too few for an interval over the draw of classes"
        )
    of_class = values.new_zeros(count).index_add_(0, classes.flatten(), values.repeat_interleave(ways))
    without = (values.sum() - of_class) / (len(values) - with_class)
    return (without - without.mean()) * math.sqrt((count - 1) / count)


def _over_images(result: FewShotResult, key: RowKey) -> torch.Tensor:
    import torch

    means = result.left_out[key].mean(dim=1)  # (10,)
    changes = (means - means.mean()) * math.sqrt((TENTHS - 1) / TENTHS)
    return torch.cat([changes, _over_episodes(result, key)])

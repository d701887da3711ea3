r"""How an accuracy over random draws depends on each image, and so how it would vary with other images.

Shapes: n images of C classes, ``n_c`` of class c; E draws, in each of which m images per class are labelled and the
others are classified.

An image acts on the accuracy in two ways. As a query it counts: with ``q_i`` the share of draws in which image i is
classified right, its influence is ``(q_i − q̄_c) / (C n_c)``. As a labelled example it teaches: draws in which it is
labelled are more or less accurate. Easy images tend to teach well; the slope β of the accuracy of a draw on
``Σ (q_i − q̄_c)`` over its labelled images measures how well, and ``β m/n_c (q_i − q̄_c)`` is added to the influence.
Beyond the slope, an image can teach badly though it is easy, or the other way round: an image far from all others, say,
spoils the draws in which it is the one labelled example of its class. With ``r_i`` the mean of what the slope leaves,
over the draws in which image i is labelled, ``m/n_c · (n_c − 1)/(n_c − m) · r_i`` is added, shrunk by as much as the
draw of draws inflates these means. The sum of squares is the variance of the accuracy over samples of as many images
(the infinitesimal jackknife; Hájek 1968, Efron 2014), to which the draw of draws adds its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.evaluation.spread import Spread
from nctransfer.intervals import Z

if TYPE_CHECKING:
    import torch

__all__ = ["Answers", "Estimate", "common_draws", "estimate"]

PSEUDO = 2.0  # images that are always right, and as many that are always wrong (Agresti and Coull 1998)
MOST_DEGREES = 100  # of freedom; with more, a standard error is as good as known


class Answers:
    """Which images were classified right in which draws.

    Args:
        labels: The class of each image, ``(n,)``, ascending.
        shots: Labelled images per class, m.
    """

    def __init__(self, labels: torch.Tensor, shots: int) -> None:
        self.labels, self.shots = labels, shots
        self._right: list[torch.Tensor] = []
        self._is_query: list[torch.Tensor] = []

    def add(self, right: torch.Tensor, labelled: torch.Tensor) -> None:
        """Add draws.

        Args:
            right: Which images were classified right, ``(S, n)`` bool.
            labelled: The rows of the labelled images, ``(S, C, m)``.
        """
        import torch

        is_query = torch.ones_like(right).scatter_(1, labelled.flatten(1), value=False)
        self._right.append(right & is_query)
        self._is_query.append(is_query)

    def matrices(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Which images were classified right, and which were classified at all, ``(E, n)`` float32."""
        import torch

        return torch.cat(self._right).float(), torch.cat(self._is_query).float()


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimate:
    """The accuracy with one number of labelled images and one classifier.

    Attributes:
        accuracy: The mean over draws, from 0 to 1; every class counts equally.
        of_images: The influence of each image, ``(n,)`` float64. The sum of squares is its part of the variance.
        of_draws: The accuracy of each draw, ``(E,)`` float64.
        interval: 95%, over other images of these classes, from 0 to 1.
    """

    accuracy: float
    of_images: torch.Tensor
    of_draws: torch.Tensor
    interval: tuple[float, float]

    @property
    def draws(self) -> int:
        """The number of draws, E."""
        return len(self.of_draws)

    @property
    def error(self) -> float:
        """The standard error over images, without the draw of draws."""
        return float(self.of_images.square().sum().sqrt())

    @property
    def error_of_draws(self) -> float:
        """The standard error over the draw of draws."""
        return float(self.of_draws.std()) / math.sqrt(len(self.of_draws))

    @property
    def draw_half_width(self) -> float:
        """Half the width of the 95% interval over the draw of draws only."""
        return Z * self.error_of_draws


def estimate(answers: Answers) -> Estimate:
    """The accuracy, its interval, and what it depends on.

    Args:
        answers: At least two draws.
    """
    right, is_query = answers.matrices()
    labels, m = answers.labels, answers.shots
    counts = labels.bincount()
    own = counts[labels].double()  # (n,): the number of images of the class of each image
    classes = len(counts)
    asked = is_query.sum(dim=0).double()
    share = right.sum(dim=0).double() / asked.clamp(min=1)  # q_i
    weight = (asked > 0).double()
    of_class = _class_sums(share * weight, labels) / _class_sums(weight, labels).clamp(min=1)
    share = share.where(asked > 0, of_class[labels])
    easy = share - of_class[labels]  # q_i − q̄_c
    scale = 1 / (classes * (own - m))  # what a query counts in its draw
    accuracies = (_class_sums(right, labels).double() / (counts - m)).mean(dim=1)
    residuals = accuracies - is_query.double() @ (scale * share)
    labelled_easy = (1 - is_query).double() @ easy
    slope = max(_slope(labelled_easy, residuals), -1 / (classes * m))  # what teaches badly, counts below
    influence = easy * _true_share(easy, share, asked, own) * (own / (own - 1).clamp(min=1)).sqrt()
    influence = influence * (1 / (classes * own) + slope * m / own)
    influence = influence + _of_teaching(1 - is_query, residuals - slope * labelled_easy, own, m)
    mean = float(accuracies.mean())
    variance = float(influence.square().sum()) + float(accuracies.var()) / len(accuracies)
    return Estimate(
        accuracy=mean,
        of_images=influence,
        of_draws=accuracies,
        interval=_interval(mean, variance, classes**2 / float((1 / counts.double()).sum())),
    )


def _of_teaching(labelled: torch.Tensor, rest: torch.Tensor, own: torch.Tensor, shots: int) -> torch.Tensor:
    """What an image changes as a labelled example, beyond the slope, ``(n,)``.

    If the accuracy of a draw is a sum of ``g_i`` over its labelled images, with mean zero in each class, then draws
    in which image i is labelled are more accurate by ``g_i (n_c − m)/(n_c − 1)``. The influence of the image is
    ``m/n_c g_i``. What the draw of draws adds to the spread is taken off (Wager, Hastie and Efron 2014).

    Args:
        labelled: Which images are labelled, ``(E, n)``.
        rest: What is left of the accuracy of each draw, ``(E,)``.
        own: The number of images of the class of each image.
        shots: Labelled images per class, m.
    """
    rest = rest - rest.mean()
    times = labelled.sum(dim=0).double().clamp(min=1)
    factor = shots / own * (own - 1) / (own - shots)
    teaching = factor * (rest @ labelled.double()) / times
    noise = float((factor.square() / times).sum() * rest.square().mean())
    total = float(teaching.square().sum())
    if total <= noise or float(rest.abs().max()) < 1e-12:  # by chance, or by rounding
        return teaching.zero_()
    return teaching * math.sqrt(1 - noise / total)


def _class_sums(values: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The sums over the images of each class, ``(…, C)`` from ``(…, n)``."""
    return values.new_zeros(*values.shape[:-1], int(labels[-1]) + 1).index_add_(-1, labels, values)


def _slope(x: torch.Tensor, y: torch.Tensor) -> float:
    """The slope of y on x by least squares; 0 if x is constant."""
    x = x - x.mean()
    square = float(x.square().sum())
    return float(x @ (y - y.mean())) / square if square > 0 else 0.0


def _true_share(easy: torch.Tensor, share: torch.Tensor, asked: torch.Tensor, own: torch.Tensor) -> float:
    """What the spread of ``q_i`` is multiplied by to take off what few draws add to it: a factor from 0 to 1."""
    by_chance = share * (1 - share) / (asked - 1).clamp(min=1)
    total, noise = float((easy.square() / own.square()).sum()), float((by_chance / own.square()).sum())
    return math.sqrt(max(0.0, 1 - noise / total)) if total > 0 else 0.0


def _interval(accuracy: float, variance: float, images: float) -> tuple[float, float]:
    """The 95% interval, which is of some width even if every image was classified right.

    Args:
        accuracy: The mean over draws.
        variance: Of the mean, over images and over the draw of draws.
        images: How many images it rests on: as many as classes of one size would need to be as informative,
            ``C² / Σ 1/n_c``. A class of few images counts as much as the others, so that its images matter more.
    """
    more = images + 2 * PSEUDO
    centre = (images * accuracy + PSEUDO) / more
    square = images**2 * variance + PSEUDO * ((1 - centre) ** 2 + centre**2)
    half = Z * math.sqrt(square) / more
    return max(0.0, centre - half), min(1.0, centre + half)


def common_draws(estimates: Sequence[Estimate]) -> tuple[list[float], Spread]:
    """Accuracies over the draws that all estimates have, and how they vary together over images.

    Args:
        estimates: K estimates on the same images, from the same seed, with one number of shots.

    Returns:
        K accuracies, and their spread.
    """
    import torch

    count = min(one.draws for one in estimates)
    values = [float(one.of_draws[:count].mean()) for one in estimates]
    vectors = []
    for one in estimates:
        drawn = one.of_draws[:count] - one.of_draws[:count].mean()
        vectors.append(torch.cat([one.of_images, drawn / math.sqrt(count * (count - 1))]))
    degrees = min(MOST_DEGREES, max(1, len(estimates[0].of_images) - 2))
    return values, Spread(vectors=torch.stack(vectors, dim=1), degrees=degrees)

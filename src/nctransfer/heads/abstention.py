"""When a head does not answer: for images that are unlike every class, and for images that lie between two classes.

Both thresholds come from what the head says of its training images when each is left out.

**Unlike every class.** Of n good images and a new one, each is as likely as any other to be the most unlike, the second
most unlike and so on. So if the threshold is the ``⌈(n + 1)(1 − lost)⌉``-th smallest unlikeness of n images, a new
image of the classes lies above it with a probability of at most ``lost`` (split conformal prediction).

**Between two classes.** An image is answered if the probability of its predicted class is at least a threshold. The
smaller the threshold, the more images are answered and the more errors are among them. Thresholds are tested in a fixed
order from high to low: of the k images above a threshold, s are wrong, and if so few would be rare, with a probability
of at most 5% for ``Binomial(k, max_error)``, the threshold may be used and the next one is tested. The first that
fails ends the sequence. The true error among the answered is then above ``max_error`` in at most 5% of studies,
whatever the probabilities are: to exceed it, the first threshold whose true error is too large must have passed its
test (Angelopoulos et al., "Learn then test", 2021). The first threshold that is tested answers a fifth of the images,
or as many as are needed to show so small an error at all if that is more: ``ln 0.05 / ln(1 − max_error)`` images
without an error, 149 for 2%. Starting with more images than that lets the test survive a confident mistake.

Both promises are about other images of the same classes in the same proportions, and hold over draws of the training
images. If a training image has a near-duplicate among the others, it is not really left out: then the head seems better
than it is, and promises too much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.errors import FeaturesError, SettingError, counted

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from nctransfer.heads.head import HeldOut

__all__ = ["REASONS", "Decisions", "Thresholds", "decide", "thresholds"]

RISK = 0.05  # of promising too small an error
FIRST = 0.2  # the share of images that the first threshold answers
MOST_IMAGES = 1000  # how many times the images at hand are thought of when a promise needs more

REASONS = ("", "unlike every class", "between two classes")
"""Why an image is not answered, by the codes of :func:`decide`."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Which images are answered, and what that means for other images of the same classes.

    Attributes:
        probability: The smallest probability of the predicted class that is answered.
        unlikeness: The largest unlikeness that is answered; infinite if so few images allow no threshold.
        answered: The share of the training images, each left out, that are answered.
        error: The share of these that are wrong.
        error_bound: With a confidence of 95%, the error among the answered is not above this: the error that was asked
            for, or less if no threshold had to be chosen because every image like a class is answered.
        lost: The share of the training images, each left out, that are held back as unlike every class.
    """

    probability: float
    unlikeness: float
    answered: float
    error: float
    error_bound: float
    lost: float


class Decisions(NamedTuple):
    """Which of b images are not answered, and why.

    Attributes:
        abstained: ``(b,)`` bool.
        reasons: ``(b,)`` int64, each the place of a reason in :data:`REASONS`.
    """

    abstained: torch.Tensor
    reasons: torch.Tensor


def decide(probabilities: torch.Tensor, unlikeness: torch.Tensor, limits: Thresholds) -> Decisions:
    """Decide which images are answered.

    Args:
        probabilities: ``(b, C)``.
        unlikeness: ``(b,)``.
        limits: The thresholds.

    >>> import torch
    >>> limits = Thresholds(probability=0.8, unlikeness=7.0, answered=0.9, error=0.01, error_bound=0.02, lost=0.05)
    >>> found = decide(torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.6, 0.4]]), torch.tensor([3.0, 3.0, 8.0]), limits)
    >>> [REASONS[code] for code in found.reasons.tolist()]
    ['', 'between two classes', 'unlike every class']
    """
    import torch

    between = ~(probabilities.amax(dim=1) >= limits.probability)
    reasons = torch.where(~(unlikeness <= limits.unlikeness), 1, torch.where(between, 2, 0))
    return Decisions(reasons > 0, reasons)


def thresholds(held_out: HeldOut, max_error: float | None, max_lost: float) -> Thresholds:
    """The thresholds for an error among the answered, and for a share of good images that may be lost.

    Args:
        held_out: What the head says of its training images, each left out.
        max_error: The largest error among the answered, above 0 and below 1; it holds with a confidence of 95%.
            ``None``: no image is held back for lying between classes.
        max_lost: The share of good images that may be held back as unlike every class, 0 or more and less than 1.

    Raises:
        SettingError: A share is outside its range.
        FeaturesError: The training images cannot show that the error among the answered is so small.

    >>> import torch
    >>> from nctransfer.heads.head import HeldOut
    >>> ranks = torch.arange(200)
    >>> held_out = HeldOut(probability=1 - ranks / 400, right=ranks < 190, unlikeness=ranks / 200)
    >>> found = thresholds(held_out, max_error=0.05, max_lost=0.0)
    >>> found.probability, found.answered, found.error, found.error_bound
    (0.5175..., 0.97, 0.0206..., 0.05)
    """
    if max_error is not None and not 0 < max_error < 1:
        raise SettingError(f"an error of {max_error:g} among the answered; expected a number between 0 and 1")
    if not 0 <= max_lost < 1:
        raise SettingError(f"a share of {max_lost:g} that may be lost; expected 0 or more and less than 1")
    unlikeness = _conformal_quantile(held_out.unlikeness, max_lost)
    like = held_out.unlikeness <= unlikeness
    answers = _Answers.of(held_out.probability[like], held_out.right[like])
    number = len(answers.images) - 1 if max_error is None else answers.lowest(max_error)
    if number is None:
        assert max_error is not None
        raise _no_promise(answers, max_error, len(like))
    images, errors = int(answers.images[number]), int(answers.errors[number])
    is_last = number == len(answers.images) - 1
    return Thresholds(
        probability=0.0 if max_error is None else float(answers.probabilities[number]),
        unlikeness=unlikeness,
        answered=images / len(like),
        error=errors / images,
        error_bound=_upper_bound(errors, images) if max_error is None or is_last else max_error,
        lost=1 - float(like.double().mean()),
    )


def _conformal_quantile(unlikeness: torch.Tensor, lost: float) -> float:
    """The smallest threshold that a new image exceeds with a probability of at most ``lost``; infinite without one."""
    rank = math.ceil((len(unlikeness) + 1) * (1 - lost) - 1e-9)
    return float(unlikeness.kthvalue(rank).values) if rank <= len(unlikeness) else math.inf


def _upper_bound(errors: int, images: int) -> float:
    """The upper end of the one-sided 95% interval of a proportion (Clopper and Pearson)."""
    from scipy.special import betaincinv

    return float(betaincinv(errors + 1, images - errors, 1 - RISK)) if errors < images else 1.0


@dataclass(frozen=True, eq=False)
class _Answers:
    """For each possible threshold, from high to low, how many images it answers and how many of these are wrong."""

    probabilities: NDArray[np.float32]
    images: NDArray[np.int64]
    errors: NDArray[np.int64]

    @classmethod
    def of(cls, probability: torch.Tensor, right: torch.Tensor) -> _Answers:
        import numpy as np

        values, wrong = probability.float().numpy(), ~right.numpy()
        order = np.argsort(-values, kind="stable")
        values, errors = values[order], np.cumsum(wrong[order])
        last = np.flatnonzero(np.append(values[1:] != values[:-1], True))  # equal probabilities are answered together
        return cls(values[last], last + 1, errors[last])

    def lowest(self, max_error: float) -> int | None:
        """The number of the last threshold in the fixed order that passes; ``None`` if the first one fails."""
        import numpy as np
        from scipy.special import bdtr

        start = int(np.searchsorted(self.images, _first_images(int(self.images[-1]), max_error)))
        if start == len(self.images):
            return None
        tails = bdtr(self.errors[start:].astype(float), self.images[start:], max_error)
        failed = np.flatnonzero(~(tails <= RISK))
        passed = int(failed[0]) if len(failed) else len(tails)
        return start + passed - 1 if passed else None


def _first_images(images: int, max_error: float) -> int:
    """How many images the first threshold answers.

    It is a number at which one more error becomes possible, so that none is wasted.

    >>> _first_images(100, 0.05), _first_images(1000, 0.05), _first_images(1000, 0.02)
    (59, 234, 236)
    """
    import numpy as np
    from scipy.special import bdtr

    fewest, errors = _images_needed(0, max_error), 0
    while fewest < FIRST * images:
        step = max(1, int((FIRST * images - fewest) * max_error * 0.9))  # errors come no faster than that
        fewest, errors = _images_needed(errors + step, max_error), errors + step
    assert bdtr(float(errors), np.int64(fewest), max_error) <= RISK
    return fewest


def _images_needed(errors: int, max_error: float) -> int:
    """The smallest number of images of which so many errors or fewer show that the true error is not larger.

    >>> [_images_needed(errors, 0.05) for errors in (0, 1, 2)]
    [59, 93, 124]
    """
    from scipy.special import bdtr

    low, high = errors, errors + 1  # low is too few
    while bdtr(float(errors), high, max_error) > RISK:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if bdtr(float(errors), middle, max_error) <= RISK else (middle, high)
    return high


def _no_promise(answers: _Answers, max_error: float, images: int) -> FeaturesError:
    """The error that says what the training images can show, and how many would be needed."""
    low, high = max_error, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if answers.lowest(middle) is not None else (middle, high)
    lowest = math.ceil(high * 1000) / 1000
    needed = _more_images(answers, max_error, images)
    hints = [f"ask for --max-error {lowest:.1%} or more"] if lowest < 1 else []
    if needed is not None:
        hints.append(f"give about {counted(needed, 'labelled image')} of the same kind")
    can = f"the lowest that they can show is {lowest:.1%}" if lowest < 1 else "they cannot show any error below 100%"
    return FeaturesError(
        f"{counted(images, 'training image')} cannot show that the error among the answered is at most "
        f"{100 * max_error:.6g}%; {can}",
        f"{', or '.join(hints) or 'leave out --max-error'}; wrong labels also do this, and nctransfer audit finds them",
    )


def _more_images(answers: _Answers, max_error: float, images: int) -> int | None:
    """About how many images with the same share of errors at each threshold would do; ``None`` if no number does."""
    import numpy as np
    from scipy.special import bdtr

    for factor in np.geomspace(1, MOST_IMAGES, 121)[1:]:
        more = np.ceil(answers.images * factor).astype(np.int64)
        first = int(
            np.searchsorted(more, _first_images(int(more[-1]), max_error))
        )  # the threshold that is tested first
        if first < len(more) and bdtr(math.ceil(answers.errors[first] * factor), more[first], max_error) <= RISK:
            return math.ceil(images * float(factor) / 10) * 10
    return None

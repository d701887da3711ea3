"""Expected few-shot accuracy: the mean over all episodes of a task, without drawing one.

A query of class a wins against classes b, c, … if the centre of its own support is nearer than each of theirs. Given
the query and that own centre, the wins are independent over the other classes, as their supports are; so the chance to
win against ``w − 1`` classes, averaged over all choices of them among the others, is the elementary symmetric
polynomial of degree ``w − 1`` of the chances to win against one, over the number of choices. One recursion gives it for
every number of ways.

Two constructions give the chances:

- **resampled**: the samples of every class are dealt into supports of m at random, and the share of a class's centres
  that lose is its chance. It is unbiased, whatever the data: the polynomial is linear in each chance. Each deal uses
  every sample once, so that what a single sample adds cancels; at one shot it is exact.
- **normal**: centres scatter normally about the class means, with the covariance of the class over m. It needs
  nothing but moments, says what theory says, and fails where support noise is not normal: at few shots.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from nctransfer.devices import with_float64
from nctransfer.episodes.episode import EpisodeSpec
from nctransfer.episodes.inner_products import prepared
from nctransfer.episodes.requirements import check
from nctransfer.errors import EpisodeError
from nctransfer.evaluation.normal_supports import Normal
from nctransfer.evaluation.resampled_supports import Deals, Queries, is_plain

if TYPE_CHECKING:
    import pandas as pd

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["ExpectedAccuracies", "ExpectedAccuracy", "expect"]


@dataclass(frozen=True)
class ExpectedAccuracy:
    """The mean accuracy over all episodes of a task.

    Attributes:
        accuracy: Of nearest class centres.
        ci95: Half the width of the 95% interval of the computation (of what was resampled and subsampled, not of the
            data); 0 where it is exact.
        method: How it was computed.
        queries: Samples that were classified.
    """

    ways: int
    shots: int
    classifier: str
    method: Literal["resampled", "normal"]
    accuracy: float
    ci95: float
    queries: int


@dataclass(frozen=True)
class ExpectedAccuracies:
    """A learning surface: ways × shots.

    Attributes:
        features: What it is of.
        rows: One for each number of shots and of ways.
        seconds: Time of all of it.
    """

    features: dict[str, Any]
    rows: tuple[ExpectedAccuracy, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON has it."""
        return {"features": self.features, "results": [asdict(row) for row in self.rows], "seconds": self.seconds}

    def to_frame(self) -> pd.DataFrame:
        """One row a task."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows])


def expect(
    features: FeatureSet,
    ways: int | Sequence[int] = (2, 5, 10, 20),
    shots: int | Sequence[int] = (1, 2, 5, 10, 50),
    *,
    classifier: str = "ncc",
    method: Literal["resampled", "normal"] = "resampled",
    center_on: FeatureSet | None = None,
    l2_normalise: bool = False,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> ExpectedAccuracies:
    """The mean accuracy over all episodes, for every number of ways and shots: no episode is drawn.

    Cost, for n queries (4,000 at most), C classes, s samples a class and K ways: ``n·C·s·d/m`` multiply-adds for a deal
    and ``n·C·K·s/m`` for the recursion; the normal form ``n·C·s·d``, and ``16·n·C·K`` for each number of shots.

    Args:
        features: The feature set.
        ways: Classes a task; those above the number of classes are an error.
        shots: Support samples a class; every class must have one sample more.
        classifier: ``ncc``, ``cosine``, or ``simpleshot`` with a reference mean: those whose score of a class depends
            on the centre of that class alone.
        method: ``resampled`` (unbiased) or ``normal`` (``ncc`` only).
        center_on: A set whose mean is taken off first.
        l2_normalise: Scale features to unit length (after that).
        seed: Of the deals.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        EpisodeError: Too few classes or samples, or a classifier or method for which there is no such form.
    """
    import torch

    start = time.perf_counter()
    all_ways, all_shots = sorted(set(_listed(ways))), sorted(set(_listed(shots)))
    if not (all_ways and all_shots):
        raise EpisodeError("ways and shots must each hold something")
    if classifier == "simpleshot" and center_on is None:
        raise EpisodeError(
            "the score of simpleshot depends on the supports of all classes by their mean: there is no such form of it",
            "give a reference mean by --center-on",
        )
    is_known = classifier in ("ncc", "cosine", "simpleshot") and method in ("resampled", "normal")
    if not is_known or (method == "normal" and classifier != "ncc"):
        raise EpisodeError(
            f"there is no expected accuracy of {classifier!r} by method {method!r}",
            "choose --classifier from ncc, cosine, simpleshot, and --method from resampled, normal (of ncc alone)",
        )
    for least in all_ways:
        check(features, EpisodeSpec(least, max(all_shots), 1, seed))
    for number in all_shots:
        EpisodeSpec(2, number, 1, seed)
    rows = prepared(features, None, center_on, l2_normalise or classifier == "simpleshot")
    if classifier != "cosine":
        rows = rows - rows.mean(dim=0, dtype=torch.float64).to(rows.dtype)
    generator = torch.Generator().manual_seed(seed)
    queries = Queries(features, generator)
    chosen = with_float64(device)
    degrees = torch.tensor([number - 1 for number in all_ways])
    surface: Deals | Normal
    if method == "normal":
        surface = Normal(queries, rows.to(chosen, torch.float64), degrees)
    else:
        dtype = torch.float32 if is_plain(features, rows) else torch.float64
        surface = Deals(queries, rows.to(chosen, dtype), degrees, classifier, generator)
    found: list[ExpectedAccuracy] = []
    for done, number in enumerate(all_shots, start=1):
        accuracies, errors = surface(number)
        found += [
            ExpectedAccuracy(size, number, classifier, method, float(accuracy), 1.96 * float(error), len(queries.rows))
            for size, accuracy, error in zip(all_ways, accuracies, errors, strict=True)
        ]
        if progress:
            progress("shots", done, len(all_shots))
    return ExpectedAccuracies(features.to_dict(), tuple(found), time.perf_counter() - start)


def _listed(given: int | Sequence[int]) -> list[int]:
    return [operator.index(number) for number in (given if isinstance(given, Iterable) else [given])]

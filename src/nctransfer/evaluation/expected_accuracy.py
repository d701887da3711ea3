"""Expected few-shot accuracy: the mean over all episodes of a task, without drawing one.

A query of class a wins against classes b, c, … if it is nearer to the centre of its own support than to each of theirs.
Given the query and its own centre, the wins are independent over the other classes, because their supports are. So the
chance to win against ``w − 1`` classes, averaged over all choices of them among the others, is the elementary symmetric
polynomial of degree ``w − 1`` of the chances to win against one class, divided by the number of choices. One recursion
gives it for every number of ways.

Two methods give the chances to win against one class:

- **resampled**: the samples of every class are divided at random into supports of m samples; the share of a class's
  centres that lose is its chance. It is unbiased, whatever the data, because the polynomial is linear in each chance.
  Each division uses every sample once, so that what a single sample adds cancels; with one shot it is exact.
- **normal**: centres scatter normally about the class means, with the covariance of the class divided by m. It needs
  moments only and shows what theory predicts. It fails where the noise of the supports is not normal: at few shots.
"""

from __future__ import annotations

import logging
import operator
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from nctransfer.devices import with_float64
from nctransfer.episodes.episode import EpisodeSpec
from nctransfer.episodes.pool import prepared
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.episodes.requirements import check
from nctransfer.episodes.rescaling import rescaled
from nctransfer.errors import SettingError
from nctransfer.evaluation.leaks import Leaks
from nctransfer.evaluation.normal_supports import NODES, Normal
from nctransfer.evaluation.queries import PAIRS, Queries
from nctransfer.evaluation.resampled_supports import Resampled, is_plain
from nctransfer.notebook import ShownInNotebooks

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from nctransfer.episodes.classifier import ExpectedForm
    from nctransfer.features.feature_info import FeatureInfo
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["METHODS", "ExpectedAccuracies", "ExpectedAccuracy", "expect", "form_of"]

log = logging.getLogger(__name__)

Method = Literal["resampled", "normal"]
METHODS: tuple[Method, ...] = ("resampled", "normal")


@dataclass(frozen=True, kw_only=True)
class ExpectedAccuracy:
    """The mean accuracy over all episodes of one number of ways and of shots.

    Attributes:
        ways: Classes per episode.
        shots: Support samples per class.
        classifier: The name of the classifier.
        method: How it was computed.
        accuracy: The mean accuracy.
        ci95: Half the width of the 95% interval of the computation: of the resampling and subsampling, not of the data.
            It is 0 where the computation is exact.
        queries: The number of samples that were classified; where these are not all, in each round of resampling.
        exact: Whether it is the mean over all episodes, without any sampling.
    """

    ways: int
    shots: int
    classifier: str
    method: Method
    accuracy: float
    ci95: float
    queries: int
    exact: bool = False


@dataclass(frozen=True, kw_only=True)
class ExpectedAccuracies(ShownInNotebooks):
    """Expected accuracies for several numbers of ways and of shots.

    Attributes:
        features: What they were computed from.
        rows: One row for each number of shots and of ways.
        seconds: The time of the computation.
        leaks: The samples that give answers away: duplicates.
    """

    features: FeatureInfo
    rows: tuple[ExpectedAccuracy, ...]
    seconds: float
    leaks: Leaks = field(default_factory=Leaks)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What weakens a conclusion from the accuracies."""
        return self.leaks.warnings()

    def to_dict(self) -> dict[str, Any]:
        """The result as a dictionary for JSON."""
        return {
            "features": self.features.to_dict(),
            "results": [asdict(row) for row in self.rows],
            "seconds": self.seconds,
            "leaks": self.leaks.to_dict(),
            "warnings": list(self.warnings),
        }

    def to_frame(self) -> pd.DataFrame:
        """One row for each number of shots and of ways."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows])


def expect(
    features: FeatureSet,
    ways: int | Sequence[int] = (2, 5, 10, 20),
    shots: int | Sequence[int] = (1, 2, 5, 10, 50),
    *,
    classifier: str = "ncc",
    method: Method = "resampled",
    center_on: FeatureSet | None = None,
    l2_normalise: bool = False,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> ExpectedAccuracies:
    """The mean accuracy over all episodes, for every number of ways and shots, without drawing an episode.

    Cost, for n queries, C classes, R supports of each class in a round, and K ways: ``n·C·R·d`` multiply-adds a round,
    and ``n·R·C·K`` for the recursion; with one shot ``n²·d`` once, and ``n·s·C·K`` for s samples per class. The normal
    method takes ``n·C·s·d``, and ``16·n·C·K`` for each number of shots.

    Args:
        features: The feature set.
        ways: Classes per episode; more than there are is an error.
        shots: Support samples per class; every class must have one sample more.
        classifier: ``ncc``, ``cosine``, ``simpleshot`` with a reference mean, or another one with an expected form: the
            score of a class must depend on the centre of that class alone.
        method: ``resampled`` (unbiased) or ``normal`` (for ``ncc`` only).
        center_on: A set whose mean is subtracted from the features first.
        l2_normalise: Scale features to unit length, after the mean was subtracted.
        seed: The seed of the supports.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        EpisodeError: There are too few classes or samples.
        SettingError: The classifier has no expected form, or no number of ways or shots is given.
    """
    import torch

    start = time.perf_counter()
    all_ways, all_shots = sorted(set(_listed(ways))), sorted(set(_listed(shots)))
    if not (all_ways and all_shots):
        raise SettingError("ways and shots must each hold something", "give at least one number of each")
    form = form_of(classifier, method, center_on is not None)
    for number in all_ways:
        check(features, EpisodeSpec(number, max(all_shots), 1, seed))
    for number in all_shots:
        EpisodeSpec(2, number, 1, seed)
    leaks = Leaks.of(features)
    for warning in leaks.warnings():
        log.warning("%s", warning)
    rows, _ = rescaled(prepared(features, None, center_on, l2_normalise or form.scales_features))
    if form.is_translation_invariant and not _are_small_integers(rows):
        rows = rows - rows.mean(dim=0, dtype=torch.float64).to(rows.dtype)
    pairs = PAIRS // NODES if method == "normal" else PAIRS
    queries = Queries(features, torch.Generator().manual_seed(seed), pairs)
    degrees = [number - 1 for number in all_ways]
    surface: Resampled | Normal
    if method == "normal":
        surface = Normal(queries, rows.to(with_float64(device), torch.float64), degrees)
    else:
        rows = rows.to(with_float64(device), torch.float32 if is_plain(features, rows) else torch.float64)
        surface = Resampled(queries=queries, rows=rows, degrees=degrees, form=form, seed=seed)
    found: list[ExpectedAccuracy] = []
    for done, number in enumerate(all_shots, start=1):
        found += _rows(all_ways, number, classifier, method, surface(number), len(queries.rows))
        if progress:
            progress("shots", done, len(all_shots))
    seconds = time.perf_counter() - start
    return ExpectedAccuracies(features=features.describe(), rows=tuple(found), seconds=seconds, leaks=leaks)


def _are_small_integers(rows: torch.Tensor) -> bool:
    """Whether all squared distances are computed without rounding, so that equal distances are seen to be equal."""
    import torch

    return (
        bool((rows == rows.round()).all())
        and 4 * float(rows.double().square().sum(dim=1).max()) < 1 / torch.finfo(torch.float32).eps
    )


def form_of(classifier: str, method: str, has_reference_mean: bool) -> ExpectedForm:
    """The expected form of a classifier.

    Raises:
        SettingError: It has none, or not by this method, or only with a reference mean.
    """
    entry = CLASSIFIERS.get(classifier)
    form = entry.expected if entry is not None else None
    if form is not None and form.needs_reference_mean and not has_reference_mean:
        raise SettingError(
            f"the score of {classifier} depends on the supports of all classes through their mean, so that it has no "
            "expected accuracy without a reference mean",
            "give a reference mean by --center-on",
        )
    if entry is None or form is None or method not in METHODS or (method == "normal" and not entry.has_theory):
        entries = [CLASSIFIERS[name] for name in CLASSIFIERS]
        by_resampling = ", ".join(one.name for one in entries if one.expected is not None)
        by_theory = ", ".join(one.name for one in entries if one.has_theory)
        raise SettingError(
            f"there is no expected accuracy of {classifier!r} by method {method!r}",
            f"choose --classifier from {by_resampling}, and --method from {', '.join(METHODS)} (normal for {by_theory} "
            "only)",
        )
    return form


def _rows(
    ways: Sequence[int],
    shots: int,
    classifier: str,
    method: Method,
    found: tuple[torch.Tensor, torch.Tensor, bool],
    queries: int,
) -> list[ExpectedAccuracy]:
    """The rows of one number of shots, from accuracies and half widths for each number of ways."""
    return [
        ExpectedAccuracy(
            ways=size,
            shots=shots,
            classifier=classifier,
            method=method,
            accuracy=float(accuracy),
            ci95=float(half),
            queries=queries,
            exact=found[2],
        )
        for size, accuracy, half in zip(ways, *found[:2], strict=True)
    ]


def _listed(given: int | Sequence[int]) -> list[int]:
    return [operator.index(number) for number in (given if isinstance(given, Iterable) else [given])]

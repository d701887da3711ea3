"""Whether another classifier would be more accurate than the one that was named for a head."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from nctransfer.heads.fit_result import Candidate
from nctransfer.heads.left_out_scores import left_out_scores
from nctransfer.heads.promises import lead_over

if TYPE_CHECKING:
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.heads.left_out_scores import LeftOut

__all__ = ["FAST", "better_classifier", "is_quick_to_compare"]

FAST = ("ridge", "ncc", "cosine")  # their answers to left-out images have closed forms
MOST_COMPARED = 3e9  # images × features × classes; on one core they take 7 seconds with 1,280 features, 14 with 100


def is_quick_to_compare(features: FeatureSet) -> bool:
    """Whether the fast classifiers are fitted to these images in some seconds."""
    return len(features) * min(len(features), features.dim) * len(features.classes) <= MOST_COMPARED


def better_classifier(
    features: FeatureSet,
    named: LeftOut,
    device: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> Candidate | None:
    """The most accurate of the fast classifiers, if it is more accurate than a named one.

    It is called more accurate only if the interval of the difference leaves out zero. Logistic regression and proxies
    are not tried, as they take longer.

    Args:
        features: What the named classifier was fitted to.
        named: The named classifier.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    Returns:
        That classifier, with its lead over the named one. ``None`` if there is none, or if the comparison is not quick
        (:func:`is_quick_to_compare`).

    >>> import numpy as np
    >>> from nctransfer.features.feature_set import FeatureSet
    >>> rows = np.random.default_rng(0).normal(size=(200, 3)) * [1, 30, 30]
    >>> rows[:100, 0] += 5
    >>> data = FeatureSet.from_arrays(rows, "a" * 100 + "b" * 100)
    >>> better_classifier(data, left_out_scores(data, "ncc", "cpu"), "cpu").name
    'ridge'
    >>> better_classifier(data, left_out_scores(data, "ridge", "cpu"), "cpu") is None
    True
    """
    if not is_quick_to_compare(features):
        return None
    names = [name for name in FAST if name != named.classifier]
    better: list[Candidate] = []
    for done, name in enumerate(names):
        if progress:
            progress("comparing", done, len(names))
        other = left_out_scores(features, name, device)
        lead = lead_over(other, named, features.labels)
        if lead.interval[0] > 0:
            better.append(dataclasses.replace(Candidate.of(other), lead=lead))
    if progress:
        progress("comparing", len(names), len(names))
    return max(better, key=lambda one: one.accuracy, default=None)

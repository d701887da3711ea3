"""Theory beside measured few-shot accuracies: the expected accuracy, and bounds of the error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nctransfer.episodes.query_prior import QueryPrior
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.errors import FeaturesError
from nctransfer.evaluation.expected_accuracy import expect
from nctransfer.evaluation.margin_bounds import MarginBound, margin_bounds_or_reasons
from nctransfer.evaluation.resampled_supports import work_of_a_round
from nctransfer.neural_collapse.bounds import BOUNDS, Bound, error_bounds
from nctransfer.neural_collapse.class_statistics import ClassStatistics

if TYPE_CHECKING:
    from nctransfer.evaluation.fewshot_results import FewShotRow
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["EXPECTED_WORK", "MARGIN_WORK", "with_theory"]

EXPECTED_WORK = 1e10  # multiply-adds per number of shots and round; above it no expected accuracy is computed
MARGIN_WORK = 1e11  # multiply-adds, some seconds; above it no bounds by margins are computed
OTHER_SET = "the queries are of another set"


def with_theory(
    rows: Sequence[FewShotRow], features: FeatureSet, has_query_set: bool, device: str
) -> tuple[FewShotRow, ...]:
    """The rows; those of classifiers that theory describes with their expected accuracy and the bounds of their error.

    Args:
        rows: What was measured.
        features: The features as the classifiers saw them.
        has_query_set: Whether the queries came from another set, for which theory has no value.
        device: Where to compute.
    """
    described = [row for row in rows if CLASSIFIERS[row.classifier].has_theory]
    names = dict.fromkeys(row.classifier for row in described)
    if not names:
        return tuple(rows)
    why = why_none = OTHER_SET if has_query_set else _why_classes_weigh_unlike(described, features)
    stats = None
    if not why:
        try:
            stats = ClassStatistics.of(features, device)
        except FeaturesError as error:
            why = error.message
    expected: dict[tuple[str, int, int], float] = {}
    reasons: dict[str, str] = {}
    for name in names:
        own = [row for row in rows if row.classifier == name]
        if reason := why_none or _why_not(own, features):
            reasons[name] = reason
        else:
            expected |= _expected(name, own, features, device)
    margins: Mapping[tuple[int, float], dict[str, Bound]] = {}
    if stats is not None:
        ways, shots = (sorted({getattr(row, field) for row in rows}) for field in ("ways", "shots"))
        margins = margin_bounds_or_reasons(features, stats, ways, shots, device=device, limit=MARGIN_WORK)
    new = []
    for row in rows:
        if row.classifier in names:
            bounds = (
                {name: Bound(None, why) for name in (*BOUNDS, *MarginBound._fields)}
                if stats is None
                else error_bounds(stats, row.ways, row.shots) | margins[row.ways, row.shots]
            )
            value = expected.get((row.classifier, row.ways, row.shots))
            row = _with_bounds(row, value, reasons.get(row.classifier), bounds)
        new.append(row)
    return tuple(new)


def _why_classes_weigh_unlike(rows: Sequence[FewShotRow], features: FeatureSet) -> str:
    """Why classes have unlike shares of the queries, on average over episodes; empty if their shares are alike.

    What a query is taken for does not depend on the other queries. So the mean accuracy depends on the mean share of
    each class only, which is the same if classes are of one size, and also with proportions that are drawn, if no class
    can have too few images.
    """
    name = rows[0].query_prior
    prior, counts = QueryPrior.parse(name), features.counts
    if prior.is_balanced or int(counts.min()) == int(counts.max()):
        return ""
    enough = max(row.ways * int(row.queries) + row.shots for row in rows)
    if prior.kind == "dirichlet" and int(counts.min()) >= enough:
        return ""
    return f"queries are drawn by {name}, so that classes of other sizes have other shares of them"


def _why_not(rows: Sequence[FewShotRow], features: FeatureSet) -> str | None:
    """Why there is no expected accuracy for these rows; ``None`` if there is one."""
    if rows[0].queries == "all" and len(set(features.counts.tolist())) > 1:
        return "where all that are left are queries, large classes weigh more"
    shots = {row.shots for row in rows}
    work = len(shots) * work_of_a_round(features, max(row.ways for row in rows), max(shots))
    if work > EXPECTED_WORK:
        return f"it is {work:.1e} steps of work, above the limit of {EXPECTED_WORK:.0e}: nctransfer expect computes it"
    return None


def _expected(
    name: str, rows: Sequence[FewShotRow], features: FeatureSet, device: str
) -> dict[tuple[str, int, int], float]:
    """The expected accuracy by classifier, ways and shots."""
    ways, shots = (sorted({getattr(row, field) for row in rows}) for field in ("ways", "shots"))
    found = expect(features, ways, shots, classifier=name, seed=rows[0].seed, device=device)
    return {(name, row.ways, row.shots): row.accuracy for row in found.rows}


def _with_bounds(
    row: FewShotRow, expected: float | None, reason: str | None, bounds: Mapping[str, Bound]
) -> FewShotRow:
    return replace(
        row,
        expected_accuracy=expected,
        bounds={name: one.to_dict() for name, one in bounds.items()},
        undefined=dict(row.undefined)
        | ({"expected_accuracy": reason} if reason else {})
        | {name: one.reason for name, one in bounds.items() if one.reason},
    )

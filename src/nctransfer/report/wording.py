"""Numbers and feature sets as sheets show them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from nctransfer.errors import counted

if TYPE_CHECKING:
    from nctransfer.evaluation.fewshot_results import FewShotRow
    from nctransfer.features.feature_info import FeatureInfo
    from nctransfer.intervals import Interval

__all__ = [
    "ARROWS",
    "BOUNDS_NOTE",
    "POPULATIONS",
    "about_features",
    "about_populations",
    "bound_percent",
    "features_in_line",
    "format_number",
    "in_points",
    "percent",
    "with_interval",
]


def about_features(features: FeatureInfo) -> dict[str, str]:
    """The facts of a feature set, as every table of results has them."""
    data = features.data or features.id
    split = f", split {features.split}" if features.split else ""
    layer = features.layer if features.layer != "feature" and features.model else ""
    facts = {
        "model": features.model,
        "weights": features.weights,
        "layer": layer,
        "data": f"{data}{split}: {_size(features)}",
        "label column": features.label_column,
        "missing": _missing(features),
    }
    return {name: value for name, value in facts.items() if value}


def _size(features: FeatureInfo) -> str:
    """How many samples, classes and dimensions a feature set has."""
    classes = counted(features.classes or 0, "class", "classes")
    return f"{counted(features.samples or 0, 'sample')}, {classes}, width {features.dim:,}"


def _missing(features: FeatureInfo) -> str:
    """That only some of the wanted images are stored; empty if all are."""
    return f"{counted(features.missing, 'wanted image')} not in the cache" if features.missing else ""


def format_number(value: float | None) -> str:
    """A number with about five significant digits; a dash if there is none."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.{max(0, min(4, 4 - _digits(value)))}f}"
    return f"{value:.2e}"


def _digits(value: float) -> int:
    """Digits before the point, beyond the first."""
    return max(0, math.floor(math.log10(abs(value)))) if value else 0


ARROWS = {"lower": "↓", "higher": "↑", None: ""}


def features_in_line(features: FeatureInfo) -> str:
    """A feature set in one line: data, split, and size."""
    return ", ".join(filter(None, [features.data or features.id, features.split, _size(features), _missing(features)]))


def percent(share: float) -> str:
    """A share in percent, without the sign."""
    return f"{share * 100:.2f}"


def with_interval(row: FewShotRow) -> str:
    """An accuracy and the half-width of its interval, if it has one, in percent."""
    return f"{row.accuracy * 100:.2f}" + ("" if row.ci95 is None else f" ± {row.ci95 * 100:.2f}")


POPULATIONS: Mapping[Interval, str] = {
    "samples": "other images of these classes",
    "classes": "other classes of this kind",
}


def in_points(interval: tuple[float, float] | None) -> str:
    """An interval of a difference of accuracies, in percentage points; a dash if there is none."""
    return "–" if interval is None else f"[{interval[0] * 100:+.2f}, {interval[1] * 100:+.2f}]"


def about_populations(populations: Iterable[Interval]) -> str:
    """What the words of a column of populations mean."""
    return " ".join(f"On {name}: on {POPULATIONS[name]}." for name in dict.fromkeys(populations))


def bound_percent(bound: Mapping[str, Any]) -> str:
    """A bound of an error in %, with a word if it says nothing or no more than chance."""
    value = bound["value"]
    if value is None:
        return "–"
    if math.isinf(value):
        return "∞"
    return percent(value) + (" vacuous" if bound["vacuous"] else " ≥ chance" * bound["uninformative"])


BOUNDS_NOTE = (
    "Bounds of the error of ncc, in %, for supports and queries drawn independently and with replacement from these "
    "images. Vacuous: above 100. ≥ chance: no better than a random answer, so the bound says nothing either."
)

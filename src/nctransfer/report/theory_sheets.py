"""Sheets of expected accuracies, bounds, and explained pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nctransfer.errors import counted, join_names
from nctransfer.report.sheet import Bar, Sheet
from nctransfer.report.wording import BOUNDS_NOTE, about_features, bound_percent, format_number, percent

if TYPE_CHECKING:
    from nctransfer.evaluation.expected_accuracy import ExpectedAccuracies, ExpectedAccuracy
    from nctransfer.evaluation.pair_explanation import PairExplanation
    from nctransfer.neural_collapse.bound_table import BoundTable

__all__ = ["bounds_sheet", "expected_sheet", "pair_sheet"]


def expected_sheet(found: ExpectedAccuracies) -> Sheet:
    """The learning surface: a row for each number of shots, a column for each number of ways."""
    ways = list(dict.fromkeys(row.ways for row in found.rows))
    shots = list(dict.fromkeys(row.shots for row in found.rows))
    cells = {(row.ways, row.shots): row for row in found.rows}
    first = found.rows[0]

    def cell(row: ExpectedAccuracy) -> str:
        return percent(row.accuracy) + (" exact" if row.exact else f" ± {row.ci95 * 100:.2f}" if row.ci95 else "")

    return Sheet(
        f"Expected accuracy of {first.classifier}",
        [">shots", *(f">{size}-way" for size in ways)],
        [[str(number), *(cell(cells[size, number]) for size in ways)] for number in shots],
        about_features(found.features)
        | {"method": f"{first.method}, {first.queries:,} queries, {found.seconds:.1f} s"},
        "In %: the mean over all episodes, without drawing one"
        + (
            ". The ± is the 95% interval of the computation; exact values have none."
            if first.method == "resampled"
            else ", computed from moments."
        ),
        tuple(Bar(f"{row.ways}-way", counted(row.shots, "shot"), row.accuracy) for row in _by_ways(found.rows)),
    )


def _by_ways(rows: Sequence[ExpectedAccuracy]) -> list[ExpectedAccuracy]:
    return sorted(rows, key=lambda row: (row.ways, row.shots)) if len({row.shots for row in rows}) > 1 else []


def bounds_sheet(found: BoundTable) -> Sheet:
    """The bounds over shots."""
    names = list(found.rows[0].bounds)
    rows = [
        [
            str(row.ways),
            "∞" if math.isinf(row.shots) else str(row.shots),
            *(bound_percent(row.bounds[name].to_dict()) for name in names),
        ]
        for row in found.rows
    ]
    return Sheet(
        "Bounds of the error of ncc",
        [">ways", ">shots", *(f">{name}" for name in names)],
        rows,
        about_features(found.features) | {"images per class": _images_per_class(found)},
        " ".join([BOUNDS_NOTE, *_reasons(found), _for_new_classes(found)]),
    )


def _for_new_classes(found: BoundTable) -> str:
    terms = {
        row.ways: f"{percent(row.new_classes_term)} points for {row.ways}-way tasks"
        for row in found.rows
        if row.new_classes_term < 1 - 1 / row.ways
    }
    if not terms:
        return "These classes are too few to guarantee anything for other classes."
    return (
        "For other classes of this kind and a backbone that these classes did not choose or train, add "
        f"{join_names(list(terms.values()))}: the bounds then hold with probability 95%."
    )


def _images_per_class(found: BoundTable) -> str:
    fewest, most = found.images_per_class
    return f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"


def _reasons(found: BoundTable) -> list[str]:
    """Why bounds are absent, once per reason, and how pairs of classes that are not resolved are counted."""
    absent: dict[str, list[str]] = {}
    for row in found.rows:
        for name, one in row.bounds.items():
            if one.reason and name not in absent.setdefault(one.reason, []):
                absent[one.reason].append(name)
    said = [f"No {', '.join(names)}: {reason}." for reason, names in absent.items()]
    if found.unresolved and any(one.value is not None for row in found.rows for one in row.bounds.values()):
        said.append("The other bounds count these pairs as always confused.")
    return said


def pair_sheet(found: PairExplanation) -> Sheet:
    """Two classes: their geometry, how well they can be told apart, and why not better."""
    a, b = found.directions
    rows = []
    for row in found.shots:
        cells = [str(row.shots), percent(row.expected), f"{row.measured * 100:.2f} ± {row.ci95 * 100:.2f}"]
        if row.closed_form is not None and row.bound is not None:
            cells += [percent(row.closed_form), percent(row.bound) if row.bound > 0 else "vacuous"]
        rows.append(cells)
    heads, note = [">shots", ">expected", ">measured"], "2-way accuracy of ncc in %"
    if found.limit is not None:
        heads += [">closed form", ">at least"]
        note += (
            f"; {percent(found.limit)} with all shots there could be, by the closed form (Sorscher et al. 2022). At "
            "least: by the bound of Luthra et al. 2025."
        )
    else:
        note += (
            " on these images. More images per class would show how far apart the classes are; until then there is no "
            "prediction, limit or bound."
        )
    return Sheet(f"{a.name} and {b.name}: {found.reason}", heads, rows, _pair_facts(found), note)


def _pair_facts(found: PairExplanation) -> dict[str, str]:
    a, b = found.directions
    facts = about_features(found.features)
    if not found.is_resolved:
        return facts | {"distance": f"{format_number(found.distance)}, not above twice its mean noise"}
    facts |= {
        "distance": format_number(found.distance),
        "cdnv": format_number(found.cdnv),
        "overlap": f"{format_number(found.overlap)} of the directions in which they vary",
    }
    for key, one, other in (("class a", a, b), ("class b", b, a)):
        facts[key] = (
            f"{one.name}: variance {format_number(one.variance)} in about {one.dimension:.0f} directions; "
            f"directional CDNV towards {other.name} {format_number(one.directional)}"
        )
    return facts

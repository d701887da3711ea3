"""The sheet of fine structure inside classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.errors import counted
from nctransfer.report.sheet import Bar, Sheet
from nctransfer.report.wording import about_features, format_number, in_points, percent

if TYPE_CHECKING:
    from nctransfer.neural_collapse.fine_results import FineLayer, FineStructure

__all__ = ["fine_sheets"]

MOST = 10  # coarse classes that are shown


def fine_sheets(found: FineStructure) -> list[Sheet]:
    """The averages of each layer, and the coarse classes of the last."""
    last = found.layers[-1]
    facts = about_features(found.features)
    facts["fine classes"] = (
        f"{found.fine_classes:,} by {found.column}, in {counted(len(last.classes), 'class', 'classes')}"
    )
    if found.left_out:
        facts["left out"] = f"{counted(len(found.left_out), 'class', 'classes')} with fewer than two fine classes"
    if found.without_label:
        facts["without fine label"] = counted(found.without_label, "sample")
    rows = [_row(layer) for layer in found.layers]
    heads = ["layer", ">accuracy inside", ">95% interval", ">permuted", ">explained", ">CDNV inside", ">across"]
    several = len(found.layers) > 1
    bars = tuple(Bar("accuracy inside", layer.name, layer.accuracy) for layer in found.layers) if several else ()
    return [
        Sheet("Fine classes inside classes", [*heads, ">coarse accuracy"], rows, facts, _reading(found), bars),
        _classes_sheet(last),
    ]


def _row(layer: FineLayer) -> list[str]:
    interval = layer.accuracy_interval
    return [
        layer.name,
        percent(layer.accuracy),
        "–" if interval is None else f"[{percent(interval[0])}, {percent(interval[1])}]",
        percent(layer.permuted),
        percent(layer.explained),
        format_number(layer.cdnv_inside),
        format_number(layer.cdnv_across),
        "–" if layer.coarse_accuracy is None else percent(layer.coarse_accuracy),
    ]


def _reading(found: FineStructure) -> str:
    """How to read it, and what it shows."""
    last = found.layers[-1]
    told = "told apart" if last.p_value <= 0.05 else "not told apart"
    words = [
        f"Accuracy inside: of the nearest fine-class centre, leave-one-out, in %; chance {percent(found.chance)}.",
        "Permuted: with fine labels permuted inside each class.",
        "Explained: the share of the variance inside classes that fine classes explain, in %; 0 for labels at random.",
        "CDNV: of pairs of fine classes inside one class, and across two.",
        "Averages are over classes, intervals over other classes of this kind.",
        f"In {last.name}, fine classes are {told} inside their class (p = {last.p_value:.2g}).",
    ]
    best = max(found.layers, key=lambda layer: layer.accuracy)
    if best.to_last is not None:
        interval = best.to_last_interval
        is_known = interval is not None and interval[0] > 0
        ends = "" if interval is None else f" {in_points(interval)}"
        words.append(
            f"They are told apart best in {best.name}, {best.to_last * 100:.2f} points{ends} above {last.name}"
            + ("." if is_known else "; whether that is so on other classes is not known.")
        )
    words += [f"No {name}: {reason}." for name, reason in found.undefined.items()]
    return " ".join(words)


def _classes_sheet(layer: FineLayer) -> Sheet:
    """The coarse classes, the one whose fine classes are least told apart first."""
    ordered = sorted(layer.classes, key=lambda one: one.accuracy - one.permuted)
    rows = [
        [
            one.name,
            f"{one.fine_classes:,}",
            f"{one.samples:,}",
            percent(one.accuracy),
            percent(one.permuted),
            percent(one.explained),
            format_number(one.cdnv),
        ]
        for one in ordered[:MOST]
    ]
    heads = ["class", ">fine classes", ">samples", ">accuracy inside", ">permuted", ">explained", ">CDNV inside"]
    words = f"The {MOST} of {len(ordered):,} whose fine classes are least told apart." if len(ordered) > MOST else ""
    return Sheet(f"Classes in {layer.name}", heads, rows, {}, words)

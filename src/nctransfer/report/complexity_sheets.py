"""The sheet of a backbone's geometric complexity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nctransfer.report.sheet import Sheet
from nctransfer.report.wording import format_number

if TYPE_CHECKING:
    from nctransfer.backbones.geometric_complexity import Estimate, GeometricComplexity

__all__ = ["complexity_sheet"]

NOISE = 0.01  # of values from 0 to 1, in the sentence that says what the numbers mean
MEANINGS = {
    "jacobian": "‖∂f/∂x‖², x from 0 to 1",
    "complexity": "× number of values of x",
    "coarse": "on a grid of 32×32",
    "relative": "complexity / variance of f",
    "relative_coarse": "coarse / variance of f",
}


def complexity_sheet(found: GeometricComplexity) -> Sheet:
    """The estimates with their standard errors, and what they mean."""
    rows = [
        [
            name,
            format_number(one.value),
            format_number(one.error),
            _share(one),
            MEANINGS[name],
        ]
        for name, one in found.estimates.items()
    ]
    low, high = found.interval
    left_out = f", {found.not_finite:,} more left out as not finite" if found.not_finite else ""
    facts = {
        "model": found.model,
        "weights": found.weights,
        "images": f"{found.images:,} of {found.data} at {found.size[0]}×{found.size[1]} pixels{left_out}, "
        f"on {found.device}",
        "probes": f"{found.probes:,} random vectors per image",
    }
    return Sheet(
        "Geometric complexity",
        ["", ">value", ">error", ">from probes", "meaning"],
        rows,
        facts,
        "The error is the standard error over the draw of images and of random vectors, with the share of its square "
        "that more probes per image would lower. 95% interval of the complexity over other images of this data: "
        f"{format_number(low)} to {format_number(high)}. {_in_words(found)}",
    )


def _share(one: Estimate) -> str:
    """The share of the squared standard error that is due to the random vectors."""
    if one.probe_error is None or one.error == 0:
        return "–"
    return f"{min(1.0, (one.probe_error / one.error) ** 2):.0%}"


def _in_words(found: GeometricComplexity) -> str:
    """How far noise in the pixels moves the features, to first order."""
    if found.relative is None:
        return ""
    moved = NOISE * math.sqrt(found.jacobian.value / found.variance)
    return (
        f"To first order, independent noise of standard deviation {NOISE:g} in every pixel value moves a feature "
        f"by {moved:.0%} of the distance at which images lie from their mean."
    )

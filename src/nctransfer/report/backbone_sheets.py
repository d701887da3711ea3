"""Sheets of models and of a backbone's numerics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nctransfer.errors import counted
from nctransfer.report.sheet import Sheet
from nctransfer.report.wording import format_number

if TYPE_CHECKING:
    from nctransfer.backbones.listing import ModelInfo
    from nctransfer.backbones.numerics import NumericsReport

__all__ = ["models_sheet", "numerics_sheet"]


def models_sheet(models: Sequence[ModelInfo]) -> Sheet:
    """Models and whether their weights are at hand; with their size where that is known."""
    measured = any(model.parameters for model in models)
    named = any(model.aliases for model in models)
    rows = [
        [
            model.name,
            *([", ".join(model.aliases)] if named else []),
            str(model.image_size),
            *([_millions(model.parameters), _count(model.width), _count(model.megabytes)] if measured else []),
            model.licence,
            f"here ({model.at_hand})" if model.at_hand else "hub" if model.source.count("/") == 1 else "download",
        ]
        for model in models
    ]
    short = ["short name"] if named else []
    sizes = [">params", ">width", ">MB"] if measured else []
    return Sheet(
        "timm models",
        ["model", *short, ">pixels", *sizes, "licence", "weights"],
        rows,
        {},
        f"{counted(len(models), 'model')}. Weights that are here need no network. Any timm name goes with --model; "
        "nctransfer models '*' lists all, nctransfer models PATTERN those that fit; if they are few, with their size.",
    )


def _millions(number: int | None) -> str:
    return f"{number / 1e6:,.1f}M" if number else "–"


def _count(number: float | None) -> str:
    return f"{number:,.0f}" if number else "–"


def numerics_sheet(report: NumericsReport, data: str = "") -> Sheet:
    """The features of a backbone, and how much they depend on how they are computed."""
    rows = [
        [
            difference.way,
            format_number(difference.largest),
            format_number(difference.median),
            "–" if difference.same_neighbour is None else f"{difference.same_neighbour:.1%}",
            difference.reason or _verdict(difference.largest),
        ]
        for difference in report.differences
    ]
    facts = {
        "model": report.model,
        "weights": report.weights,
        "images": f"{report.images}{f' of {data}' if data else ''}, on {report.device}",
        "features": f"width {report.width:,}; {report.dead:,} the same for every image",
        "norms": f"{format_number(report.smallest_norm)} to {format_number(report.largest_norm)}; "
        f"largest value {format_number(report.largest_value)}",
        "cosine": f"{format_number(report.alike)} on average between two images",
        "NaN or infinite": counted(report.not_finite, "image"),
    }
    return Sheet(
        "Numerics",
        ["run otherwise", ">largest", ">median", ">same neighbour", ""],
        rows,
        facts,
        "The relative difference |f' - f| / |f| compares each image's feature with the plain run: float32, one batch, "
        "channels last if the model can have it. "
        f"Same neighbour is the share of images whose nearest other image stays the same. {_advice(report)}",
    )


def _advice(report: NumericsReport) -> str:
    """One sentence on which ways of running change nearest neighbours."""
    moved = [
        f"{one.way} ({1 - one.same_neighbour:.0%})"
        for one in report.differences
        if one.same_neighbour is not None and one.same_neighbour < 1
    ]
    return (
        f"These ways change nearest neighbours: {', '.join(moved)}."
        if moved
        else "No way of running changes a nearest neighbour."
    )


def _verdict(difference: float | None) -> str:
    if difference is None or math.isnan(difference):
        return "not finite"
    limits = ((0.0, "equal"), (1e-4, "rounding"), (1e-2, "small"))
    return next((word for limit, word in limits if difference <= limit), "large")

"""How a page was made: commands, versions, seeds, keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nctransfer.page.blocks import Facts, Paragraph, Section, Table
from nctransfer.page.shown_places import without_home

if TYPE_CHECKING:
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["provenance_section"]


def provenance_section(
    sets: Mapping[str, FeatureSet], provenance: Mapping[str, Any], seconds: Mapping[str, float]
) -> Section:
    """What somebody needs who wants to make the page again.

    Args:
        sets: The feature sets, by name.
        provenance: The command, the seed and the versions.
        seconds: How long each question took.
    """
    facts = {
        "command": without_home(str(provenance.get("command", ""))),
        "seed": str(provenance.get("seed", "")),
        **{f"version of {name}": number for name, number in provenance.get("versions", {}).items()},
        "seconds": ", ".join(f"{question} {taken:.1f}" for question, taken in seconds.items()),
    }
    rows = tuple((name, fact, value) for name, one in sets.items() for fact, value in _about(one).items())
    return Section(
        id="how-it-was-made",
        title="How it was made",
        says="These are the command, the versions and the settings that all numbers on this page depend on.",
        not_says="Weights and images are named by digests; the page does not hold them.",
        blocks=(
            Facts(items={name: value for name, value in facts.items() if value}),
            Table(columns=("features", "setting", "value"), rows=rows, caption="What the features depend on"),
            Paragraph(
                text="Collapse and its measures follow Galanti, György and Hutter, On the Role of Neural Collapse in "
                "Transfer Learning, ICLR 2022."
            ),
        ),
    )


def _about(features: FeatureSet) -> dict[str, str]:
    """Everything that a feature set says of itself."""
    info = features.describe()
    known = {
        "id": info.id,
        "model": info.model,
        "weights": info.weights,
        "data": info.data,
        "split": info.split,
        "column": info.layer,
        "samples": f"{info.samples:,}",
        "classes": f"{info.classes:,}",
        "width": f"{info.dim:,}",
    }
    key = {} if info.key is None else asdict(info.key)
    settings = {name: value if isinstance(value, str) else json.dumps(value) for name, value in key.items()}
    about = {**settings, **known}
    return {name: without_home(str(value)) for name, value in about.items() if value not in (None, "", "{}")}

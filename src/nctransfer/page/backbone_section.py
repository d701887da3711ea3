"""The backbones: which networks made the features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nctransfer.page.blocks import Facts, Section, Table
from nctransfer.rank.contenders import GivenFeatures

if TYPE_CHECKING:
    from nctransfer.backbones.facts import BackboneFacts
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["backbone_section"]

COLUMNS = ("backbone", "pretrained on", "licence", ">parameters, M", ">GMACs per image", ">pixels", ">width")


def backbone_section(sets: Mapping[str, FeatureSet]) -> Section:
    """What is known of the backbone of each feature set."""
    facts = {name: GivenFeatures(name=name, given=one).facts() for name, one in sets.items()}
    first = next(iter(sets.values())).info
    several = len(sets) > 1
    known = {"weights": first.weights, "layer": first.layer if first.layer != "feature" else None}
    blocks = [] if several or not any(known.values()) else [Facts(items={k: v for k, v in known.items() if v})]
    return Section(
        id="backbones" if several else "backbone",
        title="The backbones" if several else "The backbone",
        says=f"{'These networks' if several else 'This network'} turned the images into features, and "
        f"{'were' if several else 'was'} not trained any further.",
        not_says="A licence is that of the published weights; check it before you use them in a product.",
        blocks=(*blocks, Table(columns=COLUMNS, rows=tuple(_row(*item) for item in facts.items()))),
    )


def _row(name: str, known: BackboneFacts) -> tuple[str, ...]:
    return (
        name,
        known.pretrained_on or "not known",
        known.licence or "not known",
        "–" if known.parameters is None else f"{known.parameters / 1e6:,.1f}",
        "–" if known.gmacs is None else f"{known.gmacs:,.2f}",
        "–" if known.img_size is None else f"{known.img_size}",
        "–" if known.width is None else f"{known.width:,}",
    )

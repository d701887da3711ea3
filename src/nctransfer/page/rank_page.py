"""The page of a ranking: what ``nctransfer rank --html`` writes."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nctransfer
from nctransfer.errors import counted
from nctransfer.page.blocks import Facts, PageContent, Section
from nctransfer.page.ranking_section import ranking_section
from nctransfer.page.shown_places import without_home
from nctransfer.page.words_section import with_words

if TYPE_CHECKING:
    from nctransfer.rank.ranking import Ranking

__all__ = ["rank_content"]


def rank_content(found: Ranking, provenance: Mapping[str, Any]) -> PageContent:
    """A page with the section of the ranking, and how it was made.

    Args:
        found: The ranking.
        provenance: The ``command``, its ``seed``, and the ``versions`` of packages by name.
    """
    return PageContent(
        title=f"Backbones for {Path(found.data).name or found.data}",
        subtitle=f"{counted(found.images, 'image')}, {counted(found.classes, 'class', 'classes')}",
        sections=with_words((ranking_section(found), _made(found, provenance))),
        generated=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        version=nctransfer.__version__,
    )


def _made(found: Ranking, provenance: Mapping[str, Any]) -> Section:
    versions = ", ".join(f"{name} {number}" for name, number in provenance["versions"].items())
    facts = {"command": without_home(str(provenance["command"])), "seed": str(provenance["seed"]), "versions": versions}
    sets = {f"features of {one.name}": without_home(one.features) for one in found.candidates if one.features}
    return Section(
        id="how-it-was-made",
        title="How it was made",
        says="It names the command, the versions and the features, so that the numbers can be made again.",
        not_says="It does not hold the images, nor the features.",
        blocks=(Facts(items=facts | sets),),
    )

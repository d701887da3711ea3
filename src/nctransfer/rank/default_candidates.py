"""The candidates if none is named: all backbones whose weights are at hand, and a curated list."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nctransfer.backbones.hub import why_offline
from nctransfer.backbones.listing import names_at_hand
from nctransfer.backbones.names import of_timm
from nctransfer.backbones.prefetching import is_at_hand
from nctransfer.backbones.request import BackboneRequest
from nctransfer.errors import ModelError
from nctransfer.rank.candidates import Candidate
from nctransfer.rank.curated import curated_models

__all__ = ["NotRun", "default_candidates", "with_weights"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class NotRun:
    """A candidate that cannot run, and why."""

    candidate: Candidate
    reason: str


def default_candidates(like: BackboneRequest | None = None) -> tuple[Candidate, ...]:
    """The curated list, and before it the backbones whose weights are on this machine.

    Args:
        like: A request whose other options, for example the dtype, all candidates take over.
    """
    like = BackboneRequest() if like is None else like
    why = {one.model: one for one in curated_models() if _is_known(one.model)}
    names = dict.fromkeys([*names_at_hand(), *why])
    found = []
    for name in names:
        size = why[name].img_size if name in why and like.img_size is None else like.img_size
        request = replace(like, model=name, img_size=size, checkpoint=None)
        found.append(Candidate(name="", request=request, why=why[name].why if name in why else ""))
    return tuple(found)


def _is_known(model: str) -> bool:
    """Whether the installed timm has a model; older versions lack the newest."""
    try:
        of_timm(model)
    except ModelError:
        log.info("the installed timm has no %s; a newer one has", model)
        return False
    return True


def with_weights(
    candidates: Sequence[Candidate], offline: bool = False
) -> tuple[tuple[Candidate, ...], tuple[NotRun, ...]]:
    """The candidates whose weights are at hand or can be downloaded, and those that cannot run.

    The hub is asked once whether it answers, and only if a candidate needs it.

    Args:
        candidates: The candidates.
        offline: Whether the hub must not be asked.
    """
    absent = {one.name for one in candidates if not is_at_hand(one.request)}
    reason = why_offline(offline) if absent else ""
    if not reason:
        return tuple(candidates), ()
    words = f"its weights are not on this machine, and the hub cannot be asked ({reason})"
    return (
        tuple(one for one in candidates if one.name not in absent),
        tuple(NotRun(candidate=one, reason=words) for one in candidates if one.name in absent),
    )

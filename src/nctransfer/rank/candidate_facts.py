"""What is known about candidates before they run, kept in the cache: finding it out takes part of a second each."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.facts import BackboneFacts, facts_of
from nctransfer.backbones.prefetching import is_at_hand
from nctransfer.errors import NCTransferError, StoreError

if TYPE_CHECKING:
    from nctransfer.rank.candidates import Candidate
    from nctransfer.store.cache_folder import FeatureStore

__all__ = ["ListedCandidate", "candidate_facts", "kept_facts", "listed"]

FORMAT = 1  # of the facts that are kept


@dataclass(frozen=True, kw_only=True)
class ListedCandidate:
    """A candidate with what is known about it before it runs.

    Attributes:
        candidate: The candidate.
        facts: Its size, its work per image, and what it was trained on.
        at_hand: Whether its weights are on this machine.
    """

    candidate: Candidate
    facts: BackboneFacts
    at_hand: bool

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return {
            "name": self.candidate.name,
            "model": self.candidate.request.model,
            "column": self.candidate.column,
            "is_control": self.candidate.is_control,
            "why": self.candidate.why,
            **asdict(self.facts),
            "at_hand": self.at_hand,
        }


def candidate_facts(candidate: Candidate, *, offline: bool = False) -> BackboneFacts:
    """What is known about a candidate: the facts of its backbone, with the width of all layers that are joined.

    Args:
        candidate: The candidate.
        offline: Whether the hub must not be asked for the description of a model on it.
    """
    if not candidate.parts:
        return facts_of(candidate.request, candidate.column, offline=offline)
    parts = [facts_of(candidate.request, column, offline=offline) for column in candidate.parts]
    widths = [one.width for one in parts if one.width is not None]
    return replace(parts[-1], width=sum(widths) if len(widths) == len(parts) else None)


def kept_facts(candidate: Candidate, store: FeatureStore, offline: bool = False) -> BackboneFacts:
    """The facts of a candidate, from the cache if they were found out before.

    Args:
        candidate: The candidate.
        store: The cache.
        offline: Whether the hub must not be asked for the description of a model on it.
    """
    request = candidate.request
    own_code = request.plugin or ":" in request.model  # it may change
    question = {
        "facts": FORMAT,
        **asdict(request),
        "checkpoint": request.checkpoint and request.checkpoint.name,
        "columns": candidate.parts or candidate.column,
        "versions": [version("timm"), version("torch")],
    }
    if not own_code and (answer := store.recall(question)):
        try:
            return BackboneFacts(**answer)
        except TypeError:  # another version wrote it
            pass
    facts = candidate_facts(candidate, offline=offline)
    if not own_code:
        with contextlib.suppress(StoreError):  # without a cache it takes a little longer
            store.remember(question, asdict(facts))
    return facts


def listed(candidates: Sequence[Candidate], store: FeatureStore, offline: bool = False) -> tuple[ListedCandidate, ...]:
    """The candidates with what is known about them before they run, in the same order."""
    return tuple(
        ListedCandidate(candidate=one, facts=kept_facts(one, store, offline), at_hand=_is_at_hand(one))
        for one in candidates
    )


def _is_at_hand(candidate: Candidate) -> bool:
    try:
        return is_at_hand(candidate.request)
    except NCTransferError:
        return False

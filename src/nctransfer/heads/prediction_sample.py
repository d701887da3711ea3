"""A few predictions that are worth a look: images that were held back, and the least certain answers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from nctransfer.heads.foremost import Foremost
from nctransfer.heads.prediction import Prediction

__all__ = ["PredictionSample"]

KEPT = 5


class PredictionSample:
    """Goes through predictions, and keeps up to five of each kind."""

    def __init__(self) -> None:
        self._held_back: dict[str, list[Prediction]] = {}
        self._uncertain: Foremost[Prediction] = Foremost(KEPT)

    def take(self, rows: Iterable[Prediction]) -> None:
        """Go through all predictions."""
        for row in rows:
            if not row.abstained:
                self._uncertain.add(-(row.probability or 0.0), row)
                continue
            kept = self._held_back.setdefault("broken" if row.is_broken else row.reason, [])
            if len(kept) < KEPT:
                kept.append(row)

    @property
    def held_back(self) -> tuple[Prediction, ...]:
        """Images that were not answered: the first of each reason, then the second of each, and so on."""
        by_turns = itertools.zip_longest(*self._held_back.values())
        return tuple(row for row in itertools.chain.from_iterable(by_turns) if row is not None)[:KEPT]

    @property
    def uncertain(self) -> tuple[Prediction, ...]:
        """The answers with the lowest probability, the least certain first."""
        return self._uncertain.items

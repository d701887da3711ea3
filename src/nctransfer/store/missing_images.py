"""What is said where wanted images or columns of a stored set are missing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nctransfer.backbones.feature_key import FEATURE
from nctransfer.errors import FeaturesError, IncompleteError, counted, join_names
from nctransfer.sources.arrow_arrays import are_in, strings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nctransfer.store.listings import Listing
    from nctransfer.store.manifest import Manifest

__all__ = ["count_missing", "no_column", "nothing_wanted"]

log = logging.getLogger(__name__)


def count_missing(
    manifest: Manifest, columns: set[str], chosen: Listing, positions: NDArray[np.int64], partial: bool
) -> int:
    """Note images that gave no features; that others are not stored is an error, or a warning if some are enough.

    Returns how many are not stored, without those that gave no features.

    Raises:
        IncompleteError: Some wanted images are not stored, and all are needed.
    """
    import numpy as np

    missing = chosen.take(np.flatnonzero(positions < 0))
    known = strings(list(manifest.unusable))
    unusable = int((are_in(missing.digests, known) | ~missing.is_known & are_in(missing.ids, known)).sum())
    if unusable < len(missing):
        stored, layers = len(chosen) - len(missing), sorted(columns - {FEATURE})
        message = (
            f"{stored:,} of {len(chosen) - unusable:,} wanted images are stored in {manifest.id}"
            + f" with {join_names(layers)}" * bool(layers)
        )
        if not partial:
            raise IncompleteError(
                message,
                _repair_hint(manifest)
                or "run nctransfer extract for all of them (without --shard), name the part that is wanted (--split, "
                "--max-per-class), or give --partial to go on without the others",
            )
        log.warning("%s", message)
    if unusable:
        log.info(
            "%s of %s left out, because no features could be computed", counted(unusable, "image"), manifest.folder.name
        )
    return len(missing) - unusable


def no_column(manifest: Manifest, columns: set[str]) -> FeaturesError:
    """The error that no part of a set has these columns."""
    there = ", ".join(manifest.columns)
    absent = next(iter(sorted(columns - manifest.columns.keys()) or sorted(columns)))
    return FeaturesError(
        f"{manifest.id} has no column {absent!r}", f"it has {there}; nctransfer extract --layers adds layers"
    )


def nothing_wanted(manifest: Manifest) -> FeaturesError:
    """The error that none of the wanted images is stored."""
    return FeaturesError(
        f"none of the wanted images is stored in {manifest.id}", _repair_hint(manifest) or "run nctransfer extract"
    )


def _repair_hint(manifest: Manifest) -> str:
    """What to do if rows are there that the manifest does not list; empty if there are none."""
    if not (unlisted := manifest.unlisted()):
        return ""
    return (
        f"run nctransfer cache repair {manifest.id}, or extract again: {counted(len(unlisted), 'file')} of rows "
        f"{'is' if len(unlisted) == 1 else 'are'} there that the manifest does not list, after a kill or by damage"
    )

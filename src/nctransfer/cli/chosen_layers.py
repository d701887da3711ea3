"""The layers of a stored set that a command works on: as ``--layers`` names them, and the pooled output last."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nctransfer.cli.chosen_features import ChosenFeatures
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.features.feature_stream import Features
    from nctransfer.sources.selection import Selection
    from nctransfer.store.reading import Snapshot
    from nctransfer.store.stored_set import StoredSet

__all__ = ["read_layers", "stream_layers"]


def stream_layers(name: str | None, given: ChosenFeatures) -> dict[str, Features]:
    """The layers, read in passes.

    Args:
        name: The name of the stored set; ``None`` as for :meth:`ChosenFeatures.find`.
        given: How features are found, and which layers are asked for.

    Raises:
        FeaturesError: There are no such layers.
    """
    from nctransfer.features.feature_stream import FeatureStream
    from nctransfer.features.sample_content import without_duplicates

    snapshot, selection, there, labels = _layers(name, given)
    settings: dict[str, Any] = {"partial": given.allows_partial, "label_column": labels}
    streams = {
        column: given.named_classes(snapshot.stream(selection, column, there, **settings))
        for column in [*there, "feature"]
    }
    if not given.drop_duplicates:
        return dict(streams)
    kept = without_duplicates(streams["feature"])
    assert isinstance(kept, FeatureStream)
    return {name: dataclasses.replace(one, labels=kept.labels, classes=kept.classes) for name, one in streams.items()}


def read_layers(name: str | None, given: ChosenFeatures, *, attributes: Sequence[str] = ()) -> dict[str, FeatureSet]:
    """The layers in memory, with these attributes of the samples; see :func:`stream_layers`."""
    from nctransfer.evaluation.fewshot_comparison import same_samples
    from nctransfer.features.sample_content import without_duplicates

    snapshot, selection, there, labels = _layers(name, given)
    settings: dict[str, Any] = {"partial": given.allows_partial, "label_column": labels, "attributes": attributes}
    read = snapshot.read_columns(selection, [*there, "feature"], **settings)
    found = {column: given.named_classes(features) for column, features in read.items()}
    if not given.drop_duplicates:
        return found
    kept = without_duplicates(found["feature"])
    return {column: same_samples([kept, one])[1] for column, one in found.items()}


def _named(stored: StoredSet, columns: Sequence[str] | dict[str, int], asked: str | None) -> list[str]:
    from nctransfer.errors import FeaturesError

    there = sorted((name for name in columns if name != "feature"), key=lambda name: int(name[6:]))
    if asked and asked.startswith("last-"):
        there = there[-int(asked.removeprefix("last-")) :]
    elif asked and asked != "all":
        there = [f"layer_{index}" for index in asked.split(",")]
    if not there:
        raise FeaturesError(f"{stored.id} has no layers", "add them by nctransfer extract --layers all")
    return there


def _layers(name: str | None, given: ChosenFeatures) -> tuple[Snapshot, Selection, list[str], str | None]:
    """One moment of the set, so that all layers are of the same rows; the samples; the layers; and the label column."""
    from nctransfer.errors import FeaturesError, SettingError

    backbone = given.wanted.backbone
    if given.column is not None:
        raise SettingError("--layers and --feature-column were given at once", "give one of them")
    asked = backbone.request(0).layers  # in a form that is known to be right
    without = given.but(backbone=dataclasses.replace(backbone, layers=None))
    given = given if without.wanted.is_given else without
    found = given.find(name)
    if isinstance(found, Path):
        raise FeaturesError(
            f"--layers compares the layers of a stored set, and {name!r} is a file of features",
            "run the command once for each --feature-column",
        )
    stored, selection = found
    snapshot = stored.snapshot()
    return snapshot, selection, _named(stored, snapshot.manifest.columns, asked), given.label_column

"""Which features a command is about: named, extracted now, or used last."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nctransfer.cli.options import BackboneOptions, OutputOptions, ReadingFlags, SelectionOptions, SourceOptions
from nctransfer.cli.terminal import Terminal

if TYPE_CHECKING:
    from nctransfer.extraction import ExtractionReport
    from nctransfer.features import FeatureSet

__all__ = ["FeatureColumn", "FeaturesArgument", "Wanted", "features_for", "run_extraction"]

log = logging.getLogger("nctransfer.cli")

FeaturesArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="FEATURES",
        help="A stored set (the beginning of its id will do), or a file of features: Parquet (or a folder of it), .npz "
        "or .safetensors. Without: the set used last.",
        show_default=False,
    ),
]
FeatureColumn = Annotated[
    str | None,
    typer.Option(
        "--feature-column",
        rich_help_panel="Data",
        help="Of a stored set: a layer, as layer_3. Of a file of features: the vectors.",
        show_default="feature",
    ),
]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """All that says which images go through which backbone."""

    backbone: BackboneOptions
    source: SourceOptions
    reading: ReadingFlags
    chosen: SelectionOptions

    @property
    def is_given(self) -> bool:
        """Whether a backbone or data are named."""
        return bool(self.backbone.is_given or self.source.data)


def run_extraction(wanted: Wanted, output: OutputOptions, terminal: Terminal) -> ExtractionReport:
    """Extract what the options name; what they leave open is the built-in default, and said."""
    from nctransfer import extraction
    from nctransfer.catalogue import DEFAULT_MODEL
    from nctransfer.sources import Digits, open_source
    from nctransfer.store import FeatureStore

    if wanted.backbone.model is None:
        log.info("no --model: %s, whose weights are at hand", DEFAULT_MODEL)
    if wanted.source.data is None:
        log.info("no --data: the built-in digits of scikit-learn")
    return extraction.extract_to_store(
        FeatureStore(output.cache_dir),
        wanted.backbone.request(wanted.chosen.seed),
        open_source(
            wanted.source.data or Digits.name, wanted.reading.reading(wanted.chosen.split, wanted.source.offline)
        ),
        wanted.chosen.selection(),
        wanted.source.runtime(output.device),
        terminal.progress,
    )


def features_for(
    name: str | None, wanted: Wanted, column: str | None, output: OutputOptions, terminal: Terminal
) -> FeatureSet:
    """The features that a command is about.

    In this order: those named; those of ``--model`` and ``--data``, extracted if need be; the set used last; the
    built-in default.
    """
    from nctransfer.errors import BrokenImagesError, FeaturesError
    from nctransfer.foreign import read_features
    from nctransfer.store import FEATURE, FeatureStore

    store = FeatureStore(output.cache_dir)
    layer = column or FEATURE
    if name is not None:
        if wanted.is_given:
            raise FeaturesError(f"features {name!r} were named, and --model or --data too", "give one or the other")
        selection = wanted.chosen.selection()
        if (named := store.resolve(name)) is None:
            path = Path(name).expanduser()
            return read_features(path, wanted.reading.label_column, column, selection, wanted.reading.names)
        store.use(named, selection)
        return named.read(selection, layer)
    if not wanted.is_given and (last := store.last):
        stored, selection = last
        if wanted.chosen.is_given:
            selection = wanted.chosen.selection()
        words = f" ({selection})" if str(selection) else ""
        log.info("the set used last: %s%s", stored.id, words)
        return stored.read(selection, layer)
    if not wanted.is_given:
        log.info("nothing is stored yet: the built-in default is extracted first")
    report = run_extraction(wanted, output, terminal)
    if report.failed:
        broken = BrokenImagesError(report.failed, report.samples)
        if not wanted.source.skip_broken:
            raise broken
        log.warning("%s", broken.message)
    return report.stored.read(report.selection, layer)

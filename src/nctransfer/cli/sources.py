"""Which features a command is about: named, extracted now, or used last."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.cli.options import OutputOptions, SelectionOptions, SourceOptions
from nctransfer.cli.terminal import Terminal

if TYPE_CHECKING:
    from nctransfer.extraction import ExtractionReport
    from nctransfer.features import FeatureSet

__all__ = ["features_for", "run_extraction"]

log = logging.getLogger("nctransfer.cli")


def run_extraction(
    source: SourceOptions, chosen: SelectionOptions, output: OutputOptions, terminal: Terminal
) -> ExtractionReport:
    """Extract what the options name; what they leave open is the built-in default, and said."""
    from nctransfer import extraction, images
    from nctransfer.backbones import DEFAULT_MODEL, BackboneRequest
    from nctransfer.store import FeatureStore

    if source.model is None:
        log.info("no --model: %s, whose weights are at hand", DEFAULT_MODEL)
    if source.data is None:
        log.info("no --data: the built-in digits of scikit-learn")
    return extraction.extract_to_store(
        FeatureStore(output.cache_dir),
        BackboneRequest(
            source.model or DEFAULT_MODEL,
            source.checkpoint,
            source.random_init,
            chosen.seed,
            source.dtype,
            source.store_dtype,
        ),
        images.open_source(source.data or images.Digits.name),
        chosen.selection(),
        extraction.Runtime(output.device, source.batch_size, source.workers, source.offline),
        terminal.progress,
    )


def features_for(
    name: str | None,
    source: SourceOptions,
    chosen: SelectionOptions,
    output: OutputOptions,
    terminal: Terminal,
    label_column: str | None,
    feature_column: str,
) -> FeatureSet:
    """The features that a command is about.

    In this order: those named; those of ``--model`` and ``--data``, extracted if need be; the set used last; the
    built-in default.
    """
    from nctransfer.errors import BrokenImagesError, FeaturesError
    from nctransfer.features import read_parquet
    from nctransfer.store import FeatureStore

    store = FeatureStore(output.cache_dir)
    if name is not None:
        if source.is_given:
            raise FeaturesError(f"features {name!r} were named, and --model or --data too", "give one or the other")
        selection = chosen.selection()
        if (named := store.resolve(name)) is None:
            return read_parquet(Path(name).expanduser(), label_column, feature_column, selection)
        store.use(named, selection)
        return named.read(selection)
    if not source.is_given and (last := store.last):
        stored, selection = last
        if chosen.is_given:
            selection = chosen.selection()
        words = f" ({selection})" if str(selection) else ""
        log.info("the set used last: %s%s", stored.id, words)
        return stored.read(selection)
    if not source.is_given:
        log.info("nothing is stored yet: the built-in default is extracted first")
    report = run_extraction(source, chosen, output, terminal)
    if report.failed:
        broken = BrokenImagesError(report.failed, report.samples)
        if not source.skip_broken:
            raise broken
        log.warning("%s", broken.message)
    return report.stored.read(report.selection)

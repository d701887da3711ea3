"""Which features a command is about: named, extracted now, or used last."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from nctransfer.cli.options import BackboneOptions, OutputOptions, ReadingFlags, SelectionOptions, SourceOptions
from nctransfer.cli.terminal import Terminal

if TYPE_CHECKING:
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.features.feature_stream import Features
    from nctransfer.sources.selection import Selection
    from nctransfer.store.extraction_report import ExtractionReport
    from nctransfer.store.stored_set import StoredSet

    Found = Path | tuple[StoredSet, Selection]

__all__ = [
    "FeatureColumn",
    "FeaturesArgument",
    "FeaturesArguments",
    "Wanted",
    "again_if_changed",
    "features_for",
    "find_set",
    "run_extraction",
    "short_name",
    "stream_for",
    "streamed",
]

log = logging.getLogger(__name__)

Result = TypeVar("Result")
ATTEMPTS = 3  # how often a command starts before a set that keeps changing is an error

FeaturesArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="FEATURES",
        help="A stored set (the beginning of its id will do), or a file of features: Parquet (or a folder of it), .npz "
        "or .safetensors. Without: the set used last.",
        show_default=False,
    ),
]
FeaturesArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FEATURES]...",
        help="Stored sets (the beginning of an id will do), or files of features: Parquet (or a folder of it), "
        ".npz or .safetensors; several stand side by side. Without: the set used last.",
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
        return self.backbone.is_given or self.source.data is not None


def run_extraction(wanted: Wanted, output: OutputOptions, terminal: Terminal) -> ExtractionReport:
    """Extract what the options name; what they leave open is the built-in default, and said."""
    from nctransfer.backbones.names import DEFAULT_MODEL
    from nctransfer.sources.digits import Digits
    from nctransfer.sources.opening import open_source
    from nctransfer.store.cache_folder import FeatureStore
    from nctransfer.store.extraction import extract_to_store

    if wanted.backbone.model is None:
        log.info("no --model: %s, whose weights are at hand", DEFAULT_MODEL)
    if wanted.source.data is None:
        log.info("no --data: the built-in digits of scikit-learn")
    store, selection = FeatureStore(output.cache_dir), wanted.chosen.selection()
    report = extract_to_store(
        store,
        wanted.backbone.request(wanted.chosen.seed),
        open_source(
            Digits.name if wanted.source.data is None else wanted.source.data,
            wanted.reading.reading(wanted.chosen.split, wanted.source.offline),
        ),
        selection,
        wanted.source.runtime(output.device),
        terminal.progress,
    )
    store.use(report.stored, selection)
    return report


def features_for(
    name: str | None,
    wanted: Wanted,
    column: str | None,
    output: OutputOptions,
    terminal: Terminal,
) -> FeatureSet:
    """The features that a command is about, in memory; see :func:`find_set`."""
    from nctransfer.backbones.feature_key import FEATURE
    from nctransfer.features.files import read_features

    found = find_set(name, wanted, output, terminal)
    if isinstance(found, Path):
        selection = wanted.chosen.selection()
        return read_features(found, wanted.reading.label_column, column, selection, wanted.reading.names)
    stored, selection = found
    return stored.read(selection, column or FEATURE)


def again_if_changed(work: Callable[[], Result]) -> Result:
    """Do some work on stored features; start over if another process changed a set while it was read.

    Args:
        work: Finds the features, computes, and prints nothing.

    Raises:
        SetChangedError: The set has changed each time.
    """
    from nctransfer.errors import SetChangedError

    for _ in range(ATTEMPTS - 1):
        try:
            return work()
        except SetChangedError as error:
            log.warning("%s; starting over", error)
    return work()


def short_name(features: Features, number: int) -> str:
    """What a set is called beside others."""
    return f"{number + 1}: {features.info.model or features.info.data or features.info.id}"


def stream_for(
    name: str | None, wanted: Wanted, column: str | None, output: OutputOptions, terminal: Terminal
) -> Features:
    """The features that a command is about, read in passes; see :func:`find_set`."""
    found = find_set(name, wanted, output, terminal)
    return streamed(found, wanted, column)


def streamed(found: Found, wanted: Wanted, column: str | None) -> Features:
    """What :func:`find_set` found, read in passes."""
    from nctransfer.backbones.feature_key import FEATURE
    from nctransfer.features.files import stream_features

    if isinstance(found, Path):
        selection = wanted.chosen.selection()
        return stream_features(found, wanted.reading.label_column, column, selection, wanted.reading.names)
    stored, selection = found
    return stored.stream(selection, column or FEATURE)


def _refuse(name: str, given: ReadingFlags, *useless: str) -> None:
    from nctransfer.errors import FeaturesError

    for option in useless:
        if getattr(given, option) is not None:
            flag = f"--{option.replace('_', '-')}"
            raise FeaturesError(f"the features {name!r} have no use for {flag}", f"leave out {flag}")


def find_set(name: str | None, wanted: Wanted, output: OutputOptions, terminal: Terminal) -> Found:
    """A stored set and what is wanted of it, or the file of features made elsewhere.

    In this order: what is named; what ``--model`` and ``--data`` say, extracted if need be; the set used last; the
    built-in default.
    """
    from nctransfer.errors import BrokenImagesError, FeaturesError
    from nctransfer.store.cache_folder import FeatureStore

    store = FeatureStore(output.cache_dir)
    if name is not None:
        if wanted.is_given:
            raise FeaturesError(
                f"features {name!r} were named, and --data or options of a backbone (--model …) too",
                "give one or the other",
            )
        if not name:
            raise FeaturesError("the name of the features is empty", "leave it out for the set used last")
        if (named := store.resolve(name)) is None:
            _refuse(name, wanted.reading, "image_column", "image_root", "data_dir")
            return Path(name).expanduser()
        _refuse(name, wanted.reading, *(field.name for field in dataclasses.fields(ReadingFlags)))
        store.use(named, wanted.chosen.selection())
        return named, wanted.chosen.selection()
    if not wanted.is_given and (last := store.last_used()):
        stored, selection = last
        if wanted.chosen.is_given:
            selection = wanted.chosen.selection()
        words = f" ({selection})" if str(selection) else ""
        log.info("the set used last: %s%s", stored.id, words)
        return stored, selection
    if not wanted.is_given:
        log.info("nothing is stored yet: the built-in default is extracted first")
    report = run_extraction(wanted, output, terminal)
    if report.failed:
        broken = BrokenImagesError(report.failed, report.samples)
        if not wanted.source.skip_broken:
            raise broken
        log.warning("%s", broken.message)
    return report.stored, report.selection

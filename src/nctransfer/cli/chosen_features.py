"""Which features a command works on: named by the user, extracted now, or used last."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nctransfer.cli.backbone_options import BackboneOptions
from nctransfer.cli.data_options import ImageOptions, ReadingFlags, SelectionOptions
from nctransfer.paths import expanded

if TYPE_CHECKING:
    from nctransfer.cli.engine_options import EngineOptions
    from nctransfer.cli.output_options import PrintOptions
    from nctransfer.cli.terminal import Terminal
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.features.feature_stream import Features
    from nctransfer.sources.selection import Selection
    from nctransfer.sources.source import ImageEntry
    from nctransfer.store.cache_folder import FeatureStore
    from nctransfer.store.extraction_report import ExtractionReport
    from nctransfer.store.pipeline import Runtime
    from nctransfer.store.stored_set import StoredSet

    Found = Path | tuple[StoredSet, Selection]

__all__ = ["ChosenFeatures", "Wanted", "again_if_changed", "run_extraction"]

log = logging.getLogger(__name__)

Result = TypeVar("Result")
AnyFeatures = TypeVar("AnyFeatures", bound="Features")
ATTEMPTS = 3  # how often a command starts before a set that keeps changing is an error


@dataclasses.dataclass(frozen=True)
class Wanted:
    """All options that say which images go through which backbone."""

    backbone: BackboneOptions
    images: ImageOptions
    reading: ReadingFlags
    chosen: SelectionOptions
    shard: str | None = None
    engine: EngineOptions | None = None

    def selection(self) -> Selection:
        """The images that are wanted of this worker.

        Raises:
            DataError: A file of class names cannot be read.
            SettingError: There is no such shard.
        """
        from nctransfer.sources.sharding import Shard

        shard = None if self.shard is None else Shard.parse(self.shard)
        return dataclasses.replace(self.chosen.selection(), shard=shard)

    def runtime(self, device: str) -> Runtime:
        """How the images are run.

        Raises:
            SettingError: An option does not apply to the engine.
        """
        runtime = self.images.runtime(device)
        return runtime if self.engine is None else self.engine.applied_to(runtime)

    @property
    def is_given(self) -> bool:
        """Whether a backbone or images are named."""
        return self.backbone.is_given or self.images.data is not None


@dataclasses.dataclass(frozen=True)
class ChosenFeatures:
    """Finds and reads the features that a command works on.

    Attributes:
        wanted: The options of the command.
        column: The column of the vectors; ``None`` for the usual one.
        output: Where the cache is, and where to compute.
        terminal: Where progress is shown.
        drop_duplicates: Whether samples with the same features as an earlier one are left out.
        rehearse: Tries on the labels alone what will be done with the features, before images run for them; what
            cannot be done is an error.
    """

    wanted: Wanted
    column: str | None
    output: PrintOptions
    terminal: Terminal
    drop_duplicates: bool = False
    rehearse: Callable[[FeatureSet], object] | None = None

    @property
    def allows_partial(self) -> bool:
        """Whether some of the wanted samples are enough."""
        return self.wanted.chosen.allows_partial

    @property
    def label_column(self) -> str | None:
        """The attribute that says the classes of a stored set; ``None`` for those that were extracted now."""
        return None if self.wanted.is_given else self.wanted.reading.label_column

    def named_classes(self, features: AnyFeatures) -> AnyFeatures:
        """Features that were extracted now, with the column that their classes are from, if it was named."""
        column = self.wanted.reading.label_column
        if not self.wanted.is_given or column is None:
            return features
        info = dataclasses.replace(features.info, label_column=column)
        return dataclasses.replace(features, info=info)  # type: ignore[type-var]

    def read(self, name: str | None, other: Features | None = None, *, attributes: Iterable[str] = ()) -> FeatureSet:
        """The features in memory; see :meth:`find` for which.

        Args:
            name: The name of the features.
            other: A set whose samples are left out too if duplicates are.
            attributes: The names of attributes that the features shall come with.
        """
        return self.read_of(self.find(name), other, attributes=attributes)

    def read_of(self, found: Found, other: Features | None = None, *, attributes: Iterable[str] = ()) -> FeatureSet:
        """What :meth:`find` found, in memory."""
        from nctransfer.backbones.feature_key import FEATURE
        from nctransfer.features.files import read_features
        from nctransfer.features.sample_content import without_duplicates

        if isinstance(found, Path):
            reading, selection = self.wanted.reading, self.wanted.chosen.selection()
            features = read_features(found, reading.label_column, self.column, selection, reading.names, attributes)
        else:
            stored, selection = found
            features = stored.read(
                selection,
                self.column or FEATURE,
                partial=self.allows_partial,
                attributes=attributes,
                label_column=self.label_column,
            )
            features = self.named_classes(features)
        if not self.drop_duplicates:
            return features
        return _noted(features, without_duplicates(features, other))

    def stream(self, name: str | None, other: Features | None = None) -> Features:
        """The features, read in passes; see :meth:`find` for which, and :meth:`read` for the other set."""
        return self.stream_of(self.find(name), other)

    def stream_of(self, found: Found, other: Features | None = None) -> Features:
        """What :meth:`find` found, read in passes."""
        from nctransfer.backbones.feature_key import FEATURE
        from nctransfer.features.files import stream_features
        from nctransfer.features.sample_content import without_duplicates

        features: Features
        if isinstance(found, Path):
            reading, selection = self.wanted.reading, self.wanted.chosen.selection()
            features = stream_features(found, reading.label_column, self.column, selection, reading.names)
        else:
            stored, selection = found
            features = stored.stream(
                selection, self.column or FEATURE, partial=self.allows_partial, label_column=self.label_column
            )
            features = self.named_classes(features)
        if not self.drop_duplicates:
            return features
        return _noted(features, without_duplicates(features, other))

    def named_only(self) -> ChosenFeatures:
        """The same for features that a second option names: those of no backbone, since that is of the first."""
        return self.but(backbone=BackboneOptions(), images=ImageOptions())

    def but(self, **options: Any) -> ChosenFeatures:
        """The same with some groups of options replaced."""
        return dataclasses.replace(self, wanted=dataclasses.replace(self.wanted, **options))

    def find(self, name: str | None) -> Found:
        """A stored set with the samples that are wanted of it, or the file of features made elsewhere.

        The first of these: the features that are named; those of ``--model`` and ``--data``, extracted if need be; the
        set used last; the built-in default.
        """
        from nctransfer.store.cache_folder import FeatureStore

        store = FeatureStore(self.output.cache_dir)
        if name is not None:
            return self._named(name, store)
        if self.wanted.is_given:
            return self._extracted()
        if last := store.last_used():
            stored, selection, has_own_classes = last
            store.use(stored, selection)
            self._refuse_reading("the set used last")
            if self.wanted.chosen.is_given:
                selection = self.wanted.chosen.selection()
            log.info("the set used last: %s%s", stored.id, f" ({selection})" if str(selection) else "")
            if has_own_classes and self.label_column is None:
                log.warning(
                    "the command before measured these images in classes of its own; these are the stored ones, and "
                    "--label-column names others"
                )
            return stored, selection
        log.info("nothing is stored yet: the built-in default is extracted first")
        return self._extracted()

    def _named(self, name: str, store: FeatureStore) -> Found:
        from nctransfer.errors import FeaturesError

        if self.wanted.is_given:
            raise FeaturesError(
                f"the features {name!r} were named, and also --data or options of a backbone such as --model",
                "give one or the other",
            )
        if not name:
            raise FeaturesError("the name of the features is empty", "leave it out for the set used last")
        try:
            stored = store.resolve(name)
        except FeaturesError:
            if not store.has_name(name):
                _refuse_images(name)
            raise
        if stored is None:
            _refuse_images(name)
            self._refuse(name, "image_column", "split_column", "no_header", "image_root", "data_dir", "label_depth")
            return expanded(name)
        self._refuse_reading(name)
        selection = self.wanted.chosen.selection()
        store.use(stored, selection)
        return stored, selection

    def _refuse_reading(self, name: str) -> None:
        """Refuse options for reading that have no effect on a stored set: all but the column of the labels."""
        names = {field.name for field in dataclasses.fields(ReadingFlags)} - {"label_column"}
        self._refuse(name, *sorted(names))

    def _refuse(self, name: str, *useless: str) -> None:
        """Refuse options that would have no effect on these features."""
        from nctransfer.errors import FeaturesError

        for option in useless:
            if getattr(self.wanted.reading, option) not in (None, False):
                flag = f"--{option.replace('_', '-')}"
                folders = "; of a stored set, --label-column folder-1,folder-2 makes classes of two folders"
                hint = f"leave out {flag}{folders if option == 'label_depth' else ''}"
                raise FeaturesError(f"{flag} has no effect on the features {name!r}", hint)

    def _extracted(self) -> Found:
        from nctransfer.errors import BrokenImagesError, SettingError
        from nctransfer.features.stand_ins import stand_ins

        if self.allows_partial:
            raise SettingError(
                "--partial has no effect with --data or options of a backbone: missing images are extracted",
                "name the stored set in their place, or leave out --partial",
            )

        rehearse = self.rehearse
        report = run_extraction(
            self.wanted,
            self.output,
            self.terminal,
            rehearse=None if rehearse is None else lambda entries: rehearse(stand_ins(entries)),
            keep_classes=True,
        )
        if report.failed and not self.wanted.images.skip_broken:
            raise BrokenImagesError(report.failed, report.samples)
        return report.stored, report.selection


def _noted(features: AnyFeatures, fewer: AnyFeatures) -> AnyFeatures:
    """The second set; a note says how many samples of the first it lacks."""
    from nctransfer.errors import counted

    if left_out := len(features) - len(fewer):
        log.info("%s of %s left out", counted(left_out, "duplicate"), features.info.id)
    return fewer


def run_extraction(
    wanted: Wanted,
    output: PrintOptions,
    terminal: Terminal,
    rehearse: Callable[[Sequence[ImageEntry]], object] | None = None,
    keep_classes: bool = False,
) -> ExtractionReport:
    """Extract what the options name. Without a model or data, the built-in ones are taken, and a note says so.

    Args:
        wanted: The options.
        output: Where the cache is, and where to compute.
        terminal: Where progress is shown.
        rehearse: Called with the wanted images before any of them runs.
        keep_classes: Whether classes other than the stored ones hold for this command alone.
    """
    from nctransfer.backbones.names import DEFAULT_MODEL
    from nctransfer.sources.digits import Digits
    from nctransfer.sources.opening import open_source
    from nctransfer.store.cache_folder import FeatureStore
    from nctransfer.store.extraction import extract_to_store

    if wanted.backbone.model is None:
        log.info("no --model: taking %s, whose weights are installed", DEFAULT_MODEL)
    if wanted.images.data is None:
        log.info("no --data: taking the built-in digits of scikit-learn")
    store, selection = FeatureStore(output.cache_dir), wanted.selection()
    report = extract_to_store(
        store,
        wanted.backbone.request(wanted.chosen.seed),
        open_source(
            Digits.name if wanted.images.data is None else wanted.images.data,
            wanted.reading.reading(wanted.chosen.split, wanted.images.offline),
        ),
        selection,
        wanted.runtime(output.device),
        terminal.progress,
        rehearse=rehearse,
        keep_classes=keep_classes,
    )
    store.use(report.stored, selection)
    return report


def _refuse_images(name: str) -> None:
    """Refuse images where features are named."""
    from nctransfer.errors import FeaturesError
    from nctransfer.sources.images_not_features import holds_images

    if holds_images(expanded(name)):
        raise FeaturesError(
            f"{name!r} holds images or their paths, and no features",
            f"give images by --data {name}; where two sets are needed, name the features that nctransfer extract "
            f"--data {name} stores",
        )


def again_if_changed(work: Callable[[], Result]) -> Result:
    """Do some work on stored features, and start over if another process changed a set while it was read.

    Args:
        work: Finds the features and computes. It prints nothing.

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

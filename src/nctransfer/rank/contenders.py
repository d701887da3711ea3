"""What competes: features that are there already, or a backbone that runs over as many images as a round needs."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from nctransfer.backbones.facts import BackboneFacts, facts_of
from nctransfer.backbones.request import BackboneRequest
from nctransfer.errors import (
    BrokenImage,
    BrokenImagesError,
    FeaturesError,
    ModelError,
    NCTransferError,
    SetChangedError,
    StoreError,
    counted,
    join_names,
    reason_of,
)
from nctransfer.evaluation.layer_candidates import join_features
from nctransfer.rank.candidate_facts import candidate_facts
from nctransfer.store.extraction import extract_to_store
from nctransfer.store.measured_speed import Speed, measured_speed, speed_of

if TYPE_CHECKING:
    from nctransfer.backbones.hub import Progress
    from nctransfer.features.feature_info import FeatureInfo
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.rank.candidates import Candidate
    from nctransfer.sources.selection import Selection
    from nctransfer.sources.source import ImageSource
    from nctransfer.store.cache_folder import FeatureStore
    from nctransfer.store.pipeline import Runtime
    from nctransfer.store.stored_set import StoredSet
    from nctransfer.store.wanted_images import WantedImages

__all__ = ["Contender", "GivenFeatures", "RunBackbone", "UnusableImagesError", "Workplace"]

log = logging.getLogger(__name__)


class UnusableImagesError(Exception):
    """The images or the cache cannot be used, which is not the fault of one backbone: it ends a ranking.

    ``error`` says why.
    """

    def __init__(self, error: NCTransferError) -> None:
        super().__init__(error.message)
        self.error = error


class Contender(Protocol):
    """Anything that gives features of the same images as all others."""

    @property
    def name(self) -> str:
        """What tables call it."""

    @property
    def is_control(self) -> bool:
        """Whether it is there for comparison only."""

    def features(self, images: int | None) -> FeatureSet:
        """The features of up to so many images per class; of all if it is ``None``."""

    def facts(self) -> BackboneFacts:
        """What is known about the backbone."""

    def speed(self) -> Speed | None:
        """How fast it ran, as far as it is known."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenFeatures:
    """Features that are stored, or were made elsewhere.

    Attributes:
        name: What tables call them.
        given: All features.
        how_fast: How fast the backbone ran when they were extracted, if that is known.
    """

    name: str
    given: FeatureSet
    how_fast: Speed | None = None
    is_control: bool = False

    def features(self, images: int | None = None) -> FeatureSet:  # noqa: ARG002 - they are all there
        """All features."""
        return self.given

    def facts(self) -> BackboneFacts:
        """What is known about the backbone that made them."""
        return _facts_of_stored(self.given.info, self.given.dim)

    def speed(self) -> Speed | None:
        """How fast the backbone ran when they were extracted."""
        return self.how_fast


def _facts_of_stored(info: FeatureInfo, width: int) -> BackboneFacts:
    """What is known about the backbone of stored features, by their key."""
    if info.key is None:
        return BackboneFacts(width=width)
    key = info.key
    size = key.transform.get("input_size", (None,))[-1]
    request = BackboneRequest(
        key.model,
        img_size=size,
        pool=None if key.pool == "pre_logits" else key.pool,
        model_kwargs=key.model_kwargs,
        plugin=None,
    )
    facts = replace(facts_of(request, offline=True), width=width, img_size=size)
    if "." in key.model:  # the tag of published weights
        return facts
    return replace(facts, pretrained_on=info.weights or "", licence="")


@dataclass(frozen=True, kw_only=True, eq=False)
class Workplace:
    """The images, the cache, and how backbones run: the same for all candidates.

    Attributes:
        store: Where features are kept.
        source: The images.
        listed: What the source lists, and what is wanted of it.
        selection: Which images are wanted.
        runtime: How to run.
        skip_broken: Whether images that cannot be read are left out; otherwise they are an error.
        progress: Called as ``progress(stage, done, total)``.
        ids: The names of the images of the first candidate, by images per class.
        speeds: How fast backbones ran in this run, by the id of their set.
        broken: The images that could not be read, and why.
    """

    store: FeatureStore
    source: ImageSource
    listed: WantedImages
    selection: Selection
    runtime: Runtime
    skip_broken: bool = False
    progress: Progress | None = None
    ids: dict[int | None, tuple[str, ...]] = field(default_factory=dict)
    speeds: dict[str, Speed] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def wanted(self, images: int | None) -> Selection:
        """The selection of up to so many images per class."""
        most = self.selection.max_per_class
        if images is None or (most is not None and most <= images):
            return self.selection
        return replace(self.selection, max_per_class=images)

    def note_broken(self, found: Sequence[BrokenImage]) -> None:
        """Remember images that could not be read, and warn of those that were not known yet."""
        if new := [one for one in found if one.id not in self.broken]:
            self.broken.update((one.id, one.reason) for one in new)
            names = join_names([repr(one.id) for one in new])
            log.warning(
                "%s that cannot be read left out: %s; the first: %s",
                counted(len(new), "image"),
                names,
                new[0].reason,
            )

    def check(self, features: FeatureSet, images: int | None) -> None:
        """Refuse features of fewer images than the first candidate had.

        Raises:
            FeaturesError: There are fewer.
        """
        expected = self.ids.setdefault(images, features.ids)
        if features.ids != expected:
            raise FeaturesError(f"it has features of other images: {len(features):,} of {len(expected):,}")


@dataclass(frozen=True, kw_only=True, eq=False)
class RunBackbone:
    """A backbone that runs over the images that a round needs and that are not in the cache.

    Attributes:
        candidate: The backbone, and which of its outputs.
        place: The images and the cache.
        get_ready: Called before it runs, for example to wait for its weights and to fetch those of the next one.
    """

    candidate: Candidate
    place: Workplace
    get_ready: Callable[[Candidate], None] = lambda _: None
    _last: dict[str, StoredSet] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.candidate.name

    @property
    def is_control(self) -> bool:
        """Whether it is there for comparison only."""
        return self.candidate.is_control

    def features(self, images: int | None) -> FeatureSet:
        """The features of up to so many images per class, extracted if they are not stored.

        Raises:
            NCTransferError: The backbone cannot be used.
            UnusableImagesError: The images, or the cache, cannot be used by any backbone.
        """
        try:
            return self._features(images)
        except BrokenImagesError as error:
            raise UnusableImagesError(error) from error
        except StoreError as error:
            if isinstance(error, SetChangedError):
                raise
            raise UnusableImagesError(error) from error
        except NCTransferError:
            raise
        except Exception as error:  # models raise all kinds of errors
            log.debug("%s failed", self.name, exc_info=True)
            raise ModelError(f"{type(error).__name__}: {reason_of(error)}") from error

    def _features(self, images: int | None) -> FeatureSet:
        place, selection = self.place, self.place.wanted(images)
        self.get_ready(self.candidate)
        report = extract_to_store(
            place.store,
            self.candidate.request,
            place.source,
            selection,
            place.runtime,
            functools.partial(_tell, place.progress, self.name),
            images=place.listed.only(selection),
            keep_classes=True,
        )
        if report.has_diverged:
            raise FeaturesError(f"{report.failed[0].reason} for {counted(len(report.failed), 'image')}")
        if report.failed and not place.skip_broken:
            raise BrokenImagesError(report.failed, report.samples)
        place.note_broken(report.failed)
        self._last["stored"] = report.stored
        if (speed := speed_of(report, place.runtime)) is not None:
            before = place.speeds.get(report.stored.id, speed)
            place.speeds[report.stored.id] = max(before, speed, key=lambda one: (not one.has_first_batch, one.images))
        features = self._read(report.stored, selection)
        place.check(features, images)
        return features

    def _read(self, stored: StoredSet, selection: Selection) -> FeatureSet:
        """The output of the backbone that competes, or several of its layers joined."""
        candidate = self.candidate
        if not candidate.parts:
            return stored.read(selection, candidate.column)
        return join_features({name: stored.read(selection, name) for name in candidate.parts}, candidate.column)

    def facts(self) -> BackboneFacts:
        """What is known about the backbone."""
        return candidate_facts(self.candidate, offline=self.place.runtime.offline)

    def speed(self) -> Speed | None:
        """How fast it ran in this run, or the last time."""
        if (stored := self._last.get("stored")) is None:
            return None
        return self.place.speeds.get(stored.id) or measured_speed(stored, self.place.runtime)

    def use(self) -> None:
        """Make its features the set that commands take if none is named."""
        if stored := self._last.get("stored"):
            self.place.store.use(stored, self.place.selection)


def _tell(progress: Progress | None, name: str, stage: str, done: int, total: int) -> None:
    if progress is not None:
        progress(f"{name}: {stage}", done, total)

"""The page of a report: everything measured, with the images, in one HTML file."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nctransfer.errors import counted
from nctransfer.page.backbone_section import backbone_section
from nctransfer.page.blocks import Notice, PageContent, Section
from nctransfer.page.checkpoints_section import checkpoints_section
from nctransfer.page.class_map_section import class_map_section
from nctransfer.page.close_classes import closest_pairs
from nctransfer.page.closest_pairs_section import closest_pairs_section
from nctransfer.page.confusion_section import confusion_section
from nctransfer.page.data_section import data_section
from nctransfer.page.image_finder import find_images
from nctransfer.page.image_map_section import image_map_section
from nctransfer.page.layers_section import layers_section
from nctransfer.page.learning_curve_section import learning_curve_section
from nctransfer.page.measured import Measured, Missing
from nctransfer.page.measuring import MOST_IMAGES, Questions, looked_at, measure
from nctransfer.page.page_files import check_page_file, write_page
from nctransfer.page.provenance_section import provenance_section
from nctransfer.page.ranking_section import ranking_section
from nctransfer.page.sentences import sentence
from nctransfer.page.shown_places import last_part, without_home
from nctransfer.page.suspects_section import suspects_section
from nctransfer.page.thumbnails import MOST_THUMBNAILS, choose_images, make_thumbnails, wanted_images
from nctransfer.page.verdict_section import verdict_section
from nctransfer.page.words_section import with_words
from nctransfer.paths import expanded

if TYPE_CHECKING:
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.page.image_finder import FoundImages
    from nctransfer.sources.source import ImageSource
    from nctransfer.sources.source_kind import ReadingOptions

__all__ = ["WrittenReport", "report_page", "write_report"]

COLOURED = 3  # closest pairs, whose classes have colours on the image map at first

Answer = TypeVar("Answer")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class WrittenReport:
    """A report that was written.

    Attributes:
        path: The file.
        bytes: Its size.
        page: What is on it.
        measured: What it is made from.
    """

    path: Path
    bytes: int
    page: PageContent
    measured: Measured

    @property
    def missing(self) -> dict[str, str]:
        """Questions that have no answer, and why."""
        names = ("fit", "labels", "bounds", "audit", "ranking", "layers", "checkpoints")
        answers = {name: getattr(self.measured, name) for name in names}
        return {name: answer.reason for name, answer in answers.items() if isinstance(answer, Missing)}

    def to_dict(self) -> dict[str, Any]:
        """What was written, as a dictionary for JSON."""
        found = self.measured
        promise = None if isinstance(found.fit, Missing) else found.fit.head.promise
        targets = () if isinstance(found.labels, Missing) else found.labels.targets
        return {
            "path": str(self.path),
            "bytes": self.bytes,
            "features": found.features.to_dict(),
            "images_of": sum(found.of.values()),
            "sets": list(found.sets),
            "thumbnails": len(self.page.thumbnails),
            "sections": [section.id for section in self.page.sections],
            "missing": self.missing,
            "notices": list(self.page.notices),
            "accuracy": None if promise is None else promise.accuracy,
            "interval": None if promise is None else list(promise.interval),
            "population": "samples",
            "labels_needed": [one.to_dict() for one in targets],
            "cdnv": found.collapse.metrics["cdnv"],
            "flags": None if isinstance(found.audit, Missing) else found.audit.counts,
            "seconds": dict(found.seconds),
        }


def write_report(
    sets: FeatureSet | Sequence[FeatureSet] | Mapping[str, FeatureSet],
    path: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | ImageSource | None = None,
    reading: ReadingOptions | None = None,
    asked: Questions | None = None,
    of: Mapping[str, int] | None = None,
    most_images: int = MOST_IMAGES,
    most_thumbnails: int = MOST_THUMBNAILS,
    provenance: Mapping[str, Any] | None = None,
    seed: int = 0,
    overwrite: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
) -> WrittenReport:
    """Measure everything and write it into one HTML file, which works without a network.

    Args:
        sets: One feature set, or several of the same images. The page is about the first, and ranks all.
        path: The file.
        images: Where the images are; by default where they were when the features were extracted.
        reading: How the images are read, if their source does not say it.
        asked: What is asked beside what every page answers.
        of: The number of images of each class, by its name, if the first set holds some of them; by default all.
        most_images: At most so many images are looked at: as many of each class, as far as there are.
        most_thumbnails: At most so many small images are in the file.
        provenance: The command and the versions that made it.
        seed: The seed of all draws.
        overwrite: Whether a file that exists is replaced.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        FeaturesError: Fewer than two classes have two images.
        DataError: ``images`` was given and cannot be read.
        SettingError: The name of the file does not end in .html.
        NCTransferError: The file exists or cannot be written.
    """
    file = expanded(path)
    check_page_file(file, overwrite)
    named = _named(sets)
    # before the work, since a place without images is refused
    shown = find_images(looked_at(named, most_images, seed), images, reading)
    found = measure(named, asked, of=of, most_images=most_images, seed=seed, device=device, progress=progress)
    made_by = provenance or {
        "seed": seed,
        "versions": {name: version(name) for name in ("nctransfer", "timm", "torch")},
    }
    page = report_page(found, shown, most_thumbnails=most_thumbnails, provenance=made_by, seed=seed, progress=progress)
    return WrittenReport(path=file, bytes=write_page(page, file), page=page, measured=found)


def _named(sets: FeatureSet | Sequence[FeatureSet] | Mapping[str, FeatureSet]) -> Mapping[str, FeatureSet]:
    """The sets by name: that of the backbone, with a number where two would be equal."""
    if isinstance(sets, Mapping):
        return sets
    given = list(sets) if isinstance(sets, Sequence) else [sets]
    names = [one.info.model or one.info.id for one in given]
    if len(set(names)) < len(names):
        names = [f"{number}: {name}" for number, name in enumerate(names, 1)]
    return dict(zip(names, given, strict=True))


def report_page(
    found: Measured,
    images: FoundImages,
    *,
    most_thumbnails: int = MOST_THUMBNAILS,
    provenance: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> PageContent:
    """The content of a report.

    Args:
        found: What was measured.
        images: The images, as far as they were found.
        most_thumbnails: At most so many of them are shown.
        provenance: The command and the versions that made it.
        seed: The seed of the choice of images.
        progress: Called as ``progress(stage, done, total)``.
    """
    features = found.features
    sections = with_words(tuple(filter(None, _sections(found, images, provenance or {}, seed, progress))))
    findings, galleries = wanted_images(sections)
    chosen = choose_images(findings, features.labels.numpy(), most_thumbnails, seed, then=galleries)
    small = make_thumbnails(images, chosen, progress=progress)
    size = f"{counted(len(features), 'image')} of {counted(len(features.classes), 'class', 'classes')}"
    pictures = "" if len(small.images) == len(features) else f" ({len(small.images):,} of them with a picture)"
    return PageContent(
        title=f"{last_part(features.info.data or features.info.id)}: what frozen features say",
        subtitle=f"{size}{pictures}, seen by {', '.join(found.sets)}",
        sections=sections,
        notices=tuple(map(without_home, (*found.left_out, *images.notes))),
        classes=features.classes,
        counts=tuple(features.counts.tolist()),
        image_ids=features.ids,
        image_labels=features.labels.numpy(),
        thumbnails=small.images,
        generated=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        version=version("nctransfer"),
    )


def _sections(
    found: Measured, images: FoundImages, provenance: Mapping[str, Any], seed: int, progress: Progress | None
) -> Iterator[Section | None]:
    """The parts of the page, in their order; ``None`` for one that has nothing to show."""
    features, fit = found.features, found.fit
    predicted = None if isinstance(fit, Missing) else fit.predicted
    yield verdict_section(found)
    counts = [found.of[name] for name in features.classes]
    yield data_section(features, images, counts=counts, seed=seed, progress=progress)
    yield backbone_section(found.sets)
    yield _answered("ranking", "Which backbone", found.ranking, ranking_section)
    yield class_map_section(found.class_map, features)
    closest = dict.fromkeys(code for pair in closest_pairs(found.class_map, COLOURED) for code in pair)
    yield image_map_section(found.image_map, features, list(closest))
    yield closest_pairs_section(found.class_map, features, predicted)
    if not isinstance(fit, Missing):
        yield confusion_section(
            fit.predicted,
            features.labels,
            features.classes,
            found.class_map.order.tolist(),
            probability=fit.head.held_out.probability,
            classifier=fit.head.classifier,
        )
    bounds = None if isinstance(found.bounds, Missing) else found.bounds
    yield _answered(
        "learning-curve",
        "Accuracy by number of labels",
        found.labels,
        lambda curve: learning_curve_section(curve, bounds),
    )
    yield _answered("suspects", "Images to look at", found.audit, lambda audit: suspects_section(audit, features))
    yield _answered("layers", "Layers", found.layers, layers_section)
    yield _answered("checkpoints", "Checkpoints", found.checkpoints, checkpoints_section)
    yield provenance_section(found.sets, provenance, found.seconds)


def _answered(
    anchor: str, title: str, answer: Answer | Missing | None, make: Callable[[Answer], Section | None]
) -> Section | None:
    """The section of an answer; if there is none, the reason; ``None`` if the question was not asked."""
    if answer is None:
        return None
    if not isinstance(answer, Missing):
        return make(answer)
    return Section(
        id=anchor, title=title, says="These features give no answer.", blocks=(Notice(text=sentence(answer.reason)),)
    )

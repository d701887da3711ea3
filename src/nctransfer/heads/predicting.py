"""From images to predictions, in a stream: images are read and decoded ahead while the backbone runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from nctransfer.backbones.kept_memory import kept_memory
from nctransfer.heads.abstention import REASONS, decide, thresholds
from nctransfer.heads.backbone_match import fast_backbone_for
from nctransfer.heads.prediction import Prediction, Predictions
from nctransfer.heads.prediction_summary import PredictionTally
from nctransfer.sources.given_images import GivenImages
from nctransfer.sources.loading import load_images
from nctransfer.sources.opening import open_source
from nctransfer.sources.source import ImageSource
from nctransfer.sources.source_kind import ReadingOptions
from nctransfer.store.pipeline import NOT_FINITE, Runtime

if TYPE_CHECKING:
    import torch

    from nctransfer.backbones.backbone import Backbone
    from nctransfer.backbones.hub import Progress
    from nctransfer.heads.abstention import Thresholds
    from nctransfer.heads.head import Head
    from nctransfer.heads.prediction_journal import Journal
    from nctransfer.sources.loading import Loaded
    from nctransfer.sources.source import ImageEntry

__all__ = ["Answer", "KnownAnswers", "Predictor", "limits_of", "predict_images"]

MOST_WAITING = 8  # batches' worth of rows that wait for a batch of images to be full, where many images are broken


class Answer(NamedTuple):
    """A prediction with what else is known of the image.

    Attributes:
        prediction: The prediction.
        label: The label that the source has for the image; "" if it has none.
        digest: The digest of the image; "" if it could not be read.
    """

    prediction: Prediction
    label: str
    digest: str


class KnownAnswers(Protocol):
    """Predictions that were made before, by the digest of the image."""

    def __contains__(self, digest: object, /) -> bool:
        """Whether the prediction of this image is known; any thread may ask."""

    def __getitem__(self, digest: str, /) -> Prediction:
        """The prediction of an image whose digest is contained; its id may be that of another copy of the image."""


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A head with its backbone, ready to run.

    Attributes:
        head: The head.
        backbone: Its backbone; see :func:`nctransfer.heads.backbone_match.fast_backbone_for`.
        limits: When an image is answered.
        batch_size: The number of images that go through the backbone at once.
        workers: The number of threads that read and decode images; by default one per core, up to 16.
    """

    head: Head
    backbone: Backbone
    limits: Thresholds
    batch_size: int = 32
    workers: int | None = None

    def answers(
        self, source: ImageSource, entries: Sequence[ImageEntry], known: KnownAnswers | None = None
    ) -> Generator[list[Answer], None, None]:
        """The answer to each image, in the order of the entries, as soon as it is made.

        Memory does not grow with the number of images: a few batches are held at a time.

        Args:
            source: The images.
            entries: The images to predict, in the order of :meth:`ImageSource.list`.
            known: Predictions that need not be made again.

        Yields:
            The answers to the images of a batch; all of them together are one per entry. An image that cannot be used
            gets a row with the reason.
        """
        known = {} if known is None else known
        loaded = load_images(
            source,
            entries,
            [""] * len(entries),  # nothing is expected of their content
            known,
            self.backbone.preprocess,
            self.workers,
            2 * self.batch_size,
        )
        running: tuple[list[_Row], torch.Tensor | None] = [], None
        with self._memory(), contextlib.closing(loaded):
            for rows in self._batches(zip(entries, loaded, strict=True), known):
                outputs = self._run(rows)
                yield list(self._answers(*running))  # of the batch before, while a GPU already computes this one
                running = rows, outputs
            yield list(self._answers(*running))

    def rows(
        self,
        source: ImageSource,
        entries: Sequence[ImageEntry],
        tally: PredictionTally,
        *,
        journal: Journal | None = None,
        progress: Progress | None = None,
    ) -> Generator[Prediction, None, None]:
        """The prediction of each image, in the order of the entries, counted and kept.

        Args:
            source: The images.
            entries: The images to predict, in the order of :meth:`ImageSource.list`.
            tally: Counts them.
            journal: Keeps them, and knows those of an earlier run.
            progress: Called as ``progress(stage, done, total)``.
        """
        tell = progress or (lambda *_: None)
        done = 0
        tell("predicting", done, len(entries))
        batches = self.answers(source, entries, None if journal is None else journal.earlier)
        with contextlib.closing(batches):
            for answers in batches:
                if journal is not None:
                    journal.add(answers)
                for answer in answers:
                    tally.add(*answer)
                    yield answer.prediction
                done += len(answers)
                tell("predicting", done, len(entries))

    def _memory(self) -> contextlib.AbstractContextManager[bool | None]:
        return kept_memory() if self.backbone.device.type == "cpu" else contextlib.nullcontext()

    def _batches(self, images: Iterable[tuple[ImageEntry, Loaded]], known: KnownAnswers) -> Iterator[list[_Row]]:
        """Rows in their order, with as many images for the backbone as a batch holds, and those that need no run."""
        rows: list[_Row] = []
        ready = 0
        for entry, image in images:
            found = None
            if image.broken:
                found = Prediction.broken(entry.id, image.broken)
            elif image.pixels is None:
                found = known[image.digest]._replace(id=entry.id)
            rows.append(_Row(entry, image, found))
            ready += found is None
            if ready == self.batch_size or len(rows) == MOST_WAITING * self.batch_size:
                yield rows
                rows, ready = [], 0
        if rows:
            yield rows

    def _run(self, rows: Sequence[_Row]) -> torch.Tensor | None:
        """The features of the images that the backbone has to run, on its device; ``None`` if there are none."""
        import numpy as np
        import torch

        pixels = [row.image.pixels for row in rows if row.known is None]
        if not pixels:
            return None
        batch = torch.from_numpy(np.stack([one for one in pixels if one is not None]))
        if self.backbone.device.type == "cuda":
            batch = batch.pin_memory()
        return self.backbone(batch)[self.head.origin.column]

    def _answers(self, rows: Sequence[_Row], outputs: torch.Tensor | None) -> Iterator[Answer]:
        made = iter(() if outputs is None else self._predictions([row for row in rows if row.known is None], outputs))
        for row in rows:
            prediction = next(made) if row.known is None else row.known
            yield Answer(prediction, row.entry.label, row.image.digest)

    def _predictions(self, rows: Sequence[_Row], outputs: torch.Tensor) -> Iterator[Prediction]:
        """The predictions of a batch of images by their features, rounded as the store rounds them."""
        import numpy as np
        import torch

        key = self.backbone.key
        with np.errstate(over="ignore"):  # float16 can overflow, which is a row that is not finite
            stored = outputs.cpu().numpy().astype(key.store_dtype)
        features = torch.from_numpy(stored.astype(np.float32))
        finite = features.isfinite().all(dim=1)
        features = torch.where(finite[:, None], features, 0.0)
        probabilities = self.head.linear.probabilities(features)
        abstained, reasons = decide(probabilities, self.head.unlikeness.of(features), self.limits)
        best, codes = probabilities.topk(2, dim=1)
        columns = finite.tolist(), best.numpy(), codes.tolist(), abstained.tolist(), reasons.tolist()
        for row, is_finite, values, (first, second), held_back, reason in zip(rows, *columns, strict=True):
            if not is_finite:
                yield Prediction.broken(row.entry.id, f"{NOT_FINITE} in {key.dtype} (stored as {key.store_dtype})")
                continue
            top, next_ = (float(str(value)) for value in values)  # the shortest number that is this float32
            names = self.head.classes
            yield Prediction(row.entry.id, names[first], top, names[second], next_, held_back, REASONS[reason])


class _Row(NamedTuple):
    entry: ImageEntry
    image: Loaded
    known: Prediction | None


def limits_of(head: Head, max_error: float | None, max_lost: float | None) -> tuple[float | None, Thresholds]:
    """The error among the answered that predictions aim at, and the thresholds for it.

    Args:
        head: The head.
        max_error: The largest error among the answered; 1 for no limit, ``None`` for what the head was fitted with.
        max_lost: The share of good images that may be held back; ``None`` for what the head was fitted with.

    Raises:
        SettingError: A share is outside its range.
        FeaturesError: The training images cannot show so small an error.
    """
    error = head.max_error if max_error is None else max_error
    error = None if error == 1 else error
    return error, thresholds(head.held_out, error, head.max_lost if max_lost is None else max_lost)


def predict_images(
    head: Head,
    images: Any,
    *,
    max_error: float | None = None,
    max_lost: float | None = None,
    reading: ReadingOptions | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    plugin: str | None = None,
    device: str = "auto",
    batch_size: int = 32,
    workers: int | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> Predictions:
    """What a head says of some images; see :meth:`nctransfer.heads.head.Head.predict` for the arguments."""
    runtime = Runtime(device=device, batch_size=batch_size, workers=workers, offline=offline)
    source = _source(images, reading or ReadingOptions(offline=offline))
    error, limits = limits_of(head, max_error, max_lost)
    entries = source.list()
    predictor = Predictor(
        head=head,
        backbone=_kept_backbone(head, runtime, Path(checkpoint) if checkpoint else None, plugin, progress),
        limits=limits,
        batch_size=batch_size,
        workers=workers,
    )
    tally = PredictionTally(head, error, limits.error_bound)
    return Predictions(tuple(predictor.rows(source, entries, tally, progress=progress)), tally.summary())


def _source(images: Any, reading: ReadingOptions) -> ImageSource:
    """The images that a user of the library gives, in any form."""
    import numpy as np
    from PIL import Image

    if isinstance(images, ImageSource):
        return images
    if isinstance(images, str | os.PathLike):
        return open_source(images, replace(reading, labels_optional=True))
    if isinstance(images, Image.Image) or (isinstance(images, np.ndarray) and images.ndim != 4):
        return GivenImages([images])
    return GivenImages(images)


_kept: WeakKeyDictionary[Head, tuple[object, Backbone]] = WeakKeyDictionary()


def _kept_backbone(
    head: Head, runtime: Runtime, checkpoint: Path | None, plugin: str | None, progress: Progress | None
) -> Backbone:
    """The backbone of a head, prepared to run fast; it is kept for the next call as long as the head lives."""
    asked = (runtime.device, checkpoint, plugin)
    kept = _kept.get(head)
    if kept is None or kept[0] != asked:
        backbone = fast_backbone_for(
            head,
            checkpoint=checkpoint,
            plugin=plugin,
            device=runtime.device,
            offline=runtime.offline,
            progress=progress,
        )
        _kept[head] = kept = (asked, backbone)
    return kept[1]

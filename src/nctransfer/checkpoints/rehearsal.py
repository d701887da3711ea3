"""What a trajectory will measure, tried on the labels alone before any image runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nctransfer.checkpoints.samples import collapse_of_samples, samples_by_source
from nctransfer.checkpoints.trajectory_result import TARGET
from nctransfer.evaluation.fewshot_plan import plan_episodes
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.features.feature_set import FeatureSet
from nctransfer.sources.image_table import ImageTable

if TYPE_CHECKING:
    from nctransfer.checkpoints.samples import Sample
    from nctransfer.evaluation.fewshot_task import FewShotTask
    from nctransfer.sources.source import ImageEntry, ImageSource

__all__ = ["rehearse"]


def rehearse(
    samples: Mapping[str, Sample],
    task: FewShotTask,
    device: str = "cpu",
    entries: Mapping[ImageSource, Sequence[ImageEntry]] | None = None,
) -> tuple[str, ...]:
    """Check with the labels alone that :func:`follow` can measure the samples, before images go through a backbone.

    In place of features, each image has a number of its own, so that images in two samples are noticed.

    Args:
        samples: The samples that :func:`follow` would measure.
        task: The few-shot task on the target.
        device: Where to compute.
        entries: The images of each source, if they have been listed before.

    Returns:
        What weakens a conclusion from the samples, see :func:`~nctransfer.neural_collapse.comparisons.compare_samples`.

    Raises:
        NCTransferError: Something cannot be measured.
    """
    sets: dict[str, FeatureSet] = {}
    before = 0  # the images of earlier sources
    for source, wanted in samples_by_source(samples).items():
        listed = ImageTable.of(source.list() if entries is None else entries[source])
        for name, selection in wanted.items():
            rows = selection.apply(listed.ids, listed.labels, listed.splits)
            info = FeatureInfo(str(selection) or source.name, data=source.name, path=source.id)
            labels = [entry.label for entry in listed.take(rows)]
            sets[name] = FeatureSet.from_arrays(rows[:, None] + float(before), labels, info=info)
        before += len(listed)
    compared = collapse_of_samples(sets, device)
    plan_episodes(task, sets[TARGET])
    return compared.warnings

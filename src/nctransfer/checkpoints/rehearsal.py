"""What a trajectory will measure, tried on the labels alone before any image runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nctransfer.checkpoints.samples import collapse_of_samples, samples_by_source
from nctransfer.checkpoints.trajectory_result import SOURCE, TARGET
from nctransfer.evaluation.fewshot_plan import plan_episodes
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.features.feature_set import FeatureSet

if TYPE_CHECKING:
    from nctransfer.checkpoints.samples import Sample
    from nctransfer.evaluation.fewshot_task import FewShotTask

__all__ = ["rehearse"]

log = logging.getLogger(__name__)


def rehearse(samples: Mapping[str, Sample], task: FewShotTask, device: str = "cpu") -> None:
    """Check with the labels alone that :func:`follow` can measure the samples, before images go through a backbone.

    Args:
        samples: The samples that :func:`follow` would measure.
        task: The few-shot task on the target.
        device: Where to compute.

    Raises:
        NCTransferError: Something cannot be measured.
    """
    sets: dict[str, FeatureSet] = {}
    for source, wanted in samples_by_source(samples).items():
        columns = [
            list(column) for column in zip(*((one.id, one.label, one.split) for one in source.list()), strict=True)
        ]
        for name, selection in wanted.items():
            rows = selection.apply(*columns)
            info = FeatureInfo(str(selection) or source.name, data=source.name, path=source.id)
            labels = [columns[1][row] for row in rows]
            sets[name] = FeatureSet.from_arrays(rows[:, None].astype(float), labels, info=info)
    if SOURCE[0] in sets and (both := sorted({*sets[TARGET].classes} & {*sets[SOURCE[0]].classes})):
        log.warning(
            "%s of the target's %d classes are trained on (%r …): choose others by --classes or --exclude-classes",
            len(both),
            len(sets[TARGET].classes),
            both[0],
        )
    collapse_of_samples(sets, device)
    plan_episodes(task, sets[TARGET])

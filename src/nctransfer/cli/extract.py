"""``nctransfer extract``."""

from __future__ import annotations

import logging

from nctransfer.cli.backbone_options import BackboneOptions
from nctransfer.cli.chosen_features import Wanted, run_extraction
from nctransfer.cli.data_options import ImageOptions, ReadingFlags, SelectionOptions, ShardOption
from nctransfer.cli.engine_options import EngineOptions
from nctransfer.cli.expanding import examples
from nctransfer.cli.output_options import OutputOptions
from nctransfer.cli.terminal import Terminal

log = logging.getLogger("nctransfer.cli")


@examples(
    "nctransfer extract --model tf_efficientnet_lite0 --data pets/",
    "nctransfer extract --data pets/ --layers all --shard 3/8",
)
def extract(
    backbone: BackboneOptions,
    images: ImageOptions,
    reading: ReadingFlags,
    chosen: SelectionOptions,
    engine: EngineOptions,
    output: OutputOptions,
    shard: ShardOption = None,
) -> None:
    """Run images through a frozen backbone, and store the features in the cache.

    Images that are in the cache already are not run again. If an image cannot be read, the exit code is 1, and the
    features of all others are stored.

    Several workers can divide the images by --shard. They may fill one cache at the same time, or one each, which
    nctransfer cache merge joins. Or one command starts them, here or on a cluster, by --engine ray.
    """
    with Terminal(output) as terminal:
        from nctransfer.errors import BrokenImagesError
        from nctransfer.report.store_sheets import extraction_sheet

        report = run_extraction(Wanted(backbone, images, reading, chosen, shard, engine), output, terminal)
        data = report.to_dict()
        terminal.show([extraction_sheet(report)], data, [{**data, "failed": len(report.failed)}], chosen.seed)
        if report.failed and not images.skip_broken:
            raise BrokenImagesError(report.failed, report.samples)
        for broken in report.failed:
            log.warning("left out: %r: %s", broken.id, broken.reason)

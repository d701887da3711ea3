"""``nctransfer extract``."""

from __future__ import annotations

import logging

from nctransfer.cli.chosen_features import Wanted, run_extraction
from nctransfer.cli.options import BackboneOptions, OutputOptions, ReadingFlags, SelectionOptions, SourceOptions
from nctransfer.cli.terminal import Terminal

log = logging.getLogger("nctransfer.cli")


def extract(
    backbone: BackboneOptions,
    source: SourceOptions,
    reading: ReadingFlags,
    chosen: SelectionOptions,
    output: OutputOptions,
) -> None:
    """Run images through a frozen backbone, and cache the features.

    Only what is not in the cache yet is run. An image that cannot be read ends it in exit code 1; the others are kept.
    """
    with Terminal(output) as terminal:
        from nctransfer.errors import BrokenImagesError
        from nctransfer.report.store_sheets import extraction_sheet

        report = run_extraction(Wanted(backbone, source, reading, chosen), output, terminal)
        data = report.to_dict()
        terminal.show([extraction_sheet(report)], data, [{**data, "failed": len(report.failed)}], chosen.seed)
        if report.failed and not source.skip_broken:
            raise BrokenImagesError(report.failed, report.samples)
        for broken in report.failed:
            log.warning("left out: %r: %s", broken.id, broken.reason)

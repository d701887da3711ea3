"""``nctransfer demo``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nctransfer.cli.backbone_options import BackboneOptions
from nctransfer.cli.chosen_features import Wanted, run_extraction
from nctransfer.cli.data_options import ImageOptions, ReadingFlags, SelectionOptions
from nctransfer.cli.expanding import examples
from nctransfer.cli.output_options import OutputOptions
from nctransfer.cli.terminal import Terminal

if TYPE_CHECKING:
    import pandas as pd

    from nctransfer.evaluation.fewshot_results import FewShotResult
    from nctransfer.neural_collapse.collapse_report import CollapseReport


@examples("nctransfer demo")
def demo(output: OutputOptions) -> None:
    """Try everything on built-in data: extract features of 400 handwritten digits and measure them.

    It needs no network: the weights of the backbone and the images are installed.
    """
    with Terminal(output) as terminal:
        from nctransfer.backbones.names import DEFAULT_MODEL
        from nctransfer.evaluation.fewshot_accuracy import fewshot
        from nctransfer.neural_collapse import collapse_report
        from nctransfer.report.collapse_sheets import collapse_sheets
        from nctransfer.report.fewshot_sheets import fewshot_sheets
        from nctransfer.report.store_sheets import extraction_sheet
        from nctransfer.sources.digits import Digits

        report = run_extraction(
            Wanted(
                BackboneOptions(model=DEFAULT_MODEL),
                ImageOptions(data=Digits.name, offline=True),
                ReadingFlags(),
                SelectionOptions(max_per_class=40),
            ),
            output,
            terminal,
        )
        features = report.stored.read(report.selection)
        collapse = collapse_report.collapse(features, pairs=3, device=output.device)
        result = fewshot(features, 5, (1, 5), device=output.device, progress=terminal.progress)
        terminal.show(
            [
                replace(extraction_sheet(report), reading=""),
                *collapse_sheets(collapse),
                replace(fewshot_sheets(result)[0], facts={}),  # the sheets above have them already
            ],
            {"extract": report.to_dict(), "collapse": collapse.to_dict(), "fewshot": result.to_dict()},
            lambda: _both(collapse, result),
        )


def _both(collapse: CollapseReport, result: FewShotResult) -> pd.DataFrame:
    import pandas as pd

    return pd.concat([collapse.to_frame(), result.to_frame()])

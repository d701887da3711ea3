"""``nctransfer bounds``."""

from __future__ import annotations

import functools
import logging
import math
from typing import TYPE_CHECKING, Annotated

import typer

from nctransfer.cli.backbone_options import BackboneOptions
from nctransfer.cli.chosen_features import ChosenFeatures, Wanted, again_if_changed
from nctransfer.cli.data_options import ImageOptions, ReadingFlags, StoredSelectionOptions
from nctransfer.cli.expanding import examples
from nctransfer.cli.feature_arguments import DropDuplicates, FeatureColumn, FeaturesArgument
from nctransfer.cli.figure_option import FigureFile
from nctransfer.cli.output_options import OutputOptions
from nctransfer.cli.parsing import numbers
from nctransfer.cli.terminal import Terminal

if TYPE_CHECKING:
    from nctransfer.evaluation.expected_accuracy import ExpectedAccuracies
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.neural_collapse.bound_table import BoundTable

log = logging.getLogger("nctransfer.cli")

MOST_NUMBERS = 5e8  # features times samples that are read into memory for the dots of the figure: 2 GB


@examples("nctransfer bounds --ways 2,5 --shots 1,10,100,inf")
def bounds(
    backbone: BackboneOptions,
    images: ImageOptions,
    reading: ReadingFlags,
    chosen: StoredSelectionOptions,
    output: OutputOptions,
    features: FeaturesArgument = None,
    ways: Annotated[str, typer.Option("--ways", "-w", metavar="N,…", help="Classes per task. Several: 5,10.")] = "5",
    shots: Annotated[
        str,
        typer.Option(
            "--shots",
            "-s",
            metavar="N,…",
            help="Labelled examples per class; inf for the limit of ever more. Several: 1,5,inf.",
        ),
    ] = "1,5,10,50,500,inf",
    figure: FigureFile = None,
    feature_column: FeatureColumn = None,
    drop_duplicates: DropDuplicates = False,
) -> None:
    """Bound the few-shot error of the nearest class centre, from how the classes lie and vary."""
    all_ways, all_shots = numbers(ways, "--ways", least=2), _shots(shots)
    with Terminal(output, {"--figure": figure}) as terminal:
        from nctransfer.episodes.episode import EpisodeSpec
        from nctransfer.episodes.requirements import check
        from nctransfer.evaluation.margin_bounds import margin_bounds_or_reasons
        from nctransfer.figures.bounds_figure import bounds_figure
        from nctransfer.neural_collapse.bound_table import bound_table
        from nctransfer.neural_collapse.class_statistics import ClassStatistics
        from nctransfer.report.theory_sheets import bounds_sheet

        def rehearse(labels: FeatureSet) -> None:
            check(labels, EpisodeSpec(max(all_ways), 1, 1, chosen.seed))

        wanted = Wanted(backbone, images, reading, chosen)
        chooser = ChosenFeatures(wanted, feature_column, output, terminal, drop_duplicates, rehearse)

        def measure() -> tuple[BoundTable, ExpectedAccuracies | None]:
            chosen_set = chooser.find(features)
            given = chooser.stream_of(chosen_set)
            stats = ClassStatistics.of(given, output.device)
            margins = functools.partial(margin_bounds_or_reasons, given, stats, device=output.device)
            table = bound_table(stats, given.describe(), all_ways, all_shots, margins)
            is_small = figure is not None and len(given) * given.dim <= MOST_NUMBERS
            return table, _mean_errors(
                chooser.read_of(chosen_set), table, chosen.seed, output.device
            ) if is_small else None

        found, expected = again_if_changed(measure)
        for warning in found.warnings:
            log.warning("%s", warning)
        terminal.files.figure("--figure", lambda: bounds_figure(found, expected))
        terminal.show([bounds_sheet(found)], found.to_dict(), found.to_frame, chosen.seed)


def _mean_errors(features: FeatureSet, bounds: BoundTable, seed: int, device: str) -> ExpectedAccuracies | None:
    """The expected accuracies beside the bounds in the figure; ``None`` if they would take long, or none can be had."""
    from nctransfer.evaluation.expected_accuracy import expect
    from nctransfer.evaluation.fewshot_theory import EXPECTED_WORK
    from nctransfer.evaluation.resampled_supports import work_of_a_round

    ways = sorted({row.ways for row in bounds.rows})
    most = int(features.counts.min()) - 1  # one sample of each class is a query
    shots = sorted({int(row.shots) for row in bounds.rows if row.shots <= most})
    if not shots or len(shots) * work_of_a_round(features, ways[-1], shots[-1]) > EXPECTED_WORK:
        return None
    return expect(features, ways, shots, seed=seed, device=device)


def _shots(text: str) -> list[float]:
    found: list[float] = []
    for part in text.split(","):
        found += [math.inf] if part == "inf" else numbers(part, "--shots", least=1)
    return found

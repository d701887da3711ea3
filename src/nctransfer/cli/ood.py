"""``nctransfer ood``."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nctransfer.cli.backbone_options import BackboneOptions
from nctransfer.cli.choices import listed
from nctransfer.cli.chosen_features import ChosenFeatures, Wanted
from nctransfer.cli.data_options import ImageOptions, ReadingFlags, StoredSelectionOptions
from nctransfer.cli.expanding import examples
from nctransfer.cli.feature_arguments import DropDuplicates, FeatureColumn
from nctransfer.cli.figure_option import FigureFile
from nctransfer.cli.output_options import OutputOptions
from nctransfer.cli.terminal import Terminal
from nctransfer.ood.registry import SCORES

if TYPE_CHECKING:
    from nctransfer.features.feature_set import FeatureSet

log = logging.getLogger("nctransfer.cli")


@dataclasses.dataclass(frozen=True)
class ScoreOptions:
    """Which scores, and which images they are tried on."""

    score: Annotated[
        str,
        typer.Option("--score", "-s", metavar="NAME,…|all", help=f"The scores: {listed(SCORES)}; or all."),
    ] = "all"
    classifier: Annotated[
        str,
        typer.Option(
            "--classifier",
            "-c",
            metavar="NAME",
            help="The classifier of the scores that need one: ridge, ncc, cosine or logistic.",
            show_default="ridge",
        ),
    ] = ""
    unknown_classes: Annotated[
        Path | None,
        typer.Option(
            "--unknown-classes",
            metavar="FILE",
            help="Take the classes in this file out of SET, one name per line, and let their images be an OTHER.",
        ),
    ] = None
    test_set: Annotated[
        str | None,
        typer.Option(
            "--test-set",
            metavar="FEATURES",
            help="Score these images of the known classes in place of those of SET, which then are all fitted to.",
        ),
    ] = None
    test_split: Annotated[
        str | None, typer.Option("--test-split", metavar="NAME", help="The same with another split of SET.")
    ] = None

    def check(self) -> tuple[str, ...]:
        """The names of the scores.

        Raises:
            SettingError: There is no such score, or two options do not go together.
        """
        from nctransfer.errors import SettingError
        from nctransfer.ood.detecting import check_scores

        names = check_scores(self.score.split(","))
        if self.classifier and all(SCORES[name].needs != "classifier" for name in names):
            raise SettingError(
                f"--classifier has no effect on {', '.join(names)}", "leave it out, or take a score of a classifier"
            )
        if self.test_set is not None and self.test_split is not None:
            raise SettingError("--test-set and --test-split were both given", "give one or the other")
        return names

    def rehearsal(self, has_others: bool) -> Callable[[FeatureSet], object] | None:
        """What is tried on the labels of SET before its images run."""
        from nctransfer.ood.trials import FEWEST, check_classes

        if (file := self.unknown_classes) is not None:
            return lambda labels: _without_unknown(labels, file)
        if self.test_set is not None or self.test_split is not None:
            return None
        return lambda labels: check_classes(labels, 2 if has_others else 4, FEWEST)


@examples("nctransfer ood", "nctransfer ood --score knn,msp --format csv")
def ood(
    backbone: BackboneOptions,
    images: ImageOptions,
    reading: ReadingFlags,
    chosen: StoredSelectionOptions,
    options: ScoreOptions,
    output: OutputOptions,
    features: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SET OTHER…",
            help="SET: images of the known classes, a stored set or a file of features. OTHER: images of no known "
            "class, from the same backbone. Without OTHER, random halves of the classes of SET are held out. With "
            "--model or --data, these name SET.",
            show_default="the set used last",
        ),
    ] = None,
    figure: FigureFile = None,
    feature_column: FeatureColumn = None,
    drop_duplicates: DropDuplicates = False,
) -> None:
    """Find out how well images of no known class are told from the others, and by which score."""
    with Terminal(output, {"--figure": figure}) as terminal:
        from nctransfer.figures.ood_figure import ood_figure
        from nctransfer.ood import detecting
        from nctransfer.report.ood_sheets import ood_sheets

        names = options.check()
        wanted = Wanted(backbone, images, reading, chosen)
        arguments = [*(features or [])]
        first = None if wanted.is_given or not arguments else arguments.pop(0)
        rehearse = options.rehearsal(bool(arguments))
        given = ChosenFeatures(wanted, feature_column, output, terminal, drop_duplicates, rehearse)
        known, others, test = _sets(given, first, arguments, options)
        found = detecting.detect_ood(
            known,
            others,
            names,
            classifier=options.classifier or "ridge",
            test=test,
            seed=chosen.seed,
            device=output.device,
            progress=terminal.progress,
        )
        for warning in found.warnings:
            log.warning("%s", warning)
        terminal.files.figure("--figure", lambda: ood_figure(found))
        terminal.show(ood_sheets(found), found.to_dict(), found.to_frame, chosen.seed)


def _sets(
    given: ChosenFeatures, name: str | None, others: list[str], options: ScoreOptions
) -> tuple[FeatureSet, Mapping[str, FeatureSet], FeatureSet | None]:
    """The known images, the others by name, and the known images that are tested."""
    from nctransfer.errors import SettingError

    if (options.test_set or options.test_split) and not others and options.unknown_classes is None:
        raise SettingError(
            "a test set has no effect on classes that are held out", "name a set of other images, or leave it out"
        )
    known = given.read(name)
    chosen = given.wanted.chosen
    # which samples are wanted is said of SET; of the others all are
    elsewhere = given.named_only().but(chosen=StoredSelectionOptions(seed=chosen.seed, partial=given.allows_partial))
    read = [elsewhere.read(other, known) for other in others]
    found = dict(zip(_names(read), read, strict=True))
    test = None
    if options.test_split is not None:
        test = given.but(chosen=dataclasses.replace(chosen, split=options.test_split)).read(name, known)
    elif options.test_set is not None:
        test = elsewhere.read(options.test_set, known)
    if options.unknown_classes is not None:
        known, unknown = _without_unknown(known, options.unknown_classes)
        found = {"unknown classes": unknown, **found}
        if test is not None:
            test, _ = _without_unknown(test, options.unknown_classes, some_are_enough=True)
    return known, found, test


def _without_unknown(features: FeatureSet, file: Path, some_are_enough: bool = False) -> tuple[FeatureSet, FeatureSet]:
    """The known and the unknown classes of a set."""
    import torch

    from nctransfer.errors import FeaturesError
    from nctransfer.sources.class_names import read_class_names

    unknown = set(read_class_names(file))
    if (missing := sorted(unknown - set(features.classes))) and not some_are_enough:
        raise FeaturesError(
            f"{features.info.id} has no class {missing[0]!r}, which --unknown-classes names",
            "nctransfer data lists the classes of images",
        )
    is_unknown = torch.tensor([one in unknown for one in features.classes])
    if bool(is_unknown.all()):
        raise FeaturesError("--unknown-classes names every class", "leave at least two known classes")
    known, others = (features.only_classes(mask.nonzero()[:, 0]) for mask in (~is_unknown, is_unknown))
    return known, others


def _names(sets: list[FeatureSet]) -> list[str]:
    """A name for each set: that of its data, with a number where two have the same."""
    plain = [Path(one.info.data or one.info.id).name for one in sets]
    return [
        name if plain.count(name) == 1 else f"{name} ({plain[: number + 1].count(name)})"
        for number, name in enumerate(plain)
    ]

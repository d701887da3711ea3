"""``nctransfer rank``."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from nctransfer import backbones, store
from nctransfer.cli.chosen_features import ChosenFeatures, Wanted
from nctransfer.cli.data_options import ImageOptions, ReadingFlags, StoredSelectionOptions
from nctransfer.cli.expanding import examples, panel_option
from nctransfer.cli.feature_arguments import DropDuplicates, FeatureColumn, RankedFeatures
from nctransfer.cli.figure_option import FigureFile
from nctransfer.cli.output_options import OutputOptions
from nctransfer.cli.parsing import percents
from nctransfer.cli.rank_options import CandidateOptions, RaceOptions, RankTaskOptions
from nctransfer.cli.set_names import plain_names
from nctransfer.cli.terminal import Terminal, provenance
from nctransfer.errors import FeaturesError, NCTransferError, SettingError
from nctransfer.paths import expanded, is_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nctransfer.backbones.request import BackboneRequest
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.rank.candidates import Candidate
    from nctransfer.rank.ranking import Ranking
    from nctransfer.rank.running import Wishes
    from nctransfer.store.measured_speed import Speed

log = logging.getLogger(__name__)


@examples(
    "nctransfer rank --data pets/",
    "nctransfer rank --data pets/ --models candidates.txt --target 95%",
)
def rank(
    candidates: CandidateOptions,
    images: ImageOptions,
    reading: ReadingFlags,
    chosen: StoredSelectionOptions,
    asked: RankTaskOptions,
    race: RaceOptions,
    output: OutputOptions,
    features: RankedFeatures = None,
    feature_column: FeatureColumn = None,
    drop_duplicates: DropDuplicates = False,
    figure: FigureFile = None,
    html: Annotated[
        Path | None,
        panel_option(
            "--html",
            panel="Output",
            metavar="FILE",
            help="Write the ranking with its figure as a web page: one file that any browser opens, without a network.",
        ),
    ] = None,
) -> None:
    """Find the backbone that suits your images, and how many labels it needs.

    Candidates run on a few images first, and those that cannot be the best drop out. Features are kept in the cache.

    A random network and the pixels of a small image run as controls, which every backbone should beat.
    """
    asked.check()
    candidates.joins  # noqa: B018 - wrong numbers are refused before anything is loaded
    seconds = race.seconds
    with Terminal(output, {"--figure": figure, "--html": html}, (backbones, store)) as terminal:
        from nctransfer.figures.rank_figure import rank_figure
        from nctransfer.rank.running import Wishes
        from nctransfer.report.rank_sheets import rank_sheets

        if candidates.list_candidates:
            _refuse_to_list(features, {"--figure": figure, "--html": html})
            _list(candidates, images, chosen.seed, output, terminal)
            return
        wishes = Wishes(
            targets=percents(asked.target, "--target"),
            scores=asked.scores,
            racing=not race.no_race,
            seconds=seconds,
        )
        if features:
            wanted = Wanted(candidates.defaults(), dataclasses.replace(images, data=None), reading, chosen)
            given = ChosenFeatures(wanted, feature_column, output, terminal, drop_duplicates)
            found = _rank_sets(features, given, candidates, asked, race, wishes, images)
        else:
            _refuse_for_images(feature_column, drop_duplicates)
            found = _rank_images(candidates, images, reading, chosen, asked, wishes, output, terminal)
        terminal.files.figure("--figure", lambda: rank_figure(found))
        if html is not None:
            terminal.files.page("--html", _page(found, chosen.seed))
        terminal.show(rank_sheets(found), found.to_dict(), found.to_frame, chosen.seed)
        if found.best is None:
            raise NCTransferError(
                "no candidate could be run", "the table says why; nctransfer rank --list shows whose weights are here"
            )


def _page(found: Ranking, seed: int) -> str:
    """The ranking as a web page."""
    from nctransfer.page.rank_page import rank_content
    from nctransfer.page.rendering import render_page

    return render_page(rank_content(found, provenance(seed)))


def _refuse_to_list(features: Sequence[str] | None, files: Mapping[str, Path | None]) -> None:
    """Refuse what a list of candidates has no use for."""
    for given in (*map(repr, features or ()), *(option for option, path in files.items() if path)):
        raise SettingError(f"--list prints candidates and runs nothing, so {given} has no effect", f"leave out {given}")


def _list(
    candidates: CandidateOptions, images: ImageOptions, seed: int, output: OutputOptions, terminal: Terminal
) -> None:
    """Print the candidates, and run nothing."""
    import pandas as pd

    from nctransfer.rank.candidate_facts import listed as with_facts
    from nctransfer.report.candidate_sheets import candidates_sheets
    from nctransfer.store.cache_folder import FeatureStore

    found = with_facts(_candidates(candidates, seed), FeatureStore(output.cache_dir), images.offline)
    rows = [one.to_dict() for one in found]
    terminal.show(candidates_sheets(found), {"candidates": rows}, lambda: pd.DataFrame(rows), seed)


def _candidates(candidates: CandidateOptions, seed: int) -> Sequence[Candidate]:
    """The candidates that are named, or else the default ones; then the controls."""
    from nctransfer.rank.candidates import candidates_of
    from nctransfer.rank.controls import controls
    from nctransfer.rank.default_candidates import default_candidates

    named = candidates.requests(seed) or default_candidates(candidates.defaults().request(seed))
    if candidates.concat is not None and not any(map(_names_layers, named)):
        raise SettingError("--concat joins layers, and no candidate has --layers", "give --layers all too")
    return candidates_of([*named, *controls(seed)], candidates.joins)


def _names_layers(one: BackboneRequest | Candidate) -> bool:
    """Whether a candidate names layers."""
    from nctransfer.backbones.request import BackboneRequest

    return bool((one if isinstance(one, BackboneRequest) else one.request).layers)


def _refuse_for_images(feature_column: str | None, drop_duplicates: bool) -> None:
    """Refuse options that have an effect only on features that are there already."""
    for option, value, instead in (
        ("--feature-column", feature_column, "name stored features; each of a model's --layers can be a candidate"),
        ("--drop-duplicates", drop_duplicates, "name stored features; nctransfer data lists copies of images"),
    ):
        if value:
            raise SettingError(
                f"{option} has an effect only on features that are there already", f"leave out {option}, or {instead}"
            )


def _rank_images(
    candidates: CandidateOptions,
    images: ImageOptions,
    reading: ReadingFlags,
    chosen: StoredSelectionOptions,
    asked: RankTaskOptions,
    wishes: Wishes,
    output: OutputOptions,
    terminal: Terminal,
) -> Ranking:
    """Rank backbones that run over images."""
    from nctransfer.rank.default_candidates import with_weights
    from nctransfer.rank.images import rank_images
    from nctransfer.sources.opening import open_source
    from nctransfer.store.cache_folder import FeatureStore

    if images.data is None:
        raise SettingError(
            "there is nothing to rank backbones on: neither images nor stored features were given",
            "give --data FOLDER, or name stored features; --data digits takes the built-in digits",
        )
    source = open_source(images.data, reading.reading(chosen.split, images.offline))
    able, not_run = with_weights(_candidates(candidates, chosen.seed), images.offline)
    return rank_images(
        FeatureStore(output.cache_dir),
        able,
        source,
        chosen.selection(),
        images.runtime(output.device),
        lambda smallest: asked.task(smallest, chosen.seed),
        wishes,
        not_run=not_run,
        skip_broken=images.skip_broken,
        progress=terminal.progress,
    )


def _read(given: ChosenFeatures, name: str) -> FeatureSet:
    """Stored features by their name."""
    try:
        return given.read(name)
    except FeaturesError as error:
        if not is_folder(expanded(name)):
            raise
        how = f"to rank backbones on the images of a folder, give --data {name}"
        raise FeaturesError(error.message, how) from error


def _sets(names: Sequence[str], given: ChosenFeatures, joins: Sequence[int] | None) -> list[dict[str, FeatureSet]]:
    """The candidates of each stored set, by their names: the set itself, or each of its layers and joins."""
    if given.wanted.backbone.layers is None:
        sets = [_read(given, name) for name in names]
        return [{shown: one} for shown, one in zip(plain_names(sets), sets, strict=True)]
    from nctransfer.cli.chosen_layers import read_layers
    from nctransfer.evaluation.layer_candidates import layer_sets

    layers = [read_layers(name, given) for name in names]
    shown = plain_names([one["feature"] for one in layers])
    return [
        {_of_layer(model, layer): one for layer, one in layer_sets(of_set, joins).items()}
        for model, of_set in zip(shown, layers, strict=True)
    ]


def _of_layer(model: str, layer: str) -> str:
    """The name of a layer as a candidate, as candidates that run have it."""
    return model if layer == "feature" else f"{model} {layer}"


def _rank_sets(
    names: Sequence[str],
    given: ChosenFeatures,
    candidates: CandidateOptions,
    asked: RankTaskOptions,
    race: RaceOptions,
    wishes: Wishes,
    images: ImageOptions,
) -> Ranking:
    """Rank features that are there already; with ``--data``, their images, controls run over these."""
    from nctransfer.rank.running import rank_sets
    from nctransfer.store.measured_speed import measured_speed

    for option, value in (
        ("--model", candidates.model),
        ("--models", candidates.models),
        ("--budget", race.budget),
        ("--no-race", race.no_race),
    ):
        if value:
            raise SettingError(f"{option} has no effect on features that are there already", f"leave out {option}")
    if candidates.concat is not None and candidates.layers is None:
        raise SettingError("--concat joins layers, and has an effect only with --layers", "give --layers all too")
    runtime = given.wanted.images.runtime(given.output.device)
    sets: dict[str, FeatureSet] = {}
    speeds: dict[str, Speed | None] = {}
    for name, of_set in zip(names, _sets(names, given, candidates.joins), strict=True):
        found = given.but(backbone=dataclasses.replace(given.wanted.backbone, layers=None)).find(name)
        speed = None if isinstance(found, Path) else measured_speed(found[0], runtime)
        sets |= of_set
        speeds |= dict.fromkeys(of_set, speed)
    smallest = min(min(one.counts.tolist()) for one in sets.values())
    return rank_sets(
        sets,
        asked.task(smallest, given.wanted.chosen.seed),
        wishes,
        controls=_controls(given, images) if images.data is not None else {},
        speeds=speeds,
        device=given.output.device,
        progress=given.terminal.progress,
    )


def _controls(given: ChosenFeatures, images: ImageOptions) -> dict[str, FeatureSet]:
    """The features of the controls on the images that the ranked features are of."""
    from nctransfer.rank.images import control_features
    from nctransfer.sources.opening import open_source
    from nctransfer.store.cache_folder import FeatureStore

    assert images.data is not None
    chosen, reading = given.wanted.chosen, given.wanted.reading
    return control_features(
        FeatureStore(given.output.cache_dir),
        open_source(images.data, reading.reading(chosen.split, images.offline)),
        chosen.selection(),
        images.runtime(given.output.device),
        skip_broken=images.skip_broken,
        progress=given.terminal.progress,
    )

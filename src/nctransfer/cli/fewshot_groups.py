"""``nctransfer fewshot --group``: accuracy by group, and on new groups."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from nctransfer.cli.chosen_features import ChosenFeatures
    from nctransfer.cli.episode_options import EpisodeOptions
    from nctransfer.cli.fewshot import DetailOptions, QueryOptions
    from nctransfer.evaluation.fewshot_task import FewShotTask
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["GroupOptions", "show_groups"]

_GROUPS = "Groups"


@dataclasses.dataclass(frozen=True)
class GroupOptions:
    """Whether accuracies are by group of the queries, and on which groups."""

    group: Annotated[
        str | None,
        typer.Option(
            "--group",
            rich_help_panel=_GROUPS,
            metavar="COLUMN",
            help="Show the accuracy for each value of this column of a manifest or table of images, for example the "
            "site, the camera or the scanner, and the worst of them. For values of several columns together, separate "
            "the columns by commas: species,site.",
        ),
    ] = None
    across_groups: Annotated[
        bool,
        typer.Option(
            "--across-groups",
            rich_help_panel=_GROUPS,
            help="Take all queries of an episode from one group, and the labelled examples from the other groups: the "
            "accuracy on a new site. Beside it stands the accuracy with labelled examples of all groups, and of the "
            "same group.",
            show_default=False,
        ),
    ] = False

    def check(
        self,
        names: list[str | None],
        episode: EpisodeOptions,
        query: QueryOptions,
        detail: DetailOptions,
        *,
        has_layers: bool,
    ) -> None:
        """Refuse options that do not go together.

        Raises:
            SettingError: They do not.
        """
        from nctransfer.errors import SettingError

        if self.group is None:
            if self.across_groups:
                raise SettingError("--across-groups has an effect only with --group", "give --group COLUMN too")
            return
        if len(names) > 1:
            raise SettingError(
                "several feature sets cannot be compared with --group",
                "run the command for one set at a time: with the same --seed the episodes are the same",
            )
        useless = {
            "--probe": query.probe,
            "--layers": has_layers,
            "--confusions": detail.confusions is not None,
            "--save-episodes": detail.save_episodes is not None,
            "--no-theory": episode.no_theory,
        }
        for option, is_given in useless.items():
            if is_given:
                raise SettingError(f"{option} has no effect with --group", f"leave out {option}, or --group")
        if self.across_groups and query.is_apart:
            raise SettingError(
                "--across-groups draws queries and labelled examples from the same samples",
                "leave out --query-set and --query-split, or --across-groups",
            )


def show_groups(
    given: ChosenFeatures, name: str | None, task: FewShotTask, options: GroupOptions, query: QueryOptions
) -> None:
    """Measure by group, and print."""
    from nctransfer.cli.fewshot import other_features
    from nctransfer.evaluation.across_episodes import across_groups_task, run_across_groups
    from nctransfer.evaluation.group_episodes import by_group_task, run_by_group
    from nctransfer.evaluation.group_results import AcrossResult, GroupResult
    from nctransfer.figures.group_figure import group_figure
    from nctransfer.report.group_sheets import across_sheets, group_sheets

    assert options.group is not None
    task = across_groups_task(task) if options.across_groups else by_group_task(task)
    column = (options.group,)
    features: FeatureSet = given.read(name, attributes=() if query.is_apart else column)
    running: dict[str, Any] = {"device": given.output.device, "progress": given.terminal.progress}
    running |= other_features(given, name, query, features, attributes=column if query.is_apart else ())
    found: AcrossResult | GroupResult
    if options.across_groups:
        found = run_across_groups(features, options.group, task, **running)
        sheets = across_sheets(found)
    else:
        found = run_by_group(features, options.group, task, **running)
        sheets = group_sheets(found)
    given.terminal.files.figure("--figure", lambda: group_figure(found))
    given.terminal.show(sheets, found.to_dict(), found.to_frame, given.wanted.chosen.seed)

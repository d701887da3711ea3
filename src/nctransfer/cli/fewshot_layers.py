"""``nctransfer fewshot --layers``: every layer on the same episodes, and a layer chosen inside the support."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Annotated, Any

from nctransfer.cli.chosen_features import again_if_changed
from nctransfer.cli.chosen_layers import read_layers
from nctransfer.cli.expanding import panel_option
from nctransfer.cli.parsing import numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nctransfer.cli.backbone_options import BackboneOptions
    from nctransfer.cli.chosen_features import ChosenFeatures
    from nctransfer.evaluation.fewshot_task import FewShotTask

__all__ = ["ConcatOption", "LayerOptions", "joins_of", "measure_layers"]

ConcatOption = Annotated[
    str | None,
    panel_option(
        "--concat",
        panel="Backbone",
        metavar="N,…|none",
        help="With --layers: join the last N layers, the pooled output included, to one candidate for each N. The mean "
        "of all layers is a candidate too. none joins nothing.",
        show_default="2,3",
    ),
]


@dataclasses.dataclass(frozen=True)
class LayerOptions:
    """Which layers are joined."""

    concat: ConcatOption = None

    def is_asked_for(self, backbone: BackboneOptions, probe: bool = False) -> bool:
        """Whether layers are wanted.

        Args:
            backbone: The options that name layers.
            probe: Whether a probe is wanted in place of episodes.

        Raises:
            SettingError: Layers are to be joined, and none are wanted; or they are wanted of a probe.
        """
        from nctransfer.errors import SettingError

        if probe and backbone.layers is not None:
            raise SettingError(
                "--layers has no effect with --probe", "probe one layer by --feature-column layer_3 and a stored set"
            )

        if self.concat is not None and backbone.layers is None:
            raise SettingError("--concat joins layers, and has an effect only with --layers", "give --layers all too")
        return backbone.layers is not None


def joins_of(concat: str | None) -> tuple[int, ...] | None:
    """The numbers of last layers that ``--concat`` joins; ``None`` for no join at all.

    Raises:
        typer.BadParameter: They are not whole numbers of 2 or more.
    """
    from nctransfer.evaluation.layer_candidates import JOINS

    if concat is None:
        return JOINS
    return None if concat == "none" else tuple(numbers(concat, "--concat", least=2))


def measure_layers(
    given: ChosenFeatures,
    names: list[str | None],
    task: FewShotTask,
    layered: LayerOptions,
    query: Any,
    detail: Any,
) -> None:
    """Measure all layers and show the result.

    Args:
        given: How features are found, and which layers are asked for.
        names: The names of the stored sets; there may be one.
        task: The few-shot task.
        layered: Which layers are joined.
        query: Where queries come from, which has to be the features themselves.
        detail: What else is shown.

    Raises:
        SettingError: An option has no effect on layers.
    """
    from nctransfer.evaluation.fewshot_plan import plan_episodes
    from nctransfer.evaluation.layer_accuracy import layer_task, run_layers
    from nctransfer.figures.choice_figure import choice_figure
    from nctransfer.report.layer_sheets import layer_sheets

    _refuse(names, task, query, detail)
    task = layer_task(task)
    joins = joins_of(layered.concat)
    given = dataclasses.replace(given, rehearse=functools.partial(plan_episodes, task))
    layers = again_if_changed(lambda: read_layers(names[0], given))
    if layered.concat is not None:
        _check_joins(joins or (), len(layers))
    found = run_layers(layers, task, joins=joins, device=given.output.device, progress=given.terminal.progress)
    given.terminal.files.parquet("--save-episodes", found.episodes_table)
    given.terminal.files.figure("--figure", lambda: choice_figure(found))
    given.terminal.show(layer_sheets(found), found.to_dict(), found.to_frame, given.wanted.chosen.seed)


def _check_joins(joins: Sequence[int], layers: int) -> None:
    """Refuse joins of more layers than there are."""
    from nctransfer.errors import SettingError

    if too_many := [number for number in joins if number > layers]:
        raise SettingError(
            f"the last {too_many[0]} layers cannot be joined: with the pooled output there are {layers}",
            f"give --concat numbers up to {layers}",
        )


def _refuse(names: list[str | None], task: FewShotTask, query: Any, detail: Any) -> None:
    """Refuse what does not go with layers."""
    from nctransfer.errors import SettingError

    if len(names) > 1:
        raise SettingError(
            "several feature sets were given with --layers, which compares the layers of one",
            "run the command for one set at a time: with the same --seed the episodes are the same; or rank them by "
            "nctransfer rank --layers",
        )
    for option, value in (
        ("--query-set", query.query_set),
        ("--query-split", query.query_split),
        ("--center-on", query.center_on),
        ("--confusions", detail.confusions),
        ("--no-theory", None if task.theory else True),
    ):
        if value is not None:
            raise SettingError(f"{option} does not go with --layers", f"leave out {option}, or --layers")

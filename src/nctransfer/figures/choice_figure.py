"""Few-shot accuracy over the layers of a backbone, with NC1 below it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nctransfer.figures.axis_labels import show_layers
from nctransfer.figures.number_axes import logarithmic, percent_axis
from nctransfer.figures.style import COLOURS, PAGE, add_caption, caption_of, in_style, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nctransfer.evaluation.layer_results import FewShotLayers, LayerChoice

__all__ = ["choice_figure"]


@in_style
def choice_figure(found: FewShotLayers, *, width: float = PAGE) -> Figure:
    """The accuracy of each candidate, with dashed lines at that of the choice inside the support; NC1 below.

    There is a panel for each number of ways and classifier, and a line in it for each number of shots. Single layers
    are joined by a line, as they follow each other; joined layers are dots of their own.

    Args:
        found: The accuracies.
        width: The width in inches.
    """
    panels = list(dict.fromkeys((one.ways, one.classifier) for one in found.choices))
    figure = new_figure(width, 4.4)
    axes = figure.subplots(2, len(panels), squeeze=False, sharex=True, height_ratios=(2, 1))
    for (ways, classifier), above, below in zip(panels, axes[0], axes[1], strict=True):
        chosen = [one for one in found.choices if (one.ways, one.classifier) == (ways, classifier)]
        _accuracies(above, found, chosen)
        above.set_title(f"{ways}-way {classifier}" if len({one[0] for one in panels}) > 1 else classifier)
        _measures(below, found)
    axes[0][0].set_ylabel("accuracy")
    axes[1][0].set_ylabel("↓ more collapsed")
    axes[0][0].legend(loc="lower right")
    axes[1][-1].legend(loc="upper right")
    add_caption(
        figure,
        caption_of(found.features),
        "Dashed: the layer is chosen in each episode, by its support alone",
    )
    return figure


def _accuracies(axes: Axes, found: FewShotLayers, choices: list[LayerChoice]) -> None:
    """One colour per number of shots."""
    single = [place for place, one in enumerate(found.candidates) if not one.is_join]
    joins = [place for place, one in enumerate(found.candidates) if one.is_join]
    for choice, colour in zip(choices, COLOURS, strict=False):
        number = found.choices.index(choice)
        values = [found.results[one.name].rows[number].accuracy for one in found.candidates]
        label = f"{choice.shots}-shot"
        axes.plot(single, [values[place] for place in single], color=colour, marker="o", label=label)
        axes.plot(joins, [values[place] for place in joins], color=colour, marker="D", linestyle="none")
        if choice.is_chosen:
            axes.axhline(choice.chosen_accuracy, color=colour, linestyle="--", linewidth=1)
    percent_axis(axes.yaxis)
    names = [one.name for one in found.candidates]
    show_layers(axes, [names[place] for place in single], [names[place] for place in joins])


def _measures(axes: Axes, found: FewShotLayers) -> None:
    """NC1 and the directional CDNV of single layers."""
    drawn = []
    single = [(place, one.name) for place, one in enumerate(found.candidates) if not one.is_join]
    for measure, colour in zip(("nc1", "directional_cdnv_debiased"), (COLOURS[0], COLOURS[1]), strict=True):
        values = [found.measures[name][measure] for _, name in single]
        points = [math.nan if value is None or not math.isfinite(value) else value for value in values]
        label = {"nc1": "NC1"}.get(measure, "directional CDNV")
        axes.plot([place for place, _ in single], points, color=colour, marker="o", label=label)
        drawn += [value for value in points if value > 0]
    if drawn:
        logarithmic(axes.yaxis, min(drawn), max(drawn))
    axes.set_xlabel("layer")
    axes.tick_params(axis="x", labelrotation=30)

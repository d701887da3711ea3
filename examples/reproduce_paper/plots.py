"""The figures of the reproduction."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter

from claims import in_words
from nctransfer.checkpoints.trajectory_result import rank_correlations
from nctransfer.figures.number_axes import plain_numbers
from nctransfer.figures.style import COLOURS
from nctransfer.neural_collapse.registry import MEASURES, correlated_measures

SAMPLES = {"source-train": "source_train_", "source-test": "source_test_", "target": ""}


def collapse(results: pd.DataFrame) -> Figure:
    """CDNV and directional CDNV over epochs, for the three samples, one line a number of classes."""
    figure = Figure(figsize=(10, 5.5), layout="constrained")
    all_axes = figure.subplots(2, 3, sharex=True, sharey="row")
    for line, measure in zip(all_axes, ("cdnv", "directional_cdnv"), strict=True):
        for axes, (sample, prefix) in zip(line, SAMPLES.items(), strict=True):
            _lines(axes, results, prefix + measure)
            axes.set(yscale="log", title=f"{sample}, {MEASURES[measure].label}")
            plain_numbers(axes.yaxis)
    for axes in all_axes[-1]:
        axes.set_xlabel("epoch")
    all_axes[0][0].legend(fontsize="small", frameon=False)
    return figure


def accuracy(results: pd.DataFrame, ways: int, shots: Sequence[int]) -> Figure:
    """Accuracy on the target over epochs, one line a number of classes; and at the end against that number."""
    figure = Figure(figsize=(3.2 * (len(shots) + 1), 5.5), layout="constrained")
    all_axes = figure.subplots(2, len(shots) + 1, sharey=True)
    last = results.loc[results.groupby("l")["step"].idxmax()]
    for (*over, against), classifier in zip(all_axes, ("ridge", "ncc"), strict=True):
        for axes, number, colour in zip(over, shots, itertools.cycle(COLOURS), strict=False):
            name = f"{classifier}_{ways}way_{number}shot"
            _lines(axes, results, name)
            axes.set(title=f"{classifier}, {ways}-way {number}-shot", xlabel="epoch")
            ends = {"color": colour, "marker": "o", "markersize": 3, "label": f"{number}-shot"}
            against.errorbar(last["l"], last[name], last[f"{name}_ci95"], **ends)
        against.set(xscale="log", xlabel="source classes l", title=f"{classifier}, last checkpoints")
        against.set_xticks(last["l"], [str(number) for number in last["l"]])
        against.xaxis.set_minor_formatter(NullFormatter())
        against.grid(alpha=0.25)
        against.legend(fontsize="small", frameon=False)
        over[0].yaxis.set_major_formatter(PercentFormatter(1))
    all_axes[0][0].legend(fontsize="small", frameon=False)
    return figure


def measures(results: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Accuracy against each measure over all checkpoints, with the rank correlation."""
    figure = Figure(figsize=(12, 3 * len(names)), layout="constrained")
    shown = [one for one in correlated_measures() if MEASURES[one].direction]  # those of collapse
    all_axes = figure.subplots(len(names), len(shown), sharey="row", squeeze=False)
    for line, name in zip(all_axes, names, strict=True):
        ranks = rank_correlations(results, name, shown)
        for axes, measure in zip(line, shown, strict=True):
            for colour, (number, run) in zip(_colours(results), results.groupby("l"), strict=True):
                axes.scatter(run[measure], run[name], s=16, color=colour, label=f"l = {number}")
            rank = ranks[measure]
            axes.set(title="" if rank is None else f"rank correlation {rank:+.2f}", xlabel=MEASURES[measure].label)
            if measure != "variability_collapse_index":
                axes.set_xscale("log")
                plain_numbers(axes.xaxis)
            axes.grid(alpha=0.25)
        line[0].yaxis.set_major_formatter(PercentFormatter(1))
        line[0].set_ylabel(in_words(name))
    all_axes[0][0].legend(fontsize="small", frameon=False)
    return figure


def bounds(results: pd.DataFrame, ways: int, shots: Sequence[int], names: Sequence[str]) -> Figure:
    """Measured error of nearest class centres against each of its bounds, which lie above the line."""
    figure = Figure(figsize=(3.6 * len(names), 3.6), layout="constrained")
    for panel, name in zip(figure.subplots(1, len(names), sharey=True, squeeze=False)[0], names, strict=True):
        for colour, number in zip(COLOURS, shots, strict=False):
            task = f"ncc_{ways}way_{number}shot"
            bound = pd.to_numeric(results.get(f"{task}_{name}", pd.Series(dtype=float)))
            if bound.notna().any():
                panel.scatter(bound, 1 - results[task], s=12, color=colour, label=f"{number}-shot")
        panel.axvline(1, color="gray", linestyle=":")
        panel.axline((0.1, 0.1), (1, 1), color="gray", linewidth=0.8)  # straight on both logarithmic axes
        panel.set(title=name, xlabel="bound (vacuous right of the dots)", xscale="log", yscale="log")
        plain_numbers(panel.yaxis)
        panel.yaxis.set_major_formatter(PercentFormatter(1))
        panel.grid(alpha=0.25)
        if panel.collections:
            panel.legend(fontsize="small", frameon=False)
        else:
            panel.text(0.5, 0.5, "no value at these shots", transform=panel.transAxes, ha="center")
    figure.supylabel(f"measured error, {ways}-way ncc", fontsize="medium")
    return figure


def _lines(axes: Axes, results: pd.DataFrame, column: str) -> None:
    for colour, (number, run) in zip(_colours(results), results.groupby("l"), strict=True):
        run = run.sort_values("step")
        axes.plot(run["step"], run[column], color=colour, marker="o", markersize=3, label=f"l = {number}")
    axes.grid(alpha=0.25)


def _colours(results: pd.DataFrame) -> list[tuple[float, ...]]:
    """From dark for few classes to light for many."""
    count = results["l"].nunique()
    return [colormaps["viridis"](0.9 * place / max(1, count - 1)) for place in range(count)]

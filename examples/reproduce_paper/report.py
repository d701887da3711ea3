"""What was found, as tables: printed, and as Markdown beside the figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

import claims
import plots
from nctransfer.checkpoints.trajectory_result import rank_correlations
from nctransfer.figures.figure_files import save_figure
from nctransfer.neural_collapse.bounds import BOUNDS
from nctransfer.neural_collapse.registry import MEASURES, correlated_measures
from nctransfer.report.format import Presentation
from nctransfer.report.markdown import to_markdown
from nctransfer.report.sheet import Sheet
from nctransfer.report.terminal_tables import TABLE, page_of_stdout


def write(results: pd.DataFrame, ways: int, shots: Sequence[int], folder: Path) -> None:
    """Print the tables, and save them with the figures and the numbers.

    Args:
        results: One row a run and checkpoint: ``l``, and what ``nctransfer trajectory`` measures.
        ways: Of the tasks.
        shots: Likewise.
        folder: Where to.
    """
    accuracies = [f"{classifier}_{ways}way_{number}shot" for number in shots for classifier in ("ridge", "ncc")]
    results.to_parquet(folder / "results.parquet", index=False)
    figures = {
        "collapse": plots.collapse(results),
        "accuracy": plots.accuracy(results, ways, shots),
        "measures": plots.measures(results, accuracies[0:4:2]),
        "bounds": plots.bounds(results, ways, shots, list(BOUNDS)),
    }
    for name, figure in figures.items():
        for suffix in (".svg", ".png"):
            save_figure(figure, folder / f"{name}{suffix}")
    sheets = [
        _final(results, accuracies),
        _ranks(results, accuracies),
        _bounds(results, ways, shots),
        _claims(results, accuracies),
    ]
    print(TABLE.render(Presentation(sheets=sheets, data={}, rows=[]), page_of_stdout()))
    images = "\n".join(f"![{name}]({name}.svg)" for name in figures)
    (folder / "results.md").write_text("\n".join([*map(to_markdown, sheets), images]) + "\n", encoding="utf-8")


def _final(results: pd.DataFrame, accuracies: Sequence[str]) -> Sheet:
    """The last checkpoint of each run."""
    last = results.loc[results.groupby("l")["step"].idxmax()]
    measured = ["source_train_cdnv", "source_test_cdnv", "cdnv", "directional_cdnv"]
    rows = [
        [
            str(row["l"]),
            *(f"{row[name]:.3f}" for name in measured),
            *(f"{row[name] * 100:.1f} ± {row[f'{name}_ci95'] * 100:.1f}" for name in accuracies),
        ]
        for _, row in last.iterrows()
    ]
    heads = ["l", "cdnv source-train", "source-test", "target", "directional", *(_short(name) for name in accuracies)]
    return Sheet(
        "The last checkpoints",
        [f">{head}" for head in heads],
        rows,
        {},
        "l source classes. Accuracies on the target in %, ± 95% over the draw of episodes.",
    )


def _ranks(results: pd.DataFrame, accuracies: Sequence[str]) -> Sheet:
    """Which measure goes with accuracy; the untrained networks make it look easy, so once without them."""
    rows, shown = [], [one for one in correlated_measures() if MEASURES[one].direction]  # those of collapse
    for name in accuracies:
        for words, part in (("all", results), ("trained", results[results["step"] > 0])):
            ranks = rank_correlations(part, name, shown)
            cells = ("–" if rank is None else f"{rank:+.3f}" for rank in ranks.values())
            rows.append([_short(name), f"{len(part)} {words}", *cells])
    return Sheet(
        "Rank correlation of accuracy with collapse on the target",
        ["accuracy", "checkpoints", *(f">{MEASURES[name].label}" for name in shown)],
        rows,
        {},
        "Spearman, over the checkpoints of all runs. −1: the more collapsed, the more accurate.",
    )


def _bounds(results: pd.DataFrame, ways: int, shots: Sequence[int]) -> Sheet:
    """The measured error beside its bounds, at the last checkpoint of the most classes."""
    last = results[results["l"] == results["l"].max()].sort_values("step").iloc[-1]
    rows = []
    for number in shots:
        task = f"ncc_{ways}way_{number}shot"
        found = [last.get(f"{task}_{name}") for name in BOUNDS]
        cells = ["–" if pd.isna(value) else f"{value * 100:,.0f}" for value in found]
        rows.append([f"{ways}-way {number}-shot", f"{(1 - last[task]) * 100:.1f}", *cells])
    return Sheet(
        f"Error of nearest class centres and its bounds, l = {last['l']}",
        ["task", ">measured", *(f">{name}" for name in BOUNDS)],
        rows,
        {},
        "In %; a bound above 100 says nothing.",
    )


def _claims(results: pd.DataFrame, accuracies: Sequence[str]) -> Sheet:
    found = claims.check(results, accuracies)
    verdicts = {True: "held", False: "not held", None: f"too few l ({claims.FEWEST} are needed)"}
    rows = [[verdicts[one.held], one.text, one.numbers] for one in found]
    return Sheet(
        "The claims",
        ["", "claim", "numbers"],
        rows,
        {},
        f"{sum(bool(one.held) for one in found)} of {len(found)} held.",
    )


def _short(name: str) -> str:
    """``ridge_5way_1shot`` as ``ridge 1``."""
    classifier, _, shots = name.split("_")
    return f"{classifier} {shots.removesuffix('shot')}"

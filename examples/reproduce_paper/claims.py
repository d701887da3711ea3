"""The claims of the paper, each with the numbers that it stands or falls by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pandas as pd

FEWEST = 3  # numbers of classes over which a tendency can be told
CLEAR = 0.7  # a rank correlation over the numbers of classes from which on a tendency counts as one
AGAIN = 1.02  # CDNV counts as risen again from so many times its lowest on


class Claim(NamedTuple):
    """A claim, whether it held, and the numbers."""

    text: str
    held: bool | None  # None: too few numbers of classes to tell
    numbers: str


def check(results: pd.DataFrame, accuracies: Sequence[str]) -> list[Claim]:
    """Every claim.

    Args:
        results: One row a run and checkpoint: the number of source classes ``l``, ``step``, and what
            ``nctransfer trajectory`` measures.
        accuracies: Columns of few-shot accuracies.
    """
    runs = {int(key): run.sort_values("step") for key, run in results.groupby("l")}
    last = pd.DataFrame([run.iloc[-1] for run in runs.values()], index=list(runs))
    return [
        _falls("source-train: CDNV falls in training", runs, "source_train_cdnv"),
        _follows("source-test follows source-train", runs, "source_test_cdnv"),
        _follows("target follows source-train", runs, "cdnv"),
        _tends("target: CDNV is lower for larger l", last, "cdnv", -1),
        _tends("target: directional CDNV is lower for larger l", last, "directional_cdnv", -1),
        *(_tends(f"target: {in_words(name)} accuracy rises with l", last, name, +1) for name in accuracies),
        _rises_again(runs),
    ]


def in_words(accuracy: str) -> str:
    """``ridge_5way_1shot`` as ``5-way 1-shot ridge``."""
    classifier, ways, shots = accuracy.split("_")
    return f"{ways.replace('way', '-way')} {shots.replace('shot', '-shot')} {classifier}"


def _each(runs: dict[int, pd.DataFrame], words: Callable[[pd.DataFrame], str]) -> str:
    return "; ".join(f"l={number}: {words(run)}" for number, run in runs.items())


def _ends(run: pd.DataFrame, column: str) -> tuple[float, float]:
    return float(run[column].iloc[0]), float(run[column].iloc[-1])


def _order(one: pd.Series, other: pd.Series) -> float:
    """Spearman's rank correlation; NaN where one of them is constant."""
    varies = one.nunique() > 1 and other.nunique() > 1
    return float(one.corr(other, method="spearman")) if varies else math.nan


def _falls(text: str, runs: dict[int, pd.DataFrame], column: str) -> Claim:
    def words(run: pd.DataFrame) -> str:
        first, last = _ends(run, column)
        return f"{first:.2f} → {last:.2f}"

    held = all(last < first for first, last in (_ends(run, column) for run in runs.values()))
    return Claim(f"{text}, for every l", held, _each(runs, words))


def _follows(text: str, runs: dict[int, pd.DataFrame], column: str) -> Claim:
    """It falls too, and its order over checkpoints is that of source-train."""
    fall = _falls(text, runs, column)
    orders = [_order(run[column], run["source_train_cdnv"]) for run in runs.values()]
    told = ", ".join(f"{order:+.2f}" for order in orders)
    held = fall.held and all(order >= CLEAR for order in orders)  # one that is undefined is not
    return Claim(f"{fall.text} (rank correlation with it ≥ {CLEAR})", held, f"{fall.numbers}; rank correlations {told}")


def _tends(text: str, last: pd.DataFrame, column: str, sign: int) -> Claim:
    order = _order(pd.Series(last.index, index=last.index), last[column])
    values = ", ".join(f"{value:.3f}" for value in last[column])
    numbers = f"l={', '.join(map(str, last.index))}: {values}; rank correlation {order:+.2f}"
    rule = f"≥ {CLEAR}" if sign > 0 else f"≤ −{CLEAR}"
    return Claim(
        f"{text} (last checkpoints, rank correlation {rule})",
        bool(sign * order >= CLEAR) if len(last) >= FEWEST else None,
        numbers,
    )


def _rises_again(runs: dict[int, pd.DataFrame]) -> Claim:
    """The counter-evidence: past the trained checkpoint of lowest CDNV, CDNV rises and directional CDNV does not."""
    found = []
    for number, whole in runs.items():
        run = whole[whole["step"] > 0]
        if run.empty:
            continue
        lowest = run["cdnv"].to_numpy().argmin()
        cdnv, along = (run[name].to_numpy() for name in ("cdnv", "directional_cdnv"))
        if cdnv[-1] >= AGAIN * cdnv[lowest] and along[-1] < along[lowest]:
            steps = f"epoch {run['step'].iloc[lowest]} to {run['step'].iloc[-1]}"
            rise = f"CDNV {cdnv[lowest]:.3f} → {cdnv[-1]:.3f}, directional {along[lowest]:.4f} → {along[-1]:.4f}"
            found.append(f"l={number}, {steps}: {rise}")
    text = (
        "counter-evidence: on the target, longer training can raise CDNV (by 2 % and more, from its lowest on) while "
        "directional CDNV goes on falling"
    )
    return Claim(text, bool(found), "; ".join(found) or "at no l")

"""Which score tells images of no known class best on real features: known sets × other sets × backbones.

    python tests/benchmarks/ood_scores.py FEATURES [FEATURES …] [--output FILE] [--read FILE …]

FEATURES are stored sets, named MODEL/DATA as `nctransfer cache list` shows them. Each is the known set in turn; the
others are its own held-out classes (near), and every other set of the same backbone (far). Prints Markdown tables: the
mean AUROC and FPR95 over backbones; for each score how often it is a possible best, and its mean and largest loss of
AUROC against the best of a cell; all cells; and how NC5 goes with the AUROC over the cells of other sets.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

import nctransfer as nct
from nctransfer.ood.ood_result import HELD_OUT
from nctransfer.ood.registry import SCORES

Cell = dict[str, Any]


def short(name: str) -> str:
    """The name of a model or of data without the digest at its end."""
    return name.rpartition("-")[0].removesuffix(".tar").removesuffix(".parquet").removesuffix(".in1k") or name


def measure(known: str, others: list[str]) -> list[Cell]:
    """A cell for the held-out classes, and one for each other set."""
    features = nct.load_features(known, partial=True)
    far = {short(name.partition("/")[2]): nct.load_features(name, partial=True) for name in others}
    model, _, data = known.partition("/")
    cells = []
    for found in (nct.detect_ood(features), nct.detect_ood(features, far) if far else None):
        for other in found.others if found else ():
            cells.append(
                {
                    "known": short(data),
                    "other": other.name,
                    "model": short(model),
                    "nc5": other.nc5 and other.nc5.value,
                    "rows": {row.score: row.to_row() for row in found.rows_of(other.name)},
                }
            )
            print(cells[-1]["known"], other.name, model, flush=True)
    return cells


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table whose first column is text."""
    print("| " + " | ".join(header) + " |\n|---" + "|---:" * (len(header) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def print_means(cells: list[Cell], number: str) -> None:
    """The mean over backbones of a number, for each known set and other set."""
    groups: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell["known"], cell["other"]].append(cell)
    rows = []
    for (known, other), some in sorted(groups.items()):
        means = [np.mean([cell["rows"][name][number] for cell in some]) for name in SCORES]
        rows.append([f"{known}: {other} ({len(some)})", *(f"{100 * one:.1f}" for one in means)])
    print_table([f"{number}: known: other (backbones)", *SCORES], rows)


def print_losses(cells: list[Cell]) -> None:
    """How often each score is a possible best, and what it loses against the best of each cell."""
    rows = []
    for name in SCORES:
        line = [name]
        for near in (True, False):
            some = [cell["rows"] for cell in cells if (cell["other"] == HELD_OUT) == near]
            loss = [100 * (max(one["auroc"] for one in rows.values()) - rows[name]["auroc"]) for rows in some]
            possible = sum(rows[name]["is_possible_best"] for rows in some)
            line += [f"{possible} of {len(some)}", f"{np.mean(loss):.1f}", f"{max(loss):.1f}"] if some else ["–"] * 3
        rows.append(line)
    heads = [f"{where}, {what}" for where in ("near", "far") for what in ("possible best", "mean loss", "largest")]
    print_table(["score", *heads], rows)


def print_cells(cells: list[Cell]) -> None:
    """The AUROC of each cell; a star marks a possible best."""
    rows = []
    for cell in sorted(cells, key=lambda one: (one["known"], one["other"], one["model"])):
        values = [cell["rows"][name] for name in SCORES]
        shown = [f"{100 * one['auroc']:.1f}" + "*" * one["is_possible_best"] for one in values]
        nc5 = "–" if cell["nc5"] is None else f"{cell['nc5']:.3f}"
        rows.append([f"{cell['known']}: {cell['other']}, {cell['model']}", nc5, *shown])
    print_table(["known: other, backbone", "NC5", *SCORES], rows)


def print_nc5(cells: list[Cell]) -> None:
    """Spearman's rank correlation of NC5 with the AUROC of each score, over all cells of other sets."""
    far = [cell for cell in cells if cell["nc5"] is not None]
    if len(far) < 5:
        return
    rows = []
    for name in SCORES:
        values = [(cell["nc5"], cell["rows"][name]["auroc"]) for cell in far]
        rows.append([name, f"{spearmanr(*zip(*values, strict=True)).statistic:+.2f}", str(len(far))])
    print_table(["score", "rank correlation of NC5 and AUROC", "cells"], rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("features", nargs="*")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--read", type=Path, nargs="*", default=[])
    given = parser.parse_args()
    logging.getLogger("nctransfer").setLevel(logging.ERROR)
    cells: list[Cell] = [cell for path in given.read for cell in json.loads(path.read_text())]
    for known in given.features:
        model = known.partition("/")[0]
        cells += measure(known, [one for one in given.features if one != known and one.partition("/")[0] == model])
        if given.output:
            given.output.write_text(json.dumps(cells))
    for number in ("auroc", "fpr95"):
        print_means(cells, number)
    print_losses(cells)
    print_cells(cells)
    print_nc5(cells)


if __name__ == "__main__":
    main()

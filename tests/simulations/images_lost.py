"""How many good images each kind of unlikeness holds back, where 5% are allowed: the promise of ``--max-lost``."""

from __future__ import annotations

import numpy as np
from abstention import DESIGNS, LOST, drawn

from nctransfer.heads.abstention import thresholds
from nctransfer.heads.head import HeldOut
from nctransfer.heads.unlikeness_kinds import UNLIKENESSES
from page_tables import markdown

TITLE = "Unlikeness: how many good images are held back where 5% may be"
STUDIES = 40


def table(studies: int) -> str:
    """A row for each law, number of classes and of images; a column for each kind."""
    rows, seen = [], set()
    for design in DESIGNS:
        size = design.law.name, design.classes, design.each
        if size in seen:  # other classifiers, which play no part
            continue
        seen.add(size)
        lost: dict[str, list[float]] = {name: [] for name in UNLIKENESSES}
        for seed in range(studies):
            known, new = drawn(design, seed)
            for name, kind in UNLIKENESSES.items():
                found, left_out = kind.fit(known, "cpu")
                held_out = HeldOut(probability=left_out, right=left_out > 0, unlikeness=left_out)
                limit = thresholds(held_out, None, LOST).unlikeness
                lost[name].append(float((found.of(new.features) > limit).double().mean()))
        rows.append([*map(str, size), *(f"{np.mean(one):.1%} ± {np.std(one):.1%}" for one in lost.values())])
        print("| " + " | ".join(rows[-1]) + " |", flush=True)
    return markdown(["features", "classes", "images", *UNLIKENESSES], rows)

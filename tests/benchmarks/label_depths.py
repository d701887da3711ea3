"""What a label depth changes: alphabets against their characters, on Omniglot, for stored sets of several backbones.

    python tests/benchmarks/label_depths.py FEATURES [FEATURES …] [--episodes 2000]

FEATURES are stored sets of Omniglot whose classes are called ``Greek_character01``, or files of such features. Four
kinds of classes are made of the same features: alphabets, as ``--label-depth 1`` makes them of ``Greek/character01``;
characters, as ``--label-depth 2`` does; the names of characters without their alphabet, so that the first letters of
all alphabets are one class; and characters of one alphabet at a time, averaged over the alphabets. Prints a Markdown
table: five-way accuracy of ridge with one and with five shots, its interval over episodes, and CDNV.
"""

import argparse
from typing import Any

import numpy as np
import torch

import nctransfer as nct

QUERIES = 10


def renamed(features: nct.FeatureSet, levels: slice) -> nct.FeatureSet:
    """The same features with some parts of each class's name: the alphabet, and the number of the character."""
    names = ["/".join(name.split("_character")[levels]) for name in features.classes]
    labels = [names[code] for code in features.labels.tolist()]
    return nct.FeatureSet.from_arrays(features.features, labels, features.ids, features.info)


def cells(features: nct.FeatureSet, episodes: int) -> dict[int, tuple[float, float]]:
    """The five-way accuracy and the half width of its interval, by shots."""
    found = nct.fewshot(features, 5, (1, 5), queries=QUERIES, episodes=episodes, classifiers="ridge", theory=False)
    frame: Any = found.to_frame()
    return {int(row.shots): (row.accuracy, row.ci95) for row in frame.itertuples()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", nargs="+")
    parser.add_argument("--episodes", type=int, default=2000)
    given = parser.parse_args()
    print("| backbone | classes | one shot | five shots | CDNV |\n| --- | --- | --- | --- | --- |")
    for name in given.features:
        features = nct.load_features(name)
        fine, coarse, merged = (renamed(features, slice(*ends)) for ends in ((0, 2), (0, 1), (1, 2)))
        alphabets = sorted({one.partition("/")[0] for one in fine.classes})
        codes = [torch.tensor([i for i, one in enumerate(fine.classes) if one.startswith(f"{a}/")]) for a in alphabets]
        parts = [cells(fine.only_classes(some), given.episodes // len(alphabets)) for some in codes]
        within = {shots: (float(np.mean([one[shots][0] for one in parts])), 0.0) for shots in (1, 5)}
        for what, cell, some in (
            (f"{len(alphabets)} alphabets", cells(coarse, given.episodes), coarse),
            (f"{len(fine.classes)} characters", cells(fine, given.episodes), fine),
            (f"{len(merged.classes)} names without alphabets", cells(merged, given.episodes), merged),
            ("characters of one alphabet", within, None),
        ):
            cdnv = "" if some is None else f"{nct.collapse(some, pairs=None).metrics['cdnv']:.2f}"
            shown = [
                f"{100 * cell[shots][0]:.1f}" + f" ± {100 * cell[shots][1]:.1f}" * bool(cell[shots][1])
                for shots in (1, 5)
            ]
            print(f"| {features.info.model} | {what} | {' | '.join(shown)} | {cdnv} |", flush=True)


if __name__ == "__main__":
    main()

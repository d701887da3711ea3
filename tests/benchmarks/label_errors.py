"""How well wrong labels are found among right ones, beside cleanlab's defaults on the same features in the same run.

    python tests/benchmarks/label_errors.py SET … [--similar SET …] [--seeds 0 1 2] [--cache FOLDER]

Each SET is a stored feature set; sets of the same data and different backbones are told apart by their paths,
``…/BACKBONE/DATA``. Labels are flipped in three ways, at 2, 5 and 10%:

- random: that share of the images gets another class, each equally likely;
- similar: that share gets one of the three classes whose centres are nearest to that of the true class, by the features
  of the ``--similar`` set of the same data (by default the first set of the data);
- one class: in one class only, that share of its images, three at least, gets one of those three classes. Where a class
  has few images, the three shares are the same number of images; they are then the same cells. As a few wrong labels
  tell little, twice as many draws are made.

cleanlab gets probabilities as its tutorials make them: 5-fold cross-validation (stratified and shuffled, as its
``CleanLearning`` does) of scikit-learn's logistic regression with ``max_iter=400``; images are ranked by
``get_label_quality_scores``, whose default is the probability of the given label, and flagged by ``find_label_issues``.
``Datalab`` is the same with features alone: it takes the shares of classes among 10 nearest neighbours.

Average precision, precision among as many of the first as labels are wrong, and the number of flagged images that are
wrong beside the number expected. Wrong labels that the data sets had before count as right.
"""

from __future__ import annotations

import argparse
import hashlib
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

import nctransfer as nct
from nctransfer.features.feature_set import FeatureSet
from nctransfer.label_audit.label_errors import LabelErrors, label_errors

KINDS = ("random", "similar", "one class")
SHARES = (0.02, 0.05, 0.10)
FEWEST = 3
LEVELS = (0.5, 0.7, 0.9, 1.01)  # of the expected precision


def similar_classes(features: FeatureSet) -> np.ndarray:
    """The three classes whose centres are nearest to that of each class, ``(C, 3)``."""
    codes = range(len(features.classes))
    means = torch.stack([features.features[features.labels == code].double().mean(dim=0) for code in codes])
    return torch.cdist(means, means).fill_diagonal_(torch.inf).argsort(dim=1)[:, :3].numpy()


def flipped(labels: np.ndarray, kind: str, share: float, seed: int, similar: np.ndarray) -> np.ndarray:
    """The labels, some of them wrong."""
    counts = np.bincount(labels)
    number = max(FEWEST, round(share * (counts[0] if kind == "one class" else len(labels))))
    generator = np.random.default_rng([KINDS.index(kind), number, seed])
    given = labels.copy()
    if kind == "one class":
        code = generator.integers(len(counts))
        rows = generator.choice(np.flatnonzero(labels == code), number, replace=False)
        given[rows] = similar[code][generator.integers(3)]
        return given
    rows = generator.choice(len(labels), number, replace=False)
    if kind == "random":
        given[rows] = (labels[rows] + generator.integers(1, len(counts), size=number)) % len(counts)
    else:
        given[rows] = similar[labels[rows], generator.integers(3, size=number)]
    return given


def cross_validated(features: FeatureSet, given: np.ndarray, cache: Path | None) -> np.ndarray:
    """The probabilities ``(n, C)`` that cleanlab gets."""
    key = hashlib.sha256(features.features.numpy().tobytes() + given.tobytes()).hexdigest()[:24]
    kept = cache / f"{key}.npy" if cache else None
    if kept and kept.exists():
        return np.load(kept)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    model = LogisticRegression(max_iter=400)
    found = cross_val_predict(model, features.features.numpy(), given, cv=folds, method="predict_proba")
    if kept:
        np.save(kept, found.astype(np.float32))
    return found


def datalab_scores(features: FeatureSet, given: np.ndarray) -> np.ndarray:
    """The label quality of each image by Datalab from features alone, ``(n,)``."""
    from cleanlab import Datalab

    with redirect_stdout(StringIO()):
        lab = Datalab({"label": given}, label_name="label", verbosity=0)
        lab.find_issues(features=features.features.numpy(), issue_types={"label": {}})
    return lab.get_issues("label")["label_score"].to_numpy()


def audited(features: FeatureSet, given: np.ndarray) -> tuple[LabelErrors, np.ndarray]:
    """The label errors of a set with other labels, and which of its rows each of their rows is."""
    names = [features.classes[code] for code in given]
    found = label_errors([FeatureSet.from_arrays(features.features, names, features.ids)], device="cpu")
    place = {name: row for row, name in enumerate(features.ids)}
    return found, np.array([place[name] for name in found.ids])


def measured(features: FeatureSet, given: np.ndarray, cache: Path | None) -> dict[str, float | np.ndarray]:
    """What each method finds in one draw."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    wrong = given != features.labels.numpy()
    probabilities = cross_validated(features, given, cache)
    found, rows = audited(features, given)
    ours, expected = np.empty(len(rows)), np.empty(len(rows))
    ours[rows], expected[rows] = found.score.numpy(), found.expected_precision.numpy()
    issues = find_label_issues(given, probabilities, n_jobs=1)
    rankings = {
        "cleanlab": -get_label_quality_scores(given, probabilities),
        "Datalab": -datalab_scores(features, given),
        "audit": ours,
    }
    result: dict[str, float | np.ndarray] = {"noise": found.noise_rate, "true": wrong.mean()}
    result["flagged by cleanlab"] = np.array([issues.sum(), (issues & wrong).sum()])
    for name, score in rankings.items():
        first = np.argsort(-score, kind="stable")[: wrong.sum()]
        result[f"AP {name}"] = average_precision_score(wrong, score)
        result[f"P {name}"] = wrong[first].mean()
    levels = [(expected >= low) & (expected < high) for low, high in pairwise(LEVELS)]
    result["levels"] = np.array([[some.sum(), expected[some].sum(), (some & wrong).sum()] for some in levels])
    return result


def cells(
    sets: dict[str, FeatureSet], similar: dict[str, np.ndarray], seeds: list[int], cache: Path | None
) -> Iterator[tuple[tuple[str, str, str], list[dict[str, float | np.ndarray]]]]:
    """Every cell, by set, kind and share, with what was found in each draw."""
    kept: dict[bytes, dict[str, float | np.ndarray]] = {}
    for (name, features), kind, share in product(sets.items(), KINDS, SHARES):
        draws = []
        for seed in range(2 * min(seeds), 2 * max(seeds) + 2) if kind == "one class" else seeds:
            given = flipped(features.labels.numpy(), kind, share, seed, similar[name.rpartition("/")[2]])
            key = name.encode() + given.tobytes()
            if key not in kept:
                kept[key] = measured(features, given, cache)
            draws.append(kept[key])
        yield (name, kind, f"{share:.0%}"), draws


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--similar", nargs="*", type=Path, default=[])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cache", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    sets = {"/".join(path.resolve().parts[-2:]): nct.load_features(path) for path in given.sets}
    others = {path.resolve().name: nct.load_features(path) for path in given.similar}
    for name, features in sets.items():
        others.setdefault(name.rpartition("/")[2], features)
    similar = {name: similar_classes(features) for name, features in others.items()}
    columns = ["AP cleanlab", "AP Datalab", "AP audit", "P cleanlab", "P Datalab", "P audit", "true", "noise"]
    print(f"| set | kind | share | {' | '.join(columns)} |\n|{'---|' * (3 + len(columns))}")
    means, levels, issues = [], defaultdict(lambda: np.zeros((len(LEVELS) - 1, 3))), np.zeros(2)
    for cell, draws in cells(sets, similar, given.seeds, given.cache):
        means.append([np.mean([draw[column] for draw in draws]) for column in columns])
        print(f"| {' | '.join(cell)} | {' | '.join(f'{value:.3f}' for value in means[-1])} |", flush=True)
        for draw in draws:
            levels[cell[1]] += draw["levels"]
            issues += draw["flagged by cleanlab"]
    table = np.array(means)
    print(f"| mean of {len(table)} | | | {' | '.join(f'{value:.3f}' for value in table.mean(axis=0))} |\n")
    for measure, (theirs, ours) in {"average precision": (0, 2), "precision": (3, 5)}.items():
        lead = table[:, ours] - table[:, theirs]
        print(
            f"{measure}: ahead of cleanlab by {lead.mean():.3f}; {(lead < -0.02).sum()} cells more than 0.02 behind; "
            f"the worst is {lead.min():+.3f}"
        )
    print(f"cleanlab flags {issues[0]:.0f}, of which {issues[1]:.0f} were flipped ({issues[1] / issues[0]:.0%})\n")
    print("| kind | level | flagged | expected wrong | flipped |\n|---|---|---|---|---|")
    for kind, counts in levels.items():
        for low, row in zip(LEVELS[:-1], counts, strict=True):
            print(f"| {kind} | from {low:.0%} | {row[0]:.0f} | {row[1]:.1f} | {row[2]:.0f} |")


if __name__ == "__main__":
    main()
